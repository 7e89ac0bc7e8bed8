"""From what a split goes by to the integers that decide it; the formulas stand in :mod:`featstore.splits`."""

import hashlib
import posixpath
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import SplitError

__all__ = [
    "HASH_BYTES",
    "RANGE",
    "checked_fraction",
    "checked_hashes",
    "checked_pattern",
    "draws",
    "folder_names",
    "label_key",
    "pattern_names",
    "percentages",
    "retrain_names",
    "rows_as_bytes",
    "salt_bytes",
    "text_bytes",
]

RANGE = 2**64
HASH_BYTES = 32

# Of TensorFlow's retrain.py, which calls it MAX_NUM_IMAGES_PER_CLASS.
_RETRAIN_MAX = 2**27 - 1
_MAX_PATTERN = 1000


def folder_names(paths: Sequence[str]) -> list[str]:
    """Return all of each path before its last ``/``; ``""`` where there is none."""
    return [posixpath.dirname(path) for path in paths]


def pattern_names(pattern: str, paths: Sequence[str]) -> list[str]:
    """Return a regular expression's first group or whole match in each path, ``""`` if there is none."""
    regex = checked_pattern(pattern)
    number = 1 if regex.groups else 0
    matches = map(regex.search, paths)
    return [(match[number] or "") if match is not None else "" for match in matches]


def retrain_names(prefix: str, paths: Sequence[str]) -> list[str]:
    """Return the text that retrain.py hashed of each path, which also says what it kept together."""
    return [re.sub(r"_nohash_.*$", "", posixpath.join(prefix, path)) for path in paths]


def percentages(names: Sequence[str]) -> NDArray[np.float64]:
    """Return retrain.py's ``percentage_hash`` of each name, float64 of shape (n,) in [0, 100]."""
    digests = [int(hashlib.sha1(text_bytes(name)).hexdigest(), 16) for name in names]
    numbers = np.array([digest % (_RETRAIN_MAX + 1) for digest in digests], dtype=np.float64)
    return numbers * (100.0 / _RETRAIN_MAX)


def draws(keys: Sequence[bytes], *, salt: str, first_byte: int) -> NDArray[np.uint64]:
    """Return eight bytes of each key's digest as integers in [0, 2**64), uint64 of shape (n,)."""
    prefix = salt_bytes(salt)
    sha256 = hashlib.sha256
    digests = b"".join([sha256(prefix + key).digest() for key in keys])
    words = np.frombuffer(digests, dtype=">u8").reshape(len(keys), 4)
    return words[:, first_byte // 8].astype(np.uint64)


def label_key(name: str) -> bytes:
    """Return the key of what stays together: of a content hash in hexadecimal its bytes, else a group's."""
    if len(name) == 2 * HASH_BYTES:
        try:
            key = bytes.fromhex(name)
        except ValueError:
            key = b""
        if len(key) == HASH_BYTES:
            return key
    return b"group:" + text_bytes(name)


def checked_fraction(name: str, value: object) -> float:
    """Return a fraction as a float, or raise :class:`SplitError` where it is not in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating) or not 0 <= value < 1:
        raise SplitError(f"{name} is a fraction, at least 0 and below 1; found {value!r}")
    return float(value)


def checked_pattern(pattern: object) -> re.Pattern[str]:
    """Return a regular expression compiled, or raise :class:`SplitError` where it is none."""
    if not isinstance(pattern, str) or not pattern:
        raise SplitError(
            "a split by pattern needs a regular expression that finds the group in a path, such as "
            f"'plant[0-9]+', as the group pattern; found {pattern!r}"
        )
    # It may come from a head's file: what it takes to compile stays small.
    if len(pattern) > _MAX_PATTERN:
        raise SplitError(f"a group pattern has at most {_MAX_PATTERN} characters; found {len(pattern)}")
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise SplitError(f"the group pattern {pattern!r} is no regular expression: {error}") from error


def salt_bytes(salt: object) -> bytes:
    """Return a salt in UTF-8, or raise :class:`SplitError` where it has no such form."""
    if not isinstance(salt, str):
        raise SplitError(f"a salt is a text; found {salt!r}")
    try:
        return salt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise SplitError(f"a salt is a text that has a form in UTF-8; found {salt!r}") from error


def checked_hashes(content_hash: Any) -> NDArray[np.uint8]:
    """Return content hashes as an array, or raise :class:`SplitError` where they are none."""
    hashes = np.asarray(content_hash)
    if hashes.dtype != np.uint8 or hashes.ndim != 2 or hashes.shape[1] != HASH_BYTES:
        raise SplitError(
            f"content hashes are uint8 of shape (n, {HASH_BYTES}); "
            f"found {hashes.dtype} of shape {hashes.shape}"
        )
    return hashes


def rows_as_bytes(hashes: NDArray[np.uint8]) -> list[bytes]:
    """Return each hash as 32 bytes."""
    data = hashes.tobytes()
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def text_bytes(text: str) -> bytes:
    """Return a text in UTF-8, in which surrogate escapes stand for their own bytes."""
    # Not os.fsencode: its bytes depend on the machine's locale.
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")

"""Keys of rows and the hash values that decide splits; :mod:`featstore.splits` defines the formulas."""

import hashlib
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
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

# MAX_NUM_IMAGES_PER_CLASS of TensorFlow's retrain.py.
_RETRAIN_MAX = 2**27 - 1
_MAX_PATTERN = 1000
_BLOCK_ROWS = 2**16


def folder_names(paths: Sequence[str]) -> list[str]:
    """Return the part of each path before its last ``/``; ``""`` if there is none."""
    return [posixpath.dirname(path) for path in paths]


def pattern_names(pattern: str, paths: Sequence[str]) -> list[str]:
    """Return the first capturing group, or the whole match, in each path; ``""`` without a match."""
    regex = checked_pattern(pattern)
    number = 1 if regex.groups else 0
    matches = map(regex.search, paths)
    return [(match[number] or "") if match is not None else "" for match in matches]


def retrain_names(prefix: str, paths: Sequence[str]) -> list[str]:
    """Return the text that retrain.py hashed for each path, which is also its group."""
    return [re.sub(r"_nohash_.*$", "", posixpath.join(prefix, path)) for path in paths]


def percentages(names: Sequence[str]) -> NDArray[np.float64]:
    """Return retrain.py's ``percentage_hash`` of each name, float64 of shape (n,) in [0, 100]."""
    digests = [int(hashlib.sha1(text_bytes(name)).hexdigest(), 16) for name in names]
    numbers = np.array([digest % (_RETRAIN_MAX + 1) for digest in digests], dtype=np.float64)
    return numbers * (100.0 / _RETRAIN_MAX)


def draws(keys: Iterable[bytes], *, salt: str, first_byte: int) -> NDArray[np.uint64]:
    """Return eight bytes of each key's digest as integers, uint64 of shape (n,)."""
    prefix, part = salt_bytes(salt), slice(first_byte, first_byte + 8)
    sha256 = hashlib.sha256
    words = bytearray()
    for key in keys:
        words += sha256(prefix + key).digest()[part]
    return np.frombuffer(words, dtype=">u8").astype(np.uint64)


def label_key(name: str) -> bytes:
    """Return the key of a group: the bytes of a hexadecimal content hash, or the prefixed text."""
    if len(name) == 2 * HASH_BYTES:
        try:
            key = bytes.fromhex(name)
        except ValueError:
            key = b""
        if len(key) == HASH_BYTES:
            return key
    return b"group:" + text_bytes(name)


def checked_fraction(name: str, value: object) -> float:
    """Return a fraction as a float; raise SplitError if it is not in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating) or not 0 <= value < 1:
        raise SplitError(f"{name} must be a fraction of at least 0 and below 1; found {value!r}")
    return float(value)


def checked_pattern(pattern: object) -> re.Pattern[str]:
    """Return a compiled regular expression; raise SplitError if it is invalid."""
    if not isinstance(pattern, str) or not pattern:
        raise SplitError(
            "a split by pattern needs a regular expression that matches the group in a path, such as "
            f"'plant[0-9]+', as its group pattern; found {pattern!r}"
        )
    # It may come from an untrusted head file: bound the cost of compiling it.
    if len(pattern) > _MAX_PATTERN:
        raise SplitError(f"a group pattern may have at most {_MAX_PATTERN} characters; found {len(pattern)}")
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise SplitError(
            f"the group pattern {pattern!r} is not a valid regular expression: {error}"
        ) from error


def salt_bytes(salt: object) -> bytes:
    """Return a salt in UTF-8; raise SplitError if it is not a text or cannot be encoded."""
    if not isinstance(salt, str):
        raise SplitError(f"a salt must be a str; found {salt!r}")
    try:
        return salt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise SplitError(f"a salt must be encodable in UTF-8; found {salt!r}") from error


def checked_hashes(content_hash: Any) -> NDArray[np.uint8]:
    """Return content hashes as an array; raise SplitError if they are not uint8 of shape (n, 32)."""
    hashes = np.asarray(content_hash)
    if hashes.dtype != np.uint8 or hashes.ndim != 2 or hashes.shape[1] != HASH_BYTES:
        raise SplitError(
            f"content hashes must be uint8 of shape (n, {HASH_BYTES}); "
            f"found {hashes.dtype} of shape {hashes.shape}"
        )
    return hashes


def rows_as_bytes(hashes: NDArray[np.uint8]) -> Iterator[bytes]:
    """Yield each hash as 32 bytes."""
    for start in range(0, len(hashes), _BLOCK_ROWS):
        data = hashes[start : start + _BLOCK_ROWS].tobytes()
        yield from (data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES))


def text_bytes(text: str) -> bytes:
    """Return a text in UTF-8, with surrogate escapes as their own bytes."""
    # Not os.fsencode: its bytes depend on the machine's locale.
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")

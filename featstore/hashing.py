"""The two identities: of an image (its bytes) and of a backbone (its specification)."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["canonical_json", "content_hash", "fingerprint"]


def content_hash(data: bytes) -> bytes:
    """Identify an image by its file's bytes.

    Parameters
    ----------
    data : bytes
        The whole file, undecoded.

    Returns
    -------
    bytes
        The SHA-256 digest (FIPS 180-4), 32 bytes.

    Examples
    --------
    >>> content_hash(b"").hex()[:12]
    'e3b0c44298fc'
    """
    return hashlib.sha256(data).digest()


def canonical_json(value: Mapping[str, Any]) -> str:
    """Write a mapping as the one JSON text that stands for it.

    Keys are sorted, there is no white space, and text is ASCII. Entries that are None are left out, so
    that a field added in a later version does not change what is written for those who do not use it.

    Parameters
    ----------
    value : mapping of str to JSON values
        NaN and infinities are refused.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        For NaN and infinities, which JSON has no form for.

    Examples
    --------
    >>> canonical_json({"b": 1.5, "a": [1, True], "c": None})
    '{"a":[1,true],"b":1.5}'
    """
    present = {key: entry for key, entry in value.items() if entry is not None}
    return json.dumps(present, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def fingerprint(value: Mapping[str, Any]) -> str:
    """Identify a specification: SHA-256 of its canonical JSON, as 64 hexadecimal digits.

    Examples
    --------
    >>> fingerprint({"a": 1})[:12]
    '015abd7f5cc5'
    """
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()

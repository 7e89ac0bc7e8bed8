"""Content hashes of images and fingerprints of backbone specifications."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["canonical_json", "content_hash", "fingerprint"]


def content_hash(data: bytes) -> bytes:
    """Return the SHA-256 digest of an image file's bytes.

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
    """Return the canonical JSON text of a mapping."""
    # Keys are sorted, without white space, in ASCII. None entries are left out, so that a new optional
    # field does not change the fingerprints of those who do not use it.
    present = {key: entry for key, entry in value.items() if entry is not None}
    return json.dumps(present, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def fingerprint(value: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a specification's canonical JSON, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()

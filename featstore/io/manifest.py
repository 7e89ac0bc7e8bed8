"""Format versions and checksums of the JSON texts in featstore's files."""

import json
import zlib
from collections.abc import Mapping
from typing import Any

from featstore.errors import FormatVersionError
from featstore.io.hdf5.raw import damaged

__all__ = ["check_version", "has_checksum", "refuse_newer", "with_checksum"]

_NO_CHECKSUM = "0" * 8


def check_version(path: str, found: Any, known: int) -> None:
    """Raise FormatVersionError for a newer version, and DamagedError for what is no version."""
    if type(found) is not int or found < 1:
        raise damaged(path, f"format version {found!r} does not exist")
    refuse_newer(path, found, known)


def refuse_newer(what: str, found: int, known: int) -> None:
    """Raise FormatVersionError if a newer version of featstore wrote a file."""
    if found > known:
        raise FormatVersionError(
            f"{what} has format version {found}, and this version of featstore reads up to {known}; "
            "upgrade featstore: pip install --upgrade featstore"
        )


def with_checksum(about: Mapping[str, Any]) -> str:
    """Return JSON text whose last entry is the CRC-32 of the text with that entry's digits as zeros."""
    text = json.dumps({**about, "checksum": _NO_CHECKSUM}, indent=2, allow_nan=False) + "\n"
    before, _, after = text.rpartition(_NO_CHECKSUM)
    return f"{before}{zlib.crc32(text.encode()):08x}{after}"


def has_checksum(text: bytes, checksum: Any) -> bool:
    """Return whether a text written by :func:`with_checksum` is unchanged; ``checksum`` is its entry."""
    if not isinstance(checksum, str) or not checksum.isascii() or len(checksum) != len(_NO_CHECKSUM):
        return False
    before, _, after = text.rpartition(checksum.encode())
    return f"{zlib.crc32(before + _NO_CHECKSUM.encode() + after):08x}" == checksum

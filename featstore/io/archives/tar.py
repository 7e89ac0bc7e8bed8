"""Tar archives in the formats of POSIX (ustar, pax) and GNU, without unpacking them.

The formats are described in POSIX.1-2017 (pax, "Extended Description") and in GNU tar's manual ("Basic Tar
Format"). Members are located, not copied: of an archive that is mapped into memory, headers alone are read.
Of one that is inflated, a member at its end may be cut short.
The standard library's ``tarfile`` ends at a damaged header as at the archive's end, without an error, and
some versions of it never end on hostile ones (CVE-2024-6232, CVE-2025-8194).
"""

from collections.abc import Iterator
from typing import NamedTuple

from featstore.io.archives.inflating import InflatedFile

__all__ = ["TarError", "TarMember", "iter_members"]

_BLOCK_BYTES = 512
_ZEROS = bytes(_BLOCK_BYTES)
_CHECKSUM = slice(148, 156)
_BLANKS = 8 * ord(" ")
_REGULAR = b"0\x007"
_WITHOUT_DATA = {
    b"1": "hard link",
    b"2": "link",
    b"3": "device",
    b"4": "device",
    b"5": "folder",
    b"6": "pipe",
}
# Extended headers hold names and times, not data.
_MAX_HEADER_BYTES = 2**20


class TarError(ValueError):
    """Bytes are not those of a tar archive."""


class TarMember(NamedTuple):
    """A member of an archive; ``target`` is what a link points to."""

    name: str  # as it is written, with surrogate escapes
    kind: str  # file, cut (by the archive's end), sparse, folder, hard link, link, device, pipe
    begin: int
    size: int
    target: str


def iter_members(buffer: memoryview | InflatedFile) -> Iterator[TarMember]:
    """Yield the members of an archive, in order, after checking the checksums of their headers."""
    at, end = 0, len(buffer)
    extended: dict[str, bytes] = {}
    while at < end:
        header = bytes(buffer[at : at + _BLOCK_BYTES])
        if header == _ZEROS:
            return
        _check(header)
        kind = header[156:157]
        size = _number(extended.get("size"), header[124:136])
        begin = at + _BLOCK_BYTES
        if kind in b"xgLK":
            if size > _MAX_HEADER_BYTES:
                raise TarError(f"an extended header of {size:,} bytes, where {_MAX_HEADER_BYTES:,} are read")
            if begin + size > end:
                raise TarError("cut short within an extended header")
            extended |= _extended(kind, bytes(buffer[begin : begin + size]))
            at = begin + _padded(size)
            continue
        name = _text(extended.get("path", _name(header)))
        target = _text(extended.get("linkpath", header[157:257].partition(b"\0")[0]))
        is_sparse = kind == b"S" or any(key.startswith("GNU.sparse") for key in extended)
        extended = {}
        if kind == b"S":
            begin = _after_sparse_map(buffer, header, begin)
        word = _WITHOUT_DATA.get(kind)
        if word is None and kind in _REGULAR and name.endswith("/"):
            word = "folder"
        if word is not None:
            yield TarMember(name, word, begin, 0, target)
            at = begin
        elif begin + size > end:
            yield TarMember(name, "cut", begin, size, target)
            return
        else:
            yield TarMember(name, "sparse" if is_sparse else "file", begin, size, target)
            at = begin + _padded(size)
    if end:
        raise TarError("cut short: the blocks of zeros that end an archive are missing")


def _check(header: bytes) -> None:
    """Raise TarError if a header is cut short or does not agree with its checksum."""
    if len(header) < _BLOCK_BYTES:
        raise TarError("cut short within a header")
    if _octal(header[_CHECKSUM]) != sum(header) - sum(header[_CHECKSUM]) + _BLANKS:
        raise TarError("a header does not agree with its checksum")


def _name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and header[345]:
        name = header[345:500].partition(b"\0")[0] + b"/" + name
    return name


def _number(given: bytes | None, field: bytes) -> int:
    """Return a size, from an extended header or from a header's own field."""
    if given is not None:
        if not given.isdigit() or len(given) > 20:
            raise TarError("an extended header gives a size that is no number")
        return int(given)
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big") + ((field[0] & 0x3F) << 8 * (len(field) - 1))
    return _octal(field)


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    if digits and not digits.isdigit():
        raise TarError("a header holds no number where one belongs")
    try:
        return int(digits or b"0", 8)
    except ValueError as error:
        raise TarError("a header holds no number where one belongs") from error


def _extended(kind: bytes, data: bytes) -> dict[str, bytes]:
    """Return what an extended header says of the next member."""
    if kind == b"L":
        return {"path": data.partition(b"\0")[0]}
    if kind == b"K":
        return {"linkpath": data.partition(b"\0")[0]}
    if kind == b"g":
        # Of all members: comments and times.
        return {}
    found = {}
    while data.rstrip(b"\0"):
        digits, _, _ = data.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) < 8 else 0
        key, mark, value = data[len(digits) + 1 : length].partition(b"=")
        if not mark or length > len(data) or value[-1:] != b"\n":
            raise TarError("an extended header is damaged")
        found[key.decode("utf-8", "replace")] = value[:-1]
        data = data[length:]
    return found


def _after_sparse_map(buffer: memoryview | InflatedFile, header: bytes, begin: int) -> int:
    """Return where a sparse member's data begins, behind the blocks that continue its map."""
    goes_on = header[482]
    while goes_on:
        block = bytes(buffer[begin : begin + _BLOCK_BYTES])
        if len(block) < _BLOCK_BYTES:
            raise TarError("cut short within the map of a sparse member")
        begin += _BLOCK_BYTES
        goes_on = block[504]
    return begin


def _padded(size: int) -> int:
    return -(-size // _BLOCK_BYTES) * _BLOCK_BYTES


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")

"""Zip archives of images, such as Kaggle's."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from featstore.errors import ImageError
from featstore.images.sources.containers.archive import ArchiveEntry, list_archive
from featstore.images.sources.containers.listings import listed_once
from featstore.images.sources.containers.member import CACHED_CONTAINERS, MAX_IMAGE_BYTES, Container, read_at
from featstore.images.sources.image_names import LOOKED_AT_BYTES
from featstore.io.stamps import FileStamp

__all__ = ["list_zip", "read_from_zip"]

# APPNOTE.TXT of PKWARE, 4.3.7: a member's local header, up to the lengths of its name and extra field.
_LOCAL = struct.Struct("<4s22xHH")
_IS_ENCRYPTED, _IS_UTF_8 = 1, 0x800
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_UNIX_KIND = 0o170000
_UNIX_LINK = 0o120000
_UNIX = 3


class Place(NamedTuple):
    """Where a member is, and what it unpacks to."""

    header: int
    packed: int
    size: int
    crc: int
    is_deflated: bool


@lru_cache(maxsize=CACHED_CONTAINERS)
def list_zip(path: str, stamp: FileStamp) -> Container:
    """List the images of an archive by its directory; what has no ending is looked at."""
    return listed_once(path, stamp, lambda: _listed_now(path), place_of=lambda values: Place(*values))


def _listed_now(path: str) -> Container:
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                members, end = archive.infolist(), archive.start_dir
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, struct.error) as error:
            raise ImageError(f"no whole zip archive: {error}") from error
        return list_archive(_entries(members, end), read_head=lambda place: _head(file.fileno(), place))


def read_from_zip(file: int, place: Place) -> bytes:
    """Return the bytes of a member of an open archive, after checking its checksum."""
    data = _unpacked(_packed(file, place, place.packed), place, place.size + 1)
    if len(data) != place.size or zlib.crc32(data) != place.crc:
        raise ImageError("the member does not agree with its size or checksum")
    return data


def _entries(members: list[zipfile.ZipInfo], end: int) -> Iterator[ArchiveEntry]:
    # A zip bomb lets many members share their bytes; apart, they unpack to 1,032 times the archive at most.
    order = sorted(range(len(members)), key=lambda at: members[at].header_offset)
    following = [members[at].header_offset for at in order[1:]] + [end]
    ends = dict(zip(order, following[: len(order)], strict=True))
    for at, member in enumerate(members):
        name = _name(member)
        if name.endswith("/"):
            continue
        place = Place(
            member.header_offset,
            member.compress_size,
            member.file_size,
            member.CRC,
            member.compress_type == zipfile.ZIP_DEFLATED,
        )
        yield ArchiveEntry(name, place, _problem(member, ends[at]))


def _name(member: zipfile.ZipInfo) -> str:
    """Return a member's name; macOS writes UTF-8 and does not say so."""
    if member.filename.isascii() or member.flag_bits & _IS_UTF_8:
        return member.filename
    try:
        return member.filename.encode("cp437").decode()
    except UnicodeError:
        return member.filename


def _problem(member: zipfile.ZipInfo, end: int) -> str | None:
    if member.flag_bits & _IS_ENCRYPTED:
        return "encrypted; unpack the archive with its password"
    if member.compress_type not in _METHODS:
        return f"compressed by zip's method {member.compress_type}; stored members and deflated ones are read"
    if member.create_system == _UNIX and member.external_attr >> 16 & _UNIX_KIND == _UNIX_LINK:
        return "a link, not a regular file"
    if (size := max(member.file_size, member.compress_size)) > MAX_IMAGE_BYTES:
        return f"the member has {size:,} bytes; an image may have {MAX_IMAGE_BYTES:,}"
    if member.header_offset < 0 or member.header_offset + _LOCAL.size + member.compress_size > end:
        return "its bytes overlap with what comes after it: damaged, or a zip bomb"
    return None


def _packed(file: int, place: Place, n_bytes: int) -> bytes:
    """Return the first bytes of a member as they are stored."""
    header = read_at(file, place.header, _LOCAL.size)
    if len(header) < _LOCAL.size or header[:4] != b"PK\x03\x04":
        raise ImageError("the member is not where the archive's directory says")
    _, name_bytes, extra_bytes = _LOCAL.unpack(header)
    packed = read_at(file, place.header + _LOCAL.size + name_bytes + extra_bytes, n_bytes)
    if len(packed) < n_bytes:
        raise ImageError("truncated: the archive ends before the member does")
    return packed


def _unpacked(packed: bytes, place: Place, n_bytes: int) -> bytes:
    if not place.is_deflated:
        return packed
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, n_bytes)
    except zlib.error as error:
        raise ImageError("the member's compressed bytes are damaged") from error


def _head(file: int, place: Place) -> bytes:
    try:
        packed = _packed(file, place, min(place.packed, LOOKED_AT_BYTES))
        return _unpacked(packed, place, LOOKED_AT_BYTES)
    except ImageError:
        return b""

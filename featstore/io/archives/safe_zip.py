"""Checksums and safety checks for zip archives from untrusted sources."""

import io
import os
import struct
import time
import zipfile
import zlib
from types import SimpleNamespace
from typing import BinaryIO

from featstore.io.hdf5.raw import open_raw

__all__ = [
    "ARCHIVE_COMMENT",
    "allow_any_clock",
    "check_archive",
    "check_contents",
    "check_members",
    "check_unpacking",
    "member_info",
    "seal_archive",
]

# The comment that ends the file: the CRC-32 of all bytes before its digits.
ARCHIVE_COMMENT = b"featstore crc32 00000000"

_FIRST_YEAR, _LAST_YEAR = 1980, 2107  # of the dates of MS-DOS, as zip has them
_DIGITS = 8
_BLOCK_BYTES = 2**20
# Weights hardly compress: an archive that grows by more than this was made to exhaust its reader.
_MAX_EXPANSION = 16
_MIN_EXPANDED_BYTES = 2**26
# APPNOTE.TXT of PKWARE, 4.3.16 and 4.3.7: the end record without its comment, and a member's local header.
_END_BYTES = 22
_END_MARK = b"PK\x05\x06"
_LOCAL = struct.Struct("<4s22xHH")


def seal_archive(path: str) -> None:
    """Write the checksum of an archive whose comment is ``ARCHIVE_COMMENT``."""
    with open(path, "rb+") as file:
        checksum = _checksum(file)
        file.seek(-_DIGITS, os.SEEK_END)
        file.write(checksum)


def allow_any_clock() -> None:
    """Let zipfile date other libraries' members 1980 where the clock shows a year that zip cannot express."""
    # Nothing is changed on any other machine; here zipfile would fail whoever calls it.
    if not _FIRST_YEAR <= time.localtime(time.time()).tm_year <= _LAST_YEAR:
        zipfile.time = SimpleNamespace(localtime=_within_zip, time=time.time)  # type: ignore[attr-defined]


def _within_zip(seconds: float | None = None) -> time.struct_time:
    local = time.localtime(seconds)
    if _FIRST_YEAR <= local.tm_year <= _LAST_YEAR:
        return local
    return time.struct_time((_FIRST_YEAR, 1, 1, 0, 0, 0, 1, 1, 0))


def member_info(name: str) -> zipfile.ZipInfo:
    """Return the header of a new member, dated 1980 whatever the clock shows."""
    member = zipfile.ZipInfo(name)
    member.external_attr = 0o600 << 16
    return member


def check_archive(path: str) -> None:
    """Raise ValueError if an archive's checksum or layout is wrong."""
    with open_raw(path, follow_links=True) as raw, io.BufferedReader(raw) as file:
        _check_checksum(file)
        check_members(file)


def check_contents(path: str) -> None:
    """Check an archive as :func:`check_archive` does, and the CRC of each member."""
    with open_raw(path, follow_links=True) as raw, io.BufferedReader(raw) as file:
        _check_checksum(file)
        check_members(file)
        try:
            with zipfile.ZipFile(file) as archive:
                wrong = archive.testzip()
        except (EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
            raise ValueError(str(error)) from error
    if wrong is not None:
        raise ValueError(f"its member {wrong[:80]!r} does not agree with its checksum")


def check_members(file: BinaryIO) -> None:
    """Raise ValueError if members are compressed, encrypted, overlapping or duplicated."""
    # Our archives are stored uncompressed: reading one takes no more memory than the file.
    try:
        with zipfile.ZipFile(file) as archive:
            members = sorted(_distinct_members(archive), key=lambda member: member.header_offset)
            position = 0
            for member in members:
                if (
                    member.compress_type != zipfile.ZIP_STORED
                    or member.compress_size != member.file_size
                    or member.flag_bits & 1
                ):
                    raise ValueError(
                        f"its member {member.filename[:80]!r} is compressed or encrypted; ours never are"
                    )
                if member.header_offset < position or (position == 0 and member.header_offset):
                    raise ValueError("its members overlap, or do not begin where the file does")
                file.seek(member.header_offset)
                mark, name_bytes, extra_bytes = _LOCAL.unpack(file.read(_LOCAL.size))
                if mark != b"PK\x03\x04":
                    raise ValueError(f"its member {member.filename[:80]!r} is not where it should be")
                position = member.header_offset + _LOCAL.size + name_bytes + extra_bytes + member.file_size
            if position > archive.start_dir:
                raise ValueError("its members are larger than the file")
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, struct.error) as error:
        raise ValueError(f"it is no whole zip: {error}") from error


def check_unpacking(archive: zipfile.ZipFile, file_bytes: int) -> None:
    """Raise ValueError if members would leave the folder they are unpacked to, or fill the disk."""
    members = _distinct_members(archive)
    for name in (member.filename for member in members):
        if os.path.isabs(name) or "\\" in name or ".." in name.split("/"):
            raise ValueError(f"its member {name[:80]!r} leads out of the folder that it would be unpacked in")
    if sum(one.file_size for one in members) > max(_MIN_EXPANDED_BYTES, _MAX_EXPANSION * file_bytes):
        raise ValueError(f"it would unpack to far more than its {file_bytes:,} bytes")


def _distinct_members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    members = archive.infolist()
    if len({member.filename for member in members}) != len(members):
        raise ValueError("it holds two members of one name")
    return members


def _check_checksum(file: BinaryIO) -> None:
    ending = len(ARCHIVE_COMMENT)
    file.seek(max(0, file.seek(0, os.SEEK_END) - _END_BYTES - ending))
    tail = file.read()
    if tail[_END_BYTES:-_DIGITS] == ARCHIVE_COMMENT[:-_DIGITS] and tail[:4] == _END_MARK:
        if tail[-_DIGITS:] != _checksum(file):
            raise ValueError("its bytes do not agree with their checksum")
    # Versions up to 0.2 wrote no comment.
    elif tail[-_END_BYTES:][:4] != _END_MARK:
        raise ValueError("it does not end as a zip of featstore does")


def _checksum(file: BinaryIO) -> bytes:
    left = file.seek(0, os.SEEK_END) - _DIGITS
    file.seek(0)
    checksum = 0
    while left > 0 and (block := file.read(min(_BLOCK_BYTES, left))):
        checksum = zlib.crc32(block, checksum)
        left -= len(block)
    return b"%08x" % checksum

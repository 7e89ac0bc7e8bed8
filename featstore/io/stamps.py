"""File stamps (size, times, inode): detect unchanged files without reading them."""

import hashlib
import os
from typing import NamedTuple, Self

from featstore.io.urls import is_url

__all__ = ["MEMBER_MARK", "UNKNOWN", "FileStamp", "is_there"]

MEMBER_MARK = "::"
"""Between the path of a file that holds many images and the name of one in it."""

_SECOND_NS = 10**9
_LARGEST = 2**63 - 1

# A file that was written this short a time before it was read may be written again within the same tick of
# the file system's clock, so that its times would not change.
_FINE_TICK_NS = 50_000_000
# FAT keeps times to two seconds, and HFS+, ext3 and many network file systems to one.
_COARSE_TICK_NS = 2 * _SECOND_NS


class FileStamp(NamedTuple):
    """Size, times and inode of a file; an equal stamp means an unchanged file.

    The device is not part of it: its number changes from one mounting to the next. What a system lacks is the
    same number each time (the inode 0), and the time of change is that of creation on Windows: both may be
    compared like any other.
    """

    size: int  # in bytes
    mtime_ns: int  # last change of the content, since 1970; held within 64 bits (1677 to 2262)
    ctime_ns: int  # last change of the inode
    inode: int  # the lowest 63 bits of its number

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Return the stamp of a file; take it before reading the file."""
        return cls(
            size=min(status.st_size, _LARGEST),
            mtime_ns=_clipped(status.st_mtime_ns),
            ctime_ns=_clipped(status.st_ctime_ns),
            inode=status.st_ino & _LARGEST,
        )

    @classmethod
    def of_object(cls, size: int, tag: str | None) -> Self:
        """Return the stamp of an object: its size, and for times and inode 186 bits of its tag's hash."""
        digest = int.from_bytes(hashlib.blake2b((tag or "").encode(), digest_size=24).digest(), "big")
        parts = [digest >> shift & _LARGEST >> 1 for shift in (0, 62, 124)]
        return cls(size, *parts)

    def is_racy(self, read_ns: int) -> bool:
        """Return whether the file may have changed since without a change of its stamp."""
        if not all(-_LARGEST <= time_ns < _LARGEST for time_ns in (self.mtime_ns, self.ctime_ns)):
            return True
        if abs(read_ns - self.mtime_ns) <= _FINE_TICK_NS:
            return True
        return any(
            time_ns % _SECOND_NS == 0 and abs(read_ns - time_ns) <= _COARSE_TICK_NS
            for time_ns in (self.mtime_ns, self.ctime_ns)
        )


UNKNOWN = FileStamp(size=-1, mtime_ns=-1, ctime_ns=-1, inode=-1)
"""The stamp of no file."""


def is_there(path: str) -> bool:
    """Return whether a file, or the file that holds a member, exists; True also where the system refuses."""
    if is_url(path):
        # Nobody asks a server about each image of a table.
        return True
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        holder, _, member = path.rpartition(MEMBER_MARK)
        return bool(holder and member) and is_there(holder)
    except (OSError, ValueError):
        return True
    return True


def _clipped(time_ns: int) -> int:
    return max(-_LARGEST - 1, min(time_ns, _LARGEST))

"""A file object for reading that keeps operating system errors apart from damage."""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from featstore.errors import DamagedError, FeatstoreError, StoreError
from featstore.io.atomic import failure_reason
from featstore.io.positioned_file import PositionedFile
from featstore.io.stamps import FileStamp
from featstore.io.storage.opening import storage_of
from featstore.io.storage.parts import Parts
from featstore.io.urls import is_url

__all__ = ["RawFile", "cannot_read", "damaged", "open_raw", "raw_parts", "refusal", "unreadable"]

# A file with terabytes that take no room was made to exhaust its reader; some file systems compress.
_MAX_HOLE = 256
_MIN_HOLE_BYTES = 2**30
_LOOKED_FOR = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError)
# HDF5 quotes the operating system where this refused a call.
_HDF5_REFUSED = re.compile(r"errno = [1-9]\d*, error message")


class RawFile(PositionedFile):
    """A regular file, open for reading, that records the first operating system error."""

    # HDF5 and zipfile would replace such errors by their own, ignore them, or crash at exit. What cannot
    # be read is zero to them; whoever opened the file checks ``error`` (OSError or None).

    def __init__(self, path: str, *, follow_links: bool = False, is_sealed: bool = False) -> None:
        # Python closes also what could not be opened.
        self._descriptor = -1
        if is_url(path):
            with storage_of(path).open(path, is_sealed=is_sealed) as copy:
                self._descriptor = os.dup(copy.fileno())
        elif not stat.S_ISREG(os.stat(path, follow_symlinks=follow_links).st_mode):
            raise damaged(path, "it is not a regular file")
        else:
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self.error: OSError | None = None
        self._position = 0
        status = os.fstat(self._descriptor)
        self.n_bytes = status.st_size
        self.stamp = FileStamp.of(status)  # at opening
        written = 512 * getattr(status, "st_blocks", status.st_size)
        if self.n_bytes > _MIN_HOLE_BYTES + _MAX_HOLE * written:
            self.close()
            raise damaged(path, f"of its {self.n_bytes:,} bytes only {written:,} were ever written")

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer; what cannot be read, or lies beyond the file's end, is zero."""
        view = memoryview(buffer).cast("B")
        n_read = 0
        try:
            while n_read < len(view):
                found = _read_at(self._descriptor, view[n_read:], self._position)
                if not found:
                    break
                n_read += found
                self._position += found
        except OSError as error:
            self.error = self.error or error
            n_missing = max(0, min(len(view), n_read + self.n_bytes - self._position) - n_read)
            view[n_read:] = bytes(len(view) - n_read)
            self._position += n_missing
            return n_read + n_missing
        view[n_read:] = bytes(len(view) - n_read)
        return n_read

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            with suppress(OSError):
                os.close(self._descriptor)
        super().close()


def raw_parts(path: str) -> "RawFile | Parts":
    """Open a sealed file of which little but its largest column will be read."""
    if is_url(path):
        parts = storage_of(path).open_parts(path)
        if isinstance(parts, Parts):
            return parts
        parts.close()
    return RawFile(path, is_sealed=True)


@contextmanager
def open_raw(path: str, *, follow_links: bool = False) -> Iterator[RawFile]:
    """Open a file, and raise the operating system's own error in place of what others make of it."""
    with RawFile(path, follow_links=follow_links) as raw:
        try:
            yield raw
        except Exception as error:
            if raw.error is None:
                raise
            raise raw.error from error
        if raw.error is not None:
            raise raw.error


def refusal(error: BaseException) -> OSError | None:
    """Return the error of the operating system that lies behind another one; None if there is none."""
    found: BaseException | None = error
    while found is not None:
        # What programs look for and do without, before another error, is no reason for it.
        if isinstance(found, OSError) and (found is error or not isinstance(found, _LOOKED_FOR)):
            is_ours = isinstance(found, FeatstoreError)
            if not is_ours and (found.errno is not None or _HDF5_REFUSED.search(str(found))):
                return found
        found = found.__cause__ or found.__context__
    return None


def cannot_read(path: str, error: BaseException) -> str:
    """Return a message if the operating system refused what reading a file needs, else ``""``."""
    refused = refusal(error)
    if refused is None:
        return ""
    # A model's weights are unpacked into the folder for temporary files.
    other = f" ({refused.filename})" if refused.filename not in (None, path) else ""
    return f"cannot read {path}: {failure_reason(refused)}{other}"


def damaged(path: str, found: str) -> DamagedError:
    """Return a DamagedError that names the file and the next step."""
    return DamagedError(
        f"{path} is damaged: {found}; run featstore verify, which lists every damaged file of the store and "
        "with --repair sets them aside"
    )


def unreadable(path: str, error: OSError) -> StoreError:
    """Return a StoreError for a file that the operating system cannot read."""
    return StoreError(f"cannot read {path}: {failure_reason(error)}")


def _read_at(descriptor: int, view: memoryview, position: int) -> int:
    if hasattr(os, "pread"):
        found = os.pread(descriptor, len(view), position)
    else:
        os.lseek(descriptor, position, os.SEEK_SET)
        found = os.read(descriptor, len(view))
    view[: len(found)] = found
    return len(found)

"""A file object for writing HDF5 that hides operating system errors from the library."""

import os
from contextlib import suppress
from typing import Any

from featstore.io.positioned_file import PositionedFile

__all__ = ["NewFile"]

# What HDF5 may read again of what it wrote is small; the rest is not kept once the file is lost.
_MAX_KEPT_BYTES = 2**21


class NewFile(PositionedFile):
    """A new file that records the first operating system error instead of raising it."""

    # HDF5 loses errors as it frees a dataset, prints others, and may crash at exit after one. After the
    # first error, writes are dropped; whoever closes the file checks ``error`` (OSError or None). They are
    # dropped after closing, too: HDF5 flushes once more as Python frees a file that could not be closed.

    def __init__(self, path: str) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self._file = open(os.open(path, flags, 0o666), "rb+", buffering=0)  # noqa: SIM115
        self.error: OSError | None = None
        self._kept: list[tuple[int, bytes]] = []
        self._position = 0
        self.n_bytes = 0

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Write all of the data."""
        view = memoryview(data).cast("B")
        try:
            if self.error is None and not self.closed:
                self._file.seek(self._position)
                n_written = 0
                while n_written < len(view):
                    n_written += self._file.write(view[n_written:]) or 0
        except OSError as error:
            self.error = error
        if self.error is not None and len(view) <= _MAX_KEPT_BYTES:
            self._kept.append((self._position, bytes(view)))
        self._position += len(view)
        self.n_bytes = max(self.n_bytes, self._position)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with what was written; what was not is zero."""
        view = memoryview(buffer).cast("B")
        view[:] = bytes(len(view))
        try:
            n_read = 0
            if not self.closed:
                self._file.seek(self._position)
            while not self.closed and (found := self._file.readinto(view[n_read:])):
                n_read += found
        except OSError as error:
            self.error = self.error or error
        for start, data in self._kept:
            begin, end = max(start, self._position), min(start + len(data), self._position + len(view))
            if begin < end:
                view[begin - self._position : end - self._position] = data[begin - start : end - start]
        self._position += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the file's size, by default to the position."""
        self.n_bytes = self._position if size is None else size
        try:
            if self.error is None and not self.closed:
                self._file.truncate(self.n_bytes)
        except OSError as error:
            self.error = error
        return self.n_bytes

    def flush(self) -> None:
        """Do nothing: nothing is buffered."""

    def close(self) -> None:
        """Close the file."""
        # Python closes also what could not be opened.
        if not self.closed and hasattr(self, "_file"):
            try:
                self._file.close()
            except OSError as error:
                self.error = self.error or error
        with suppress(OSError):
            super().close()

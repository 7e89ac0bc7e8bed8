"""Compressed files read from front to back, with what was read last at hand."""

import bz2
import gzip
import lzma
import threading
import zlib
from collections.abc import Callable
from typing import Any

__all__ = ["InflateError", "InflatedFile", "compression_of"]

# Threads ask for images nearly in order: what they are apart, and more.
_KEPT_BYTES = 64 * 2**20
_CHUNK_BYTES = 2**20

_OPENERS: dict[str, Callable[[str], Any]] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
_MARKS = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)


class InflateError(ValueError):
    """Compressed bytes are damaged, or cut short."""


def compression_of(start: bytes) -> str | None:
    """Return the program that compressed a file which starts like this, None if none did."""
    return next((program for mark, program in _MARKS if start.startswith(mark)), None)


class InflatedFile:
    """What a file compressed by gzip, bzip2 or xz holds, as slices of bytes.

    Slices are read from front to back; 64 MiB behind the last one are at hand, and what is before them is
    found by starting again. Its length is not known.
    """

    def __init__(self, path: str, program: str) -> None:
        if program not in _OPENERS:
            raise InflateError(f"compressed by {program}, which is not read")
        self._path, self._program = path, program
        self._lock = threading.Lock()
        self._file = _OPENERS[program](path)
        self._kept, self._begin = bytearray(), 0

    def __len__(self) -> int:
        return 2**62

    def __getitem__(self, at: slice) -> bytes:
        """Return some bytes; fewer where the file ends before."""
        with self._lock:
            if at.start < self._begin:
                self._file.close()
                self._file = _OPENERS[self._program](self._path)
                self._kept, self._begin = bytearray(), 0
            while self._begin + len(self._kept) < at.stop and self._read_more(at.start):
                pass
            return bytes(self._kept[at.start - self._begin : at.stop - self._begin])

    def check(self) -> None:
        """Read to the end, where checksums are; raise InflateError if they are not those of the bytes."""
        _ = self[len(self) - 1 : len(self)]

    def _read_more(self, wanted_from: int) -> bool:
        """Read a chunk; let go what is far before it and before what is wanted."""
        try:
            more = self._file.read(_CHUNK_BYTES)
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
            raise InflateError(f"the bytes compressed by {self._program} are damaged or cut short") from error
        except OSError as error:
            if error.errno is None:
                raise InflateError(f"the bytes compressed by {self._program} are damaged") from error
            raise
        self._kept += more
        end = self._begin + len(self._kept)
        n_left = min(end - _KEPT_BYTES, wanted_from) - self._begin
        if n_left >= _CHUNK_BYTES:
            del self._kept[:n_left]
            self._begin += n_left
        return bool(more)

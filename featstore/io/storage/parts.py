"""A sealed object of which the beginning and the end are read, and what is between them hardly ever."""

import struct
from collections.abc import Callable
from typing import Any

from featstore.io.positioned_file import PositionedFile

__all__ = ["HEAD_BYTES", "Parts"]

HEAD_BYTES = 2**14
# A read soon after the head takes a longer one; any other, all from there on and what comes shortly before.
_LONG_HEAD_BYTES = 2**17
_BEFORE = 2**12
_HEADER = struct.Struct("<8s3Q")
_MARK = b"FSPARTS1"


class Parts(PositionedFile):
    """Reads a file whose head is here; fetches a longer one or, from the first place that is read, the rest.

    ``fetch`` returns the bytes between two places; ``keep`` is given, as the file is closed, what
    :meth:`of_copy` reads, where more was fetched. What could not be fetched is zero, and ``error`` says why.
    """

    def __init__(
        self, head: bytes, n_bytes: int, fetch: Callable[[int, int], bytes], keep: Callable[[bytes], None]
    ) -> None:
        self.n_bytes = n_bytes
        self.error: OSError | None = None
        self._is_grown = False
        self._head, self._tail, self._tail_start = head, b"", n_bytes
        self._fetch, self._keep = fetch, keep
        self._position = 0

    @classmethod
    def of_copy(
        cls, copy: bytes, fetch: Callable[[int, int], bytes], keep: Callable[[bytes], None]
    ) -> "Parts | None":
        """Return the parts that were kept; None for all other bytes."""
        if len(copy) < _HEADER.size:
            return None
        mark, n_bytes, n_head, tail_start = _HEADER.unpack_from(copy)
        n_tail = n_bytes - tail_start
        if mark != _MARK or len(copy) != _HEADER.size + n_head + n_tail:
            return None
        parts = cls(copy[_HEADER.size : _HEADER.size + n_head], n_bytes, fetch, keep)
        parts._tail, parts._tail_start = copy[_HEADER.size + n_head :], tail_start
        return parts

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer; what cannot be read, or lies beyond the file's end, is zero."""
        view = memoryview(buffer).cast("B")
        start, end = self._position, min(self._position + len(view), self.n_bytes)
        view[:] = bytes(len(view))
        if end <= start:
            return 0
        try:
            if end > len(self._head) and start < self._tail_start:
                self._grow(start, end)
        except OSError as error:
            self.error = self.error or error
        for first, piece in ((0, self._head), (self._tail_start, self._tail)):
            low, high = max(start, first), min(end, first + len(piece))
            if low < high:
                view[low - start : high - start] = piece[low - first : high - first]
        self._position = end
        return end - start

    def close(self) -> None:
        """Close the file, and keep what was fetched."""
        if not self.closed and self._is_grown and self.error is None:
            self._is_grown = False
            header = _HEADER.pack(_MARK, self.n_bytes, len(self._head), self._tail_start)
            self._keep(header + self._head + self._tail)
        super().close()

    def _grow(self, start: int, end: int) -> None:
        self._is_grown = True
        n_long = min(_LONG_HEAD_BYTES, self._tail_start)
        if start < n_long and len(self._head) < n_long:
            self._head += self._fetch(len(self._head), n_long)
        if end > len(self._head) and start < self._tail_start:
            first = max(len(self._head), start - _BEFORE)
            self._tail = self._fetch(first, self._tail_start) + self._tail
            self._tail_start = first

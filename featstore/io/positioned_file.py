"""The part that file objects with a size and a position have in common."""

import io
import os

__all__ = ["PositionedFile"]


class PositionedFile(io.RawIOBase):
    """A readable file of ``n_bytes``; reads begin at the position, and end at the file's end."""

    n_bytes: int
    _position: int

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position of the next read or write, and return it."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.n_bytes}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        """Return the position of the next read or write."""
        return self._position

    def read(self, size: int = -1, /) -> bytes:
        """Read at most ``size`` bytes, and none beyond the file's end."""
        n_left = max(0, self.n_bytes - self._position)
        return super().read(min(size, n_left) if size >= 0 else n_left) or b""

"""One checksum over all bytes of an HDF5 file that no other checksum covers."""

import zlib
from collections.abc import Iterable
from typing import Any, BinaryIO, Protocol

from featstore.io.hdf5.opening import create_plain, locate

__all__ = ["FRAME", "is_frame_whole", "lay_out_frame", "locate_frame", "seal_frame"]

FRAME = "frame_checksum"

_BYTES = 4
_BLOCK_BYTES = 2**20


class _Readable(Protocol):
    def seek(self, offset: int, /) -> int: ...

    def read(self, size: int = -1, /) -> bytes | None: ...


def lay_out_frame(file: Any) -> int:
    """Reserve space for the checksum in a new file."""
    return create_plain(file, FRAME, "<u4", (1,))


def locate_frame(links: Any, file_id: Any, file_bytes: int) -> int | None:
    """Find the checksum in an open file."""
    if not links.exists(FRAME.encode()):
        return None
    shape, _, offset = locate(links, file_id, FRAME, ["<u4"], file_bytes)
    if shape != (1,):
        raise ValueError(f"/{FRAME} has the shape {shape}; it must be (1,)")
    return offset


def seal_frame(file: BinaryIO, frame: int, extents: Iterable[tuple[int, int]] = ()) -> None:
    """Write the checksum of an otherwise complete file."""
    checksum = _checksum(file, frame, extents)
    file.seek(frame)
    file.write(checksum.to_bytes(_BYTES, "little"))
    file.flush()


def is_frame_whole(file: _Readable, frame: int, extents: Iterable[tuple[int, int]] = ()) -> bool:
    """Return whether all bytes outside of the extents are as :func:`seal_frame` found them."""
    found = _checksum(file, frame, extents)
    file.seek(frame)
    return file.read(_BYTES) == found.to_bytes(_BYTES, "little")


def _checksum(file: _Readable, frame: int, extents: Iterable[tuple[int, int]]) -> int:
    """Return the CRC-32 of the bytes that are in no extent and not the checksum itself."""
    position = checksum = 0
    for begin, end in sorted([*extents, (frame, frame + _BYTES)]):
        file.seek(position)
        while position < begin:
            block = file.read(min(_BLOCK_BYTES, begin - position))
            if not block:
                break
            checksum = zlib.crc32(block, checksum)
            position += len(block)
        position = max(position, end)
    file.seek(position)
    while block := file.read(_BLOCK_BYTES):
        checksum = zlib.crc32(block, checksum)
    return checksum

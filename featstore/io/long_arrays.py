"""Arrays of many millions of rows: in memory while they are short, in files without a name beyond.

What is in such a file takes no memory that the system could not have back at any time.
"""

import mmap
import os
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from featstore.errors import StoreError
from featstore.io.atomic import failure_reason
from featstore.io.cache_folder import cache_folder

__all__ = [
    "LongArray",
    "are_all",
    "are_equal",
    "as_read_only",
    "blocks_of",
    "forget_pages",
    "in_buckets",
    "long_sorted",
    "long_zeros",
]

_MAX_BYTES = 2**22
_BLOCK_ROWS = 2**18
_TOP_BYTE = 7 if sys.byteorder == "little" else 0  # of a uint64


class LongArray:
    """Rows of one type and width that grow at the end."""

    def __init__(self, dtype: DTypeLike, width: tuple[int, ...] = (), *, n_expected: int = 0) -> None:
        self._dtype = np.dtype(dtype)
        self._width = width
        self._n_rows = 0
        n_held = n_expected if n_expected * self._row_bytes <= _MAX_BYTES else 0
        self._rows: NDArray[Any] = np.empty((n_held, *width), self._dtype)
        self._file: IO[bytes] | None = None

    def __len__(self) -> int:
        return self._n_rows

    def extend(self, rows: ArrayLike) -> None:
        """Add rows at the end."""
        added = np.ascontiguousarray(rows, self._dtype)
        stop = self._n_rows + len(added)
        if self._file is None and stop * self._row_bytes > _MAX_BYTES:
            self._file = _scratch_file()
            weakref.finalize(self, self._file.close)
            self._write(self._rows[: self._n_rows])
        if self._file is not None:
            self._write(added)
            # Mapped again where it is read.
            self._rows = self._rows[:0]
        else:
            if stop > len(self._rows):
                grown = np.empty((max(stop, 2 * len(self._rows)), *self._width), self._dtype)
                grown[: self._n_rows] = self._rows[: self._n_rows]
                self._rows = grown
            self._rows[self._n_rows : stop] = added
        self._n_rows = stop

    @property
    def rows(self) -> NDArray[Any]:
        """All rows; not a copy, read-only."""
        if self._file is not None and len(self._rows) < self._n_rows:
            try:
                self._file.flush()
            except OSError as error:
                raise _full(error) from error
            self._rows = self._mapped(self._file)
        return as_read_only(self._rows[: self._n_rows])

    def forget_pages(self) -> None:
        """Give memory back to the system."""
        forget_pages(self._rows)

    @property
    def _row_bytes(self) -> int:
        return self._dtype.itemsize * int(np.prod(self._width, dtype=np.int64))

    def _write(self, rows: NDArray[Any]) -> None:
        assert self._file is not None
        try:
            self._file.write(rows.reshape(-1).view(np.uint8).data)
        except OSError as error:
            raise _full(error) from error

    def _mapped(self, file: IO[bytes]) -> NDArray[Any]:
        pages = mmap.mmap(file.fileno(), self._n_rows * self._row_bytes, access=mmap.ACCESS_READ)
        return np.frombuffer(pages, self._dtype).reshape(self._n_rows, *self._width)


def long_zeros(n_rows: int, width: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return zeros of shape (n_rows, *width), to be written to."""
    n_bytes = n_rows * np.dtype(dtype).itemsize * int(np.prod(width, dtype=np.int64))
    if n_bytes <= _MAX_BYTES:
        return np.zeros((n_rows, *width), dtype)
    with _scratch_file() as file:
        try:
            if hasattr(os, "posix_fallocate"):
                # A full disk is an error here; later it would end the process.
                os.posix_fallocate(file.fileno(), 0, n_bytes)
            else:
                file.truncate(n_bytes)
        except OSError as error:
            raise _full(error) from error
        return np.frombuffer(mmap.mmap(file.fileno(), n_bytes), dtype).reshape(n_rows, *width)


def long_sorted(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return numbers in rising order; short arrays are sorted where they are."""
    if numbers.nbytes <= _MAX_BYTES:
        numbers.sort()
        return numbers

    def blocks() -> Iterator[NDArray[np.uint64]]:
        for block in blocks_of(len(numbers)):
            yield numbers[block]
            forget_pages(numbers)

    rows, buckets = in_buckets(blocks, 8, _TOP_BYTE)
    ordered = rows.view(np.uint64)[:, 0]
    for bucket in buckets:
        ordered[bucket].sort()
        forget_pages(ordered)
    return ordered


def in_buckets(
    blocks: Callable[[], Iterator[NDArray[Any]]], width: int, at: int
) -> tuple[NDArray[np.uint8], list[slice]]:
    """Return rows of ``width`` bytes, divided by the value of byte ``at``, and where each part is.

    ``blocks`` yields the rows, contiguous, as often as it is called; those of one part keep their order.
    Short ones are one part.
    """
    counts = np.zeros(256, np.int64)
    for rows in blocks():
        counts += np.bincount(rows.view(np.uint8).reshape(-1, width)[:, at], minlength=256)
    n_rows = int(counts.sum())
    is_short = n_rows * width <= _MAX_BYTES
    if is_short:
        counts[:] = [n_rows, *[0] * 255]
    bounds = [0, *np.cumsum(counts).tolist()]
    moved, ends = long_zeros(n_rows, (width,), np.uint8), bounds[:-1]
    for given in blocks():
        rows = given.view(np.uint8).reshape(-1, width)
        parts = np.zeros(len(rows), np.uint8) if is_short else rows[:, at]
        rows, sizes = rows[np.argsort(parts, kind="stable")], np.bincount(parts, minlength=256)
        start = 0
        for number in np.flatnonzero(sizes).tolist():
            size = int(sizes[number])
            moved[ends[number] : ends[number] + size] = rows[start : start + size]
            ends[number] += size
            start += size
        forget_pages(moved)
    return moved, [slice(start, stop) for start, stop in pairwise(bounds) if stop > start]


def blocks_of(n_rows: int, size: int = _BLOCK_ROWS) -> Iterator[slice]:
    """Yield slices that divide some rows."""
    return (slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size))


def are_all(array: NDArray[Any], check: Callable[[NDArray[Any]], NDArray[np.bool_]]) -> bool:
    """Return whether a check holds for all rows, with little memory."""
    for block in blocks_of(len(array)):
        if not check(array[block]).all():
            return False
        forget_pages(array)
    return True


def are_equal(first: NDArray[Any], second: NDArray[Any]) -> bool:
    """Return whether two arrays are equal, NaN to NaN, with little memory."""
    if first.shape != second.shape:
        return False
    for block in blocks_of(len(first)):
        if not np.array_equal(first[block], second[block], equal_nan=first.dtype.kind == "f"):
            return False
        forget_pages(first)
        forget_pages(second)
    return True


def as_read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return a view that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view


def forget_pages(array: NDArray[Any]) -> None:
    """Give the memory of a mapped array back to the system, which reads its file again at need."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    pages = base.obj if isinstance(base, memoryview) else base
    if isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def _scratch_file() -> IO[bytes]:
    """Open a file that vanishes with the process, in the cache folder: /tmp is memory on many systems."""
    try:
        os.makedirs(cache_folder(), exist_ok=True)
        return tempfile.TemporaryFile(dir=cache_folder())
    except OSError:
        return tempfile.TemporaryFile()


def _full(error: OSError) -> StoreError:
    return StoreError(
        f"cannot keep the list of images in {cache_folder()}: {failure_reason(error)}; set FEATSTORE_CACHE "
        "to a folder with room for some 400 bytes an image"
    )

"""Which keys (content hash, view) are there, and in which rows: an index at 42 bytes a row, a filter at 8.

Of many millions of rows, these bytes are in files.
"""

import sys
from collections.abc import Collection
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featstore.errors import StoreError
from featstore.io.long_arrays import blocks_of, forget_pages, long_sorted, long_zeros

__all__ = ["HASH_BYTES", "ContentFilter", "KeyIndex", "are_among"]

HASH_BYTES = 32

_MAX_ROWS = 2**32
_BLOCK_ROWS = 2**16
_ROW_BITS = np.uint64(32)
_ROW_MASK = np.uint64(_MAX_ROWS - 1)
# Knuth's multiplicative hash (TAOCP 3, section 6.4): spreads the views of one image over the whole range.
_VIEW_SPREAD = np.uint32(2654435769)


class ContentFilter:
    """Tells which contents a space has by the first 8 bytes of their hashes, rising.

    Picklable, and shared where its array is. Of 10^9 contents it takes a new one for one of them with a
    probability of 10^-10.
    """

    def __init__(self, prefixes: NDArray[np.uint64] | None = None) -> None:
        self.prefixes = np.empty(0, np.uint64) if prefixes is None else prefixes

    def __contains__(self, content_hash: bytes) -> bool:
        prefix = np.uint64(int.from_bytes(content_hash[:8], sys.byteorder))
        at = int(self.prefixes.searchsorted(prefix))
        return at < len(self.prefixes) and bool(self.prefixes[at] == prefix)

    @classmethod
    def of(cls, content_hash: NDArray[np.uint8], view: NDArray[np.uint16], *, n_views: int) -> Self:
        """Return the filter of the contents that have all views of 0 to ``n_views - 1``."""
        found = cls.of_contents(content_hash, view == 0)
        for number in range(1, n_views):
            found = found.common(cls.of_contents(content_hash, view == number))
        return found

    def common(self, other: "ContentFilter") -> Self:
        """Return the filter of the contents that another filter has too."""
        found, stop = long_zeros(len(self.prefixes), (), np.uint64), 0
        for block in blocks_of(len(found)):
            some = self.prefixes[block]
            some = some[other._have(some)]
            found[stop : stop + len(some)] = some
            stop += len(some)
        return type(self)(found[:stop])

    @classmethod
    def of_contents(cls, content_hash: NDArray[np.uint8], is_meant: NDArray[np.bool_] | None = None) -> Self:
        """Return the filter of some contents, but for zeros, which stand for none."""
        prefixes = long_zeros(len(content_hash), (), np.uint64)
        stop = 0
        for block in blocks_of(len(content_hash)):
            hashes = content_hash[block]
            hashes = hashes[hashes.any(axis=1) if is_meant is None else is_meant[block]]
            prefixes[stop : stop + len(hashes)] = _prefixes(hashes)
            stop += len(hashes)
            forget_pages(content_hash)
        prefixes = long_sorted(prefixes[:stop])
        stop, last = 0, None
        for block in blocks_of(len(prefixes)):
            some = prefixes[block]
            last, some = some[-1], some[np.append(some[0] != last, some[1:] != some[:-1])]
            prefixes[stop : stop + len(some)] = some
            stop += len(some)
        forget_pages(prefixes)
        return cls(prefixes[:stop])

    def have(self, content_hash: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return whether each content is among these, bool of shape (n,)."""
        found = self._have(_prefixes(content_hash))
        forget_pages(self.prefixes)
        return found

    def n_common(self, other: "ContentFilter") -> int:
        """Count the contents that another filter has too."""
        return sum(int(other._have(self.prefixes[block]).sum()) for block in blocks_of(len(self.prefixes)))

    def _have(self, prefixes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        if not len(self.prefixes):
            return np.zeros(len(prefixes), np.bool_)
        at = np.minimum(self.prefixes.searchsorted(prefixes), len(self.prefixes) - 1)
        return np.asarray(self.prefixes[at] == prefixes, np.bool_)


class KeyIndex:
    """Finds rows by (content hash, view); rows are numbered in the order of insertion."""

    # Each row is a sorted uint64: 32 bits of its key above 32 bits of its row number. A search starts at
    # the first entry with the key's 32 bits and compares whole keys from there, so that keys that share
    # these bits stay distinct; of equal keys the first is found. Added rows form a sorted run;
    # neighbouring runs of similar size are merged, so adding n rows costs O(n log n) however they come.

    def __init__(self, n_rows: int = 0) -> None:
        self._hashes: NDArray[np.uint64] = long_zeros(n_rows, (HASH_BYTES // 8,), np.uint64)
        self._views: NDArray[np.uint16] = long_zeros(n_rows, (), np.uint16)
        self._parts: list[NDArray[np.uint64]] = []
        self._n_sorted = 0
        self._n_rows = 0

    def __len__(self) -> int:
        return self._n_rows

    @property
    def content_hash(self) -> NDArray[np.uint8]:
        """The hashes of all rows, uint8 of shape (n, 32); not a copy."""
        return self._hashes[: self._n_rows].view(np.uint8)

    @property
    def view(self) -> NDArray[np.uint16]:
        """The views of all rows, uint16 of shape (n,); not a copy."""
        return self._views[: self._n_rows]

    def extend(self, content_hash: NDArray[np.uint8], view: NDArray[np.uint16]) -> None:
        """Add rows: hashes of shape (n, 32), views of shape (n,)."""
        start, stop = self._n_rows, self._n_rows + len(view)
        if stop > _MAX_ROWS:
            raise StoreError(f"a space holds at most {_MAX_ROWS:,} rows; found {stop:,}")
        if stop > len(self._views):
            capacity = max(stop, len(self._views) + len(self._views) // 2)
            self._hashes = _grown(self._hashes, capacity, start)
            self._views = _grown(self._views, capacity, start)
        self._hashes[start:stop] = np.ascontiguousarray(content_hash).view(np.uint64)
        self._views[start:stop] = view
        self._n_rows = stop
        self._forget_pages()

    def find(self, content_hash: NDArray[np.uint8], view: int | NDArray[np.uint16]) -> NDArray[np.int64]:
        """Return the row number of each key, int64 of shape (n,); -1 where there is none."""
        self._sort_new()
        hashes = np.ascontiguousarray(content_hash).view(np.uint64)
        views = np.broadcast_to(np.asarray(view, np.uint16), len(hashes))
        if len(hashes) > _MAX_ROWS:
            raise StoreError(f"at most {_MAX_ROWS:,} keys can be looked up at once; found {len(hashes):,}")
        rows = np.full(len(hashes), -1, np.int64)
        # Ascending keys walk through the sorted entries instead of jumping about in memory, and a block of
        # them stays in the processor's cache.
        queries = np.sort(_keys(hashes, views) | np.arange(len(hashes), dtype=np.uint64))
        for start in range(0, len(queries), _BLOCK_ROWS):
            self._find_block(queries[start : start + _BLOCK_ROWS], hashes, views, rows)
            self._forget_pages()
        return rows

    def _find_block(
        self,
        queries: NDArray[np.uint64],
        hashes: NDArray[np.uint64],
        views: NDArray[np.uint16],
        rows: NDArray[np.int64],
    ) -> None:
        """Fill in the rows of some keys; a query is 32 bits of a key above its position."""
        for part in self._parts:
            prefixes, numbers = queries >> _ROW_BITS, (queries & _ROW_MASK).astype(np.int64)
            positions = np.searchsorted(part, prefixes << _ROW_BITS)
            while len(numbers):
                entries = part[np.minimum(positions, len(part) - 1)]
                near = (positions < len(part)) & (entries >> _ROW_BITS == prefixes)
                prefixes, numbers, positions = prefixes[near], numbers[near], positions[near]
                found = (entries[near] & _ROW_MASK).astype(np.int64)
                differing = np.bitwise_or.reduce(self._hashes[found] ^ hashes[numbers], axis=1)
                same = (differing == 0) & (self._views[found] == views[numbers])
                rows[numbers[same]] = found[same]
                prefixes, numbers, positions = prefixes[~same], numbers[~same], positions[~same] + 1
            queries = queries[rows[queries & _ROW_MASK] < 0]

    def find_one(self, content_hash: bytes, view: int) -> int:
        """Return the row of one key, or -1; takes about 5 µs."""
        self._sort_new()
        prefix = int.from_bytes(content_hash[:4], sys.byteorder) ^ (view * int(_VIEW_SPREAD) % 2**32)
        key = np.uint64(prefix << 32)
        for part in self._parts:
            for entry in map(int, part[part.searchsorted(key) :]):
                if entry >> 32 != prefix:
                    break
                row = entry % 2**32
                if self._hashes[row].tobytes() == content_hash and self._views[row] == view:
                    return row
        return -1

    def is_first(self) -> NDArray[np.bool_]:
        """Return whether each row is the first with its key, bool of shape (n,)."""
        self._sort_new()
        first = long_zeros(self._n_rows, (), np.bool_)
        first[:] = True
        while len(self._parts) > 1:
            self._parts.append(_merged(self._parts.pop(), self._parts.pop()))
        for part in self._parts:
            for block in blocks_of(len(part)):
                # Of rows whose keys begin alike, the first is found by any of these keys that it has.
                some = part[max(0, block.start - 1) : block.stop]
                is_alike = some[1:] >> _ROW_BITS == some[:-1] >> _ROW_BITS
                rows = (some[1:][is_alike] & _ROW_MASK).astype(np.int64)
                first[rows] = self.find(self.content_hash[rows], self.view[rows]) == rows
        return first

    def _sort_new(self) -> None:
        start, stop = self._n_sorted, self._n_rows
        if start == stop:
            return
        part = long_zeros(stop - start, (), np.uint64)
        for block in blocks_of(len(part)):
            rows = slice(start + block.start, start + block.stop)
            numbers = np.arange(rows.start, rows.stop, dtype=np.uint64)
            part[block] = _keys(self._hashes[rows], self._views[rows]) | numbers
            self._forget_pages()
        part = long_sorted(part)
        while self._parts and len(self._parts[-1]) < 2 * len(part):
            part = _merged(self._parts.pop(), part)
        self._parts.append(part)
        self._n_sorted = stop

    def _forget_pages(self) -> None:
        forget_pages(self._hashes)
        forget_pages(self._views)
        for part in self._parts:
            forget_pages(part)


def are_among(hashes: NDArray[np.uint8], contents: Collection[bytes]) -> NDArray[np.bool_]:
    """Return whether each hash, of shape (n, 32), is one of some; bool of shape (n,)."""
    beginnings = np.array([int.from_bytes(one[:8], sys.byteorder) for one in contents], np.uint64)
    found = np.isin(np.ascontiguousarray(hashes).view(np.uint64)[:, 0], beginnings)
    for row in np.flatnonzero(found).tolist():
        found[row] = hashes[row].tobytes() in contents
    return found


def _prefixes(content_hash: NDArray[np.uint8]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(content_hash[:, :8]).view(np.uint64).ravel()


def _keys(hashes: NDArray[np.uint64], views: NDArray[np.uint16]) -> NDArray[np.uint64]:
    """Return 32 bits of each key, in the upper half of a uint64."""
    prefixes = hashes.view(np.uint32)[:, 0] ^ (views.astype(np.uint32) * _VIEW_SPREAD)
    return prefixes.astype(np.uint64) << _ROW_BITS


def _grown(column: NDArray[Any], capacity: int, n_used: int) -> NDArray[Any]:
    grown: NDArray[Any] = long_zeros(capacity, column.shape[1:], column.dtype)
    for block in blocks_of(n_used):
        grown[block] = column[block]
        forget_pages(grown)
        forget_pages(column)
    return grown


def _merged(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the entries of two sorted runs as one."""
    both = long_zeros(len(first) + len(second), (), np.uint64)
    both[: len(first)], both[len(first) :] = first, second
    return long_sorted(both)

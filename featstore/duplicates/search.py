"""Exact search for all pairs of similar rows, in blocks and in bounded memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.duplicates.components import Components
from featstore.duplicates.likeness import Likeness

__all__ = ["ClosePairs", "close_pairs", "nearest_others"]

Progress = Callable[[int, int], None]

_TILE_ROWS = 2048
# Scalar products of equal vectors differ from 1 by a few units in the last place.
_ROUNDING = 1e-6
# Vectors held in memory at a time; those of other blocks are recomputed for each such stretch, which costs a
# few percent of the products.
_HELD_BYTES = 128 * 2**20


@dataclass(frozen=True, kw_only=True, eq=False)
class ClosePairs:
    """Result of :func:`close_pairs`."""

    n_pairs: int  # at or above the threshold, kept or not
    first: NDArray[np.int64]  # (m,): rows of the most similar pairs, in decreasing similarity; first < second
    second: NDArray[np.int64]  # (m,)
    similarity: NDArray[np.float32]  # (m,)
    best: NDArray[np.float32]  # (n,): similarity to the most similar row, 0 if none reaches the threshold
    components: NDArray[np.int64]  # (n,): smallest row connected with each by pairs, kept or not


def close_pairs(
    X: Any,
    rows: NDArray[np.int64],
    likeness: Likeness,
    *,
    threshold: float,
    max_pairs: int,
    progress: Progress | None = None,
) -> ClosePairs:
    """Compare each of the given rows with each other."""
    # X is indexed by a few thousand rows at a time and may be a memory map. Results number the rows from 0 to
    # n - 1; at most max_pairs pairs, the most similar ones, are kept.
    found = _Found(len(rows), threshold=threshold - _ROUNDING, max_pairs=max_pairs)
    total, done = len(rows) * (len(rows) - 1) // 2, 0
    for row, column, tile in _tiles(X, rows, likeness):
        found.add(row, column, tile)
        done += len(tile) * (len(tile) - 1) // 2 if row == column else tile.size
        if progress is not None:
            progress(done, total)
    return found.result()


def nearest_others(
    X: Any,
    rows: NDArray[np.int64],
    others: NDArray[np.int64],
    likeness: Likeness,
    *,
    contents: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return for each row its similarity to the most similar of the others, and which row that is."""
    # Rows with the same number in `contents` are not compared. Where nothing is left, -1 and -1.
    best, which = np.full(len(rows), -1, np.float32), np.full(len(rows), -1, np.int64)
    n_held = _n_held(likeness)
    for start in range(0, len(rows), n_held):
        held = _vectors(X, rows[start : start + n_held], likeness)
        for other in _blocks(others):
            across = _vectors(X, other, likeness).T
            for row in range(0, len(held), _TILE_ROWS):
                at = slice(start + row, start + min(row + _TILE_ROWS, len(held)))
                tile = held[row : row + _TILE_ROWS] @ across
                if contents is not None:
                    tile[contents[rows[at], None] == contents[other]] = -1
                column = tile.argmax(axis=1)
                found = tile[np.arange(len(tile)), column]
                is_nearer = found > best[at]
                best[at] = np.where(is_nearer, found, best[at])
                which[at] = np.where(is_nearer, other[column], which[at])
    return best, which


def _tiles(
    X: Any, rows: NDArray[np.int64], likeness: Likeness
) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """Yield each pair's similarity once, as (first row, first column, tile); -1 on and below the diagonal."""
    n_held = _n_held(likeness)
    for start in range(0, len(rows), n_held):
        held = _vectors(X, rows[start : start + n_held], likeness)
        for column in range(start, len(rows), _TILE_ROWS):
            if column < start + len(held):
                across = held[column - start : column - start + _TILE_ROWS]
            else:
                across = _vectors(X, rows[column : column + _TILE_ROWS], likeness)
            for row in range(start, min(start + len(held), column + 1), _TILE_ROWS):
                tile = held[row - start : row - start + _TILE_ROWS] @ across.T
                if row == column:
                    tile[np.tril_indices(len(tile))] = -1
                yield row, column, tile


def _n_held(likeness: Likeness) -> int:
    return max(1, _HELD_BYTES // (4 * _TILE_ROWS * (len(likeness.mean) + 1))) * _TILE_ROWS


def _vectors(X: Any, rows: NDArray[np.int64], likeness: Likeness) -> NDArray[np.float32]:
    parts = [likeness.vectors(_select(X, block)) for block in _blocks(rows)]
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def _blocks(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), _TILE_ROWS):
        yield rows[start : start + _TILE_ROWS]


def _select(X: Any, rows: NDArray[np.int64]) -> Any:
    """Return the given rows, as a view if they are contiguous."""
    is_run = rows[-1] - rows[0] == len(rows) - 1
    return X[rows[0] : rows[-1] + 1] if is_run else X[rows]


class _Found:
    """Accumulates close pairs; memory is bounded, however many pairs are close."""

    def __init__(self, n_rows: int, *, threshold: float, max_pairs: int) -> None:
        self._threshold = threshold
        self._n_pairs = 0
        self._best = np.zeros(n_rows, np.float32)
        self._components = Components(n_rows)
        self._closest = _Closest(max_pairs)

    def add(self, row: int, column: int, tile: NDArray[np.float32]) -> None:
        """Add the similarities of the rows from ``row`` on to those from ``column`` on."""
        by_row = tile.max(axis=1)
        if not (by_row >= self._threshold).any():
            return
        close = tile >= self._threshold
        self._n_pairs += int(np.count_nonzero(close))
        rows, columns = slice(row, row + len(tile)), slice(column, column + tile.shape[1])
        for part, most in ((rows, by_row), (columns, tile.max(axis=0))):
            most = np.where(most >= self._threshold, most, 0)
            self._best[part] = np.maximum(self._best[part], most)
        first, second = np.nonzero(close & (tile > self._closest.above))
        self._closest.add(first + row, second + column, tile[first, second])
        labels = self._components.labels
        first, second = np.nonzero(close & (labels[rows, None] != labels[None, columns]))
        self._components.join(first + row, second + column)

    def result(self) -> ClosePairs:
        first, second, similarity = self._closest.result()
        return ClosePairs(
            n_pairs=self._n_pairs,
            first=first,
            second=second,
            similarity=similarity,
            best=self._best,
            components=self._components.labels,
        )


class _Closest:
    """The most similar pairs seen so far; among equals, the first seen are kept."""

    def __init__(self, size: int) -> None:
        # Only pairs with a larger similarity still have a chance.
        self.above = -np.inf if size else np.inf
        self._size = size
        self._parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
        self._n_held = 0

    def add(
        self, first: NDArray[np.int64], second: NDArray[np.int64], similarity: NDArray[np.float32]
    ) -> None:
        """Add pairs with a similarity above ``self.above``."""
        self._parts.append((first, second, similarity))
        self._n_held += len(first)
        if self._n_held > 2 * self._size:
            self._parts = [self._cut()]
            self._n_held = self._size
            self.above = float(self._parts[0][2][-1]) if self._size else np.inf

    def result(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Return the pairs in decreasing similarity, equally similar ones by their rows."""
        if not self._parts:
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
        first, second, similarity = self._cut()
        order = np.lexsort((second, first, -similarity))
        return first[order], second[order], similarity[order]

    def _cut(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        first, second, similarity = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        order = np.argsort(-similarity, kind="stable")[: self._size]
        return first[order], second[order], similarity[order]

"""Exact search for the rows with the most similar features, in blocks of bounded memory."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import SearchError
from featstore.process import one_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featstore.store.space import Space

__all__ = ["Neighbors", "nearest_rows", "unit_vectors"]

# A block's rows are read from memory once: the products of the second pass find them in the cache.
_BLOCK_BYTES = 4 * 2**20
_QUERIES = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Neighbors:
    """Result of :meth:`FeatureTable.neighbors`: k rows for each query, the most similar first.

    Attributes
    ----------
    rows : ndarray of shape (n_queries, k), int64
        Rows of the table.
    similarity : ndarray of shape (n_queries, k), float32
        Cosines, in [-1, 1].

    Examples
    --------
    >>> found = table.neighbors(table.X[:2], k=5)
    >>> found.rows.shape, found.rows[0, :2].tolist(), table.y[found.rows[0]].tolist()
    ((2, 5), [0, 89], ['daisy', 'daisy', 'daisy', 'daisy', 'daisy'])
    """

    rows: NDArray[np.int64]
    similarity: NDArray[np.float32]


def nearest_rows(spaces: "Sequence[Space]", rows: NDArray[np.int64], X: Any, *, k: int) -> Neighbors:
    """Return the k nearest of rows, given by numbers of shape (n, n_spaces), for each query."""
    widths = [space.feature_dim for space in spaces]
    queries = _checked(X, sum(widths))
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise SearchError(f"k must be an integer of at least 1; found {k!r}")
    cuts = np.cumsum(widths)[:-1]
    parts = [unit_vectors(part) / np.float32(len(spaces)) for part in np.split(queries, cuts, axis=1)]
    # In the order of the file, a block is a part of the memory map.
    order = np.argsort(rows[:, 0], kind="stable")
    step = max(1, _BLOCK_BYTES // (4 * sum(widths)))
    found = []
    for start in range(0, max(1, len(queries)), _QUERIES):
        some = [part[start : start + _QUERIES] for part in parts]
        n_threads = max(1, min(_n_cores(), len(rows) // step))
        bounds = np.linspace(0, -(-len(rows) // step), n_threads + 1).astype(np.int64) * step
        with one_thread, ThreadPoolExecutor(n_threads) as pool:
            shares = pool.map(
                lambda low, high, some=some: _best(spaces, rows, order[low:high], some, k, step),
                bounds[:-1].tolist(),
                bounds[1:].tolist(),
            )
            found.append(_merged([*shares], k))
    similarity = np.concatenate([cosines for cosines, _ in found])
    return Neighbors(
        rows=np.concatenate([numbers for _, numbers in found]),
        similarity=np.clip(similarity, -1, 1, out=similarity),
    )


def unit_vectors(X: NDArray[Any]) -> NDArray[np.float32]:
    """Return rows scaled to length 1, float32; rows of zeros stay zero."""
    values = np.asarray(X, np.float32)
    # Lengths of large half-precision or float32 numbers overflow as squares.
    scale = np.abs(values).max(axis=1, keepdims=True, initial=0)
    scaled = values / np.where(scale > 0, scale, 1)
    length = np.sqrt(np.vecdot(scaled, scaled))[:, None]
    return np.asarray(scaled / np.where(length > 0, length, 1), np.float32)


_Best = tuple[NDArray[np.float32], NDArray[np.int64]]


def _best(
    spaces: "Sequence[Space]",
    rows: NDArray[np.int64],
    order: NDArray[np.int64],
    parts: list[NDArray[np.float32]],
    k: int,
    step: int,
) -> _Best:
    """Return the nearest of the given positions of rows: cosines and positions of shape (n_queries, k)."""
    n_queries = len(parts[0])
    best: _Best = np.empty((n_queries, 0), np.float32), np.empty((n_queries, 0), np.int64)
    for start in range(0, len(order), step):
        numbers = order[start : start + step]
        cosines = np.zeros((n_queries, len(numbers)), np.float32)
        for column, (space, part) in enumerate(zip(spaces, parts, strict=True)):
            block = np.asarray(space.rows(rows[numbers, column]), np.float32)
            lengths = np.sqrt(np.vecdot(block, block))
            if not np.isfinite(lengths).all():
                raise SearchError(
                    f"rows of the space {space.name} are too large to compare, or not finite: "
                    "run featstore verify, and extract them again"
                )
            cosines += (part @ block.T) / np.where(lengths > 0, lengths, 1)
        if best[0].shape[1] < k:
            best = _merged([best, (cosines, np.broadcast_to(numbers, cosines.shape))], k)
            continue
        hit = np.flatnonzero((cosines > best[0][:, -1:]).any(axis=1))
        if len(hit):
            news = cosines[hit], np.broadcast_to(numbers, (len(hit), len(numbers)))
            merged = _merged([(best[0][hit], best[1][hit]), news], k)
            best[0][hit], best[1][hit] = merged
    return best


def _merged(shares: list[_Best], k: int) -> _Best:
    """Return the k most similar of several shares; of equals, those that come first."""
    cosines = np.concatenate([share[0] for share in shares], axis=1)
    numbers = np.concatenate([share[1] for share in shares], axis=1)
    chosen = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(cosines, chosen, axis=1), np.take_along_axis(numbers, chosen, axis=1)


def _checked(X: Any, feature_dim: int) -> NDArray[np.floating[Any]]:
    """Return queries as an array of shape (n_queries, feature_dim)."""
    given = np.asarray(X)
    if given.ndim != 2 or given.shape[1] != feature_dim or given.dtype.kind not in "fiu":
        raise SearchError(
            f"queries must be numbers of shape (n_queries, {feature_dim}), the table's features; "
            f"found {given.dtype} of shape {given.shape}"
        )
    if not np.isfinite(given).all():
        raise SearchError("queries must be finite; found NaN or infinity")
    return given


def _n_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1

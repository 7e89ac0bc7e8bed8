"""Features as directions: rows of length 1, in which each joined space counts the same."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.store.tables.neighbors import unit_vectors

if TYPE_CHECKING:
    from featstore.store import FeatureTable

__all__ = ["direction_blocks", "rows_at_once"]

_BLOCK_BYTES = 16 * 2**20


def rows_at_once(feature_dim: int) -> int:
    """Return the number of rows of a block of bounded memory."""
    return max(1, _BLOCK_BYTES // (4 * feature_dim))


def direction_blocks(
    table: "FeatureTable", rows: NDArray[np.intp]
) -> Iterator[tuple[NDArray[np.float32], slice]]:
    """Yield features, each space's part of a row of the same length, and where they are in ``rows``."""
    cuts = np.cumsum(table.feature_dims)[:-1]
    step = rows_at_once(table.feature_dim)
    for start in range(0, len(rows), step):
        part = slice(start, min(start + step, len(rows)))
        spaces = [unit_vectors(values) for values in np.split(table.select(rows[part]).X, cuts, axis=1)]
        yield np.concatenate(spaces, axis=1) / np.float32(np.sqrt(len(spaces))), part

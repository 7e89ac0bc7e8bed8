"""Gathering of features from one or several spaces."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featstore.store.segments.segment import FeatureArray
    from featstore.store.space import Space

__all__ = ["gathered_features"]

_GATHER_BYTES = 4 * 2**20


def gathered_features(spaces: "Sequence[Space]", rows: NDArray[np.int64]) -> "FeatureArray":
    """Return features by row numbers of shape (n, n_spaces), concatenated over the spaces."""
    if len(spaces) == 1:
        return spaces[0].rows(rows[:, 0])
    dtype = np.result_type(*(space.dtype for space in spaces))
    gathered = np.empty((len(rows), sum(space.feature_dim for space in spaces)), dtype)
    step = max(1, _GATHER_BYTES // max(1, gathered.itemsize * gathered.shape[1]))
    column = 0
    for part, space in enumerate(spaces):
        columns = slice(column, column + space.feature_dim)
        for start in range(0, len(rows), step):
            gathered[start : start + step, columns] = space.rows(rows[start : start + step, part])
        column = columns.stop
    return gathered

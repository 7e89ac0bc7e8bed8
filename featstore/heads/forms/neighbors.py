"""Neighbour form: the mean number of the nearest stored rows, by angle."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.heads.forms.linear import row_lengths

__all__ = ["NeighborForm", "unit_features", "vote_weights"]

_ARRAYS = ("by_distance", "n_neighbors", "rows", "values")


@dataclass(frozen=True, kw_only=True, eq=False)
class NeighborForm:
    """Mean values of the nearest rows of unit length, weighted by inverse distance or not."""

    rows: NDArray[np.float32]  # (n_rows, feature_dim): of unit length, or zero
    values: NDArray[np.float64]  # (n_rows,)
    n_neighbors: NDArray[np.int64]  # ()
    by_distance: NDArray[np.bool_]  # ()

    def __post_init__(self) -> None:
        shapes = {name: array.shape for name, array in self.arrays().items()}
        if self.rows.ndim != 2 or not self.rows.size or self.values.shape != self.rows.shape[:1]:
            raise HeadError(f"the arrays of a neighbour head have inconsistent shapes: {shapes}")
        kinds = [self.arrays()[name].dtype.str for name in _ARRAYS]
        if kinds != ["|b1", "<i8", "<f4", "<f8"] or self.by_distance.shape:
            raise HeadError("the arrays of a neighbour head must be float32, float64, int64 and bool")
        if self.n_neighbors.shape or not 1 <= self.n_neighbors <= len(self.rows):
            raise HeadError(f"n_neighbors must be from 1 to {len(self.rows)}; found {self.n_neighbors}")
        if not all(np.isfinite(array).all() for array in (self.rows, self.values)):
            raise HeadError("the arrays of a neighbour head must be finite")

    @property
    def n_classes(self) -> int:
        """Number of columns of :meth:`scores`."""
        return 1

    @property
    def feature_dim(self) -> int:
        """Number of features of an image."""
        return int(self.rows.shape[1])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name."""
        return {name: getattr(self, name) for name in _ARRAYS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Create a form from the output of :meth:`arrays`."""
        if set(arrays) != {*_ARRAYS}:
            raise HeadError(f"unexpected arrays of a neighbour head: {', '.join(sorted(arrays))}")
        return cls(**arrays)

    @cached_property
    def _search(self) -> Any:
        from sklearn.neighbors import NearestNeighbors

        # Brute force: in a thousand dimensions trees are no faster.
        return NearestNeighbors(algorithm="brute").fit(self.rows)

    def nearest(self, X: NDArray[Any], k: int) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Return distances and places of the k nearest rows, (n, k) each, the nearest first."""
        distances, places = self._search.kneighbors(unit_features(X), k)
        return np.asarray(distances, np.float64), np.asarray(places, np.intp)

    def scores(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return values of shape (n, 1)."""
        return self.scores_at(*self.nearest(X, int(self.n_neighbors)))

    def scores_at(self, distances: NDArray[np.float64], places: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the values for the nearest rows, at least as many as are needed."""
        k = int(self.n_neighbors)
        weights = vote_weights(distances[:, :k], "distance" if self.by_distance else "uniform")
        values = (weights * self.values[places[:, :k]]).sum(axis=1) / weights.sum(axis=1)
        return np.asarray(values[:, np.newaxis], np.float64)


def unit_features(X: NDArray[Any]) -> NDArray[np.float32]:
    """Return features of unit length."""
    wide = np.asarray(X, np.float64)
    return np.asarray(wide / row_lengths(wide), np.float32)


def vote_weights(distances: NDArray[np.float64], weights: str) -> NDArray[np.float64]:
    """Return how much each neighbour counts, as scikit-learn weights them."""
    if weights == "uniform":
        return np.ones_like(distances)
    # If some neighbours are at distance 0, only these count.
    with np.errstate(divide="ignore"):
        counted = 1 / distances
    same = np.isinf(counted)
    return np.asarray(np.where(same.any(axis=1, keepdims=True), same, counted), np.float64)

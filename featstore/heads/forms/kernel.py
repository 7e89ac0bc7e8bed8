"""Kernel form: scores as weighted sums of Gaussian similarities to stored rows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError

__all__ = ["KernelForm", "Scaling", "signed_root", "similarities", "squared_distances"]

_ARRAYS = ("coef", "gamma", "intercept", "mean", "rows", "weight")

# Similarities that are in memory at a time: 32 MB.
_BLOCK_NUMBERS = 2**22


@dataclass(frozen=True, kw_only=True, eq=False)
class Scaling:
    """What features become before distances are taken: ``(signed_root(X) - mean) * weight``."""

    mean: NDArray[np.float64]  # (feature_dim,)
    weight: NDArray[np.float64]  # (feature_dim,)

    def __call__(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return the scaled features, as a new array."""
        scaled = signed_root(X)
        scaled -= self.mean
        scaled *= self.weight
        return scaled


@dataclass(frozen=True, kw_only=True, eq=False)
class KernelForm:
    """Scores ``exp(-gamma * d2) @ coef + intercept``, d2 the squared distances of scaled features to rows."""

    mean: NDArray[np.float64]  # (feature_dim,)
    weight: NDArray[np.float64]  # (feature_dim,)
    gamma: NDArray[np.float64]  # ()
    rows: NDArray[np.float16]  # (n_rows, feature_dim): scaled
    coef: NDArray[np.float64]  # (n_rows, n_classes)
    intercept: NDArray[np.float64]  # (n_classes,)

    def __post_init__(self) -> None:
        arrays = self.arrays()
        shapes = {name: array.shape for name, array in arrays.items()}
        if self.rows.ndim != 2 or self.coef.ndim != 2 or not self.rows.size or not self.coef.size:
            raise HeadError(f"the arrays of a kernel classifier have inconsistent shapes: {shapes}")
        (n_rows, dim), n_classes = self.rows.shape, self.coef.shape[1]
        wanted = {
            "coef": (n_rows, n_classes),
            "gamma": (),
            "intercept": (n_classes,),
            "mean": (dim,),
            "rows": (n_rows, dim),
            "weight": (dim,),
        }
        if shapes != wanted:
            raise HeadError(f"the arrays of a kernel classifier have inconsistent shapes: {shapes}")
        wide = [array for name, array in arrays.items() if name != "rows"]
        if self.rows.dtype != np.float16 or any(array.dtype != np.float64 for array in wide):
            raise HeadError("the arrays of a kernel classifier must be float64, and its rows float16")
        if not all(np.isfinite(array).all() for array in arrays.values()) or not self.gamma > 0:
            raise HeadError("the arrays of a kernel classifier must be finite, and its gamma above 0")

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return int(self.coef.shape[1])

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
            raise HeadError(f"unexpected arrays of a kernel classifier: {', '.join(sorted(arrays))}")
        return cls(**arrays)

    def with_classes(self, at: NDArray[np.intp]) -> Self:
        """Return the form of some classes, in the given order, with unchanged scores."""
        return replace(self, coef=self.coef[:, at], intercept=self.intercept[at])

    @cached_property
    def scaling(self) -> Scaling:
        """How features are scaled."""
        return Scaling(mean=self.mean, weight=self.weight)

    @cached_property
    def _wide_rows(self) -> NDArray[np.float64]:
        return self.rows.astype(np.float64)

    def scores(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return scores of shape (n, n_classes)."""
        scores = np.empty((len(X), self.n_classes))
        step = max(1, _BLOCK_NUMBERS // max(self.rows.shape))
        for start in range(0, len(X), step):
            scores[start : start + step] = self.scores_at(self.distances(X[start : start + step]))
        return scores

    def distances(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return squared distances to the rows, of shape (n, n_rows)."""
        return squared_distances(self.scaling(X), self._wide_rows)

    def scores_at(self, distances: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the scores for squared distances to the rows."""
        near = similarities(distances, float(self.gamma))
        return np.asarray(near @ self.coef + self.intercept, np.float64)


def signed_root(X: NDArray[Any]) -> NDArray[np.float64]:
    """Return the square roots of magnitudes, with the numbers' own signs, as a new array."""
    wide = np.asarray(X, np.float64)
    return np.copysign(np.sqrt(np.abs(wide)), wide)


def squared_distances(X: NDArray[np.float64], Y: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Return the squared distances of rows to others, or, without others, of rows to each other."""
    squares = np.einsum("ij,ij->i", X, X)
    others = squares if Y is None else np.einsum("ij,ij->i", Y, Y)
    distances = X @ (X if Y is None else Y).T
    distances *= -2
    distances += squares[:, np.newaxis]
    distances += others
    np.maximum(distances, 0, out=distances)
    if Y is None:
        np.fill_diagonal(distances, 0)
    return distances


def similarities(distances: NDArray[np.float64], gamma: float) -> NDArray[np.float64]:
    """Return ``exp(-gamma * distances)``, as a new array."""
    near = distances * -gamma
    return np.asarray(np.exp(near, out=near))

"""Network form: one hidden layer of rectified units between features and scores."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError

__all__ = ["NetworkForm"]

_ARRAYS = ("coef", "hidden_coef", "hidden_intercept", "intercept", "mean")


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkForm:
    """Scores ``max((X - mean) @ hidden_coef.T + hidden_intercept, 0) @ coef.T + intercept``."""

    mean: NDArray[np.float64]  # (feature_dim,)
    hidden_coef: NDArray[np.float64]  # (n_hidden, feature_dim)
    hidden_intercept: NDArray[np.float64]  # (n_hidden,)
    coef: NDArray[np.float64]  # (n_classes, n_hidden)
    intercept: NDArray[np.float64]  # (n_classes,)

    def __post_init__(self) -> None:
        arrays = self.arrays()
        shapes = {name: array.shape for name, array in arrays.items()}
        n_hidden, n_classes = self.hidden_coef.shape[:1], self.coef.shape[:1]
        wanted = {
            "coef": (*n_classes, *n_hidden),
            "hidden_coef": self.hidden_coef.shape,
            "hidden_intercept": n_hidden,
            "intercept": n_classes,
            "mean": self.hidden_coef.shape[1:],
        }
        if self.hidden_coef.ndim != 2 or not self.hidden_coef.size or not self.coef.size or shapes != wanted:
            raise HeadError(f"the arrays of a network classifier have inconsistent shapes: {shapes}")
        if any(array.dtype != np.float64 or not np.isfinite(array).all() for array in arrays.values()):
            raise HeadError("the arrays of a network classifier must be finite float64")

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.coef)

    @property
    def feature_dim(self) -> int:
        """Number of features of an image."""
        return int(self.hidden_coef.shape[1])

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return the arrays by name."""
        return {name: getattr(self, name) for name in _ARRAYS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Create a form from the output of :meth:`arrays`."""
        if set(arrays) != {*_ARRAYS}:
            raise HeadError(f"unexpected arrays of a network classifier: {', '.join(sorted(arrays))}")
        return cls(**arrays)

    def with_classes(self, at: NDArray[np.intp]) -> Self:
        """Return the form of some classes, in the given order, with unchanged scores."""
        return replace(self, coef=self.coef[at], intercept=self.intercept[at])

    def scores(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return scores of shape (n, n_classes)."""
        hidden = (np.asarray(X, np.float64) - self.mean) @ self.hidden_coef.T + self.hidden_intercept
        return np.maximum(hidden, 0, out=hidden) @ self.coef.T + self.intercept

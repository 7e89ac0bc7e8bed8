"""Linear form: a classifier as a matrix and a vector."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.heads.calibration import class_scores, is_nearest_centroid, softmax

__all__ = ["LinearForm", "linear_form", "row_lengths"]

# Relative to the largest score; rounding errors are about 1e-12.
_TOLERANCE = 1e-8

_CHECKED_ROWS = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearForm:
    """Scores ``X @ coef.T + intercept``; with ``mean`` and ``scale``, of standardised rows of unit length."""

    coef: NDArray[np.float64]  # (n_classes, feature_dim)
    intercept: NDArray[np.float64]  # (n_classes,)
    mean: NDArray[np.float64] | None = None  # (feature_dim,)
    scale: NDArray[np.float64] | None = None  # (feature_dim,)

    def __post_init__(self) -> None:
        arrays = self.arrays()
        shapes = {name: array.shape for name, array in arrays.items()}
        wanted = {"coef": self.coef.shape, "intercept": self.coef.shape[:1]}
        if self.mean is not None or self.scale is not None:
            wanted |= dict.fromkeys(("mean", "scale"), self.coef.shape[1:])
        if self.coef.ndim != 2 or shapes != wanted:
            raise HeadError(f"the arrays of a linear classifier have inconsistent shapes: {shapes}")
        if any(array.dtype != np.float64 or not np.isfinite(array).all() for array in arrays.values()):
            raise HeadError("the arrays of a linear classifier must be finite float64")

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.coef)

    @property
    def feature_dim(self) -> int:
        """Number of features of an image."""
        return int(self.coef.shape[1])

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return the arrays by name, without those that are None."""
        named = {"coef": self.coef, "intercept": self.intercept, "mean": self.mean, "scale": self.scale}
        return {name: array for name, array in named.items() if array is not None}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Create a form from the output of :meth:`arrays`."""
        if not {"coef", "intercept"} <= set(arrays) <= {"coef", "intercept", "mean", "scale"}:
            raise HeadError(f"unexpected arrays of a linear classifier: {', '.join(sorted(arrays))}")
        return cls(**arrays)

    def with_classes(self, at: NDArray[np.intp]) -> Self:
        """Return the form of some classes, in the given order, with unchanged scores."""
        return replace(self, coef=self.coef[at], intercept=self.intercept[at])

    def scores(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return scores of shape (n, n_classes)."""
        rows = np.asarray(X, np.float64)
        if self.mean is None or self.scale is None:
            return rows @ self.coef.T + self.intercept
        rows = (rows - self.mean) / self.scale
        return (rows @ self.coef.T) / row_lengths(rows) + self.intercept


def row_lengths(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the norms of rows, of shape (n, 1), 1 for zero rows as in scikit-learn's ``Normalizer``."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(lengths > 0, lengths, 1.0)


def linear_form(
    estimator: Any, *, feature_dim: int, is_calibrated: bool = False, tolerance: float = _TOLERANCE
) -> LinearForm | None:
    """Return the linear form of a fitted classifier, or None if it has none."""
    # The estimator is a linear classifier or a Pipeline of a StandardScaler, a Normalizer and one, the first
    # two optional. On random features the form must give its class_scores and, unless is_calibrated, its
    # probabilities.
    steps = [step for _, step in getattr(estimator, "steps", [("", estimator)])]
    kinds = [type(step).__name__ for step in steps[:-1]]
    if kinds not in ([], ["StandardScaler"], ["Normalizer"], ["StandardScaler", "Normalizer"]):
        return None
    scaler = steps[0] if kinds[:1] == ["StandardScaler"] else None
    mean, scale = np.zeros(feature_dim), np.ones(feature_dim)
    if scaler is not None and scaler.with_mean:
        mean = np.asarray(scaler.mean_, np.float64)
    if scaler is not None and scaler.with_std:
        scale = np.asarray(scaler.scale_, np.float64)
    try:
        coef, intercept = _coefficients(steps[-1])
        if len(coef) == 1:
            coef, intercept = np.stack([0 * coef[0], coef[0]]), np.array([0.0, intercept[0]])
        intercept = np.broadcast_to(intercept, len(coef)).copy()
        if "Normalizer" in kinds:
            form = LinearForm(coef=coef, intercept=intercept, mean=mean, scale=scale)
        else:
            coef = coef / scale
            form = LinearForm(coef=coef, intercept=intercept - coef @ mean)
        return (
            form
            if _agrees(form, estimator, mean, scale, is_calibrated=is_calibrated, tolerance=tolerance)
            else None
        )
    except (AttributeError, HeadError, TypeError, ValueError):
        return None


def _coefficients(classifier: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if is_nearest_centroid(classifier):
        centroids = np.asarray(classifier.centroids_, np.float64)
        return centroids, -(centroids**2).sum(axis=1) / 2
    coef = np.atleast_2d(np.asarray(classifier.coef_, np.float64))
    return coef, np.atleast_1d(np.asarray(classifier.intercept_, np.float64))


def _agrees(
    form: LinearForm,
    estimator: Any,
    mean: NDArray[np.float64],
    scale: NDArray[np.float64],
    *,
    is_calibrated: bool,
    tolerance: float,
) -> bool:
    X = mean + scale * np.random.default_rng(0).normal(size=(_CHECKED_ROWS, len(mean)))
    wanted, found = class_scores(estimator, X), form.scores(X)
    if wanted.shape != found.shape or np.abs(wanted - found).max() > tolerance * np.abs(wanted).max():
        return False
    if is_calibrated or not hasattr(estimator, "predict_proba"):
        return True
    return bool(np.abs(estimator.predict_proba(X) - softmax(found)).max() < tolerance)

"""Samples of images by their features, with the folds they are held out in."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_IMAGES", "N_FOLDS", "Samples", "assign_folds", "keep_classes", "sample_evenly"]

MOST_IMAGES = 20_000
"""Maximum number of new, and of old images that an extension uses, except for the new classifier."""

N_FOLDS = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Images by their features."""

    X: NDArray[Any]  # (n, feature_dim)
    y: NDArray[np.intp]  # (n,): class numbers, of the new or the old classes
    folds: NDArray[np.intp]  # (n,): from 0; -1 if never held out

    def __len__(self) -> int:
        return len(self.y)

    def subset(self, at: NDArray[Any]) -> "Samples":
        """Return a subset."""
        return replace(self, X=self.X[at], y=self.y[at], folds=self.folds[at])

    def outside(self, fold: int) -> "Samples":
        """Return the images to fit on while a fold is held out."""
        return self.subset(self.folds != fold)

    def inside(self, fold: int) -> "Samples":
        """Return the images of a fold."""
        return self.subset(self.folds == fold)


def assign_folds(
    y: NDArray[np.intp], keys: NDArray[Any], *, is_fitted_on: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """Assign images to folds, classes evenly and equal ``keys`` together; -1 if never held out."""
    if not len(y):
        return np.empty(0, np.intp)
    names = keys.view("V32").ravel() if keys.ndim == 2 else keys
    _, first, number = np.unique(names, return_index=True, return_inverse=True)
    of_key = np.empty(len(first), np.intp)
    of_key[np.argsort(y[first], kind="stable")] = np.arange(len(first)) % N_FOLDS
    return np.where(is_fitted_on, -1, of_key[number])


def keep_classes(y: NDArray[np.intp], folds: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the folds with -1 for images without which their class would have none to fit on."""
    per_class = np.zeros((int(y.max(initial=0)) + 1, N_FOLDS + 1), np.bool_)
    per_class[y, folds] = True
    return np.where(per_class.sum(axis=1)[y] > 1, folds, -1)


def sample_evenly(
    y: NDArray[np.intp], hashes: NDArray[np.uint8], *, most: int = MOST_IMAGES
) -> NDArray[np.intp]:
    """Return at most ``most`` positions, ascending, class-balanced and ordered by content hash."""
    if len(y) <= most:
        return np.arange(len(y))
    by_hash = np.lexsort((*hashes.T[::-1], y))
    starts = np.searchsorted(y[by_hash], np.arange(int(y.max()) + 1))
    rank = np.empty(len(y), np.intp)
    rank[by_hash] = np.arange(len(y)) - starts[y[by_hash]]
    return np.sort(np.lexsort((*hashes.T[::-1], rank))[:most])

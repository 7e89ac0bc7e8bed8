"""The images that an extension is fitted, chosen and measured on."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_IMAGES", "N_FOLDS", "Photos", "deal_folds", "keep_classes", "spread"]

MOST_IMAGES = 20_000
"""How many new images, and how many old ones, an extension looks at but for the new classifier."""

N_FOLDS = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Photos:
    """Images by their features.

    Parameters
    ----------
    X : ndarray of shape (n, feature_dim), float
    y : ndarray of shape (n,), int
        Numbers of classes: of the new ones, or of the old head's.
    folds : ndarray of shape (n,), int
        In which fold each is held out, from 0; -1 where it is only ever fitted on.
    """

    X: NDArray[Any]
    y: NDArray[np.intp]
    folds: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.y)

    def some(self, at: NDArray[Any]) -> "Photos":
        """Return some of them, by numbers or by a mask."""
        return replace(self, X=self.X[at], y=self.y[at], folds=self.folds[at])

    def outside(self, fold: int) -> "Photos":
        """Return those that are fitted on while a fold is held out."""
        return self.some(self.folds != fold)

    def inside(self, fold: int) -> "Photos":
        """Return those of one fold."""
        return self.some(self.folds == fold)


def deal_folds(
    y: NDArray[np.intp], keys: NDArray[Any], *, is_fitted_on: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """Deal images to folds, the images of each class evenly.

    Parameters
    ----------
    y : ndarray of shape (n,), int
    keys : ndarray of shape (n,) or (n, 32)
        What stays together: images of one key are in one fold.
    is_fitted_on : ndarray of shape (n,), bool
        Images that are never to be held out.

    Returns
    -------
    ndarray of shape (n,), int
        From 0; -1 for those that are never held out.
    """
    if not len(y):
        return np.empty(0, np.intp)
    names = keys.view("V32").ravel() if keys.ndim == 2 else keys
    _, first, number = np.unique(names, return_index=True, return_inverse=True)
    of_key = np.empty(len(first), np.intp)
    of_key[np.argsort(y[first], kind="stable")] = np.arange(len(first)) % N_FOLDS
    return np.where(is_fitted_on, -1, of_key[number])


def keep_classes(y: NDArray[np.intp], folds: NDArray[np.intp]) -> NDArray[np.intp]:
    """Take images out of their fold where without it their class has none to be fitted on.

    Parameters
    ----------
    y, folds : ndarray of shape (n,), int

    Returns
    -------
    ndarray of shape (n,), int
        The folds, -1 for such images.
    """
    per_class = np.zeros((int(y.max(initial=0)) + 1, N_FOLDS + 1), np.bool_)
    per_class[y, folds] = True
    return np.where(per_class.sum(axis=1)[y] > 1, folds, -1)


def spread(y: NDArray[np.intp], hashes: NDArray[np.uint8], *, most: int = MOST_IMAGES) -> NDArray[np.intp]:
    """Choose images, of all classes alike, by their content hashes.

    Parameters
    ----------
    y : ndarray of shape (n,), int
    hashes : ndarray of shape (n, 32), uint8
    most : int

    Returns
    -------
    ndarray of shape (min(n, most),), int
        Their numbers, rising.
    """
    if len(y) <= most:
        return np.arange(len(y))
    by_hash = np.lexsort((*hashes.T[::-1], y))
    starts = np.searchsorted(y[by_hash], np.arange(int(y.max()) + 1))
    rank = np.empty(len(y), np.intp)
    rank[by_hash] = np.arange(len(y)) - starts[y[by_hash]]
    return np.sort(np.lexsort((*hashes.T[::-1], rank))[:most])

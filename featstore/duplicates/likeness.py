"""How alike two images are by their features: the cosine after centring and damped whitening.

The plain cosine of features that are never negative, such as those behind a ReLU, is high for all images of
one kind. So features are measured against a reference, as is done for image retrieval by Jégou & Chum
(Negative evidences and co-occurrences in image retrieval, ECCV 2012): the mean ``m`` is taken off, and what
varies most from image to image anyway, such as the class, is scaled down. With the covariance's eigenvalues
``w``, their mean ``v`` over the directions that the reference spans, and ``a = 10 v``, a direction is scaled
by ``sqrt(a / (w + a))``: hardly where it varies little, like ``1 / sqrt(w)`` where it varies much. Full
whitening would blow up noise, and with it the differences between copies.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.duplicates.components import Components
from featstore.errors import DuplicatesError
from featstore.process import one_thread

__all__ = ["Likeness", "fit_likeness"]

# Enough for a mean and its leading directions, and a second's work.
_SAMPLE_ROWS = 1024
_DIRECTIONS = 256
_DAMPING = 10.0
# Copies in the sample would become a direction of their own, and that be damped. Two images are taken for
# copies where their squared distance is below this share of what parts an image from the one least like it;
# that holds even where most of the sample are copies, and its mean is no more than a copy's features.
_COPY_DISTANCE = 0.08
_FLAT = 1e-5


@dataclass(frozen=True, kw_only=True, eq=False)
class Likeness:
    """A fixed map of features to unit vectors whose scalar products say how alike two images are.

    Parameters
    ----------
    mean : ndarray of shape (feature_dim,), float32
    directions : ndarray of shape (feature_dim, r), float32
        Orthonormal columns, those along which the reference varies most.
    damping : ndarray of shape (r,), float32
        What is taken away along each, in [0, 1).
    n_sample : int
        Images that the reference was made of.
    """

    mean: NDArray[np.float32]
    directions: NDArray[np.float32]
    damping: NDArray[np.float32]
    n_sample: int

    def vectors(self, X: Any) -> NDArray[np.float32]:
        """Map features.

        Parameters
        ----------
        X : array_like of shape (n, feature_dim), float

        Returns
        -------
        ndarray of shape (n, feature_dim + 1), float32
            Of unit length. Features that are the mean itself, to within rounding, have no direction; the last
            column, 0 elsewhere, makes them all alike.

        Raises
        ------
        DuplicatesError
            A feature is NaN or infinite.
        """
        rows = np.empty((len(X), len(self.mean) + 1), np.float32)
        centred = rows[:, :-1]
        np.subtract(X, self.mean, out=centred, casting="same_kind")
        scale = float(np.linalg.norm(self.mean)) or 1.0
        lengths = np.linalg.norm(centred, axis=1)
        _check_finite(np.isfinite(lengths))
        flat = lengths <= _FLAT * scale
        centred -= ((centred @ self.directions) * self.damping) @ self.directions.T
        centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        centred[flat] = 0
        rows[:, -1] = flat
        return rows


def fit_likeness(X: Any, content_hash: NDArray[np.uint8]) -> Likeness:
    """Take the reference from a table's own features.

    Nothing is drawn: the sample is the 1,024 images whose content hashes are the smallest, so that it depends
    neither on chance nor on the rows' order; of images in it that are copies of each other one stays.

    Parameters
    ----------
    X : array of shape (n, feature_dim), float
        Sliced and indexed as NumPy's; only the sample is read.
    content_hash : ndarray of shape (n, 32), uint8

    Returns
    -------
    Likeness

    Raises
    ------
    DuplicatesError
        A feature is NaN or infinite.
    """
    keys = np.ascontiguousarray(content_hash).view("V32").ravel()
    rows = np.unique(keys, return_index=True)[1][:_SAMPLE_ROWS]
    sample = np.asarray(X[rows], np.float32)
    _check_finite(np.asarray(np.isfinite(sample).all(axis=1)))
    # Threads wait for each other longer than they work on a matrix of this size.
    with one_thread:
        found = Components(len(sample))
        found.join(*_copies(sample))
        sample = sample[np.unique(found.labels, return_index=True)[1]]
        mean = sample.mean(axis=0, dtype=np.float64)
        directions, variances, average = _leading_directions(sample - mean)
    return Likeness(
        mean=mean.astype(np.float32),
        directions=directions.astype(np.float32),
        damping=(1 - np.sqrt(_DAMPING * average / (variances + _DAMPING * average))).astype(np.float32),
        n_sample=len(sample),
    )


def _copies(sample: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the pairs of rows that are close together."""
    centred = sample - sample.mean(axis=0, dtype=np.float64)
    squares = (centred**2).sum(axis=1)
    distances = squares[:, None] + squares - 2 * (centred @ centred.T)
    first, second = np.nonzero(np.triu(distances <= _COPY_DISTANCE * np.median(distances.max(axis=1)), 1))
    return first, second


def _check_finite(is_finite: NDArray[np.bool_]) -> None:
    if not is_finite.all():
        raise DuplicatesError(
            f"{int((~is_finite).sum())} of {len(is_finite)} rows of features hold NaN or infinity; "
            "extract them again"
        )


def _leading_directions(
    centred: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return the directions of most variance, the variances, and the mean variance of all directions."""
    from scipy.linalg import eigh

    n_rows, feature_dim = centred.shape
    rank = min(n_rows - 1, feature_dim)
    average = float((centred**2).sum()) / max(1, n_rows - 1) / max(1, rank)
    if rank < 1 or average == 0:
        return np.empty((feature_dim, 0)), np.empty(0), 1.0
    # Of the two Gram matrices the smaller: they share their eigenvalues above 0.
    tall = n_rows > feature_dim
    gram = (centred.T @ centred if tall else centred @ centred.T) / (n_rows - 1)
    size = len(gram)
    variances, vectors = eigh(gram, subset_by_index=(max(0, size - _DIRECTIONS), size - 1), driver="evr")
    # Below this a direction is not scaled to any effect, and above it is far from rounding.
    kept = variances > average / 100
    variances, vectors = variances[kept], vectors[:, kept]
    if not tall:
        vectors = centred.T @ vectors / np.sqrt(variances * (n_rows - 1))
    return vectors, variances, average

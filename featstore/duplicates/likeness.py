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

__all__ = ["Likeness", "fit_likeness"]

# Enough for a mean and its leading directions, and a second's work.
_SAMPLE_ROWS = 1024
_DIRECTIONS = 256
_DAMPING = 10.0
# Copies among the sample would become a direction of their own, which is then scaled down.
_SAMPLE_COPIES_ABOVE = 0.8
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
        if not np.isfinite(lengths).all():
            raise DuplicatesError(
                f"{int((~np.isfinite(lengths)).sum())} of {len(X)} rows of features hold NaN or infinity; "
                "extract them again"
            )
        flat = lengths <= _FLAT * scale
        centred -= ((centred @ self.directions) * self.damping) @ self.directions.T
        centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        centred[flat] = 0
        rows[:, -1] = flat
        return rows


def fit_likeness(X: Any, content_hash: NDArray[np.uint8]) -> Likeness:
    """Take the reference from a table's own features.

    Nothing is drawn: the sample is the 1,024 images whose content hashes are the smallest, so that it depends
    neither on chance nor on the rows' order; of images in it that are copies of each other by the cosine
    after centring (above 0.8), one stays.

    Parameters
    ----------
    X : array of shape (n, feature_dim), float
        Sliced and indexed as NumPy's; only the sample is read.
    content_hash : ndarray of shape (n, 32), uint8

    Returns
    -------
    Likeness
    """
    keys = np.ascontiguousarray(content_hash).view("V32").ravel()
    rows = np.unique(keys, return_index=True)[1][:_SAMPLE_ROWS]
    sample = np.asarray(X[rows], np.float32)
    plain = Likeness(
        mean=sample.mean(axis=0, dtype=np.float64).astype(np.float32),
        directions=np.empty((sample.shape[1], 0), np.float32),
        damping=np.empty(0, np.float32),
        n_sample=len(sample),
    )
    vectors = plain.vectors(sample)
    found = Components(len(sample))
    found.join(*np.nonzero(np.triu(vectors @ vectors.T >= _SAMPLE_COPIES_ABOVE, 1)))
    sample = sample[np.unique(found.labels, return_index=True)[1]]
    mean = sample.mean(axis=0, dtype=np.float64)
    directions, variances, average = _leading_directions(sample - mean)
    return Likeness(
        mean=mean.astype(np.float32),
        directions=directions.astype(np.float32),
        damping=(1 - np.sqrt(_DAMPING * average / (variances + _DAMPING * average))).astype(np.float32),
        n_sample=len(sample),
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

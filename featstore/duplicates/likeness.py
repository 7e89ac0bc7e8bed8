"""Image similarity from features: the cosine after centring and damped whitening.

The plain cosine of non-negative features, such as those behind a ReLU, is high for all images of one kind.
Features are therefore compared relative to a reference, as Jégou & Chum do for image retrieval (Negative
evidences and co-occurrences in image retrieval, ECCV 2012): the mean ``m`` is subtracted, and directions of
large variance, such as the class, are scaled down. With the covariance's eigenvalues ``w``, their mean ``v``
over the directions that the reference spans, and ``a = 10 v``, a direction is scaled by
``sqrt(a / (w + a))``: hardly where the variance is small, like ``1 / sqrt(w)`` where it is large. Full
whitening would amplify noise, and with it the differences between copies.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.duplicates.components import Components
from featstore.errors import DuplicatesError
from featstore.process import one_thread

__all__ = ["Likeness", "fit_likeness"]

# Enough for a mean and its leading directions, in about a second.
_SAMPLE_ROWS = 1024
_DIRECTIONS = 256
_DAMPING = 10.0
# Copies in the sample would form a direction of their own, which would be damped. Two images count as copies
# if their squared distance is below this share of an image's largest distance (its median over the sample);
# that holds even if most of the sample are copies, and its mean little more than a copy's features.
_COPY_DISTANCE = 0.08
_FLAT = 1e-5


@dataclass(frozen=True, kw_only=True, eq=False)
class Likeness:
    """A fixed map from features to unit vectors whose scalar products are similarities."""

    mean: NDArray[np.float32]  # (feature_dim,)
    directions: NDArray[np.float32]  # (feature_dim, r)
    damping: NDArray[np.float32]  # (r,): share removed along each direction, in [0, 1)
    n_sample: int  # images in the reference

    def vectors(self, X: Any) -> NDArray[np.float32]:
        """Map features to unit vectors, float32 of shape (n, feature_dim + 1)."""
        # Features equal to the mean, up to rounding, have no direction; the last column, 0 elsewhere, makes
        # them all alike.
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
    """Fit the reference to a table's own features, deterministically."""
    # The sample is the 1,024 images with the smallest content hashes, which depends neither on chance nor on
    # the order of rows; of copies within the sample, one is kept.
    keys = np.ascontiguousarray(content_hash).view("V32").ravel()
    rows = np.unique(keys, return_index=True)[1][:_SAMPLE_ROWS]
    sample = np.asarray(X[rows], np.float32)
    _check_finite(np.asarray(np.isfinite(sample).all(axis=1)))
    # Matrices of this size are too small to share among threads.
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
            f"{int((~is_finite).sum())} of {len(is_finite)} rows of features contain NaN or infinity; "
            "extract them again"
        )


def _leading_directions(
    centred: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return the directions of largest variance, their variances and the mean variance over all."""
    from scipy.linalg import eigh

    n_rows, feature_dim = centred.shape
    rank = min(n_rows - 1, feature_dim)
    average = float((centred**2).sum()) / max(1, n_rows - 1) / max(1, rank)
    if rank < 1 or average == 0:
        return np.empty((feature_dim, 0)), np.empty(0), 1.0
    # The smaller of the two Gram matrices: their positive eigenvalues are the same.
    tall = n_rows > feature_dim
    gram = (centred.T @ centred if tall else centred @ centred.T) / (n_rows - 1)
    size = len(gram)
    variances, vectors = eigh(gram, subset_by_index=(max(0, size - _DIRECTIONS), size - 1), driver="evr")
    # Smaller variances are hardly scaled; larger ones are far from rounding errors.
    kept = variances > average / 100
    variances, vectors = variances[kept], vectors[:, kept]
    if not tall:
        vectors = centred.T @ vectors / np.sqrt(variances * (n_rows - 1))
    return vectors, variances, average

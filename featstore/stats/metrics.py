"""Scores as pure functions of labels, predictions and probabilities.

Classes are columns: ``true`` and ``predicted`` hold column numbers, int of shape (n,), and ``probabilities``
is float64 of shape (n, n_classes) with rows that sum to 1. All of them take n of at least 1.
"""

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CALIBRATION_BINS",
    "CalibrationBin",
    "balanced_accuracy",
    "brier_score",
    "calibration_bins",
    "confusion_counts",
    "expected_calibration_error",
    "f1_scores",
    "log_loss",
    "macro_f1",
    "top_k_accuracy",
]

CALIBRATION_BINS = 15

_SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)


class CalibrationBin(TypedDict):
    """The images whose prediction has a probability above ``low`` and up to ``high``.

    ``confidence`` is the mean of these probabilities, ``accuracy`` the fraction that is right; both are None
    in a bin without images.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


def confusion_counts(
    true: NDArray[np.intp], predicted: NDArray[np.intp], n_classes: int
) -> NDArray[np.int64]:
    """Count how often each class (row) was taken for each class (column): int64 of shape (K, K).

    Examples
    --------
    >>> confusion_counts(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    cells = np.bincount(true * n_classes + predicted, minlength=n_classes**2)
    return cells.reshape(n_classes, n_classes).astype(np.int64)


def top_k_accuracy(probabilities: NDArray[np.float64], true: NDArray[np.intp], k: int) -> float:
    """Return the fraction of rows whose true class ranks among the first k; ties go to the lower column."""
    own = probabilities[np.arange(len(true)), true][:, None]
    before = np.arange(probabilities.shape[1]) < true[:, None]
    rank = ((probabilities > own) | ((probabilities == own) & before)).sum(axis=1)
    return float((rank < k).mean())


def f1_scores(
    right: NDArray[np.int64], n_true: NDArray[np.int64], n_predicted: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Give each class's F1, the harmonic mean of precision and recall (van Rijsbergen 1979, chapter 7).

    Parameters
    ----------
    right, n_true, n_predicted : ndarray of shape (…, n_classes), int
        Images of the class that were recognised, images of the class, and images taken for it.

    Returns
    -------
    ndarray of shape (…, n_classes), float64
        In [0, 1]; NaN for a class that no image has and none was taken for.
    """
    total = (n_true + n_predicted).astype(np.float64)
    scores = np.full(total.shape, np.nan)
    np.divide(2.0 * right, total, out=scores, where=total > 0)
    return scores


def macro_f1(
    right: NDArray[np.int64], n_true: NDArray[np.int64], n_predicted: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Average F1 over the classes that occur among the labels or the predictions, each counting the same.

    As ``sklearn.metrics.f1_score(average="macro")``. Parameters are those of :func:`f1_scores`; the last axis
    is averaged over.

    Examples
    --------
    >>> float(macro_f1(np.array([1, 1, 0]), np.array([2, 1, 0]), np.array([1, 2, 0])).round(4))
    0.6667
    """
    return _mean_where(f1_scores(right, n_true, n_predicted), n_true + n_predicted > 0)


def balanced_accuracy(right: NDArray[np.int64], n_true: NDArray[np.int64]) -> NDArray[np.float64]:
    """Average recall over the classes that images have, each counting the same.

    Brodersen et al. (ICPR 2010); as ``sklearn.metrics.balanced_accuracy_score``. Parameters are those of
    :func:`f1_scores`; the last axis is averaged over.
    """
    recall = np.divide(right, n_true, out=np.zeros(n_true.shape), where=n_true > 0)
    return _mean_where(recall, n_true > 0)


def log_loss(probabilities: NDArray[np.float64], true: NDArray[np.intp]) -> float:
    """Return the mean of -ln p(true class), in nats; at least 0, and ln K for a guess of all K alike.

    Probabilities below 2.2e-16, the spacing of float64 at 1, count as that, as in
    ``sklearn.metrics.log_loss``: one sure mistake does not make it infinite.
    """
    own = probabilities[np.arange(len(true)), true]
    return -float(np.log(own.clip(_SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)).mean())


def brier_score(probabilities: NDArray[np.float64], true: NDArray[np.intp]) -> float:
    """Return the mean squared distance between the probabilities and the truth, in [0, 2].

    The sum over all classes, as Brier defined it (Monthly Weather Review 78, 1950, p. 1, equation 2). For two
    classes that is twice what some programs report, who count one of the two only.

    Examples
    --------
    >>> brier_score(np.array([[0.5, 0.5], [0.0, 1.0]]), np.array([0, 1]))
    0.25
    """
    own = probabilities[np.arange(len(true)), true]
    return float(((probabilities**2).sum(axis=1) - 2 * own + 1).mean())


def calibration_bins(
    confidence: NDArray[np.float64], is_right: NDArray[np.bool_], *, n_bins: int = CALIBRATION_BINS
) -> list[CalibrationBin]:
    """Sort predictions by their probability into bins of equal width, and say how often each bin is right.

    Parameters
    ----------
    confidence : ndarray of shape (n,), float64
        The probability of what was predicted, in [0, 1].
    is_right : ndarray of shape (n,), bool
    n_bins : int
        At least 1; Guo et al. (ICML 2017, section 2) take 15.

    Returns
    -------
    list of CalibrationBin
        From the least sure; bin m holds ((m - 1) / n_bins, m / n_bins], and the first one 0 too.
    """
    edges = np.linspace(0, 1, n_bins + 1)
    at = (np.searchsorted(edges, confidence, side="left") - 1).clip(0, n_bins - 1)
    n = np.bincount(at, minlength=n_bins)
    sums = [np.bincount(at, weights=values, minlength=n_bins) for values in (confidence, is_right)]
    return [
        {
            "low": float(edges[bin_]),
            "high": float(edges[bin_ + 1]),
            "n": int(n[bin_]),
            "confidence": float(sums[0][bin_] / n[bin_]) if n[bin_] else None,
            "accuracy": float(sums[1][bin_] / n[bin_]) if n[bin_] else None,
        }
        for bin_ in range(n_bins)
    ]


def expected_calibration_error(bins: list[CalibrationBin]) -> float:
    """Return the mean distance between probability and accuracy, weighted by the bins' images, in [0, 1].

    Guo et al. (ICML 2017, equation 3). It depends on the bins, and is too high where they
    hold few images.
    """
    gaps = [
        one["n"] * abs(one["confidence"] - one["accuracy"])
        for one in bins
        if one["confidence"] is not None and one["accuracy"] is not None
    ]
    return sum(gaps) / sum(one["n"] for one in bins)


def _mean_where(values: NDArray[np.float64], counts: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray(np.where(counts, values, 0.0).sum(axis=-1) / counts.sum(axis=-1), dtype=np.float64)

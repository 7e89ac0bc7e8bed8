"""Classification metrics as pure functions of labels, predictions and probabilities.

Classes are columns: ``true`` and ``predicted`` hold column numbers, int of shape (n,), and ``probabilities``
is float64 of shape (n, n_classes) with rows that sum to 1; n is at least 1. ``right``, ``n_true`` and
``n_predicted`` are counts for each class, int of shape (…, n_classes): images of the class that are
recognised, images of the class, and images predicted as the class.
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
    "log_losses",
    "macro_f1",
    "top_k_accuracy",
]

CALIBRATION_BINS = 15

_SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)


class CalibrationBin(TypedDict):
    """Predictions with a probability in (low, high]: mean probability and accuracy, None if empty."""

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


def confusion_counts(
    true: NDArray[np.intp], predicted: NDArray[np.intp], n_classes: int
) -> NDArray[np.int64]:
    """Return the confusion matrix, true classes in rows, int64 of shape (n_classes, n_classes)."""
    cells = np.bincount(true * n_classes + predicted, minlength=n_classes**2)
    return cells.reshape(n_classes, n_classes).astype(np.int64)


def top_k_accuracy(probabilities: NDArray[np.float64], true: NDArray[np.intp], k: int) -> float:
    """Return the fraction of rows whose true class is among the k most probable; lower columns win ties."""
    own = probabilities[np.arange(len(true)), true][:, None]
    before = np.arange(probabilities.shape[1]) < true[:, None]
    rank = ((probabilities > own) | ((probabilities == own) & before)).sum(axis=1)
    return float((rank < k).mean())


def f1_scores(
    right: NDArray[np.int64], n_true: NDArray[np.int64], n_predicted: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return each class's F1 (van Rijsbergen 1979, chapter 7); NaN for classes neither true nor predicted."""
    total = (n_true + n_predicted).astype(np.float64)
    scores = np.full(total.shape, np.nan)
    np.divide(2.0 * right, total, out=scores, where=total > 0)
    return scores


def macro_f1(
    right: NDArray[np.int64], n_true: NDArray[np.int64], n_predicted: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Average F1 over the classes that are true or predicted."""
    # As sklearn.metrics.f1_score(average="macro"), but for many draws at once.
    return _mean_where(f1_scores(right, n_true, n_predicted), n_true + n_predicted > 0)


def balanced_accuracy(right: NDArray[np.int64], n_true: NDArray[np.int64]) -> NDArray[np.float64]:
    """Average recall over the true classes."""
    # Brodersen et al. (ICPR 2010); as sklearn.metrics.balanced_accuracy_score, but for many draws at once.
    recall = np.divide(right, n_true, out=np.zeros(n_true.shape), where=n_true > 0)
    return _mean_where(recall, n_true > 0)


def log_loss(probabilities: NDArray[np.float64], true: NDArray[np.intp]) -> float:
    """Return the mean of -ln p(true class), in nats."""
    return float(log_losses(probabilities, true).mean())


def log_losses(probabilities: NDArray[np.float64], true: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return -ln p(true class) of each row, in nats, of shape (n,)."""
    # Probabilities are clipped to 2.2e-16, the spacing of float64 at 1, as in sklearn.metrics.log_loss.
    own = probabilities[np.arange(len(true)), true]
    return np.asarray(-np.log(own.clip(_SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)), np.float64)


def brier_score(probabilities: NDArray[np.float64], true: NDArray[np.intp]) -> float:
    """Return the Brier score, in [0, 2]."""
    # The sum over all classes, as Brier defined it (Monthly Weather Review 78, 1950, p. 1, equation 2); for
    # two classes twice what is reported where only one of the two is counted.
    own = probabilities[np.arange(len(true)), true]
    return float(((probabilities**2).sum(axis=1) - 2 * own + 1).mean())


def calibration_bins(
    confidence: NDArray[np.float64], is_right: NDArray[np.bool_], *, n_bins: int = CALIBRATION_BINS
) -> list[CalibrationBin]:
    """Bin predictions by their probability into bins of equal width."""
    # Bin m holds ((m - 1) / n_bins, m / n_bins], and the first also 0. Guo et al. (ICML 2017, section 2) take
    # 15.
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
    """Return the expected calibration error, in [0, 1] (Guo et al., ICML 2017, equation 3)."""
    # It depends on the bins, and is biased upwards where they hold few images.
    gaps = [
        one["n"] * abs(one["confidence"] - one["accuracy"])
        for one in bins
        if one["confidence"] is not None and one["accuracy"] is not None
    ]
    return sum(gaps) / sum(one["n"] for one in bins)


def _mean_where(values: NDArray[np.float64], counts: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray(np.where(counts, values, 0.0).sum(axis=-1) / counts.sum(axis=-1), dtype=np.float64)

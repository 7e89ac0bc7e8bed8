"""Scores of several labels an image as pure functions.

``has`` is which image has which label, bool of shape (n, n_classes), ``is_given`` which of them is predicted,
and ``probabilities`` float64 of the same shape. ``counts``, of images or of draws of them, have the shape
(n_draws, n).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SCORES",
    "average_precisions",
    "drawn_scores",
    "label_log_loss",
    "precision_recall",
    "score_values",
]

SCORES = ("map", "micro_f1", "macro_f1", "subset_accuracy")

_CURVE_POINTS = 200

_LEAST = float(np.finfo(np.float64).eps)


def average_precisions(
    has: NDArray[np.bool_], probabilities: NDArray[np.float64], counts: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the average precision of each label in each draw, (n_draws, n_classes); NaN if none has it."""
    # The precision at each distinct probability, weighted by the recall that it adds, without interpolation,
    # as sklearn.metrics.average_precision_score (Zhu 2004; Everingham et al., IJCV 88, 2010, section 4.2).
    counts = np.ones((1, len(has))) if counts is None else counts
    found = np.full((len(counts), has.shape[1]), np.nan)
    for number in range(has.shape[1]):
        order = np.argsort(-probabilities[:, number], kind="stable")
        ranked = probabilities[order, number]
        is_last = np.append(ranked[1:] != ranked[:-1], True)
        drawn = counts[:, order]
        n_given = np.cumsum(drawn, axis=1)[:, is_last]
        n_right = np.cumsum(drawn * has[order, number], axis=1)[:, is_last]
        n_true = n_right[:, -1]
        precision = np.divide(n_right, n_given, out=np.zeros_like(n_right), where=n_given > 0)
        gained = (np.diff(n_right, axis=1, prepend=0) * precision).sum(axis=1)
        np.divide(gained, n_true, out=found[:, number], where=n_true > 0)
    return found


def precision_recall(has: NDArray[np.bool_], probabilities: NDArray[np.float64]) -> dict[str, list[float]]:
    """Return ``{"probability", "precision", "recall"}`` of one label, from the highest probability down."""
    names = ("probability", "precision", "recall")
    if not has.any():
        return {name: [] for name in names}
    order = np.argsort(-probabilities, kind="stable")
    ranked, n_right = probabilities[order], np.cumsum(has[order])
    # Equal probabilities fall on one side. What follows the last image with the label adds no recall.
    at = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    at = at[: int(np.searchsorted(n_right[at], n_right[-1])) + 1]
    at = at[np.unique(np.linspace(0, len(at) - 1, _CURVE_POINTS).round().astype(int))]
    values = ranked[at], n_right[at] / (at + 1), n_right[at] / n_right[-1]
    return {name: value.tolist() for name, value in zip(names, values, strict=True)}


def drawn_scores(
    has: NDArray[np.bool_],
    is_given: NDArray[np.bool_],
    probabilities: NDArray[np.float64],
    counts: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return mean average precision, micro and macro F1 and subset accuracy of each draw, (n_draws, 4)."""
    right, true, given = (counts @ one for one in (has & is_given, has, is_given))
    totals = true + given
    f1 = np.divide(2 * right, totals, out=np.full(totals.shape, np.nan), where=totals > 0)
    both = totals.sum(axis=1)
    micro = np.divide(2 * right.sum(axis=1), both, out=np.ones(len(counts)), where=both > 0)
    exact = counts @ (has == is_given).all(axis=1) / counts.sum(axis=1)
    precisions = average_precisions(has, probabilities, counts)
    return np.stack([_mean(precisions), micro, _mean(f1), exact], axis=1)


def score_values(
    has: NDArray[np.bool_], is_given: NDArray[np.bool_], probabilities: NDArray[np.float64]
) -> dict[str, Any]:
    """Return ``{"n", "map", "micro_f1", "macro_f1", "subset_accuracy"}``; None if n is 0."""
    if not len(has):
        return {"n": 0, **dict.fromkeys(SCORES)}
    (values,) = drawn_scores(has, is_given, probabilities, np.ones((1, len(has))))
    plain = [None if np.isnan(value) else float(value) for value in values]
    return {"n": len(has), **dict(zip(SCORES, plain, strict=True))}


def label_log_loss(has: NDArray[np.bool_], probabilities: NDArray[np.float64]) -> float:
    """Return the mean cross entropy of all labels of all images, in nats."""
    likely = np.where(has, probabilities, 1 - probabilities)
    return float(-np.log(np.clip(likely, _LEAST, 1.0)).mean())


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of each row without NaN; NaN if there is nothing else."""
    is_there = ~np.isnan(values)
    sums, numbers = np.where(is_there, values, 0).sum(axis=1), is_there.sum(axis=1)
    return np.asarray(
        np.divide(sums, numbers, out=np.full(len(values), np.nan), where=numbers > 0), np.float64
    )

"""Predictions of a fitted estimator, with scores of as many images as fit into memory."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.heads.calibration import (
    class_scores,
    fit_temperature,
    log_probabilities,
    mean_over_views,
    softmax,
)
from featstore.heads.data.blocks import Rows
from featstore.heads.forms.linear import linear_form
from featstore.heads.solvers.solver import Solution

__all__ = ["HeldOutPredictions", "evenly_spaced", "most_kept", "predict_held_out"]

# 128 MB of scores: of 100,000 images all with 167 classes, every 24th with 4,000.
_MOST_SCORES = 2**24


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOutPredictions:
    """An estimator's predictions, and its scores for a sample of the images."""

    predicted: NDArray[np.intp]  # (n,): positions in classes, by the mean over views
    scores: NDArray[np.float64]  # (n_kept * n_views, n_classes): image by image
    kept: NDArray[np.intp]  # (n_kept,): the sampled images
    labels: NDArray[np.str_]  # (n_kept,)
    n_views: int
    has_own: bool  # whether scores are log-probabilities
    classes: NDArray[np.str_]  # (n_classes,)

    @cached_property
    def temperature(self) -> float:
        """Temperature fitted to these same images; 1 if scores are log-probabilities."""
        return 1.0 if self.has_own else _temperature(self.scores, self.labels, self.classes, self.n_views)

    def probabilities(self, temperature: float | None = None) -> NDArray[np.float64]:
        """Return the sampled images' probabilities, by their own temperature or another."""
        return _means(self.scores, self.temperature if temperature is None else temperature, self.n_views)


def predict_held_out(
    solution: Solution,
    rows: Rows,
    classes: NDArray[np.str_],
    labels: NDArray[np.str_],
    *,
    is_calibrated: bool,
    kept: NDArray[np.intp] | None = None,
    temperature: float | None = None,
) -> HeldOutPredictions:
    """Predict images as the head will."""
    # Labels that are no classes are ignored when fitting a temperature. By default the scores of all images
    # are kept, and views are averaged by the temperature that suits the images kept.
    estimator, n_views = solution.estimator, rows.n_views
    has_own = not is_calibrated and hasattr(estimator, "predict_proba")
    kept = np.arange(len(labels)) if kept is None else kept
    is_kept = np.zeros(len(rows), np.bool_)
    is_kept[(kept[:, None] * n_views + np.arange(n_views)).ravel()] = True
    by_row = np.empty(len(rows), np.intp)
    scores = np.empty((int(is_kept.sum()), len(classes)))
    known = solution.scores
    form = None
    if known is None:
        form = linear_form(estimator, feature_dim=rows.feature_dim, is_calibrated=is_calibrated)
    scores_of = _scorer(estimator, form, classes, has_own=has_own)
    n_done = 0
    for at, block in rows.blocks() if known is None else [(slice(0, len(rows)), known)]:
        found = scores_of(block) if known is None else known
        chosen = found[is_kept[at]]
        scores[n_done : n_done + len(chosen)] = chosen
        n_done += len(chosen)
        if known is not None or form is not None or n_views > 1:
            by_row[at] = found.argmax(axis=1)
        else:
            by_row[at] = np.searchsorted(classes, np.asarray(estimator.predict(block), np.str_))
    if n_views > 1 and len(labels):
        if temperature is None:
            temperature = 1.0 if has_own else _temperature(scores, labels[kept], classes, n_views)
        if len(kept) == len(labels):
            by_row = _means(scores, temperature, n_views).argmax(axis=1)
        else:
            # A second pass: the temperature to average views by is known only now.
            by_row = np.concatenate(
                [_means(scores_of(block), temperature, n_views).argmax(axis=1) for _, block in rows.blocks()]
            )
    return HeldOutPredictions(
        predicted=by_row,
        scores=scores,
        kept=kept,
        labels=labels[kept],
        n_views=n_views,
        has_own=has_own,
        classes=classes,
    )


def most_kept(n_classes: int, *, n_views: int = 1) -> int:
    """Return the number of images whose scores fit into memory: 2**24 numbers."""
    return max(1, _MOST_SCORES // (n_classes * n_views))


def evenly_spaced(n: int, at_most: int) -> NDArray[np.intp]:
    """Return at most ``at_most`` evenly spaced numbers below n."""
    return np.unique(np.linspace(0, n - 1, min(n, at_most)).astype(np.intp))


def _scorer(
    estimator: Any, form: Any, classes: NDArray[np.str_], *, has_own: bool
) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
    scores_of = log_probabilities if has_own else class_scores

    def scored(block: NDArray[Any]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = form.scores(block) if form is not None else scores_of(estimator, block)
        if found.shape[1] != len(classes):
            raise HeadError(
                f"{type(estimator).__name__} returns {found.shape[1]} decisions for {len(classes)} classes; "
                "expected one each"
            )
        return found

    return scored


def _temperature(
    scores: NDArray[np.float64], labels: NDArray[np.str_], classes: NDArray[np.str_], n_views: int
) -> float:
    is_known = np.isin(labels, classes)
    chosen = scores if is_known.all() else scores[np.repeat(is_known, n_views)]
    return fit_temperature(chosen, labels[is_known], classes, n_views=n_views)


def _means(scores: NDArray[np.float64], temperature: float, n_views: int) -> NDArray[np.float64]:
    return mean_over_views(softmax(scores / temperature), n_views)

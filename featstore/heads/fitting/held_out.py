"""Predictions of a fitted estimator, with scores of as many images as fit into memory."""

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
from featstore.heads.data.parts import over_parts
from featstore.heads.forms.fitted import fitted_form
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
    is_kept = np.zeros(len(labels), np.bool_)
    is_kept[kept] = True
    known = solution.scores
    if known is not None:
        by_row, scores = known.argmax(axis=1), known[np.repeat(is_kept, n_views)]
    else:
        form = fitted_form(estimator, feature_dim=rows.feature_dim, is_calibrated=is_calibrated)
        scorer = _Scorer(estimator=estimator, form=form, classes=classes, has_own=has_own)
        by_row, scores = _predicted(rows, scorer, is_kept)
    if n_views > 1 and len(labels):
        if temperature is None:
            temperature = 1.0 if has_own else _temperature(scores, labels[kept], classes, n_views)
        if len(kept) == len(labels):
            by_row = _means(scores, temperature, n_views).argmax(axis=1)
        else:
            # A second pass: the temperature to average views by is known only now.
            parts = over_parts(rows, _means_of_part, scorer, temperature)
            by_row = np.concatenate([found for _, found in parts])
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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scorer:
    """Scores blocks of rows by a form, or by the estimator where it has none."""

    estimator: Any
    form: Any
    classes: NDArray[np.str_]
    has_own: bool

    def scores(self, block: NDArray[Any]) -> NDArray[np.float64]:
        """Return scores, of shape (n, n_classes)."""
        if self.form is not None:
            found: NDArray[np.float64] = self.form.scores(block)
        else:
            found = (log_probabilities if self.has_own else class_scores)(self.estimator, block)
        if found.shape[1] != len(self.classes):
            raise HeadError(
                f"{type(self.estimator).__name__} returns {found.shape[1]} decisions for "
                f"{len(self.classes)} classes; expected one each"
            )
        return found


def _predicted(
    rows: Rows, scorer: _Scorer, is_kept: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return each row's most probable class, and the scores of those of the images kept."""
    by_row = np.empty(len(rows), np.intp)
    scores = np.empty((int(is_kept.sum()) * rows.n_views, len(scorer.classes)))
    n_done = 0
    for at, (found, some) in over_parts(rows, _predictions_of_part, scorer, columns=[is_kept]):
        by_row[at] = found
        scores[n_done : n_done + len(some)] = some
        n_done += len(some)
    return by_row, scores


def _predictions_of_part(
    rows: Rows, is_kept: NDArray[np.bool_], scorer: _Scorer
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    by_row, of_rows = np.empty(len(rows), np.intp), np.repeat(is_kept, rows.n_views)
    scores = [np.empty((0, len(scorer.classes)))]
    for at, block in rows.blocks():
        found = scorer.scores(block)
        scores.append(found[of_rows[at]])
        if scorer.form is not None or rows.n_views > 1:
            by_row[at] = found.argmax(axis=1)
        else:
            predicted = np.asarray(scorer.estimator.predict(block), np.str_)
            by_row[at] = np.searchsorted(scorer.classes, predicted)
    return by_row, np.concatenate(scores)


def _means_of_part(rows: Rows, scorer: _Scorer, temperature: float) -> NDArray[np.intp]:
    found = [
        _means(scorer.scores(block), temperature, rows.n_views).argmax(axis=1) for _, block in rows.blocks()
    ]
    return np.concatenate(found)


def _temperature(
    scores: NDArray[np.float64], labels: NDArray[np.str_], classes: NDArray[np.str_], n_views: int
) -> float:
    is_known = np.isin(labels, classes)
    chosen = scores if is_known.all() else scores[np.repeat(is_known, n_views)]
    return fit_temperature(chosen, labels[is_known], classes, n_views=n_views)


def _means(scores: NDArray[np.float64], temperature: float, n_views: int) -> NDArray[np.float64]:
    return mean_over_views(softmax(scores / temperature), n_views)

"""Choice of a setting, of sigmoids and of thresholds for several labels, on held-out images."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.heads.fit_warnings import warn
from featstore.heads.fitting.sweep_scores import chosen
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm
from featstore.heads.multilabel.decisions import best_thresholds, calibrated, fit_sigmoids
from featstore.heads.multilabel.images import LabelImages, mean_probabilities
from featstore.heads.multilabel.scores import label_log_loss, score_values
from featstore.heads.multilabel.solving import label_fold_scores, solve_labels
from featstore.heads.recipe import Params, Recipe
from featstore.heads.solvers.kernel import n_landmarks
from featstore.heads.solvers.parallel import WarningNotes
from featstore.process import one_thread

__all__ = ["LabelChoice", "Progress", "choose_out_of_fold", "fit_chosen"]

_logger = logging.getLogger(__name__)

Progress = Callable[[int, int, Mapping[str, Any]], None]

# Training and held-out positions of images.
_Division = tuple[NDArray[np.intp], NDArray[np.intp]]
_Scores = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelChoice:
    """The setting with the least cross entropy, and what held-out images say of it."""

    setting: Params
    sweep: list[dict[str, Any]]  # {"params", "map", "cross_entropy"} of each setting, if there are several
    slope: NDArray[np.float64]  # (n_classes,): of scores, and
    offset: NDArray[np.float64]  # (n_classes,): what makes logits of them
    thresholds: NDArray[np.float64]  # (n_classes,)
    held_out: NDArray[np.intp]  # (n_held_out,): positions of images
    probabilities: NDArray[np.float64]  # (n_held_out, n_classes)


def fit_chosen(
    recipe: Recipe,
    images: LabelImages,
    divisions: Sequence[_Division],
    inside: LabelImages,
    progress: Progress | None = None,
) -> tuple[LabelChoice, LinearForm | KernelForm]:
    """Choose by divisions of images, and return the calibrated form of the fit on the images inside."""
    choice = choose_out_of_fold(recipe, images, divisions, progress)
    with one_thread, WarningNotes() as notes:
        [form] = solve_labels(recipe, inside, [choice.setting])
        _report(recipe, choice.setting, notes)
    return choice, calibrated(form, choice.slope, choice.offset)


def choose_out_of_fold(
    recipe: Recipe, images: LabelImages, divisions: Sequence[_Division], progress: Progress | None
) -> LabelChoice:
    """Choose by divisions of images, in one thread, and report warnings of scikit-learn."""
    with one_thread, WarningNotes() as notes:
        choice = _choose(recipe, images, divisions, progress)
        _report(recipe, choice.setting, notes)
    return choice


def _report(recipe: Recipe, setting: Params, notes: WarningNotes) -> None:
    for note in notes.take():
        warn(_logger, "%s with %s: %s", recipe.name, setting, note)


def _choose(
    recipe: Recipe, images: LabelImages, divisions: Sequence[_Division], progress: Progress | None
) -> LabelChoice:
    """Fit each setting on each training part, and choose by all held-out images together."""
    settings, held_out = recipe.settings, np.concatenate([outside for _, outside in divisions])
    has, n_views = images.has[held_out], images.views.test
    # Those of all settings are in memory.
    scores = np.empty((len(settings), len(held_out) * n_views, has.shape[1]), np.float32)
    n_fits = len(settings) * len(divisions)
    for done, (number, at, found) in enumerate(_scores(recipe, images, divisions, settings), 1):
        scores[number, at] = found
        if progress is not None and n_fits > 1:
            there = mean_probabilities(found, n_views)
            value = score_values(has[at.start // n_views : at.stop // n_views], there >= 0.5, there)["map"]
            progress(done, n_fits, {"params": settings[number], "map": value})
    tried = [_calibrated(recipe, one.astype(np.float64), has, n_views) for one in scores]
    losses = [label_log_loss(has, one[2]) for one in tried]
    sweep = [
        {"params": setting, "map": score_values(has, one >= 0.5, one)["map"], "cross_entropy": loss}
        for setting, (_, _, one), loss in zip(settings, tried, losses, strict=True)
    ]
    best = chosen([loss if math.isfinite(loss) else math.inf for loss in losses])
    if recipe.solver == "warm" and len(settings) > 1:
        # From scratch, so that it equals a fit with this setting fixed.
        for _, at, found in _scores(recipe, images, divisions, [settings[best]]):
            scores[best, at] = found
        tried[best] = _calibrated(recipe, scores[best].astype(np.float64), has, n_views)
    slope, offset, probabilities = tried[best]
    return LabelChoice(
        setting=settings[best],
        sweep=sweep if len(sweep) > 1 else [],
        slope=slope,
        offset=offset,
        thresholds=best_thresholds(probabilities, has),
        held_out=held_out,
        probabilities=probabilities,
    )


def _calibrated(
    recipe: Recipe, scores: _Scores, has: NDArray[np.bool_], n_views: int
) -> tuple[_Scores, _Scores, _Scores]:
    """Return slope and offset of each label's scores, and the images' probabilities."""
    slope, offset = np.ones(has.shape[1]), np.zeros(has.shape[1])
    # Class weights move the probabilities of a regression away from the shares of images.
    if recipe.name != "logistic" or recipe.class_weight is not None:
        slope, offset = fit_sigmoids(scores, np.repeat(has, n_views, axis=0))
    return slope, offset, mean_probabilities(slope * scores + offset, n_views)


def _scores(
    recipe: Recipe, images: LabelImages, divisions: Sequence[_Division], settings: list[Params]
) -> Iterator[tuple[int, slice, _Scores]]:
    """Yield for each setting and division their numbers and the scores of the held-out views."""
    n_views = images.views.test
    ends = np.cumsum([0, *(len(outside) for _, outside in divisions)]) * n_views
    places = [slice(start, end) for start, end in pairwise(ends.tolist())]
    if len(divisions) > 1 and _are_from_one_fit(recipe, images):
        held_out = [outside for _, outside in divisions]
        for number, found in enumerate(label_fold_scores(recipe, images, held_out, settings)):
            for at, scores in zip(places, found, strict=True):
                yield number, at, scores
        return
    for (inside, outside), at in zip(divisions, places, strict=True):
        for number, form in enumerate(solve_labels(recipe, images.some(inside), settings)):
            yield number, at, images.some(outside).scores(form)


def _are_from_one_fit(recipe: Recipe, images: LabelImages) -> bool:
    """Return whether all folds follow from one fit: of an exact kernel, held-out views being fitted ones."""
    if recipe.solver != "kernel" or images.views.test > images.views.train:
        return False
    return n_landmarks(recipe.classifier.landmarks, len(images) * images.views.train) is None

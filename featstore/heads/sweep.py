"""Choosing a head's parameters: on the validation split, or by folds."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import SplitError
from featstore.heads.calibration import fit_temperature
from featstore.heads.dealing import listed
from featstore.heads.judging import Judgement, judge, most_kept, spread
from featstore.heads.labelled import Images, shared_images
from featstore.heads.parallel import WarningNotes, is_sequential, run_tasks
from featstore.heads.recipe import Params, Recipe
from featstore.heads.solving import Prepared, Solution, prepare, solve
from featstore.heads.sweep_scores import sweep_scores
from featstore.process import one_thread
from featstore.splits import HashKFold

__all__ = ["HeldOut", "Outcome", "Progress", "choose_by_folds", "choose_on_validation", "limits"]

Progress = Callable[[int, int, Mapping[str, Any]], None]

_logger = logging.getLogger(__name__)

# Multiplications in one pass over the features, below which the threads of the linear algebra wait for each
# other longer than they work: 1,000 x 1,280 features of 5 classes are fitted twenty times as fast by one,
# 10,000 x 2,048 of 101 still somewhat faster; with 40,000 two are faster.
_ONE_THREAD_BELOW = 4 * 10**9

# Of how many views of images the scores are kept for every setting, where folds choose: one number, the
# temperature, is fitted to them.
_CALIBRATED_ON = 20_000

# On how many of the images that a setting was fitted on its accuracy is measured.
_TRAIN_SCORED_ON = 20_000


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """What an estimator, or one for each fold, said of images that it was not fitted on.

    Parameters
    ----------
    n_right, n : int
        Of all of them.
    y : ndarray of shape (n_scored,), str
    scores : ndarray of shape (n_scored * n_views, n_classes), float
        Of as many images as fit into memory, and with folds of at most 20,000 views, evenly spread; image by
        image.
    n_views : int
    """

    n_right: int
    n: int
    y: NDArray[np.str_]
    scores: NDArray[Any]
    n_views: int = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What was chosen, and what was fitted.

    Parameters
    ----------
    solution : Solution
    sweep : list of dict
        ``{"params", "top1"}`` for each setting that was tried; chosen on validation, with what
        :func:`~featstore.heads.sweep_scores.sweep_scores` says of it.
    steps : list of dict
        Of the chosen setting of a head that is fitted by passes, ``{"step", "top1", …}`` for each pass, as
        for the sweep.
    held_out : HeldOut
        Of the chosen setting.
    temperature : float or None
        None where the estimator's own probabilities are used.
    """

    solution: Solution
    sweep: list[dict[str, Any]]
    steps: list[dict[str, Any]] = field(default_factory=list)
    held_out: HeldOut
    temperature: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tried:
    """What one setting got right of the held-out rows, and its scores on some of them."""

    params: Params
    n_right: int
    n: int
    scores: NDArray[np.float32] | None = None
    more: dict[str, float] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)

    @property
    def top1(self) -> float:
        return self.n_right / self.n if self.n else 0.0


def choose_on_validation(
    recipe: Recipe,
    train: Images,
    validation: Images,
    classes: NDArray[np.str_],
    *,
    refit: bool,
    jobs: int | None,
    progress: Progress | None,
) -> Outcome:
    """Fit each setting on train, keep the best on validation, the first of equals.

    Of a head that is fitted warm, the best setting is then fitted afresh, so that it is the same as if the
    setting had been fixed. The temperature is found on validation with what was fitted on train, and kept
    where the head is then refitted on both.
    """
    recipe = recipe.for_n_rows(train.n_fitted)
    settings = recipe.settings
    is_split = recipe.solver in {"plain", "descent"}
    parts = [[setting] for setting in settings] if is_split else [settings]
    n_tasks = len(parts)
    with (
        limits(train, classes, n_tasks=n_tasks) as notes,
        shared_images(train, validation, jobs=jobs, n_tasks=n_tasks, prefer=recipe.backend) as [
            inside,
            outside,
        ],
    ):
        prepared = prepare(recipe, *inside.to_fit)
        is_measured = len(settings) > 1 or recipe.solver == "descent"
        seen = inside.some(spread(len(inside), _TRAIN_SCORED_ON)) if is_measured else None
        tasks = [
            partial(_try, recipe, prepared, part, outside, classes, keeps=True, seen=seen) for part in parts
        ]
        tried, solutions = _collect(recipe, tasks, notes, jobs=jobs, progress=progress, n_fits=len(settings))
    flat = [one for part in tried for one in part]
    best = max(range(len(flat)), key=lambda at: flat[at].top1)
    solution = next(one for one in solutions if one is not None and one.setting == flat[best].params)
    with limits(train, classes, n_tasks=1) as notes:
        if recipe.solver in {"warm", "margins"} and len(settings) > 1:
            [solution] = solve(recipe, prepared, [solution.setting], notes)
        held = _held_out(recipe, solution, validation, classes)
        temperature = _temperature(recipe, solution, held, classes)
        del prepared
        if refit:
            solution = _fit(recipe, train.joined(validation), solution.setting, notes)
    sweep = [{"params": one.params, "top1": one.top1, **one.more} for one in flat] if len(flat) > 1 else []
    steps = flat[best].steps
    return Outcome(solution=solution, sweep=sweep, steps=steps, held_out=held, temperature=temperature)


def choose_by_folds(
    recipe: Recipe,
    images: Images,
    classes: NDArray[np.str_],
    *,
    folds: HashKFold,
    jobs: int | None,
    progress: Progress | None,
) -> Outcome:
    """Fit each setting K times, each time without one fold; keep the setting that gets most images right.

    The best setting is then fitted on all of the images, and the temperature found from what the K fits said
    of the images that they were not fitted on.

    Raises
    ------
    SplitError
        A fold is empty, or without it a class is.
    """
    divisions = list(folds.split(np.empty(len(images)), groups=images.groups))
    for number, (inside, _) in enumerate(divisions, 1):
        missing = np.setdiff1d(classes, images.y[inside])
        if len(missing):
            raise SplitError(
                f"without fold {number} of {folds.n_splits} no image is left of {listed(missing.tolist())}: "
                "all of it is in one fold; add images, use other folds, or choose on the validation split"
            )
    recipe = recipe.for_n_rows(min(len(inside) for inside, _ in divisions) * images.views.train)
    settings, n_views = recipe.settings, images.views.test
    n_scored = min(max(1, _CALIBRATED_ON // n_views), most_kept(len(classes), n_views=n_views))
    scored = spread(len(images), n_scored)
    n_fits = len(settings) * folds.n_splits
    n_tasks = folds.n_splits
    with (
        limits(images, classes, n_tasks=n_tasks) as notes,
        shared_images(images, jobs=jobs, n_tasks=n_tasks, prefer=recipe.backend) as [shared],
    ):
        tasks = [
            partial(
                _try_fold,
                recipe,
                shared,
                inside,
                outside,
                settings,
                classes,
                np.flatnonzero(np.isin(outside, scored)),
            )
            for inside, outside in divisions
        ]
        tried, _ = _collect(recipe, tasks, notes, jobs=jobs, progress=progress, n_fits=n_fits)
    n_right = [sum(part[at].n_right for part in tried) for at in range(len(settings))]
    best = max(range(len(settings)), key=n_right.__getitem__)
    scores = np.empty((len(scored) * n_views, len(classes)), np.float32)
    for part, (_, outside) in zip(tried, divisions, strict=True):
        scores[np.repeat(np.isin(scored, outside), n_views)] = part[best].scores
    held = HeldOut(n_right=n_right[best], n=len(images), y=images.y[scored], scores=scores, n_views=n_views)
    with limits(images, classes, n_tasks=1) as notes:
        solution = _fit(recipe, images, settings[best], notes)
        temperature = _temperature(recipe, solution, held, classes)
    sweep = [
        {"params": setting, "top1": right / len(images)}
        for setting, right in zip(settings, n_right, strict=True)
    ]
    return Outcome(
        solution=solution,
        sweep=sweep if len(sweep) > 1 else [],
        held_out=held,
        temperature=temperature,
    )


def _fit(recipe: Recipe, images: Images, setting: Params, notes: WarningNotes) -> Solution:
    prepared = prepare(recipe, *images.to_fit)
    [solution] = solve(recipe, prepared, [setting], notes)
    return solution


def _held_out(recipe: Recipe, solution: Solution, images: Images, classes: NDArray[np.str_]) -> HeldOut:
    judged = _judged(recipe, solution, images, classes)
    n_right = int((judged.predicted == np.searchsorted(classes, images.y)).sum())
    return HeldOut(
        n_right=n_right, n=len(images), y=judged.labels, scores=judged.scores, n_views=judged.n_views
    )


def _judged(
    recipe: Recipe,
    solution: Solution,
    images: Images,
    classes: NDArray[np.str_],
    *,
    kept: NDArray[np.intp] | None = None,
) -> Judgement:
    rows = images.to_judge
    if kept is None:
        kept = spread(len(images), most_kept(len(classes), n_views=rows.n_views))
    return judge(solution, rows, classes, images.y, is_calibrated=recipe.is_calibrated, kept=kept)


def _temperature(
    recipe: Recipe, solution: Solution, held_out: HeldOut, classes: NDArray[np.str_]
) -> float | None:
    if not recipe.is_calibrated and hasattr(solution.estimator, "predict_proba"):
        return None
    return fit_temperature(held_out.scores, held_out.y, classes, n_views=held_out.n_views)


def _try(
    recipe: Recipe,
    prepared: Prepared,
    settings: Sequence[Params],
    held_out: Images,
    classes: NDArray[np.str_],
    notes: WarningNotes,
    *,
    keeps: bool,
    kept: NDArray[np.intp] | None = None,
    seen: Images | None = None,
    report: Callable[[Params, float], None] | None = None,
) -> tuple[list[_Tried], Solution | None]:
    """Fit each setting and look at the held-out rows; of the solutions only the best is kept."""
    y = np.searchsorted(classes, held_out.y)
    tried: list[_Tried] = []
    best: Solution | None = None
    steps: list[dict[str, Any]] = []

    def watch(estimator: Any, number: int) -> None:
        now = Solution(setting={}, params={}, estimator=estimator)
        judged = _judged(recipe, now, held_out, classes)
        top1 = float((judged.predicted == y).mean())
        steps.append({"step": number, "top1": top1, **measure(now, judged)})

    def measure(solution: Solution, judged: Judgement) -> dict[str, float]:
        if seen is None or not len(y):
            return {}
        return sweep_scores(recipe, solution, judged, y, train=seen)

    watched = watch if seen is not None and len(y) else None
    for solution in solve(recipe, prepared, settings, notes, held_out=held_out.to_judge, watch=watched):
        judged = _judged(recipe, solution, held_out, classes, kept=kept)
        one = _Tried(
            params=solution.setting,
            n_right=int((judged.predicted == y).sum()),
            n=len(y),
            scores=None if kept is None else judged.scores.astype(np.float32),
            more=measure(solution, judged),
            steps=[*steps],
        )
        steps.clear()
        if keeps and (best is None or one.n_right > max(other.n_right for other in tried)):
            best = solution
        tried.append(one)
        if report is not None:
            report(one.params, one.top1)
    return tried, best


def _try_fold(
    recipe: Recipe,
    images: Images,
    inside: NDArray[np.intp],
    outside: NDArray[np.intp],
    settings: Sequence[Params],
    classes: NDArray[np.str_],
    kept: NDArray[np.intp],
    notes: WarningNotes,
    *,
    report: Callable[[Params, float], None] | None = None,
) -> tuple[list[_Tried], Solution | None]:
    part = images.some(inside)
    prepared = prepare(recipe, *part.to_fit)
    return _try(
        recipe,
        prepared,
        settings,
        images.some(outside),
        classes,
        notes,
        keeps=False,
        kept=kept,
        report=report,
    )


def _collect(
    recipe: Recipe,
    tasks: Sequence[Callable[..., tuple[list[_Tried], Solution | None]]],
    notes: WarningNotes,
    *,
    jobs: int | None,
    progress: Progress | None,
    n_fits: int,
) -> tuple[list[list[_Tried]], list[Solution | None]]:
    done = 0

    def report(params: Params, top1: float) -> None:
        nonlocal done
        done += 1
        if progress is not None and n_fits > 1:
            progress(done, n_fits, {"params": params, "top1": top1})

    tried, solutions = [], []
    is_inline = is_sequential(jobs, len(tasks), prefer=recipe.backend)
    results: Iterator[Any] = (
        (task(notes, report=report) for task in tasks)
        if is_inline
        else run_tasks(tasks, notes, jobs=jobs, prefer=recipe.backend)
    )
    for part, solution in results:
        tried.append(part)
        solutions.append(solution)
        for one in [] if is_inline else part:
            report(one.params, one.top1)
    return tried, solutions


@contextmanager
def limits(images: Images, classes: NDArray[np.str_], *, n_tasks: int) -> Iterator[WarningNotes]:
    """Catch warnings, and let as many threads into the linear algebra as do good.

    How many does not depend on how many tasks run at once: results could differ in their last bits.
    """
    work = images.n_fitted * images.table.feature_dim * len(classes)
    threads = one_thread if n_tasks > 1 or work < _ONE_THREAD_BELOW else nullcontext()
    with threads, WarningNotes() as notes:
        yield notes

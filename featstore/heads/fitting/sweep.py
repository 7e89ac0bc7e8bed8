"""Choosing a head's parameters: on the validation split, or by folds."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.heads.calibration import fit_temperature, helpful_temperature, mean_over_views, softmax
from featstore.heads.data.folding import divisions
from featstore.heads.data.samples import Images, shared_images
from featstore.heads.fitting.held_out import Judgement, judge, most_kept, spread
from featstore.heads.fitting.sweep_scores import sweep_scores
from featstore.heads.forms.linear import linear_form
from featstore.heads.recipe import Params, Recipe
from featstore.heads.solvers.parallel import WarningNotes, is_sequential, run_tasks
from featstore.heads.solvers.solver import Prepared, Solution, prepare, solve
from featstore.process import one_thread
from featstore.splits import HashKFold
from featstore.stats.metrics import log_loss

__all__ = ["HeldOut", "Outcome", "Progress", "choose_by_folds", "choose_on_validation", "limits"]

Progress = Callable[[int, int, Mapping[str, Any]], None]

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
        ``{"params", "top1", "cross_entropy"}`` for each setting that was tried; chosen on validation, with
        the rest of what :func:`~featstore.heads.fitting.sweep_scores.sweep_scores` says of it.
    steps : list of dict
        Of the chosen setting of a head that is fitted by passes, ``{"step", "top1", …}`` for each pass, as
        for the sweep.
    held_out : HeldOut
        Of the chosen setting.
    temperature : float or None
        None where the estimator's own probabilities are used as they are.
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
    has_own: bool = False
    more: dict[str, float] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)

    @property
    def top1(self) -> float:
        return self.n_right / self.n if self.n else 0.0

    @property
    def loss(self) -> float:
        """The cross entropy that settings are chosen by; infinite where it is not known."""
        loss = self.more.get("cross_entropy", math.inf)
        return loss if math.isfinite(loss) else math.inf


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
    """Fit each setting on train, keep that with the least cross entropy on validation, the first of equals.

    Of a head that is fitted warm, the best setting is then fitted afresh, so that it is the same as if the
    setting had been fixed, and the sweep says what that fit got right. The temperature is found on validation
    with what was fitted on train, and kept where the head is then refitted on both.
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
    best = min(range(len(flat)), key=lambda at: flat[at].loss)
    solution = next(one for one in solutions if one is not None and one.setting == flat[best].params)
    with limits(train, classes, n_tasks=1) as notes:
        is_afresh = recipe.solver in {"warm", "margins"} and len(settings) > 1
        if is_afresh:
            [solution] = solve(recipe, prepared, [solution.setting], notes)
        judged = _judged(recipe, solution, validation, classes)
        y = np.searchsorted(classes, validation.y)
        if is_afresh and len(y):
            seen = train.some(spread(len(train), _TRAIN_SCORED_ON))
            more = sweep_scores(recipe, solution, judged, y, train=seen)
            n_right = int((judged.predicted == y).sum())
            flat[best] = replace(flat[best], n_right=n_right, more=more)
        held = _held_out(judged, y)
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
    """Fit each setting K times, each time without one fold; keep that with the least cross entropy.

    That is of what the K fits say of the images that they were not fitted on, all together, and so is the
    temperature. The best setting is then fitted on all of the images.

    Raises
    ------
    SplitError
        All images are in one fold.
    """
    divided = divisions(images, folds)
    judged_rows = np.sort(np.concatenate([outside for _, outside in divided]))
    recipe = recipe.for_n_rows(min(len(inside) for inside, _ in divided) * images.views.train)
    settings, n_views = recipe.settings, images.views.test
    n_scored = min(max(1, _CALIBRATED_ON // n_views), most_kept(len(classes), n_views=n_views))
    scored = judged_rows[spread(len(judged_rows), n_scored)]
    n_tasks = len(divided)
    n_fits = len(settings) * n_tasks
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
            for inside, outside in divided
        ]
        tried, _ = _collect(recipe, tasks, notes, jobs=jobs, progress=progress, n_fits=n_fits)
    pooled = [
        _pooled([part[at] for part in tried], divided, scored, images, classes) for at in range(len(settings))
    ]
    held_out = [held for held, _ in pooled]
    losses = [_entropy(*one, classes) if len(settings) > 1 else 0.0 for one in pooled]
    best = min(range(len(settings)), key=losses.__getitem__)
    held = held_out[best]
    with limits(images, classes, n_tasks=1) as notes:
        solution = _fit(recipe, images, settings[best], notes)
        temperature = _temperature(recipe, solution, held, classes)
    sweep = [
        {"params": setting, "top1": held.n_right / held.n, "cross_entropy": loss}
        for setting, held, loss in zip(settings, held_out, losses, strict=True)
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


def _pooled(
    tried: Sequence[_Tried],
    divided: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]],
    scored: NDArray[np.intp],
    images: Images,
    classes: NDArray[np.str_],
) -> tuple[HeldOut, bool]:
    """Put together what the folds' fits say, and whether their scores are probabilities' logarithms."""
    n_views = images.views.test
    scores = np.empty((len(scored) * n_views, len(classes)), np.float32)
    for one, (_, outside) in zip(tried, divided, strict=True):
        scores[np.repeat(np.isin(scored, outside), n_views)] = one.scores
    n_right, n = (sum(getattr(one, name) for one in tried) for name in ("n_right", "n"))
    held = HeldOut(n_right=n_right, n=n, y=images.y[scored], scores=scores, n_views=n_views)
    return held, tried[0].has_own


def _entropy(held: HeldOut, has_own: bool, classes: NDArray[np.str_]) -> float:
    """Return the cross entropy, calibrated on these same images where the scores are no probabilities."""
    by = 1.0 if has_own else fit_temperature(held.scores, held.y, classes, n_views=held.n_views)
    probabilities = mean_over_views(softmax(held.scores / by), held.n_views)
    loss = log_loss(probabilities, np.searchsorted(classes, held.y))
    return loss if math.isfinite(loss) else math.inf


def _held_out(judged: Judgement, y: NDArray[np.intp]) -> HeldOut:
    n_right = int((judged.predicted == y).sum())
    return HeldOut(n_right=n_right, n=len(y), y=judged.labels, scores=judged.scores, n_views=judged.n_views)


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
    if recipe.is_calibrated or not hasattr(solution.estimator, "predict_proba"):
        return fit_temperature(held_out.scores, held_out.y, classes, n_views=held_out.n_views)
    # Its probabilities can be divided where they are the softmax of scores that a head keeps.
    n_columns = getattr(solution.estimator, "n_features_in_", 0)
    if linear_form(solution.estimator, feature_dim=n_columns) is None:
        return None
    return helpful_temperature(held_out.scores, held_out.y, classes, n_views=held_out.n_views)


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
            has_own=judged.has_own,
            more=measure(solution, judged),
            steps=[*steps],
        )
        steps.clear()
        if keeps and (best is None or one.loss < min(other.loss for other in tried)):
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

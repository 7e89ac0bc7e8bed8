"""Choosing a head's parameters on the validation split or by cross-validation."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.heads.calibration import fit_temperature, helpful_temperature
from featstore.heads.data.folds import fold_divisions
from featstore.heads.data.samples import Images, shared_images
from featstore.heads.fitting.held_out import HeldOutPredictions, evenly_spaced, most_kept, predict_held_out
from featstore.heads.fitting.kernel_folds import are_from_one_fit, fold_predictions
from featstore.heads.fitting.limits import limits
from featstore.heads.fitting.sweep_scores import HeldOut, chosen, pooled_entropy, sweep_scores
from featstore.heads.forms.fitted import fitted_form
from featstore.heads.recipe import Params, Recipe
from featstore.heads.solvers.parallel import WarningNotes, is_sequential, run_tasks
from featstore.heads.solvers.solver import Prepared, Solution, prepare, solve
from featstore.splits import HashKFold
from featstore.stats.metrics import log_loss

__all__ = ["Outcome", "Progress", "choose_by_folds", "choose_on_validation"]

Progress = Callable[[int, int, Mapping[str, Any]], None]

# Views whose scores are kept for every setting with folds, to fit one number, the temperature.
_CALIBRATED_ON = 20_000

# Number of training images that a setting's training accuracy is measured on.
_TRAIN_SCORED_ON = 20_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """The chosen setting and the fitted estimator."""

    solution: Solution
    sweep: list[dict[str, Any]]  # {"params", "top1", "cross_entropy", …} of each setting
    steps: list[dict[str, Any]] = field(default_factory=list)  # {"step", "top1", …} of each pass
    held_out: HeldOut
    temperature: float | None  # None if the estimator's own probabilities are used


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tried:
    """Results of one setting on held-out rows."""

    params: Params
    n_right: int
    n: int
    scores: NDArray[np.float32] | None = None
    has_own: bool = False
    more: dict[str, float] = field(default_factory=dict)
    passes: float | None = None  # as of a Solution
    steps: list[dict[str, Any]] = field(default_factory=list)

    @property
    def top1(self) -> float:
        return self.n_right / self.n if self.n else 0.0

    @property
    def loss(self) -> float:
        """Cross entropy that settings are chosen by; infinite if unknown."""
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
    """Fit each setting on train and choose the one with the least cross entropy on validation."""
    # Of a head that is fitted warm, the best setting is then fitted from scratch, so that it equals a fit
    # with that setting fixed, and the sweep reports that fit. The temperature is fitted on validation with
    # the fit on train, and kept if the head is then refitted on both.
    recipe = recipe.for_n_rows(train.n_fitted)
    settings = recipe.settings
    is_split = recipe.solver in {"plain", "descent", "minibatch"}
    parts = [[setting] for setting in settings] if is_split else [settings]
    n_tasks = len(parts)
    with (
        limits(train, classes, n_tasks=n_tasks, is_kernel=recipe.solver == "kernel") as notes,
        shared_images(train, validation, jobs=jobs, n_tasks=n_tasks, prefer=recipe.backend) as [
            inside,
            outside,
        ],
    ):
        prepared = prepare(recipe, *inside.to_fit)
        is_measured = len(settings) > 1 or recipe.solver in {"descent", "minibatch"}
        seen = inside.some(evenly_spaced(len(inside), _TRAIN_SCORED_ON)) if is_measured else None
        tasks = [
            partial(_try, recipe, prepared, part, outside, classes, keeps=True, seen=seen) for part in parts
        ]
        tried, solutions = _collect(recipe, tasks, notes, jobs=jobs, progress=progress, n_fits=len(settings))
    flat = [one for part in tried for one in part]
    best = chosen([one.loss for one in flat])
    solution = next(one for one in solutions if one is not None and one.setting == flat[best].params)
    with limits(train, classes, n_tasks=1, is_kernel=recipe.solver == "kernel") as notes:
        is_afresh = recipe.solver in {"warm", "margins", "lbfgs"} and len(settings) > 1
        if is_afresh:
            [solution] = solve(recipe, prepared, [solution.setting], notes)
        predictions = _predict(recipe, solution, validation, classes)
        y = np.searchsorted(classes, validation.y)
        if is_afresh and len(y):
            seen = train.some(evenly_spaced(len(train), _TRAIN_SCORED_ON))
            more = sweep_scores(recipe, solution, predictions, y, train=seen)
            n_right = int((predictions.predicted == y).sum())
            flat[best] = replace(flat[best], n_right=n_right, more=more)
        held = _held_out(predictions, y)
        temperature = _temperature(recipe, solution, held, classes)
        del prepared
        if refit:
            solution = _fit(recipe, train.joined(validation), solution.setting, notes, passes=solution.passes)
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
    """Choose the setting with the least cross entropy over K held-out folds, and fit it on all images."""
    # The predictions of all folds are pooled, for the cross entropy and for the temperature.
    divided = fold_divisions(images, folds)
    held_out_rows = np.sort(np.concatenate([outside for _, outside in divided]))
    recipe = recipe.for_n_rows(min(len(inside) for inside, _ in divided) * images.views.train)
    settings, n_views = recipe.settings, images.views.test
    n_scored = min(max(1, _CALIBRATED_ON // n_views), most_kept(len(classes), n_views=n_views))
    scored = held_out_rows[evenly_spaced(len(held_out_rows), n_scored)]
    kept = [np.flatnonzero(np.isin(outside, scored)) for _, outside in divided]
    if are_from_one_fit(recipe, images):
        tried = _try_folds_at_once(recipe, images, divided, classes, kept, progress=progress)
    else:
        n_tasks = len(divided)
        n_fits = len(settings) * n_tasks
        with (
            limits(images, classes, n_tasks=n_tasks) as notes,
            shared_images(images, jobs=jobs, n_tasks=n_tasks, prefer=recipe.backend) as [shared],
        ):
            tasks = [
                partial(_try_fold, recipe, shared, inside, outside, settings, classes, own)
                for (inside, outside), own in zip(divided, kept, strict=True)
            ]
            tried, _ = _collect(recipe, tasks, notes, jobs=jobs, progress=progress, n_fits=n_fits)
    pooled = [
        _pooled([part[at] for part in tried], divided, scored, images, classes) for at in range(len(settings))
    ]
    held_out = [held for held, _ in pooled]
    losses = [pooled_entropy(*one, classes) if len(settings) > 1 else 0.0 for one in pooled]
    best = chosen(losses)
    held = held_out[best]
    with limits(images, classes, n_tasks=1, is_kernel=recipe.solver == "kernel") as notes:
        passes = _mean_passes([part[best] for part in tried])
        solution = _fit(recipe, images, settings[best], notes, passes=passes)
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


def _fit(
    recipe: Recipe, images: Images, setting: Params, notes: WarningNotes, *, passes: float | None
) -> Solution:
    prepared = prepare(recipe, *images.to_fit)
    [solution] = solve(recipe, prepared, [setting], notes, passes=passes)
    return solution


def _mean_passes(tried: Sequence[_Tried]) -> float | None:
    known = [one.passes for one in tried if one.passes is not None]
    return sum(known) / len(known) if known else None


def _pooled(
    tried: Sequence[_Tried],
    divided: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]],
    scored: NDArray[np.intp],
    images: Images,
    classes: NDArray[np.str_],
) -> tuple[HeldOut, bool]:
    """Pool the folds' results; also return whether their scores are log-probabilities."""
    n_views = images.views.test
    scores = np.empty((len(scored) * n_views, len(classes)), np.float32)
    for one, (_, outside) in zip(tried, divided, strict=True):
        scores[np.repeat(np.isin(scored, outside), n_views)] = one.scores
    n_right, n = (sum(getattr(one, name) for one in tried) for name in ("n_right", "n"))
    held = HeldOut(n_right=n_right, n=n, y=images.y[scored], scores=scores, n_views=n_views)
    return held, tried[0].has_own


def _held_out(predictions: HeldOutPredictions, y: NDArray[np.intp]) -> HeldOut:
    n_right = int((predictions.predicted == y).sum())
    return HeldOut(
        n_right=n_right,
        n=len(y),
        y=predictions.labels,
        scores=predictions.scores,
        n_views=predictions.n_views,
    )


def _predict(
    recipe: Recipe,
    solution: Solution,
    images: Images,
    classes: NDArray[np.str_],
    *,
    kept: NDArray[np.intp] | None = None,
) -> HeldOutPredictions:
    rows = images.to_predict
    if kept is None:
        kept = evenly_spaced(len(images), most_kept(len(classes), n_views=rows.n_views))
    return predict_held_out(solution, rows, classes, images.y, is_calibrated=recipe.is_calibrated, kept=kept)


def _temperature(
    recipe: Recipe, solution: Solution, held_out: HeldOut, classes: NDArray[np.str_]
) -> float | None:
    if recipe.is_calibrated or not hasattr(solution.estimator, "predict_proba"):
        return fit_temperature(held_out.scores, held_out.y, classes, n_views=held_out.n_views)
    # A temperature applies only if probabilities are the softmax of scores that the head keeps.
    n_columns = getattr(solution.estimator, "n_features_in_", 0)
    if fitted_form(solution.estimator, feature_dim=n_columns) is None:
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
    """Fit each setting and score it on the held-out rows; keep only the best solution."""
    y = np.searchsorted(classes, held_out.y)
    tried: list[_Tried] = []
    best: Solution | None = None
    steps: list[dict[str, Any]] = []

    def watch(estimator: Any, number: int) -> float:
        now = Solution(setting={}, params={}, estimator=estimator)
        predictions = _predict(recipe, now, held_out, classes)
        if seen is None:
            return log_loss(predictions.probabilities(), y[predictions.kept])
        top1 = float((predictions.predicted == y).mean())
        steps.append({"step": number, "top1": top1, **measure(now, predictions)})
        return float(steps[-1]["cross_entropy"])

    def measure(solution: Solution, predictions: HeldOutPredictions) -> dict[str, float]:
        if seen is None or not len(y):
            return {}
        return sweep_scores(recipe, solution, predictions, y, train=seen)

    watched = watch if len(y) and (seen is not None or recipe.solver == "minibatch") else None
    for solution in solve(recipe, prepared, settings, notes, held_out=held_out.to_predict, watch=watched):
        predictions = _predict(recipe, solution, held_out, classes, kept=kept)
        one = _Tried(
            params=solution.setting,
            n_right=int((predictions.predicted == y).sum()),
            n=len(y),
            scores=None if kept is None else predictions.scores.astype(np.float32),
            has_own=predictions.has_own,
            more=measure(solution, predictions),
            passes=solution.passes,
            steps=[*steps],
        )
        steps.clear()
        tried.append(one)
        if keeps and chosen([other.loss for other in tried]) == len(tried) - 1:
            best = solution
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


def _try_folds_at_once(
    recipe: Recipe,
    images: Images,
    divided: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]],
    classes: NDArray[np.str_],
    kept: Sequence[NDArray[np.intp]],
    *,
    progress: Progress | None,
) -> list[list[_Tried]]:
    """Score each setting on each fold, without refits."""
    settings, held_out = recipe.settings, [outside for _, outside in divided]
    tried: list[list[_Tried]] = [[] for _ in divided]
    with limits(images, classes, n_tasks=1, is_kernel=True):
        found = fold_predictions(recipe, images, held_out, settings, classes, kept)
        for number, (setting, by_fold) in enumerate(zip(settings, found, strict=True), 1):
            for part, at, predictions in zip(tried, held_out, by_fold, strict=True):
                y = np.searchsorted(classes, images.y[at])
                n_right = int((predictions.predicted == y).sum())
                scores = predictions.scores.astype(np.float32)
                part.append(_Tried(params=setting, n_right=n_right, n=len(y), scores=scores))
            if progress is not None and len(settings) > 1:
                top1 = sum(part[-1].n_right for part in tried) / sum(map(len, held_out))
                progress(number, len(settings), {"params": setting, "top1": top1})
    return tried


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

"""Fitting a head's classifier on some rows, once for each setting."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import FeatstoreError, HeadError, first_line
from featstore.heads.data.blocks import Rows
from featstore.heads.recipe import Params, Recipe
from featstore.heads.solvers.descent import descend, n_epochs
from featstore.heads.solvers.margins import svm_path
from featstore.heads.solvers.moments import lda_path, ridge_path
from featstore.heads.solvers.neighbors import neighbor_scores
from featstore.heads.solvers.parallel import WarningNotes
from featstore.heads.solvers.scaling import fit_scaler
from featstore.splits import HashHoldout, HashKFold

__all__ = ["Prepared", "Solution", "Watch", "prepare", "solve"]

Watch = Callable[[Any, int], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """Rows to fit on, and what is the same for all settings."""

    y: NDArray[np.str_]  # (n,)
    groups: NDArray[Any]  # for the user's own searches
    rows: Rows
    preparation: Any = None  # fitted steps before the classifier; None if the solver fits them
    X: NDArray[Any] | None = None  # (n, feature_dim): features after these steps


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """A fitted estimator, with its setting and the warnings of scikit-learn."""

    setting: Params  # chosen from the grid
    params: Params  # all parameters set, chosen or fixed
    estimator: Any
    notes: list[str] = field(default_factory=list)
    scores: NDArray[np.float64] | None = None  # (n_held_out, n_classes): of held-out rows, if known already


def prepare(recipe: Recipe, rows: Rows, y: NDArray[np.str_], groups: NDArray[Any]) -> Prepared:
    """Scale the features, and load them if the solver needs them in memory."""
    from sklearn.base import clone

    known = Prepared(y=y, groups=groups, rows=rows)
    if recipe.solver == "moments":
        return known
    if recipe.solver == "own":
        return replace(known, X=rows.take(slice(None)))
    preparation = clone(recipe.estimator[:-1])
    kinds = [type(step).__name__ for _, step in preparation.steps]
    if kinds not in ([], ["StandardScaler"], ["Normalizer"], ["StandardScaler", "Normalizer"]):
        X = preparation.fit_transform(rows.take(slice(None)), y)
        return replace(known, preparation=preparation, X=X)
    for _, step in preparation.steps:
        if type(step).__name__ == "StandardScaler":
            fit_scaler(step, rows)
        else:
            # A Normalizer only learns the number of features.
            step.fit(np.ones((1, rows.feature_dim), rows.dtype))
    if recipe.solver == "descent":
        return replace(known, preparation=preparation)
    X = np.empty((len(rows), rows.feature_dim), np.promote_types(rows.dtype, recipe.dtype))
    for at, block in rows.blocks():
        X[at] = preparation.transform(block) if kinds else block
    return replace(known, preparation=preparation, X=X)


def solve(
    recipe: Recipe,
    prepared: Prepared,
    settings: Sequence[Params],
    notes: WarningNotes,
    *,
    held_out: Rows | None = None,
    watch: Watch | None = None,
) -> Iterator[Solution]:
    """Fit the classifier once for each setting, lazily."""
    # `held_out` are rows that will be predicted; neighbours find their scores while fitting. `watch` is
    # called after each pass of a solver that makes passes.
    try:
        yield from _SOLVERS[recipe.solver](
            _Task(
                recipe=recipe,
                prepared=prepared,
                settings=settings,
                notes=notes,
                held_out=held_out,
                watch=watch,
            )
        )
    except FeatstoreError:
        raise
    except (TypeError, ValueError) as error:
        raise HeadError(f"{recipe.name} cannot be fitted: {first_line(error)}") from error


@dataclass(frozen=True, kw_only=True, eq=False)
class _Task:
    """The arguments of :func:`solve`, as solvers take them."""

    recipe: Recipe
    prepared: Prepared
    settings: Sequence[Params]
    notes: WarningNotes
    held_out: Rows | None
    watch: Watch | None


def _plain(task: _Task) -> Iterator[Solution]:
    for setting in task.settings:
        classifier = _fit(_set(task.recipe, setting), task.prepared)
        yield _solution(task, setting, task.prepared.preparation, classifier)


def _warm(task: _Task) -> Iterator[Solution]:
    """Start each setting from the previous solution; a single setting from scratch."""
    from copy import deepcopy

    if len(task.settings) == 1:
        yield from _plain(task)
        return
    classifier = _set(task.recipe, task.settings[0]).set_params(warm_start=True)
    for setting in task.settings:
        _fit(classifier.set_params(**setting), task.prepared)
        yield _solution(task, setting, task.prepared.preparation, deepcopy(classifier))


def _neighbors(task: _Task) -> Iterator[Solution]:
    fitted = [_fit(_set(task.recipe, setting), task.prepared) for setting in task.settings]
    scores: Iterator[Any] = iter([None] * len(task.settings))
    if task.held_out is not None:
        codes = np.unique(task.prepared.y, return_inverse=True)[1]
        scores = neighbor_scores(task.prepared.preparation, fitted, codes, task.held_out)
    for setting, classifier in zip(task.settings, fitted, strict=True):
        yield _solution(task, setting, task.prepared.preparation, classifier, scores=next(scores))


def _descent(task: _Task) -> Iterator[Solution]:
    prepared = task.prepared
    classes, codes = np.unique(prepared.y, return_inverse=True)
    weights = task.recipe.weights(classes, codes)
    for setting in task.settings:
        classifier = _set(task.recipe, setting)
        if "max_iter" not in task.recipe.fixed:
            classifier.max_iter = n_epochs(len(codes))
        estimator = _pipeline(task.recipe, prepared.preparation, classifier)
        after_pass = None if task.watch is None else partial(task.watch, estimator)
        descend(prepared.preparation, classifier, prepared.rows, prepared.y, weights, after_pass=after_pass)
        solution = _solution(task, setting, prepared.preparation, classifier)
        solution.params["max_iter"] = classifier.max_iter
        yield solution


def _margins(task: _Task) -> Iterator[Solution]:
    prepared = task.prepared
    assert prepared.X is not None
    classes, codes = np.unique(prepared.y, return_inverse=True)
    weights = task.recipe.weights(classes, codes)
    fitted = svm_path(task.recipe.classifier, prepared.X, prepared.y, task.settings, weights)
    for setting, classifier in zip(task.settings, fitted, strict=True):
        yield _solution(task, setting, prepared.preparation, classifier)


def _moments(task: _Task) -> Iterator[Solution]:
    from sklearn.pipeline import Pipeline

    rows, y = task.prepared.rows, task.prepared.y
    classes, codes = np.unique(y, return_inverse=True)
    path = ridge_path if hasattr(task.recipe.classifier, "alpha") else lda_path
    fitted = path(task.recipe.classifier, rows, y, task.settings, task.recipe.weights(classes, codes))
    for setting, (scaler, classifier) in zip(task.settings, fitted, strict=True):
        yield _solution(task, setting, Pipeline([("scaler", scaler)]), classifier)


def _own(task: _Task) -> Iterator[Solution]:
    from sklearn.base import clone

    estimator = _fit(clone(task.recipe.estimator), task.prepared)
    params = getattr(estimator, "best_params_", None) or estimator.get_params(deep=False)
    estimator = _usable(getattr(estimator, "best_estimator_", estimator))
    plain = {name: value for name, value in params.items() if _is_plain(value)}
    yield Solution(setting={}, params=plain, estimator=estimator, notes=task.notes.take())


_SOLVERS = {
    "plain": _plain,
    "warm": _warm,
    "neighbors": _neighbors,
    "descent": _descent,
    "margins": _margins,
    "moments": _moments,
    "own": _own,
}


def _set(recipe: Recipe, setting: Params) -> Any:
    from sklearn.base import clone

    return clone(recipe.classifier).set_params(**setting)


def _fit(classifier: Any, prepared: Prepared) -> Any:
    is_grouped = isinstance(getattr(classifier, "cv", None), HashKFold | HashHoldout)
    extra = {"groups": prepared.groups} if is_grouped else {}
    return classifier.fit(prepared.X, prepared.y, **extra)


def _solution(task: _Task, setting: Params, preparation: Any, classifier: Any, **more: Any) -> Solution:
    classifier = _usable(getattr(classifier, "best_estimator_", classifier))
    return Solution(
        setting=setting,
        params=task.recipe.fixed | setting,
        estimator=_pipeline(task.recipe, preparation, classifier),
        notes=task.notes.take(),
        **more,
    )


def _pipeline(recipe: Recipe, preparation: Any, classifier: Any) -> Any:
    from sklearn.pipeline import Pipeline

    return Pipeline([*preparation.steps, (recipe.estimator.steps[-1][0], classifier)])


def _usable(estimator: Any) -> Any:
    if not hasattr(estimator, "predict_proba") and not hasattr(estimator, "decision_function"):
        raise HeadError(
            f"{type(estimator).__name__} has neither predict_proba nor decision_function; "
            "use a classifier with one of them"
        )
    return estimator


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str) or (isinstance(value, int | float) and np.isfinite(value))

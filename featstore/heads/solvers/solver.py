"""Fitting a head's classifier on some rows, once for each setting."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import FeatstoreError, HeadError, first_line
from featstore.heads.data.blocks import Rows
from featstore.heads.forms.estimator import form_estimator
from featstore.heads.forms.linear import LinearForm
from featstore.heads.forms.network import NetworkForm
from featstore.heads.recipe import Params, Recipe, weight_argument
from featstore.heads.solvers.descent import descend, n_epochs
from featstore.heads.solvers.kernel import kernel_path, n_landmarks, shared_scores
from featstore.heads.solvers.kernel_task import kernel_settings, kernel_task
from featstore.heads.solvers.lbfgs import Regression, logistic_path, minimise
from featstore.heads.solvers.margins import svm_path
from featstore.heads.solvers.minibatch import train
from featstore.heads.solvers.moments import lda_path, ridge_path
from featstore.heads.solvers.neighbors import neighbor_scores
from featstore.heads.solvers.parallel import WarningNotes
from featstore.heads.solvers.scaling import fit_scaler
from featstore.splits import HashHoldout, HashKFold

__all__ = ["Prepared", "Solution", "Watch", "prepare", "solve"]

# 128 MB of scores of held-out rows, for all settings of a kernel.
_MOST_SCORES = 2**24

Watch = Callable[[Any, int], float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """Rows to fit on, and what is the same for all settings."""

    y: NDArray[np.str_]  # (n,)
    groups: NDArray[Any]  # for the user's own searches
    rows: Rows
    weights: NDArray[np.float64] | None = None  # (n,): of rows
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
    passes: float | None = None  # over the rows, where training was ended by what held-out rows said


def prepare(
    recipe: Recipe,
    rows: Rows,
    y: NDArray[np.str_],
    groups: NDArray[Any],
    weights: NDArray[np.float64] | None = None,
) -> Prepared:
    """Scale the features, and load them if the solver needs them in memory."""
    from sklearn.base import clone

    known = Prepared(y=y, groups=groups, rows=rows, weights=weights)
    if recipe.solver in {"moments", "kernel"}:
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
    if recipe.solver in {"descent", "minibatch", "lbfgs"}:
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
    passes: float | None = None,
) -> Iterator[Solution]:
    """Fit the classifier once for each setting, lazily."""
    # `held_out` are rows that will be predicted; neighbours find their scores while fitting. `watch` is
    # called after each pass of a solver that makes passes, and returns the cross entropy on held-out rows.
    # `passes` is the number of them that a solver with early stopping makes, of an earlier Solution.
    try:
        yield from _SOLVERS[recipe.solver](
            _Task(
                recipe=recipe,
                prepared=prepared,
                settings=settings,
                notes=notes,
                held_out=held_out,
                watch=watch,
                passes=passes,
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
    passes: float | None

    @cached_property
    def classes(self) -> NDArray[np.str_]:
        return np.unique(self.prepared.y)

    @cached_property
    def codes(self) -> NDArray[np.intp]:
        """Class of each row."""
        return np.searchsorted(self.classes, self.prepared.y)

    @cached_property
    def class_weights(self) -> NDArray[np.float64]:
        return self.recipe.weights(self.classes, self.codes)

    @cached_property
    def row_weights(self) -> NDArray[np.float64]:
        return self.recipe.row_weights(self.classes, self.codes, self.prepared.weights)


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
        scores = neighbor_scores(task.prepared.preparation, fitted, task.codes, task.held_out)
    for setting, classifier in zip(task.settings, fitted, strict=True):
        yield _solution(task, setting, task.prepared.preparation, classifier, scores=next(scores))


def _descent(task: _Task) -> Iterator[Solution]:
    prepared = task.prepared
    for setting in task.settings:
        classifier = _set(task.recipe, setting)
        if "max_iter" not in task.recipe.fixed:
            classifier.max_iter = n_epochs(len(prepared.y))
        estimator = _pipeline(task.recipe, prepared.preparation, classifier)
        after_pass = None if task.watch is None else partial(task.watch, estimator)
        descend(
            prepared.preparation,
            classifier,
            prepared.rows,
            prepared.y,
            task.row_weights,
            after_pass=after_pass,
        )
        solution = _solution(task, setting, prepared.preparation, classifier)
        solution.params["max_iter"] = classifier.max_iter
        yield solution


def _minibatch(task: _Task) -> Iterator[Solution]:
    from featstore.heads.form_classifier import FormClassifier

    prepared, watch, classes = task.prepared, task.watch, task.classes
    [(_, scaler)] = prepared.preparation.steps

    def of_features(form: LinearForm | NetworkForm) -> LinearForm | NetworkForm:
        if isinstance(form, NetworkForm):
            return replace(form, mean=scaler.mean_, hidden_coef=form.hidden_coef / scaler.scale_)
        coef = form.coef / scaler.scale_
        return replace(form, coef=coef, intercept=form.intercept - coef @ scaler.mean_)

    def watched(form: LinearForm | NetworkForm, step: int) -> float:
        assert watch is not None
        return watch(FormClassifier(of_features(form), classes), step)

    for setting in task.settings:
        classifier = _set(task.recipe, setting)
        trained = train(
            prepared.rows,
            task.codes,
            len(classes),
            task.row_weights,
            classifier.options,
            prepare=prepared.preparation.transform,
            seed=classifier.random_state or 0,
            passes=task.passes,
            watch=None if watch is None else watched,
        )
        if isinstance(trained.form, LinearForm):
            parts = prepared.preparation, form_estimator(trained.form, classes, None)
        else:
            parts = task.recipe.estimator[:0], classifier.take(of_features(trained.form), classes)
        made = {"batch_size": trained.batch_rows}
        if classifier.epochs is None:
            made["steps"] = trained.step
        yield Solution(
            setting=setting,
            params=task.recipe.fixed | setting | made,
            estimator=_pipeline(task.recipe, *parts),
            notes=task.notes.take(),
            passes=trained.passes,
        )


def _lbfgs(task: _Task) -> Iterator[Solution]:
    prepared = task.prepared
    [(_, scaler)] = prepared.preparation.steps
    if hasattr(task.recipe.classifier, "C"):
        path = logistic_path(
            task.recipe.classifier, prepared.rows, prepared.y, scaler, task.settings, task.row_weights
        )
        for setting, classifier in zip(task.settings, path, strict=True):
            yield _solution(task, setting, prepared.preparation, classifier)
        return
    start = None
    for setting in task.settings:
        regression = Regression(
            scaler=scaler,
            n_columns=len(task.classes),
            total=len(task.codes),
            penalty=_set(task.recipe, setting).alpha,
        )
        start, _ = minimise(regression, prepared.rows, task.codes, task.row_weights, start)
        form = LinearForm(coef=np.ascontiguousarray(start[:, :-1]), intercept=start[:, -1].copy())
        yield _solution(task, setting, prepared.preparation, form_estimator(form, task.classes, None))


def _margins(task: _Task) -> Iterator[Solution]:
    prepared = task.prepared
    assert prepared.X is not None
    fitted = svm_path(
        task.recipe.classifier,
        prepared.X,
        prepared.y,
        task.settings,
        task.class_weights,
        row_weights=prepared.weights,
    )
    for setting, classifier in zip(task.settings, fitted, strict=True):
        yield _solution(task, setting, prepared.preparation, classifier)


def _moments(task: _Task) -> Iterator[Solution]:
    from sklearn.pipeline import Pipeline

    path = ridge_path if hasattr(task.recipe.classifier, "alpha") else lda_path
    fitted = path(
        task.recipe.classifier,
        task.prepared.rows,
        task.prepared.y,
        task.settings,
        task.class_weights,
        row_weights=task.prepared.weights,
    )
    for setting, (scaler, classifier) in zip(task.settings, fitted, strict=True):
        yield _solution(task, setting, Pipeline([("scaler", scaler)]), classifier)


def _kernel(task: _Task) -> Iterator[Solution]:
    recipe, rows = task.recipe, task.prepared.rows
    kernel = kernel_task(recipe, rows, task.prepared.y, task.prepared.weights)
    number = n_landmarks(kernel.landmarks, len(rows))
    forms = [*kernel_path(kernel, kernel_settings(recipe, task.settings))]
    scores: Iterator[Any] = iter([None] * len(forms))
    if task.held_out is not None and len(forms) * len(task.held_out) * len(task.classes) <= _MOST_SCORES:
        scores = iter(shared_scores(forms, task.held_out))
    for setting, form in zip(task.settings, forms, strict=True):
        classifier = _set(recipe, setting).take(form, task.classes)
        solution = _solution(task, setting, recipe.estimator[:-1], classifier, scores=next(scores))
        if number is not None:
            solution.params["landmarks"] = number
        yield solution


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
    "minibatch": _minibatch,
    "lbfgs": _lbfgs,
    "margins": _margins,
    "moments": _moments,
    "kernel": _kernel,
    "own": _own,
}


def _set(recipe: Recipe, setting: Params) -> Any:
    from sklearn.base import clone

    return clone(recipe.classifier).set_params(**setting)


def _fit(classifier: Any, prepared: Prepared) -> Any:
    is_grouped = isinstance(getattr(classifier, "cv", None), HashKFold | HashHoldout)
    extra: dict[str, Any] = {"groups": prepared.groups} if is_grouped else {}
    if prepared.weights is not None and (name := weight_argument(classifier)):
        extra[name] = prepared.weights
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

"""One classifier for each label against all images without it, for each setting."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import FeatstoreError, HeadError, first_line
from featstore.heads.data.blocks import Rows
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm
from featstore.heads.recipe import Params, Recipe, build_recipe
from featstore.heads.solvers.kernel import KernelTask, kernel_path
from featstore.heads.solvers.kernel_task import kernel_settings
from featstore.heads.solvers.solver import prepare

__all__ = ["HEADS", "label_recipe", "solve_labels"]

HEADS = ("logistic", "rbf", "ridge", "svm")

_Matrix = NDArray[np.float64]


def label_recipe(head: Any, params: Params | None, seed: int) -> Recipe:
    """Return what to fit; raise HeadError for heads that do not learn several labels."""
    if head not in HEADS:
        name = head if isinstance(head, str) else type(head).__name__
        raise HeadError(
            f"{name} does not learn several labels of an image; heads that do are {', '.join(HEADS)}"
        )
    recipe = build_recipe(head, params=params, seed=seed)
    if recipe.class_weight is not None:
        raise HeadError("class weights are for heads with one label an image; leave them out")
    return recipe


def solve_labels(
    recipe: Recipe,
    rows: Rows,
    has: NDArray[np.bool_],
    weights: _Matrix | None,
    settings: list[Params],
) -> Iterator[LinearForm | KernelForm]:
    """Yield the form of all labels for each setting."""
    try:
        yield from _solved(recipe, rows, has, weights, settings)
    except FeatstoreError:
        raise
    except (TypeError, ValueError) as error:
        raise HeadError(f"{recipe.name} cannot be fitted: {first_line(error)}") from error


def _solved(
    recipe: Recipe,
    rows: Rows,
    has: NDArray[np.bool_],
    weights: _Matrix | None,
    settings: list[Params],
) -> Iterator[LinearForm | KernelForm]:
    if recipe.solver == "kernel":
        task = _LabelTask(
            X=rows,
            codes=np.zeros(len(rows), np.intp),
            weights=np.ones(len(rows)) if weights is None else weights,
            n_classes=has.shape[1],
            landmarks=recipe.classifier.landmarks,
            seed=recipe.classifier.random_state or 0,
            has=has,
        )
        yield from kernel_path(task, kernel_settings(recipe, settings))
        return
    # Solvers of one label an image take the sums of its classes; here the scaled rows are held in memory.
    prepared = prepare(replace(recipe, solver="plain"), rows, np.empty(0, np.str_), np.empty(0), weights)
    scaler = prepared.preparation.steps[0][1]
    has_unit_rows = len(prepared.preparation.steps) > 1
    fit = _fit_together if recipe.name == "ridge" else _fit_each
    for coef, intercept in fit(recipe, prepared.X, has, weights, settings):
        if has_unit_rows:
            mean, scale = (np.asarray(one, np.float64) for one in (scaler.mean_, scaler.scale_))
            yield LinearForm(coef=coef, intercept=intercept, mean=mean, scale=scale)
        else:
            coef = coef / scaler.scale_
            yield LinearForm(coef=coef, intercept=intercept - coef @ scaler.mean_)


@dataclass(frozen=True, kw_only=True, eq=False)
class _LabelTask(KernelTask):
    """Kernel ridge regression on which row has which label."""

    has: NDArray[np.bool_]

    def targets(self, at: slice = slice(None)) -> _Matrix:
        return self.has[at].astype(np.float64)


def _fit_together(
    recipe: Recipe, X: Any, has: NDArray[np.bool_], weights: _Matrix | None, settings: list[Params]
) -> Iterator[tuple[_Matrix, _Matrix]]:
    for setting in settings:
        one = _classifier(recipe, setting).fit(X, has.astype(int), sample_weight=weights)
        yield (
            np.asarray(one.coef_, np.float64),
            np.broadcast_to(one.intercept_, has.shape[1]).astype(np.float64),
        )


def _fit_each(
    recipe: Recipe, X: Any, has: NDArray[np.bool_], weights: _Matrix | None, settings: list[Params]
) -> Iterator[tuple[_Matrix, _Matrix]]:
    classifiers = [_classifier(recipe, {}) for _ in range(has.shape[1])]
    for setting in settings:
        for number, one in enumerate(classifiers):
            one.set_params(**setting)
            if recipe.solver == "warm" and len(settings) > 1:
                one.set_params(warm_start=True)
            one.fit(X, has[:, number], sample_weight=weights)
        coef = np.concatenate([np.atleast_2d(one.coef_) for one in classifiers]).astype(np.float64)
        intercept = np.array([np.ravel(one.intercept_)[0] for one in classifiers], np.float64)
        yield coef, intercept


def _classifier(recipe: Recipe, setting: Params) -> Any:
    from sklearn.base import clone

    return clone(recipe.classifier).set_params(**setting)

"""One classifier for each label against all images without it, for each setting."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import FeatstoreError, HeadError, first_line
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm
from featstore.heads.recipe import Params, Recipe, build_recipe
from featstore.heads.solvers.kernel import KernelTask, fold_scores, kernel_path
from featstore.heads.solvers.kernel_task import kernel_settings
from featstore.heads.solvers.moments import targets_path
from featstore.heads.solvers.solver import prepare

if TYPE_CHECKING:
    from featstore.heads.data.blocks import Rows
    from featstore.heads.multilabel.images import LabelImages

__all__ = ["HEADS", "label_fold_scores", "label_recipe", "solve_labels"]

HEADS = ("logistic", "rbf", "ridge", "svm")

_Matrix = NDArray[np.float64]


def label_recipe(head: Any, params: Params | None, class_weight: Any, seed: int) -> Recipe:
    """Return what to fit; raise HeadError for heads that do not learn several labels."""
    if head not in HEADS:
        name = head if isinstance(head, str) else type(head).__name__
        raise HeadError(
            f"{name} does not learn several labels of an image; heads that do are {', '.join(HEADS)}"
        )
    recipe = build_recipe(head, params=params, class_weight=class_weight, seed=seed)
    if recipe.class_weight is not None and recipe.solver == "kernel":
        raise HeadError(
            f"{recipe.name} solves all labels together, with one weight for each image, and takes no class "
            "weights; heads that do are logistic, ridge, svm"
        )
    if recipe.class_weight not in (None, "balanced"):
        raise HeadError(
            f'class weights of several labels are "balanced" or left out; found {recipe.class_weight!r}'
        )
    return recipe


def solve_labels(
    recipe: Recipe, images: "LabelImages", settings: Sequence[Params]
) -> Iterator[LinearForm | KernelForm]:
    """Yield the form of all labels for each setting."""
    try:
        yield from _solved(recipe, images, settings)
    except FeatstoreError:
        raise
    except (TypeError, ValueError) as error:
        raise HeadError(f"{recipe.name} cannot be fitted: {first_line(error)}") from error


def label_fold_scores(
    recipe: Recipe,
    images: "LabelImages",
    held_out: Sequence[NDArray[np.intp]],
    settings: Sequence[Params],
) -> Iterator[list[_Matrix]]:
    """Yield for each setting the scores of each fold's test views by the kernel on all other images."""
    n_fitted, n_views = images.views.train, images.views.test
    rows = [(at[:, np.newaxis] * n_fitted + np.arange(n_fitted)).ravel() for at in held_out]
    for found in fold_scores(_kernel_task(recipe, images), kernel_settings(recipe, settings), rows):
        each = (scores.reshape(-1, n_fitted, scores.shape[1])[:, :n_views] for scores in found)
        yield [scores.reshape(-1, scores.shape[2]) for scores in each]


def _kernel_task(recipe: Recipe, images: "LabelImages") -> "_LabelTask":
    rows, has, weights = images.to_fit
    return _LabelTask(
        X=rows,
        codes=np.zeros(len(rows), np.intp),
        weights=np.ones(len(rows)) if weights is None else weights,
        n_classes=has.shape[1],
        landmarks=recipe.classifier.landmarks,
        seed=recipe.classifier.random_state or 0,
        has=has,
    )


def _solved(
    recipe: Recipe, images: "LabelImages", settings: Sequence[Params]
) -> Iterator[LinearForm | KernelForm]:
    if recipe.solver == "kernel":
        yield from kernel_path(_kernel_task(recipe, images), kernel_settings(recipe, settings))
        return
    rows, has, weights = images.to_fit
    if recipe.name == "ridge" and recipe.class_weight is None:
        yield from _ridge(recipe, rows, has, weights, settings)
        return
    # Solvers of one label an image take the sums of its classes; here the scaled rows are held in memory.
    prepared = prepare(replace(recipe, solver="plain"), rows, np.empty(0, np.str_), np.empty(0), weights)
    scaler = prepared.preparation.steps[0][1]
    has_unit_rows = len(prepared.preparation.steps) > 1
    for coef, intercept in _fit_each(recipe, prepared.X, has, weights, settings):
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


def _ridge(
    recipe: Recipe, rows: "Rows", has: NDArray[np.bool_], weights: _Matrix | None, settings: Sequence[Params]
) -> Iterator[LinearForm]:
    """Solve for targets of +1 with a label and -1 without, for all settings in one pass over the rows."""
    # Of the targets 1 and 0, which take less memory, coefficients are half as large where rows are centred.
    is_centred = _classifier(recipe, settings[0]).fit_intercept
    targets = has if is_centred else 2.0 * has - 1
    for scaler, coef, intercept in targets_path(recipe.classifier, rows, targets, settings, weights):
        if is_centred:
            coef, intercept = 2 * coef, 2 * intercept - 1
        coef = coef / scaler.scale_
        yield LinearForm(coef=coef, intercept=intercept - coef @ scaler.mean_)


def _fit_each(
    recipe: Recipe, X: Any, has: NDArray[np.bool_], weights: _Matrix | None, settings: Sequence[Params]
) -> Iterator[tuple[_Matrix, _Matrix]]:
    classifiers = [_classifier(recipe, {}) for _ in range(has.shape[1])]
    balanced = None if recipe.class_weight is None else _balanced(has)
    for setting in settings:
        for number, one in enumerate(classifiers):
            one.set_params(**setting)
            if recipe.solver == "warm" and len(settings) > 1:
                one.set_params(warm_start=True)
            own = weights
            if balanced is not None:
                lacking, having = balanced[number]
                own = np.where(has[:, number], having, lacking) * (1.0 if weights is None else weights)
            one.fit(X, has[:, number], sample_weight=own)
        coef = np.concatenate([np.atleast_2d(one.coef_) for one in classifiers]).astype(np.float64)
        intercept = np.array([np.ravel(one.intercept_)[0] for one in classifiers], np.float64)
        yield coef, intercept


def _balanced(has: NDArray[np.bool_]) -> _Matrix:
    """Return the weights of an image without each label and of one with it, (n_classes, 2)."""
    # As class_weight="balanced" of scikit-learn in each label's classifier.
    n_with = has.sum(axis=0)
    return np.asarray(len(has) / (2 * np.stack([len(has) - n_with, n_with], axis=1)), np.float64)


def _classifier(recipe: Recipe, setting: Params) -> Any:
    from sklearn.base import clone

    one = clone(recipe.classifier).set_params(**setting)
    return one if recipe.class_weight is None else one.set_params(class_weight=None)

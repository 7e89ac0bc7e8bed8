"""Regressions on a number of each image, for each setting of the parameters."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import FeatstoreError, HeadError, first_line
from featstore.heads.data.blocks import Rows
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm
from featstore.heads.forms.neighbors import NeighborForm, unit_features
from featstore.heads.recipe import Params, Recipe, build_recipe
from featstore.heads.solvers.kernel import KernelTask, kernel_path, shared_scores
from featstore.heads.solvers.kernel_task import kernel_settings
from featstore.heads.solvers.moments import targets_path

__all__ = ["HEADS", "Form", "form_values", "regression_recipe", "solve_regression"]

HEADS = ("knn", "rbf", "ridge")

# A number may be all but free of noise, where a class is never: weaker penalties and wider kernels than for
# classes.
_GRIDS: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "ridge": {"alpha": (1e5, 3e4, 1e4, 3000.0, 1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)},
    "rbf": {"gamma": (0.1, 0.25, 0.5, 1.0, 2.0), "alpha": (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)},
}

Form = LinearForm | KernelForm | NeighborForm

_Numbers = NDArray[np.float64]


def regression_recipe(head: Any, params: Params | None, seed: int) -> Recipe:
    """Return what to fit; raise HeadError for heads that do not predict numbers."""
    if head not in HEADS:
        name = head if isinstance(head, str) else type(head).__name__
        raise HeadError(f"{name} does not predict numbers; heads that do are {', '.join(HEADS)}")
    recipe = build_recipe(head, params=params, seed=seed)
    if recipe.class_weight is not None:
        raise HeadError("class weights are for heads with labels; leave them out")
    grid = recipe.grid | {
        name: values for name, values in _GRIDS.get(head, {}).items() if name in recipe.grid
    }
    return replace(recipe, grid=grid)


def solve_regression(
    recipe: Recipe, rows: Rows, y: _Numbers, weights: _Numbers | None, settings: Sequence[Params]
) -> Iterator[Form]:
    """Yield the form that predicts the numbers for each setting; the target is standardised inside."""
    centre = float(np.average(y, weights=weights))
    scale = float(np.sqrt(np.average((y - centre) ** 2, weights=weights)))
    if not scale > 0 or not np.isfinite(scale):
        raise HeadError(f"a head needs images with different numbers; all {len(y)} in train have {y[0]:g}")
    try:
        if recipe.name == "knn":
            yield from _neighbors(recipe, rows, y, settings)
            return
        solve = _kernel if recipe.solver == "kernel" else _ridge
        for form in solve(recipe, rows, (y - centre) / scale, weights, settings):
            yield replace(form, coef=form.coef * scale, intercept=form.intercept * scale + centre)
    except FeatstoreError:
        raise
    except (TypeError, ValueError) as error:
        raise HeadError(f"{recipe.name} cannot be fitted: {first_line(error)}") from error


def form_values(forms: Sequence[Form], rows: Rows) -> list[_Numbers]:
    """Return the numbers that several forms of one kind predict for some rows, (n,) each."""
    if isinstance(forms[0], KernelForm):
        kernels = [form for form in forms if isinstance(form, KernelForm)]
        return [scores[:, 0] for scores in shared_scores(kernels, rows)]
    values = [np.empty(len(rows)) for _ in forms]
    for at, block in rows.blocks():
        if isinstance(forms[0], NeighborForm):
            # Neighbours are searched once, as many as any form needs.
            most = max(int(form.n_neighbors) for form in forms if isinstance(form, NeighborForm))
            found = forms[0].nearest(block, most)
        for form, own in zip(forms, values, strict=True):
            scores = form.scores_at(*found) if isinstance(form, NeighborForm) else form.scores(block)
            own[at] = scores[:, 0]
    return values


def _ridge(
    recipe: Recipe, rows: Rows, y: _Numbers, weights: _Numbers | None, settings: Sequence[Params]
) -> Iterator[LinearForm]:
    for scaler, coef, intercept in targets_path(recipe.classifier, rows, y[:, None], settings, weights):
        coef = coef / scaler.scale_
        yield LinearForm(coef=coef, intercept=intercept - coef @ scaler.mean_)


@dataclass(frozen=True, kw_only=True, eq=False)
class _NumberTask(KernelTask):
    """Kernel ridge regression on numbers."""

    numbers: _Numbers

    def targets(self, at: slice = slice(None)) -> _Numbers:
        return self.numbers[at, np.newaxis]


def _kernel(
    recipe: Recipe, rows: Rows, y: _Numbers, weights: _Numbers | None, settings: Sequence[Params]
) -> Iterator[KernelForm]:
    task = _NumberTask(
        X=rows,
        codes=np.zeros(len(rows), np.intp),
        weights=np.ones(len(rows)) if weights is None else weights,
        n_classes=1,
        landmarks=recipe.classifier.landmarks,
        seed=recipe.classifier.random_state or 0,
        numbers=y,
    )
    yield from kernel_path(task, kernel_settings(recipe, settings))


def _neighbors(recipe: Recipe, rows: Rows, y: _Numbers, settings: Sequence[Params]) -> Iterator[NeighborForm]:
    units = np.empty((len(rows), rows.feature_dim), np.float32)
    for at, block in rows.blocks():
        units[at] = unit_features(block)
    for setting in settings:
        own = recipe.classifier.get_params(deep=False) | setting
        if own["weights"] not in ("uniform", "distance"):
            raise HeadError(f"the weights of knn are uniform or distance; found {own['weights']!r}")
        if isinstance(own["n_neighbors"], bool) or not isinstance(own["n_neighbors"], int):
            raise HeadError(f"n_neighbors is a number of images; found {own['n_neighbors']!r}")
        yield NeighborForm(
            rows=units,
            values=y,
            n_neighbors=np.array(own["n_neighbors"]),
            by_distance=np.array(own["weights"] == "distance"),
        )

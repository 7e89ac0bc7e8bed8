"""What a kernel head is fitted on, by its recipe."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from featstore.heads.data.blocks import Rows
from featstore.heads.recipe import Params, Recipe
from featstore.heads.solvers.kernel import KernelTask

__all__ = ["kernel_settings", "kernel_task"]


def kernel_settings(recipe: Recipe, settings: Sequence[Params]) -> list[Params]:
    """Return settings of a kernel head with its fixed parameters."""
    fixed = recipe.classifier.get_params(deep=False)
    return [{**fixed, **setting} for setting in settings]


def kernel_task(
    recipe: Recipe, rows: Rows, y: NDArray[np.str_], weights: NDArray[np.float64] | None
) -> KernelTask:
    """Return what a kernel head is fitted on."""
    classes, codes = np.unique(y, return_inverse=True)
    classifier = recipe.classifier
    return KernelTask(
        X=rows,
        codes=codes,
        weights=recipe.row_weights(classes, codes, weights),
        n_classes=len(classes),
        landmarks=classifier.landmarks,
        seed=classifier.random_state or 0,
    )

"""Folds of a kernel head without refits: all of them from one factorisation for each setting."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.heads.fitting.held_out import HeldOutPredictions, predict_held_out
from featstore.heads.solvers.kernel import fold_scores, n_landmarks
from featstore.heads.solvers.kernel_task import kernel_settings, kernel_task
from featstore.heads.solvers.solver import Solution

if TYPE_CHECKING:
    from featstore.heads.data.samples import Images
    from featstore.heads.recipe import Params, Recipe

__all__ = ["are_from_one_fit", "fold_predictions"]


def are_from_one_fit(recipe: "Recipe", images: "Images") -> bool:
    """Return whether all folds follow from one fit: of an exact kernel, held-out views being fitted ones."""
    if recipe.solver != "kernel" or images.views.test > images.views.train:
        return False
    return n_landmarks(recipe.classifier.landmarks, images.n_fitted) is None


def fold_predictions(
    recipe: "Recipe",
    images: "Images",
    held_out: Sequence[NDArray[np.intp]],
    settings: "Sequence[Params]",
    classes: NDArray[np.str_],
    kept: Sequence[NDArray[np.intp]],
) -> Iterator[list[HeldOutPredictions]]:
    """Yield for each setting the predictions of each fold's images by the fit without them."""
    # `held_out` are the images of each fold, `kept` those of them whose scores are kept.
    X, y, _, weights = images.to_fit
    task = kernel_task(recipe, X, y, weights)
    n_fitted, n_views = images.views.train, images.views.test
    rows = [(at[:, np.newaxis] * n_fitted + np.arange(n_fitted)).ravel() for at in held_out]
    parts = [images.some(at) for at in held_out]
    nothing: dict[str, Any] = {"setting": {}, "params": {}, "estimator": None}
    for found in fold_scores(task, kernel_settings(recipe, settings), rows):
        yield [
            predict_held_out(
                Solution(**nothing, scores=_first(scores, n_fitted, n_views)),
                part.to_predict,
                classes,
                part.y,
                is_calibrated=True,
                kept=own,
            )
            for scores, part, own in zip(found, parts, kept, strict=True)
        ]


def _first(scores: NDArray[np.float64], n_fitted: int, n_views: int) -> NDArray[np.float64]:
    """Return the scores of each image's first views."""
    each = scores.reshape(-1, n_fitted, scores.shape[1])[:, :n_views]
    return each.reshape(-1, scores.shape[1])

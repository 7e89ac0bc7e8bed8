"""Scores of each setting in a sweep."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.heads.fitting.held_out import HeldOutPredictions, predict_held_out
from featstore.stats.metrics import log_loss

if TYPE_CHECKING:
    from featstore.heads.data.samples import Images
    from featstore.heads.recipe import Recipe
    from featstore.heads.solvers.solver import Solution

__all__ = ["sweep_scores"]


def sweep_scores(
    recipe: "Recipe",
    solution: "Solution",
    predictions: HeldOutPredictions,
    y: NDArray[np.intp],
    *,
    train: "Images",
) -> dict[str, float]:
    """Return a setting's cross entropy on held-out images, in nats, and its accuracy on training images."""
    # Scores that are not log-probabilities are calibrated on these same images, which is slightly optimistic.
    # train_top1 is left out if it takes another search for neighbours.
    scores = {"cross_entropy": log_loss(predictions.probabilities(), y[predictions.kept])}
    if solution.scores is None:
        seen = predict_held_out(
            solution,
            train.to_predict,
            predictions.classes,
            train.y,
            is_calibrated=recipe.is_calibrated,
            kept=np.empty(0, np.intp),
            temperature=predictions.temperature if train.to_predict.n_views > 1 else None,
        )
        scores["train_top1"] = float((predictions.classes[seen.predicted] == train.y).mean())
    return scores

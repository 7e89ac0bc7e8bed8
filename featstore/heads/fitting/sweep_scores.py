"""Scores of each setting in a sweep, and which setting they choose."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.heads.calibration import fit_temperature, mean_over_views, softmax
from featstore.heads.fitting.held_out import HeldOutPredictions, predict_held_out
from featstore.stats.metrics import log_loss

if TYPE_CHECKING:
    from featstore.heads.data.samples import Images
    from featstore.heads.recipe import Recipe
    from featstore.heads.solvers.solver import Solution

__all__ = ["HeldOut", "chosen", "pooled_entropy", "sweep_scores"]

# Share of the cross entropy that weaker regularisation must take away to be chosen. Below that it is a tie,
# which rounding would decide, differently on every processor.
_LEAST_GAIN = 0.01


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """Results on images that the estimator, or that of each fold, was not fitted on."""

    n_right: int  # of all n images
    n: int
    y: NDArray[np.str_]  # (n_scored,): of a sample of them
    scores: NDArray[Any]  # (n_scored * n_views, n_classes): image by image
    n_views: int = 1


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


def pooled_entropy(held: HeldOut, has_own: bool, classes: NDArray[np.str_]) -> float:
    """Return the cross entropy, calibrated on these same images unless scores are log-probabilities."""
    by = 1.0 if has_own else fit_temperature(held.scores, held.y, classes, n_views=held.n_views)
    probabilities = mean_over_views(softmax(held.scores / by), held.n_views)
    loss = log_loss(probabilities, np.searchsorted(classes, held.y))
    return loss if math.isfinite(loss) else math.inf


def chosen(losses: Sequence[float]) -> int:
    """Return which setting is chosen, of those in order of regularisation, the strongest first."""
    best = 0
    for at, loss in enumerate(losses):
        if loss < losses[best] * (1 - _LEAST_GAIN):
            best = at
    return best

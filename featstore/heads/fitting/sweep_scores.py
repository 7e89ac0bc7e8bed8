"""What is measured of each setting that a sweep tries, beside the accuracy that it is chosen by."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.heads.fitting.held_out import Judgement, judge
from featstore.stats.metrics import log_loss

if TYPE_CHECKING:
    from featstore.heads.data.samples import Images
    from featstore.heads.recipe import Recipe
    from featstore.heads.solvers.solver import Solution

__all__ = ["sweep_scores"]


def sweep_scores(
    recipe: "Recipe",
    solution: "Solution",
    judged: Judgement,
    y: NDArray[np.intp],
    *,
    train: "Images",
) -> dict[str, float]:
    """Measure a fitted estimator on what it was fitted on, and its probabilities on the images held out.

    Parameters
    ----------
    recipe : Recipe
    solution : Solution
    judged : Judgement
        What it says of the images held out, at least one.
    y : ndarray of shape (n,), int
        Their classes' places in ``judged.classes``.
    train : Images
        That it was fitted on.

    Returns
    -------
    dict
        ``cross_entropy``, in nats on the images held out, at least 0: scores that are no probabilities are
        calibrated on these same images, which flatters it a little. And ``train_top1``, the accuracy on the
        training images in [0, 1]; left out where it would need another search for neighbours.
    """
    told = {"cross_entropy": log_loss(judged.probabilities(), y[judged.kept])}
    if solution.scores is None:
        seen = judge(
            solution,
            train.to_judge,
            judged.classes,
            train.y,
            is_calibrated=recipe.is_calibrated,
            kept=np.empty(0, np.intp),
            temperature=judged.temperature if train.to_judge.n_views > 1 else None,
        )
        told["train_top1"] = float((judged.classes[seen.predicted] == train.y).mean())
    return told

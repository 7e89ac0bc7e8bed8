"""What is measured of each setting that a sweep tries, beside the accuracy that it is chosen by."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.heads.calibration import fit_temperature, softmax
from featstore.heads.metrics import log_loss
from featstore.heads.solving import Solution, judge

if TYPE_CHECKING:
    from featstore.heads.recipe import Recipe
    from featstore.heads.rows import Rows

__all__ = ["sweep_scores"]


def sweep_scores(
    recipe: "Recipe",
    solution: Solution,
    scores: NDArray[Any],
    y: NDArray[np.intp],
    classes: NDArray[np.str_],
    *,
    train: "Rows",
    y_train: NDArray[np.intp],
) -> dict[str, float]:
    """Measure a fitted estimator on what it was fitted on, and its probabilities on the images held out.

    Parameters
    ----------
    recipe : Recipe
    solution : Solution
    scores : ndarray of shape (n, n_classes), float
        What it says of the images held out, at least one.
    y : ndarray of shape (n,), int
        Their classes' places in ``classes``.
    classes : ndarray of shape (n_classes,), str
    train : Rows
        Images that it was fitted on.
    y_train : ndarray of shape (n_train,), int

    Returns
    -------
    dict
        ``cross_entropy``, in nats on the images held out, at least 0: scores that are no probabilities are
        calibrated on these same images, which flatters it a little. And ``train_top1``, the accuracy on the
        training images in [0, 1]; left out where it would need another search for neighbours.
    """
    is_own = not recipe.is_calibrated and hasattr(solution.estimator, "predict_proba")
    temperature = 1.0 if is_own else fit_temperature(scores, classes[y], classes)
    told = {"cross_entropy": log_loss(softmax(scores / temperature), y)}
    if solution.scores is None:
        predicted, _ = judge(solution, train, classes, is_calibrated=recipe.is_calibrated)
        told["train_top1"] = float((predicted == y_train).mean())
    return told

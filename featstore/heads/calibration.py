"""From a classifier's decisions to probabilities."""

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError

__all__ = ["class_scores", "fit_temperature", "softmax"]

_logger = logging.getLogger(__name__)


def fit_temperature(
    estimator: Any, X: NDArray[Any], labels: NDArray[np.str_], classes: NDArray[np.str_]
) -> float:
    """Find what to divide a classifier's decisions by, so that their softmax is a probability.

    Temperature scaling (Guo et al., ICML 2017, section 4.2): the temperature with the least cross entropy on
    the validation split. It changes no prediction. Where every label there is predicted there is no such
    temperature (the smaller, the better); so each label counts as one drawn at random with the chance
    1 / (n + 1), in the manner of Platt's targets (Advances in Large Margin Classifiers, 1999, section 2.2).

    Parameters
    ----------
    estimator : Any
        A fitted classifier with ``decision_function``.
    X : ndarray of shape (n, feature_dim), float
        The validation split's features; ``n`` may be 0, which gives 1 and a warning in the log.
    labels : ndarray of shape (n,), str
    classes : ndarray of shape (n_classes,), str
        Sorted.

    Returns
    -------
    float
        Above 0.

    Raises
    ------
    HeadError
        The classifier does not give one decision for each class.
    """
    from scipy.optimize import minimize_scalar

    if not len(labels):
        _logger.warning("no labelled image is in validation: the probabilities are not calibrated")
        return 1.0
    scores = class_scores(estimator, X)
    if scores.shape[1] != len(classes):
        name = type(estimator).__name__
        raise HeadError(
            f"{name} gives {scores.shape[1]} decisions for {len(classes)} classes; expected one each"
        )
    chance = 1 / (len(labels) + 1)
    targets = np.full(scores.shape, chance / len(classes))
    targets[np.arange(len(labels)), np.searchsorted(classes, labels)] += 1 - chance

    def cross_entropy(log_temperature: float) -> float:
        probabilities = softmax(scores * np.exp(-log_temperature))
        return -float((targets * np.log(np.maximum(probabilities, 1e-300))).sum())

    return float(np.exp(minimize_scalar(cross_entropy, bounds=(-10.0, 10.0), method="bounded").x))


def class_scores(estimator: Any, X: NDArray[Any]) -> NDArray[np.float64]:
    """Return a fitted classifier's decisions, one column for each class.

    A binary decision ``d`` becomes the columns ``(0, d)``, whose softmax is the logistic function of ``d``.
    """
    decision = np.asarray(estimator.decision_function(X), dtype=np.float64)
    return np.column_stack([np.zeros_like(decision), decision]) if decision.ndim == 1 else decision


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each row's exponentials divided by their sum."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float64)

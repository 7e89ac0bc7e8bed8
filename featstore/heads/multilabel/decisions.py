"""From the scores of labels to probabilities, and from these to decisions."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm

__all__ = ["best_thresholds", "calibrated", "fit_sigmoids", "sigmoid"]

_Form = LinearForm | KernelForm

# Images with a label, and without it, from which on its sigmoid is its own.
_ENOUGH = 10


def sigmoid(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``1 / (1 + exp(-scores))``."""
    return np.asarray(np.exp(-np.logaddexp(0, -scores)), np.float64)


def fit_sigmoids(
    scores: NDArray[np.float64], has: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return slope and offset of each label's score, (n_classes,) each, fitted on held-out images."""
    # Platt (Advances in Large Margin Classifiers, 1999, section 2.2): targets are smoothed by the numbers of
    # images. A label with too few of them takes what suits all labels together.
    if not has.size:
        return np.ones(scores.shape[1]), np.zeros(scores.shape[1])
    shared = _fit_sigmoid(scores.ravel(), has.ravel())
    n_with = has.sum(axis=0)
    is_own = np.minimum(n_with, len(has) - n_with) >= _ENOUGH
    found = np.array(
        [
            _fit_sigmoid(scores[:, number], has[:, number]) if is_own[number] else shared
            for number in range(has.shape[1])
        ]
    )
    return found[:, 0], found[:, 1]


def _fit_sigmoid(scores: NDArray[np.float64], has: NDArray[np.bool_]) -> tuple[float, float]:
    from scipy.optimize import minimize

    n_with, n_without = int(has.sum()), int((~has).sum())
    targets = np.where(has, (n_with + 1) / (n_with + 2), 1 / (n_without + 2))
    unit = float(scores.std()) or 1.0

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        # The logarithm of the slope: more probable labels stay more probable.
        slope = np.exp(parameters[0])
        inner = slope * scores / unit + parameters[1]
        errors = sigmoid(inner) - targets
        value = float((np.logaddexp(0, inner) - targets * inner).sum())
        return value, np.array([(errors * slope * scores / unit).sum(), errors.sum()])

    start = np.array([0.0, np.log((n_with + 1) / (n_without + 1))])
    slope, offset = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(-10, 10), (-50, 50)]).x
    return float(np.exp(slope) / unit), float(offset)


def calibrated(form: _Form, slope: NDArray[np.float64], offset: NDArray[np.float64]) -> _Form:
    """Return the form whose scores are ``slope * score + offset``."""
    intercept = slope * form.intercept + offset
    if isinstance(form, LinearForm):
        return replace(form, coef=form.coef * slope[:, np.newaxis], intercept=intercept)
    return replace(form, coef=form.coef * slope, intercept=intercept)


def best_thresholds(probabilities: NDArray[np.float64], has: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the probability from which on each label is given, with the best F1 on held-out images."""
    # Halfway between two neighbouring probabilities; 0.5 for a label that no held-out image has.
    thresholds = np.full(has.shape[1], 0.5)
    for number in np.flatnonzero(has.any(axis=0)).tolist():
        order = np.argsort(-probabilities[:, number], kind="stable")
        ranked, right = probabilities[order, number], np.cumsum(has[order, number])
        f1 = 2 * right / (np.arange(1, len(ranked) + 1) + right[-1])
        # Equal probabilities fall on one side.
        f1[:-1][ranked[1:] == ranked[:-1]] = -1
        at = int(np.argmax(f1))
        below = ranked[at + 1] if at + 1 < len(ranked) else 0.0
        thresholds[number] = (ranked[at] + below) / 2
    return thresholds

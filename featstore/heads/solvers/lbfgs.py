"""Softmax regression by L-BFGS, whose loss and gradient are sums over parts of the rows.

Only these sums are in memory: each evaluation is one pass over the rows, wherever the parts are read.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.heads.data.blocks import Rows
from featstore.heads.data.parts import over_parts

__all__ = ["Regression", "logistic_path", "minimise"]

_Matrix = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Regression:
    """What is minimised: the weighted mean cross entropy and ``penalty / 2 * |coefficients|^2``.

    With one column of coefficients for two classes, the score is that of the second one.
    """

    scaler: Any  # fitted
    n_columns: int
    has_intercept: bool = True
    total: float  # that the sum over rows is divided by
    penalty: float = 0.0
    tol: float = 1e-6
    max_iter: int = 2000


def logistic_path(
    classifier: Any,
    X: Rows,
    y: NDArray[np.str_],
    scaler: Any,
    settings: Sequence[dict[str, Any]],
    weights: _Matrix,  # (n,): of rows
) -> Iterator[Any]:
    """Fit scikit-learn's logistic regression for each setting, starting from the one before."""
    from sklearn.base import clone

    classes, codes = np.unique(y, return_inverse=True)
    total = float(weights.sum())
    start = None
    for setting in settings:
        # Fitted to dummy rows, so that scikit-learn checks the parameters.
        fitted = clone(classifier).set_params(**setting)
        fitted.fit(np.arange(2.0 * len(classes))[:, np.newaxis], np.repeat(classes, 2))
        task = Regression(
            scaler=scaler,
            n_columns=1 if len(classes) == 2 else len(classes),
            has_intercept=bool(fitted.fit_intercept),
            total=total,
            penalty=1 / (fitted.C * total),
            tol=fitted.tol,
            max_iter=fitted.max_iter,
        )
        start, n_iter = minimise(task, X, codes, weights, start)
        fitted.coef_ = np.ascontiguousarray(start[:, :-1])
        fitted.intercept_ = start[:, -1].copy()
        fitted.n_iter_ = np.array([n_iter], np.int32)
        fitted.n_features_in_ = X.feature_dim
        yield fitted


def minimise(
    task: Regression, X: Rows, codes: NDArray[np.intp], weights: _Matrix, start: _Matrix | None = None
) -> tuple[_Matrix, int]:
    """Return coefficients and, in the last column, intercepts of scaled features; and the iterations."""
    from scipy.optimize import minimize
    from sklearn.exceptions import ConvergenceWarning

    shape = task.n_columns, X.feature_dim + 1

    def loss_and_gradient(flat: _Matrix) -> tuple[float, _Matrix]:
        coef = flat.reshape(shape)
        loss, gradient = 0.0, np.zeros(shape)
        for _, (of_part, slope) in over_parts(X, _of_part, task, coef, columns=[codes, weights]):
            loss += of_part
            gradient += slope
        gradient /= task.total
        gradient[:, :-1] += task.penalty * coef[:, :-1]
        if not task.has_intercept:
            gradient[:, -1] = 0
        return loss / task.total + task.penalty / 2 * float((coef[:, :-1] ** 2).sum()), gradient.ravel()

    # As scikit-learn's LogisticRegression calls it.
    found = minimize(
        loss_and_gradient,
        np.zeros(shape).ravel() if start is None else start.ravel(),
        method="L-BFGS-B",
        jac=True,
        options={
            "maxiter": task.max_iter,
            "maxls": 50,
            "gtol": task.tol,
            "ftol": 64 * np.finfo(np.float64).eps,
        },
    )
    if found.status == 1:
        warnings.warn(
            f"lbfgs has not converged in {task.max_iter} iterations; increase max_iter",
            ConvergenceWarning,
            stacklevel=2,
        )
    return found.x.reshape(shape), int(found.nit)


def _of_part(
    rows: Rows, codes: NDArray[np.intp], row_weights: _Matrix, task: Regression, coef: _Matrix
) -> tuple[float, _Matrix]:
    """Return the sums of a part's losses and of their gradients."""
    from scipy.special import expit, logsumexp

    loss, gradient = 0.0, np.zeros(coef.shape)
    for at, block in rows.blocks():
        own, weights = codes[at], row_weights[at]
        # Scaled in the type that one machine holds all rows in.
        scaled = task.scaler.transform(block).astype(np.float64)
        scores = scaled @ coef[:, :-1].T + coef[:, -1]
        if task.n_columns == 1:
            score = scores[:, 0]
            loss += float(weights @ (np.logaddexp(0, score) - own * score))
            errors = (expit(score) - own)[:, np.newaxis]
        else:
            sums = logsumexp(scores, axis=1, keepdims=True)
            each = np.arange(len(own))
            loss += float(weights @ (sums[:, 0] - scores[each, own]))
            errors = np.exp(scores - sums)
            errors[each, own] -= 1
        errors *= weights[:, np.newaxis]
        gradient[:, :-1] += errors.T @ scaled
        gradient[:, -1] += errors.sum(axis=0)
    return loss, gradient

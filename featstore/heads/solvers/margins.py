"""Linear support vector machines, for all classes and settings together.

liblinear fits one class at a time, and each of its steps reads all features. Here a step of all classes is
one matrix product.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["can_solve", "svm_path"]

_Matrix = NDArray[np.float64]

# A block stays in the cache from one product to the next.
_BLOCK_ROWS = 1024

_LINE_SEARCH_STEPS = 20
_ROUNDING = 1e-14


def can_solve(classifier: Any) -> bool:
    """Return whether a ``LinearSVC`` has the objective of :func:`svm_path`."""
    objective = (classifier.penalty, classifier.loss, classifier.multi_class)
    return objective == ("l2", "squared_hinge", "ovr") and classifier.dual is not True


def svm_path(
    classifier: Any,
    X: NDArray[np.floating[Any]],
    y: NDArray[np.str_],
    settings: Sequence[Mapping[str, Any]],
    weights: _Matrix,
    *,
    row_weights: _Matrix | None = None,
) -> Iterator[Any]:
    """Yield a fitted LinearSVC for each setting, each from the previous solution."""
    # For each class against all others, minimise |w|^2 / 2 + C sum s max(0, 1 - t m)^2, where m = w x is a
    # row's margin, t its target of +1 or -1 and s its class's weight; the intercept is the weight of a
    # constant feature, as in liblinear. Newton steps of exact length (Keerthi & DeCoste, J. Mach. Learn. Res.
    # 6, 2005), each by conjugate gradients to a tenth of the gradient, until liblinear's criterion holds: a
    # gradient below tol min(n_positive, n_negative) / n of that at 0 (Fan et al., J. Mach. Learn. Res. 9,
    # 2008). Gradients and margins are float64, the conjugate gradients of X's type. As in liblinear, with
    # more than two classes `weights` only apply to the class in question, not to the others; `row_weights`
    # multiply all costs of a row. n_iter_ is the largest number of Newton steps of a class.
    from sklearn.base import clone
    from sklearn.exceptions import ConvergenceWarning

    classes, codes = np.unique(y, return_inverse=True)
    columns = np.arange(len(classes)) if len(classes) > 2 else np.array([1])
    against = np.ones(len(columns)) if len(classes) > 2 else weights[:1]
    coef = np.zeros((X.shape[1] + 1, len(columns)))
    margins = np.zeros((len(X), len(columns)))
    for setting in settings:
        # On dummy rows: scikit-learn validates the parameters and sets attributes that are not learnt.
        one = clone(classifier).set_params(**setting).fit(np.zeros((len(classes), 1)), classes)
        scale = float(one.intercept_scaling) if one.fit_intercept else 0.0
        costs = one.C * weights[columns], one.C * against
        machines = _Machines(X, codes, columns, *costs, scale, row_weights=row_weights)
        one.n_iter_ = machines.descend(coef, margins, tol=one.tol, max_steps=one.max_iter)
        if one.n_iter_ is None:
            one.n_iter_ = one.max_iter
            message = f"the SVM has not converged after {one.max_iter} steps; increase max_iter"
            warnings.warn(message, ConvergenceWarning, stacklevel=2)
        one.n_features_in_ = X.shape[1]
        one.coef_ = coef[:-1].T.copy()
        one.intercept_ = scale * coef[-1] if one.fit_intercept else 0.0
        yield one


class _Machines:
    """The objective of several classes at once: a column each, the intercept in the last row."""

    def __init__(
        self,
        X: NDArray[np.floating[Any]],
        codes: NDArray[np.intp],
        columns: NDArray[np.intp],
        positive: _Matrix,
        negative: _Matrix,
        scale: float,
        *,
        row_weights: _Matrix | None,
    ) -> None:
        self._X, self._codes, self._columns, self._scale = X, codes, columns, scale
        self._positive, self._negative = positive, negative
        self._row_weights = row_weights
        self._blocks = [slice(at, at + _BLOCK_ROWS) for at in range(0, len(X), _BLOCK_ROWS)]

    def descend(self, coef: _Matrix, margins: _Matrix, *, tol: float, max_steps: int) -> int | None:
        """Minimise in place; return the number of steps, or None if ``max_steps`` were not enough."""
        n = len(self._X)
        n_positive = np.bincount(self._codes, minlength=int(self._columns.max()) + 1)[self._columns]
        share = np.maximum(np.minimum(n_positive, n - n_positive), 1) / n
        all_columns = np.arange(len(self._columns))
        at_zero = self._gradient(np.zeros_like(coef), np.zeros_like(margins), all_columns)[0]
        enough = tol * share * np.linalg.norm(at_zero, axis=0)
        live = all_columns
        for n_steps in range(max_steps + 1):
            gradient, curvature = self._gradient(coef[:, live], margins[:, live], live)
            is_open = np.linalg.norm(gradient, axis=0) > enough[live]
            live, curvature = live[is_open], curvature[:, is_open]
            if not len(live):
                return n_steps
            if n_steps == max_steps:
                break
            step = self._newton_step(gradient[:, is_open], curvature)
            change = self._margins(step)
            step_length = self._length(coef[:, live], step, margins[:, live], change, live)
            step *= step_length
            coef[:, live] += step
            margins[:, live] += step_length * change
            # Steps below rounding no longer reduce the gradient.
            moves = np.abs(step).max(axis=0) > _ROUNDING * np.abs(coef[:, live]).max(axis=0)
            live = live[moves]
        return None

    def _targets(self, block: slice, columns: NDArray[np.intp]) -> tuple[_Matrix, _Matrix]:
        """Return the targets of some rows, and their costs."""
        is_own = self._codes[block, None] == self._columns[columns]
        costs = np.where(is_own, self._positive[columns], self._negative[0])
        if self._row_weights is not None:
            costs *= self._row_weights[block, None]
        return np.where(is_own, 1.0, -1.0), costs

    def _gradient(
        self, coef: _Matrix, margins: _Matrix, columns: NDArray[np.intp]
    ) -> tuple[_Matrix, NDArray[np.floating[Any]]]:
        """Return the gradient, and each row's second derivative with respect to its margin."""
        gradient = coef.copy()
        curvature = np.empty(margins.shape, self._X.dtype)
        for block in self._blocks:
            targets, cost = self._targets(block, columns)
            short = 1 - targets * margins[block]
            curvature[block] = 2 * cost * (short > 0)
            pull = 2 * cost * targets * np.maximum(short, 0)
            gradient[:-1] -= self._X[block].T.astype(np.float64) @ pull
            gradient[-1] -= self._scale * pull.sum(axis=0)
        return gradient, curvature

    def _newton_step(self, gradient: _Matrix, curvature: NDArray[np.floating[Any]]) -> _Matrix:
        """Solve for the step by conjugate gradients, each column to a tenth of its gradient."""
        size = np.linalg.norm(gradient, axis=0)
        step = np.zeros(gradient.shape, self._X.dtype)
        rest = (-gradient / size).astype(self._X.dtype)
        ahead, left = rest.copy(), np.ones(len(size), self._X.dtype)
        live = np.arange(len(size))
        for _ in range(len(gradient)):
            bent = self._bend(ahead, curvature)
            along = left / (ahead * bent).sum(axis=0)
            step[:, live] += along * ahead
            rest -= along * bent
            now = (rest * rest).sum(axis=0)
            ahead = rest + (now / left) * ahead
            left, is_open = now, now > 0.01
            if not is_open.all():
                live, left = live[is_open], left[is_open]
                if not len(live):
                    break
                rest, ahead, curvature = rest[:, is_open], ahead[:, is_open], curvature[:, is_open]
        scaled: _Matrix = step * size
        return scaled

    def _bend(
        self, ahead: NDArray[np.floating[Any]], curvature: NDArray[np.floating[Any]]
    ) -> NDArray[np.floating[Any]]:
        """Multiply by the Hessian."""
        bent = ahead.copy()
        scale = self._X.dtype.type(self._scale)
        for block in self._blocks:
            rows = self._X[block]
            moved = rows @ ahead[:-1]
            moved += scale * ahead[-1]
            moved *= curvature[block]
            bent[:-1] += rows.T @ moved
            bent[-1] += scale * moved.sum(axis=0)
        return bent

    def _margins(self, coef: _Matrix) -> _Matrix:
        margins = np.empty((len(self._X), coef.shape[1]))
        for block in self._blocks:
            margins[block] = self._X[block].astype(np.float64) @ coef[:-1] + self._scale * coef[-1]
        return margins

    def _length(
        self, coef: _Matrix, step: _Matrix, margins: _Matrix, change: _Matrix, columns: NDArray[np.intp]
    ) -> _Matrix:
        """Return the step lengths to the minimum, by Newton's method in one dimension."""
        length = np.ones(step.shape[1])
        along, own = (coef * step).sum(axis=0), (step * step).sum(axis=0)
        for _ in range(_LINE_SEARCH_STEPS):
            slope, bend = along + length * own, own.copy()
            for block in self._blocks:
                targets, cost = self._targets(block, columns)
                towards = targets * change[block]
                short = 1 - targets * margins[block] - length * towards
                pull = 2 * cost * towards * (short > 0)
                slope -= (pull * short).sum(axis=0)
                bend += (pull * towards).sum(axis=0)
            correction = slope / bend
            length -= correction
            if np.abs(correction).max() < 1e-3:
                break
        return length

"""Extension methods that add columns to a linear head, whose own columns stay unchanged."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featstore.extending.naming import Naming
from featstore.extending.samples import Samples
from featstore.heads.forms.linear import LinearForm, row_lengths

__all__ = ["Columns"]

# Inverse regularisation strength, on standardised features.
_C = 0.01

_MOST_SYNTHETIC = 2000


@dataclass(frozen=True, kw_only=True, eq=False)
class Columns:
    """The methods ``columns`` and ``imprinting``: one new column for each new class."""

    # The column of a class that is both old and new replaces the old one.

    old: LinearForm
    coef: NDArray[np.float64]  # (n_new, feature_dim)
    intercept: NDArray[np.float64]  # (n_new,)
    old_classes: NDArray[np.intp]  # class of each score of :meth:`sides`
    new_classes: NDArray[np.intp]

    def with_offset(self, offset: float) -> LinearForm:
        """Return the form of all classes with an offset to the new scores."""
        n_classes = len(np.union1d(self.old_classes, self.new_classes))
        coef, intercept = np.empty((n_classes, self.coef.shape[1])), np.empty(n_classes)
        coef[self.old_classes], intercept[self.old_classes] = self.old.coef, self.old.intercept
        coef[self.new_classes], intercept[self.new_classes] = self.coef, self.intercept + offset
        return LinearForm(coef=coef, intercept=intercept, mean=self.old.mean, scale=self.old.scale)

    def sides(self, X: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the scores of the old classes (minus infinity if also new) and of the new."""
        scores = self.with_offset(0.0).scores(X)
        old = scores[:, self.old_classes]
        old[:, np.isin(self.old_classes, self.new_classes)] = -np.inf
        return old, scores[:, self.new_classes]

    @classmethod
    def train(
        cls, old: LinearForm, new_samples: Samples, old_samples: Samples, *, naming: Naming, seed: int
    ) -> Self:
        """Train new columns by softmax regression with frozen old columns, replaying old images."""
        # Without old images, synthetic features of the old classes are replayed: see _synthetic.
        new_classes, y_new = np.unique(naming.new[new_samples.y], return_inverse=True)
        rows, old_y = _prepared(old, new_samples.X), old_samples.y
        if len(old_samples):
            replayed = _prepared(old, old_samples.X)
        else:
            replayed, old_y = _synthetic(old, rows, y_new, seed=seed)
        # Frozen columns enter the softmax by one number: their log-sum-exp.
        is_kept = np.isin(naming.old, new_classes, invert=True)
        frozen = _log_sums(np.concatenate([rows, replayed]) @ old.coef[is_kept].T + old.intercept[is_kept])
        # 0 for old classes only: replayed images of a shared class belong to the new column.
        y_old = np.where(is_kept[old_y], 0, 1 + np.searchsorted(new_classes, naming.old[old_y]))
        coef, intercept = _regress(
            np.concatenate([rows, replayed]), frozen, np.concatenate([1 + y_new, y_old]), len(new_classes)
        )
        return cls(old=old, coef=coef, intercept=intercept, old_classes=naming.old, new_classes=new_classes)

    @classmethod
    def imprint(cls, old: LinearForm, new_samples: Samples, *, naming: Naming) -> Self:
        """Use each new class's mean direction as its column, scaled to the old columns' mean norm."""
        # Qi, Brown & Lowe, Low-shot learning with imprinted weights (CVPR 2018), without fine-tuning.
        new_classes, y = np.unique(naming.new[new_samples.y], return_inverse=True)
        rows = _prepared(old, new_samples.X)
        rows = rows / row_lengths(rows)
        means = np.stack([rows[y == number].mean(axis=0) for number in range(len(new_classes))])
        length = np.linalg.norm(old.coef, axis=1).mean() / np.linalg.norm(means, axis=1, keepdims=True)
        return cls(
            old=old,
            coef=means * length,
            intercept=np.full(len(new_classes), old.intercept.mean()),
            old_classes=naming.old,
            new_classes=new_classes,
        )


def _regress(
    rows: NDArray[np.float64], frozen: NDArray[np.float64], y: NDArray[np.intp], n_new: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit the scores of ``n_new`` classes beside a given score of each row."""
    from scipy.optimize import minimize

    mean, deviation = rows.mean(axis=0), rows.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1.0)
    standard = (rows - mean) / scale
    at = np.arange(len(y))

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(n_new, -1)
        scores = np.column_stack([frozen, standard @ weights[:, :-1].T + weights[:, -1]])
        sums = _log_sums(scores)
        slope = np.exp(scores - sums[:, np.newaxis])
        slope[at, y] -= 1
        gradient = np.column_stack([slope[:, 1:].T @ standard, slope[:, 1:].sum(axis=0)]) * _C
        gradient[:, :-1] += weights[:, :-1]
        penalty = float((weights[:, :-1] ** 2).sum()) / 2
        return _C * float((sums - scores[at, y]).sum()) + penalty, gradient.ravel()

    start = np.zeros(n_new * (rows.shape[1] + 1))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    weights = found.x.reshape(n_new, -1)
    coef = weights[:, :-1] / scale
    return coef, weights[:, -1] - coef @ mean


def _synthetic(
    old: LinearForm, rows: NDArray[np.float64], y: NDArray[np.intp], *, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Generate features of the old classes under the model of linear discriminant analysis."""
    # There a column is the inverse within-class covariance times the class mean, so that means are the
    # covariance times the columns. The covariance is estimated from the new images and shrunk halfway to its
    # diagonal; the grand mean is theirs, and each synthetic row has the residual of a new image.
    random = np.random.default_rng(seed)
    means = np.stack([rows[y == number].mean(axis=0) for number in range(int(y.max()) + 1)])
    residuals = rows - means[y]
    centred = old.coef - old.coef.mean(axis=0)
    times = centred @ residuals.T @ residuals / len(rows)
    of_class = (times + centred * residuals.var(axis=0)) / 2 + means.mean(axis=0)
    each = max(1, _MOST_SYNTHETIC // len(of_class))
    labels = np.repeat(np.arange(len(of_class)), each)[: max(_MOST_SYNTHETIC, len(of_class))]
    return of_class[labels] + residuals[random.integers(0, len(rows), len(labels))], labels


def _prepared(form: LinearForm, X: NDArray[Any]) -> NDArray[np.float64]:
    """Transform features into what a form's columns are multiplied with."""
    rows = np.asarray(X, np.float64)
    if form.mean is None or form.scale is None:
        return rows
    rows = (rows - form.mean) / form.scale
    return np.asarray(rows / row_lengths(rows))


def _log_sums(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import logsumexp

    return np.asarray(logsumexp(scores, axis=1))

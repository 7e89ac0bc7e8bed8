"""Kernel ridge regression on Gaussian similarities: exact, or by Nyström's method on landmarks.

The targets are 1 for an image's own class and 0 for the others; the kernel is ``exp(-gamma d2) + 1``, whose 1
stands for a penalised intercept. Columns are scaled as :func:`fit_scaling` says.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.heads.data.blocks import Rows
from featstore.heads.forms.kernel import KernelForm, Scaling, signed_root, similarities, squared_distances
from featstore.heads.solvers.landmarks import choose_landmarks
from featstore.heads.solvers.scaling import fit_scaler
from featstore.process import available_memory

__all__ = ["MOST_EXACT", "KernelTask", "fold_scores", "kernel_path", "n_landmarks", "shared_scores"]

_Matrix = NDArray[np.float64]

MOST_EXACT = 15_000
"""Rows up to which the exact solution is computed if no number of landmarks is given."""

_LANDMARKS = 4000

# Similarities that are in memory at a time: 32 MB.
_BLOCK_NUMBERS = 2**22

# The largest scaled feature that is stored as it is; 65,504 is float16's own largest.
_LARGEST = 60_000

# Of the mean diagonal: keeps the landmarks' kernel positive definite where some are the same.
_JITTER = 1e-11


@dataclass(frozen=True, kw_only=True, eq=False)
class KernelTask:
    """What to fit on."""

    X: Rows
    codes: NDArray[np.intp]  # (n,): classes of rows
    weights: _Matrix  # (n,): of rows
    n_classes: int
    landmarks: int | None = None
    seed: int = 0

    def ridge(self, alpha: float) -> _Matrix:
        """Return what is added to the kernel's diagonal, of shape (n,)."""
        return np.asarray(alpha * len(self.codes) / self.weights, np.float64)

    def targets(self, at: slice = slice(None)) -> _Matrix:
        """Return 1 for each row's own class and 0 for others, of shape (n, n_classes)."""
        return np.eye(self.n_classes)[self.codes[at]]


def n_landmarks(given: int | None, n_rows: int) -> int | None:
    """Return the number of landmarks for some rows; None for the exact solution."""
    if given is None:
        return _LANDMARKS if n_rows > MOST_EXACT else None
    return given if given < n_rows else None


def kernel_path(task: KernelTask, settings: Sequence[Mapping[str, Any]]) -> Iterator[KernelForm]:
    """Yield the kernel form for each setting of ``gamma``, a multiple, and ``alpha``."""
    number = n_landmarks(task.landmarks, len(task.X))
    yield from _exact(task, settings) if number is None else _nystrom(task, settings, number)


def fold_scores(
    task: KernelTask, settings: Sequence[Mapping[str, Any]], folds: Sequence[NDArray[np.intp]]
) -> Iterator[list[_Matrix]]:
    """Yield for each setting the scores of each fold's rows by the exact fit on all other rows."""
    # No refits: with G the inverse of kernel and ridge together, and a = G t the coefficients for targets t,
    # the fit without the rows F predicts t_F - G_FF^-1 a_F for them (for a single row Wahba, Spline Models
    # for Observational Data, 1990, equation 4.2.9). Scaling and mean distance are those of all rows.
    from scipy.linalg import cho_solve, solve
    from scipy.linalg.lapack import dpotri

    targets = task.targets()
    for _, factor in _factors(_Exact.of(task), task, settings):
        coef = cho_solve((factor, True), targets, check_finite=False)
        inverse, _ = dpotri(factor, lower=True, overwrite_c=True)
        found = []
        for rows in folds:
            own = np.tril(inverse[np.ix_(rows, rows)])
            found.append(targets[rows] - solve(own, coef[rows], lower=True, assume_a="pos"))
        yield found


def shared_scores(forms: Sequence[KernelForm], X: Rows) -> list[_Matrix]:
    """Return the scores of rows by several forms on the same rows, measuring each distance once."""
    scores = [np.empty((len(X), form.n_classes)) for form in forms]
    step = max(1, _BLOCK_NUMBERS // max(forms[0].rows.shape))
    for at, block in X.blocks():
        for start in range(0, len(block), step):
            distances = forms[0].distances(block[start : start + step])
            rows = slice(at.start + start, at.start + start + len(distances))
            for form, found in zip(forms, scores, strict=True):
                found[rows] = form.scores_at(distances)
    return scores


@dataclass(frozen=True, kw_only=True, eq=False)
class _Exact:
    """Scaled rows, and their squared distances."""

    scaling: Scaling
    unit: float  # of gamma: 1 / the mean squared distance
    rows: NDArray[np.float16]
    distances: _Matrix

    @classmethod
    def of(cls, task: KernelTask) -> "_Exact":
        n_rows, dim = len(task.X), task.X.feature_dim
        _check_memory(n_rows, dim)
        scaling, unit = fit_scaling(task.X)
        rows = np.empty((n_rows, dim), np.float16)
        for at, block in task.X.blocks():
            rows[at] = rounded(scaling(block))
        distances = squared_distances(rows.astype(np.float64))
        return cls(scaling=scaling, unit=unit, rows=rows, distances=distances)


def _check_memory(n_rows: int, dim: int) -> None:
    needed = 2 * 8 * n_rows**2 + 10 * n_rows * dim
    free = available_memory()
    if free is not None and needed > free:
        raise HeadError(
            f"an exact kernel on {n_rows:,} rows takes {needed / 1e9:,.1f} GB of memory, and "
            f"{free / 1e9:,.1f} GB are free; fit on landmarks, with --param landmarks=4000 or fewer, or use "
            "a linear head"
        )


def _factors(
    exact: _Exact, task: KernelTask, settings: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[float, _Matrix]]:
    """Yield gamma and the lower Cholesky factor of kernel and ridge for each setting."""
    diagonal = np.diag_indices(len(exact.rows))
    for setting in settings:
        gamma, alpha = _checked(setting)
        kernel = similarities(exact.distances, gamma * exact.unit)
        kernel += 1
        kernel[diagonal] += task.ridge(alpha)
        # Of a symmetric matrix in C order the transpose, in Fortran's, is factored in place.
        yield gamma * exact.unit, _factored(kernel.T, alpha)


def _factored(matrix: _Matrix, alpha: float) -> _Matrix:
    """Return the lower Cholesky factor of a matrix, which it may replace, with alpha on its diagonal."""
    from scipy.linalg import LinAlgError, cho_factor

    try:
        factor, _ = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError as error:
        raise HeadError(f"alpha={alpha:g} is too small for these features; use a larger one") from error
    return np.asarray(factor)


def _exact(task: KernelTask, settings: Sequence[Mapping[str, Any]]) -> Iterator[KernelForm]:
    from scipy.linalg import cho_solve

    exact, targets = _Exact.of(task), task.targets()
    for gamma, factor in _factors(exact, task, settings):
        coef = cho_solve((factor, True), targets, check_finite=False)
        yield _form(exact.scaling, gamma, exact.rows, coef)


def _nystrom(task: KernelTask, settings: Sequence[Mapping[str, Any]], number: int) -> Iterator[KernelForm]:
    """Solve on landmarks in one pass over the rows for all settings of one gamma in turn."""
    # Williams & Seeger, NIPS 2000: ridge regression on the features k(x, L) R^-T, where R R^T is the
    # landmarks' own kernel. Passes in turn measure distances again, a third of their work; in one pass memory
    # would hold landmarks^2 numbers twice for each gamma.
    checked = [_checked(setting) for setting in settings]
    scaling, unit = fit_scaling(task.X)
    landmarks = choose_landmarks(
        task.X, number, prepare=lambda block: rounded(scaling(block)), gamma=unit, seed=task.seed
    )
    for multiple, some in groupby(checked, key=itemgetter(0)):
        yield from _on_landmarks(task, scaling, landmarks, multiple * unit, [alpha for _, alpha in some])


def _on_landmarks(
    task: KernelTask, scaling: Scaling, landmarks: NDArray[np.float16], gamma: float, alphas: list[float]
) -> Iterator[KernelForm]:
    from scipy.linalg import cho_solve, solve_triangular

    root, gram, pulls = _projected(task, scaling, landmarks, gamma)
    for alpha in alphas:
        matrix = gram.copy(order="F")
        matrix[np.diag_indices(len(landmarks))] += alpha * len(task.X)
        solved = cho_solve((_factored(matrix, alpha), True), pulls, check_finite=False)
        coef = solve_triangular(root, solved, lower=True, trans="T", check_finite=False)
        yield _form(scaling, gamma, landmarks, coef)


def _projected(
    task: KernelTask, scaling: Scaling, landmarks: NDArray[np.float16], gamma: float
) -> tuple[_Matrix, _Matrix, _Matrix]:
    """Return R, and of the projected rows the Gram matrix' lower triangle and the products with targets."""
    from scipy.linalg import cholesky, solve_triangular
    from scipy.linalg.blas import dsyrk

    centres, number = landmarks.astype(np.float64), len(landmarks)
    kernel = similarities(squared_distances(centres), gamma)
    kernel += 1
    kernel[np.diag_indices(number)] += 2 * _JITTER * number
    # In Fortran's order, as BLAS wants them: nothing is copied.
    root = cholesky(kernel.T, lower=True, overwrite_a=True, check_finite=False)
    gram, pulls = np.zeros((number, number), order="F"), np.zeros((number, task.n_classes))
    step = max(1, _BLOCK_NUMBERS // max(number, task.X.feature_dim))
    for at, block in task.X.blocks():
        for start in range(0, len(block), step):
            rows = slice(at.start + start, min(at.start + start + step, at.stop))
            some = rounded(scaling(block[start : start + step])).astype(float)
            near = similarities(squared_distances(some, centres), gamma)
            near += 1
            projected = solve_triangular(root, near.T, lower=True, overwrite_b=True, check_finite=False)
            weights = np.sqrt(task.weights[rows])
            projected *= weights
            gram = dsyrk(1, projected, beta=1, c=gram, lower=True, overwrite_c=True)
            pulls += projected @ (task.targets(rows) * weights[:, np.newaxis])
    return root, gram, pulls


def _form(scaling: Scaling, gamma: float, rows: NDArray[np.float16], coef: _Matrix) -> KernelForm:
    return KernelForm(
        mean=scaling.mean,
        weight=scaling.weight,
        gamma=np.array(gamma),
        rows=rows,
        coef=np.ascontiguousarray(coef),
        intercept=coef.sum(axis=0),
    )


def _checked(setting: Mapping[str, Any]) -> tuple[float, float]:
    for name in ("gamma", "alpha"):
        value = setting[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < np.inf:
            raise HeadError(f"the {name} of rbf must be a number above 0; found {value!r}")
    return float(setting["gamma"]), float(setting["alpha"])


def fit_scaling(X: Rows) -> tuple[Scaling, float]:
    """Scale columns block by block; also return 1 / the mean squared distance of scaled rows."""
    # Each column gets its signed square root and is standardised. A column of one of B blocks, of p columns,
    # of d columns in all, is then multiplied by sqrt(d / (p B)), so that each block has the same share of a
    # squared distance, and the numbers are about 1. Columns that do not vary count nothing.
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    fit_scaler(scaler, X, prepare=signed_root)
    dims = X.block_dims
    share = np.repeat([X.feature_dim / (dim * len(dims)) for dim in dims], dims)
    share[scaler.var_ == 0] = 0
    # Of pairs of n rows of variance v the mean squared difference is 2 v n / (n - 1).
    mean = 2 * float(share.sum()) * len(X) / max(len(X) - 1, 1)
    return Scaling(mean=scaler.mean_, weight=np.sqrt(share) / scaler.scale_), 1 / mean if mean else 1.0


def rounded(scaled: _Matrix) -> NDArray[np.float16]:
    """Return scaled rows as they are stored."""
    return np.clip(scaled, -_LARGEST, _LARGEST).astype(np.float16)

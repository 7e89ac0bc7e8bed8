"""Exact ridge regression and linear discriminants from moments gathered in one pass over the features.

Of standardised rows ``z`` both need only the class means and one matrix of squares ``A``; every setting of
the penalty is then a division by ``A``'s eigenvalues, so that the whole grid costs one eigendecomposition.
With fewer rows than features, the eigenvectors lie in the span of the rows and are found from their inner
products. Memory holds min(n, feature_dim) x feature_dim float64 numbers, a few times.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.heads.data.blocks import Rows
from featstore.heads.solvers.scaling import ignore_rounding

__all__ = ["lda_path", "ridge_path"]

_Matrix = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sums:
    """Moments of one pass over the rows; ``squares`` is None if there are fewer rows than features."""

    scaler: Any
    counts: _Matrix
    means: _Matrix
    squares: _Matrix | None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Spectrum:
    """Positive eigenvalues of the matrix of squares, and its eigenvectors as columns."""

    values: _Matrix
    vectors: _Matrix
    trace: float


def ridge_path(
    classifier: Any,
    X: Rows,
    y: NDArray[np.str_],
    settings: Sequence[Mapping[str, Any]],
    weights: _Matrix,
) -> Iterator[tuple[Any, Any]]:
    """Fit ridge classifiers that differ in alpha; yield the scaler and a fitted RidgeClassifier each."""
    # With targets t of +1 for the own class and -1 for others, and weighted means z' and t', the coefficients
    # are (A + alpha I)^-1 sum w (z - z') t, A = sum w (z - z')(z - z')^T (Hoerl & Kennard, Technometrics 12,
    # 1970, equation 2.1); for all alphas from one eigendecomposition of A.
    from sklearn.base import clone

    classes, codes = np.unique(y, return_inverse=True)
    fitted = [_dummy_fit(clone(classifier).set_params(**setting), classes) for setting in settings]
    sums = _gather(X, codes, weights)
    mass = weights * sums.counts
    is_centred = bool(classifier.fit_intercept)
    centre = mass @ sums.means / mass.sum() if is_centred else np.zeros(X.feature_dim)
    spectrum = _spectrum(
        sums, X, codes, weights, centres=np.broadcast_to(centre, sums.means.shape), one_centre=is_centred
    )
    # Of the targets' +1 and -1, centred rows leave twice the +1; others the sum of all rows too.
    pull = 2 * mass[:, None] * (sums.means - centre)
    if not is_centred:
        pull -= mass @ sums.means
    target_mean = 2 * mass / mass.sum() - 1
    if len(classes) == 2:
        pull, target_mean = pull[1:], target_mean[1:]
    turned = pull @ spectrum.vectors
    for one in fitted:
        alpha = float(one.alpha)
        # For alpha = 0 the least-norm solution.
        coef = (turned / (spectrum.values + alpha)) @ spectrum.vectors.T
        one.intercept_ = target_mean - coef @ centre if is_centred else 0.0
        one.coef_ = coef.reshape(*one.coef_.shape[:-1], X.feature_dim)
        one.n_features_in_ = X.feature_dim
        yield sums.scaler, one


def lda_path(
    classifier: Any,
    X: Rows,
    y: NDArray[np.str_],
    settings: Sequence[Mapping[str, Any]],
    weights: _Matrix,
) -> Iterator[tuple[Any, Any]]:
    """Fit linear discriminants that differ in shrinkage; yield the scaler and a fitted classifier each."""
    # The classes' covariance, averaged by their priors, is shrunk towards a multiple of the identity with the
    # same trace, as scikit-learn's LinearDiscriminantAnalysis(solver="lsqr") does (Duda, Hart & Stork,
    # Pattern Classification, 2nd edition, 2001, section 2.6.2; Friedman, J. Am. Stat. Assoc. 84, 1989,
    # equation 18). Priors are proportional to `weights` times the class counts. covariance_, which
    # predictions do not need, is not set.
    from sklearn.base import clone

    classes, codes = np.unique(y, return_inverse=True)
    unfitted = [clone(classifier).set_params(**setting) for setting in settings]
    for one in unfitted:
        if isinstance(one.shrinkage, str):
            raise HeadError(f"the shrinkage of lda must be a number from 0 to 1; found {one.shrinkage!r}")
    fitted = [_dummy_fit(one, classes) for one in unfitted]
    sums = _gather(X, codes, weights)
    priors = weights * sums.counts / (weights * sums.counts).sum()
    # Each class's covariance is its mean square, times its prior: the sums' weights, but for their total.
    total = float((weights * sums.counts).sum())
    spectrum = _spectrum(sums, X, codes, weights, centres=sums.means, one_centre=False)
    values, trace = spectrum.values / total, spectrum.trace / total
    turned = sums.means @ spectrum.vectors
    beside = sums.means - turned @ spectrum.vectors.T
    for one in fitted:
        shrinkage = float(one.shrinkage or 0.0)
        least = shrinkage * trace / X.feature_dim
        coef = (turned / ((1 - shrinkage) * values + least)) @ spectrum.vectors.T
        if least > 0:
            coef += beside / least
        intercept = -0.5 * (sums.means * coef).sum(axis=1) + np.log(priors)
        if len(classes) == 2:
            coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
        one.coef_, one.intercept_ = coef, intercept
        one.means_, one.priors_, one.n_features_in_ = sums.means, priors, X.feature_dim
        del one.covariance_
        yield sums.scaler, one


def _dummy_fit(classifier: Any, classes: NDArray[np.str_]) -> Any:
    """Fit to two dummy rows of each class: scikit-learn validates parameters and sets unlearnt attributes."""
    n_rows = 2 * len(classes)
    return classifier.fit(np.arange(n_rows, dtype=np.float64)[:, None], np.repeat(classes, 2))


def _gather(X: Rows, codes: NDArray[np.intp], weights: _Matrix) -> _Sums:
    from scipy.linalg.blas import dsyrk
    from sklearn.preprocessing import StandardScaler

    n_classes, dim = len(weights), X.feature_dim
    has_squares = len(X) >= dim
    scaler = StandardScaler()
    totals = np.zeros((n_classes, dim))
    squares = np.zeros((dim, dim), order="F") if has_squares else None
    shift = None
    for at, block in X.blocks():
        scaler.partial_fit(block)
        wide = block.astype(np.float64)
        # Shifted near the mean, to avoid cancellation in the squares.
        shift = wide.mean(axis=0) if shift is None else shift
        wide -= shift
        order = np.argsort(codes[at], kind="stable")
        found, first = np.unique(codes[at][order], return_index=True)
        totals[found] += np.add.reduceat(wide[order], first, axis=0)
        if squares is not None:
            wide *= np.sqrt(weights[codes[at]])[:, None]
            squares = dsyrk(1.0, wide.T, beta=1.0, c=squares, overwrite_c=True)
    ignore_rounding(scaler, X)
    counts = np.bincount(codes, minlength=n_classes).astype(np.float64)
    means = totals / counts[:, None]
    offset = np.zeros(dim) if shift is None else shift - scaler.mean_
    if squares is not None:
        squares = np.triu(squares)
        squares += np.triu(squares, 1).T
        # From around the shift to around the unweighted mean: sum w (u + offset)(u + offset)^T.
        drawn = (weights * counts) @ means
        cross = np.outer(drawn, offset)
        squares += cross + cross.T + (weights * counts).sum() * np.outer(offset, offset)
        squares /= np.outer(scaler.scale_, scaler.scale_)
    return _Sums(scaler=scaler, counts=counts, means=(means + offset) / scaler.scale_, squares=squares)


def _spectrum(
    sums: _Sums,
    X: Rows,
    codes: NDArray[np.intp],
    weights: _Matrix,
    *,
    centres: _Matrix,
    one_centre: bool,
) -> _Spectrum:
    """Decompose the sum of ``w (z - centre)(z - centre)^T``, with a centre for each class."""
    from scipy.linalg import eigh

    mass = weights * sums.counts
    if sums.squares is not None:
        if one_centre:
            matrix = sums.squares - mass.sum() * np.outer(centres[0], centres[0])
        else:
            matrix = sums.squares - (centres * mass[:, None]).T @ centres
        values, vectors = eigh(matrix, overwrite_a=True, check_finite=False)
        trace = float(values.sum())
        kept = _above_rounding(values)
        return _Spectrum(values=values[kept], vectors=vectors[:, kept], trace=trace)
    rows = np.empty((len(X), X.feature_dim))
    for at, block in X.blocks():
        rows[at] = (block.astype(np.float64) - sums.scaler.mean_) / sums.scaler.scale_
        rows[at] -= centres[codes[at]]
        rows[at] *= np.sqrt(weights[codes[at]])[:, None]
    values, turned = eigh(rows @ rows.T, overwrite_a=True, check_finite=False)
    kept = _above_rounding(values)
    vectors = rows.T @ (turned[:, kept] / np.sqrt(values[kept]))
    return _Spectrum(values=values[kept], vectors=vectors, trace=float(values.sum()))


def _above_rounding(values: _Matrix) -> NDArray[np.bool_]:
    return np.asarray(values > values.max(initial=0.0) * len(values) * np.finfo(np.float64).eps)

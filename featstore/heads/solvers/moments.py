"""Exact ridge regression and linear discriminants from moments gathered in one pass over the features.

Of standardised rows ``z`` both need only the class means and one matrix of squares ``A``; every setting of
the penalty is then a division by ``A``'s eigenvalues, so that the whole grid costs one eigendecomposition.
Several labels of an image, and numbers, take the rows' products with these in place of class means.
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
from featstore.heads.data.parts import over_parts
from featstore.heads.solvers.scaling import add_scaler, ignore_rounding

__all__ = ["lda_path", "ridge_path", "targets_path"]

_Matrix = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sums:
    """Weighted moments of one pass over the rows; ``squares`` is None if rows are fewer than features."""

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
    *,
    row_weights: _Matrix | None = None,
) -> Iterator[tuple[Any, Any]]:
    """Fit ridge classifiers that differ in alpha; yield the scaler and a fitted RidgeClassifier each."""
    # With targets t of +1 for the own class and -1 for others, and weighted means z' and t', the coefficients
    # are (A + alpha I)^-1 sum w (z - z') t, A = sum w (z - z')(z - z')^T (Hoerl & Kennard, Technometrics 12,
    # 1970, equation 2.1); for all alphas from one eigendecomposition of A.
    from sklearn.base import clone

    classes, codes = np.unique(y, return_inverse=True)
    row_weights = np.ones(len(codes)) if row_weights is None else row_weights
    fitted = [_dummy_fit(clone(classifier).set_params(**setting), classes) for setting in settings]
    sums = _gather(X, codes, weights, row_weights)
    mass = weights * sums.counts
    is_centred = bool(classifier.fit_intercept)
    centre = mass @ sums.means / mass.sum() if is_centred else np.zeros(X.feature_dim)
    centres = np.broadcast_to(centre, sums.means.shape)
    spectrum = _spectrum(sums, X, codes, weights, row_weights, centres=centres, one_centre=is_centred)
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


def targets_path(
    classifier: Any,
    X: Rows,
    targets: NDArray[Any],
    settings: Sequence[Mapping[str, Any]],
    row_weights: _Matrix | None = None,
) -> Iterator[tuple[Any, _Matrix, _Matrix]]:
    """Fit ridge regressions on the columns of ``targets`` (n, k), a row for each of the features, by alpha.

    Yields the scaler, and of the scaled features the coefficients (k, feature_dim) and intercepts (k,). Of a
    RidgeClassifier, of which scikit-learn checks the settings, only alpha and the intercept's fit count.
    """
    from scipy.sparse import csr_array, hstack
    from sklearn.base import clone

    # As above, with the products sum w (z - z') t of the targets; a target of ones gives the mean z'.
    row_weights = np.ones(len(X)) if row_weights is None else row_weights
    fitted = [
        _dummy_fit(clone(classifier).set_params(**setting), np.array(["0", "1"])) for setting in settings
    ]
    beside_ones = hstack([csr_array(np.ones((len(X), 1))), csr_array(targets)], format="csr")
    is_one = np.arange(beside_ones.shape[1]) == 0
    scaler, counts, totals, offset, squares = _pass(X, beside_ones, is_one, row_weights)
    products = (totals + counts[:, None] * offset) / scaler.scale_
    is_centred = bool(classifier.fit_intercept)
    centre = products[0] / counts[0] if is_centred else np.zeros(X.feature_dim)
    sums = _Sums(scaler=scaler, counts=counts[:1], means=centre[None], squares=squares)
    codes, one = np.zeros(len(X), np.intp), np.ones(1)
    spectrum = _spectrum(sums, X, codes, one, row_weights, centres=centre[None], one_centre=True)
    turned = (products[1:] - counts[1:, None] * centre) @ spectrum.vectors
    target_mean = counts[1:] / counts[0]
    for setting in fitted:
        coef = (turned / (spectrum.values + float(setting.alpha))) @ spectrum.vectors.T
        yield scaler, coef, target_mean - coef @ centre if is_centred else np.zeros(len(coef))


def lda_path(
    classifier: Any,
    X: Rows,
    y: NDArray[np.str_],
    settings: Sequence[Mapping[str, Any]],
    weights: _Matrix,
    *,
    row_weights: _Matrix | None = None,
) -> Iterator[tuple[Any, Any]]:
    """Fit linear discriminants that differ in shrinkage; yield the scaler and a fitted classifier each."""
    # The classes' covariance, averaged by their priors, is shrunk towards a multiple of the identity with the
    # same trace, as scikit-learn's LinearDiscriminantAnalysis(solver="lsqr") does (Duda, Hart & Stork,
    # Pattern Classification, 2nd edition, 2001, section 2.6.2; Friedman, J. Am. Stat. Assoc. 84, 1989,
    # equation 18). Priors are proportional to `weights` times the class counts. covariance_, which
    # predictions do not need, is not set.
    from sklearn.base import clone

    classes, codes = np.unique(y, return_inverse=True)
    row_weights = np.ones(len(codes)) if row_weights is None else row_weights
    unfitted = [clone(classifier).set_params(**setting) for setting in settings]
    for one in unfitted:
        if isinstance(one.shrinkage, str):
            raise HeadError(f"the shrinkage of lda must be a number from 0 to 1; found {one.shrinkage!r}")
    fitted = [_dummy_fit(one, classes) for one in unfitted]
    sums = _gather(X, codes, weights, row_weights)
    priors = weights * sums.counts / (weights * sums.counts).sum()
    # Each class's covariance is its mean square, times its prior: the sums' weights, but for their total.
    total = float((weights * sums.counts).sum())
    spectrum = _spectrum(sums, X, codes, weights, row_weights, centres=sums.means, one_centre=False)
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


def _gather(X: Rows, codes: NDArray[np.intp], weights: _Matrix, row_weights: _Matrix) -> _Sums:
    from scipy.sparse import csr_array

    members = csr_array((np.ones(len(codes)), codes, np.arange(len(codes) + 1)), (len(codes), len(weights)))
    scaler, counts, totals, offset, squares = _pass(X, members, weights, row_weights)
    means = (totals / counts[:, None] + offset) / scaler.scale_
    return _Sums(scaler=scaler, counts=counts, means=means, squares=squares)


def _pass(
    X: Rows, targets: Any, weights: NDArray[Any], row_weights: _Matrix
) -> tuple[Any, _Matrix, _Matrix, _Matrix, _Matrix | None]:
    """Return the scaler, sum w t, sum w t u, the offset and sum v w z z^T in one pass over the rows.

    Scaled rows z are u + offset, divided by the scaler's scale. The targets t are sparse, (n, k), and
    the v of a row is its targets' sum by ``weights`` (k,). The w are ``row_weights``.
    """
    from sklearn.preprocessing import StandardScaler

    dim = X.feature_dim
    # Shifted near the mean, to avoid cancellation in the squares.
    shift = X.take(slice(0, X.block_rows)).astype(np.float64).mean(axis=0)
    scaler = StandardScaler()
    totals = np.zeros((targets.shape[1], dim))
    squares = np.zeros((dim, dim), order="F") if len(X) >= dim else None
    square_weights = (targets @ weights) * row_weights
    columns = [targets.multiply(row_weights[:, None]).tocsr(), square_weights]
    for _, part in over_parts(X, _part_sums, shift, squares is not None, columns=columns):
        add_scaler(scaler, part.scaler)
        totals += part.totals
        if squares is not None:
            squares += part.squares
    ignore_rounding(scaler, X)
    counts = np.asarray(columns[0].sum(axis=0)).ravel()
    offset = shift - scaler.mean_
    if squares is not None:
        squares = np.triu(squares)
        squares += np.triu(squares, 1).T
        # From around the shift to around the unweighted mean: sum v (u + offset)(u + offset)^T.
        cross = np.outer(weights @ totals, offset)
        squares += cross + cross.T + square_weights.sum() * np.outer(offset, offset)
        squares /= np.outer(scaler.scale_, scaler.scale_)
    return scaler, counts, totals, offset, squares


@dataclass(frozen=True, kw_only=True, eq=False)
class _PartSums:
    """Sums over a part of the rows, shifted; of the squares, the upper triangle."""

    scaler: Any
    totals: _Matrix
    squares: _Matrix | None


def _part_sums(
    rows: Rows, targets: Any, square_weights: _Matrix, shift: _Matrix, has_squares: bool
) -> _PartSums:
    from scipy.linalg.blas import dsyrk
    from sklearn.preprocessing import StandardScaler

    dim = rows.feature_dim
    scaler = StandardScaler()
    totals = np.zeros((targets.shape[1], dim))
    squares = np.zeros((dim, dim), order="F") if has_squares else None
    for at, block in rows.blocks():
        scaler.partial_fit(block)
        wide = block.astype(np.float64)
        wide -= shift
        totals += targets[at].T @ wide
        if squares is not None:
            wide *= np.sqrt(square_weights[at])[:, None]
            squares = dsyrk(1.0, wide.T, beta=1.0, c=squares, overwrite_c=True)
    return _PartSums(scaler=scaler, totals=totals, squares=squares)


def _spectrum(
    sums: _Sums,
    X: Rows,
    codes: NDArray[np.intp],
    weights: _Matrix,
    row_weights: _Matrix,
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
        rows[at] *= np.sqrt(weights[codes[at]] * row_weights[at])[:, None]
    values, turned = eigh(rows @ rows.T, overwrite_a=True, check_finite=False)
    kept = _above_rounding(values)
    vectors = rows.T @ (turned[:, kept] / np.sqrt(values[kept]))
    return _Spectrum(values=values[kept], vectors=vectors, trace=float(values.sum()))


def _above_rounding(values: _Matrix) -> NDArray[np.bool_]:
    return np.asarray(values > values.max(initial=0.0) * len(values) * np.finfo(np.float64).eps)

"""Standardisation of features, one block at a time."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.heads.data.blocks import Rows
from featstore.heads.data.parts import over_parts

__all__ = ["add_scaler", "fit_scaler", "ignore_rounding"]

# Steps of the features' type: what engines change in a feature that is the same for all images.
_ROUNDING_STEPS = 8
# Of features around 0, what half precision would store as 0.
_ZERO = float(np.finfo(np.float16).smallest_subnormal)


def _as_it_is(block: NDArray[Any]) -> NDArray[Any]:
    return block


def fit_scaler(scaler: Any, X: Rows, *, prepare: Callable[[NDArray[Any]], NDArray[Any]] = _as_it_is) -> None:
    """Fit a ``StandardScaler`` in one pass over the blocks."""
    for _, of_part in over_parts(X, _scaler_of_part, scaler, prepare):
        add_scaler(scaler, of_part)
    ignore_rounding(scaler, X)


def _scaler_of_part(rows: Rows, scaler: Any, prepare: Callable[[NDArray[Any]], NDArray[Any]]) -> Any:
    from sklearn.base import clone

    found = clone(scaler)
    for _, block in rows.blocks():
        found.partial_fit(prepare(block))
    return found


def add_scaler(scaler: Any, other: Any) -> None:
    """Let a ``StandardScaler``, which may not be fitted yet, have seen what another one has seen."""
    if not hasattr(scaler, "n_samples_seen_"):
        # Of another process, arrays are read-only.
        vars(scaler).update(deepcopy(vars(other)))
        return
    # Chan, Golub & LeVeque, The American Statistician 37, 1983, equations 2.1.
    n, more = scaler.n_samples_seen_, other.n_samples_seen_
    total, apart = n + more, other.mean_ - scaler.mean_
    scaler.mean_ = scaler.mean_ + apart * (more / total)
    scaler.var_ = (n * scaler.var_ + more * other.var_) / total + apart**2 * (n * more / total**2)
    scaler.n_samples_seen_ = total
    # As scikit-learn finds what is constant but for rounding.
    eps = np.finfo(np.float64).eps
    is_constant = scaler.var_ <= total * eps * scaler.var_ + (total * scaler.mean_ * eps) ** 2
    scaler.scale_ = np.where(is_constant | (scaler.var_ == 0), 1.0, np.sqrt(scaler.var_))


def ignore_rounding(scaler: Any, X: Rows) -> None:
    """Treat features that vary by no more than rounding as constant, as scikit-learn does exact ones."""
    # Scaled to unit variance, the rounding of one engine would become a feature that another one lacks.
    if X.dtype == np.float64:
        return
    rounding = _ROUNDING_STEPS * float(np.finfo(X.dtype).eps)
    is_noise = np.sqrt(scaler.var_) <= np.maximum(rounding * np.abs(scaler.mean_), _ZERO)
    scaler.var_[is_noise], scaler.scale_[is_noise] = 0.0, 1.0

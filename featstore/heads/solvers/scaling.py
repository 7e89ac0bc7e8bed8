"""Standardisation of features, one block at a time."""

from typing import Any

import numpy as np

from featstore.heads.data.blocks import Rows

__all__ = ["fit_scaler", "ignore_rounding"]

# Steps of the features' type: what engines change in a feature that is the same for all images.
_ROUNDING_STEPS = 8
# Of features around 0, what half precision would store as 0.
_ZERO = float(np.finfo(np.float16).smallest_subnormal)


def fit_scaler(scaler: Any, X: Rows) -> None:
    """Fit a ``StandardScaler`` in one pass over the blocks."""
    for _, block in X.blocks():
        scaler.partial_fit(block)
    ignore_rounding(scaler, X)


def ignore_rounding(scaler: Any, X: Rows) -> None:
    """Treat features that vary by no more than rounding as constant, as scikit-learn does exact ones."""
    # Scaled to unit variance, the rounding of one engine would become a feature that another one lacks.
    if X.dtype == np.float64:
        return
    rounding = _ROUNDING_STEPS * float(np.finfo(X.dtype).eps)
    is_noise = np.sqrt(scaler.var_) <= np.maximum(rounding * np.abs(scaler.mean_), _ZERO)
    scaler.var_[is_noise], scaler.scale_[is_noise] = 0.0, 1.0

"""Check of scores and probabilities for finite values."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError

__all__ = ["finite_numbers"]


def finite_numbers(numbers: NDArray[Any], name: str, n_classes: int) -> NDArray[np.float64]:
    """Return numbers as float64; raise HeadError unless finite and of shape (n, n_classes)."""
    if numbers.ndim != 2 or numbers.shape[1] != n_classes:
        raise HeadError(
            f"the head {name} returns numbers of shape {numbers.shape}; expected (n, {n_classes}), one for "
            "each class. Its file is damaged, or its estimator is not a classifier: fit it again"
        )
    is_finite = np.isfinite(numbers).all(axis=1)
    if not is_finite.all():
        raise HeadError(
            f"the head {name} returns NaN or infinity for {int((~is_finite).sum()):,} of {len(numbers):,} "
            "rows of features; its file is damaged, or it was fitted on other features: fit it again"
        )
    return np.asarray(numbers, np.float64)

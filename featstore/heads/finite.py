"""Numbers that a head answers with: finite, or refused."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError

__all__ = ["finite_numbers"]


def finite_numbers(numbers: NDArray[Any], name: str, n_classes: int) -> NDArray[np.float64]:
    """Return scores or probabilities, one finite number for each class of each row.

    Parameters
    ----------
    numbers : ndarray of shape (n, n_classes), float
    name : str
        The head's, for messages.
    n_classes : int

    Raises
    ------
    HeadError
        They have another shape, or there is NaN or infinity among them.
    """
    if numbers.ndim != 2 or numbers.shape[1] != n_classes:
        raise HeadError(
            f"the head {name} gives numbers of shape {numbers.shape} for {n_classes} classes; expected one "
            "for each class of each image. Its file is damaged, or its classifier is none: fit it again"
        )
    is_finite = np.isfinite(numbers).all(axis=1)
    if not is_finite.all():
        raise HeadError(
            f"the head {name} gives NaN or infinity instead of probabilities for "
            f"{int((~is_finite).sum()):,} of {len(numbers):,} rows of features; its file is damaged, or "
            "these are not the features that it was fitted on: fit it again"
        )
    return np.asarray(numbers, np.float64)

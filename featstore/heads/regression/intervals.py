"""Conformal prediction intervals: around a predicted number, as wide as it takes to hold the true one."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.heads.prediction_sets import checked_coverage, least_calibrating

__all__ = ["are_held_out_errors", "held_out_errors", "interval_half_width"]

# Half a megabyte of JSON.
_MOST_IMAGES = 20_000


def held_out_errors(true: NDArray[np.float64], predicted: NDArray[np.float64]) -> list[float]:
    """Return the absolute errors on held-out images, ascending."""
    step = -(-len(true) // _MOST_IMAGES) or 1
    return [float(f"{value:.7g}") for value in np.sort(np.abs(predicted - true)[::step]).tolist()]


def are_held_out_errors(values: Any) -> bool:
    """Return whether values from a file are such errors, or none."""
    return (
        isinstance(values, list)
        and all(isinstance(value, float | int) and 0 <= value < math.inf for value in values)
        and all(one <= other for one, other in pairwise(values))
    )


def interval_half_width(errors: Sequence[float], *, coverage: float, name: str) -> float:
    """Return how far the ends of an interval are from the predicted number."""
    # Split conformal prediction with the absolute error as score (Lei, G'Sell, Rinaldo, Tibshirani &
    # Wasserman, J. Am. Stat. Assoc. 113, 2018, algorithm 2): of n held-out images the k-th smallest error,
    # k = ceil((n + 1) coverage), is not below a new image's with that chance.
    checked_coverage(coverage)
    least, n = least_calibrating(coverage), len(errors)
    if n < least:
        raise HeadError(
            f"an interval for a coverage of {coverage:g} takes at least {least} held-out images; {name} was "
            f"fitted with {n}: ask for less, or hold out more with a larger validation share"
        )
    return float(errors[math.ceil((n + 1) * coverage - 1e-9) - 1])

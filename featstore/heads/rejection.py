"""Rejection: answering "unknown" below a minimum probability."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.stats.intervals import scored

__all__ = ["checked_reject", "rejected_word", "rejection_score"]


def rejection_score(
    labels: NDArray[np.str_], probabilities: NDArray[Any], classes: NDArray[np.str_], *, below: float
) -> dict[str, Any]:
    """Return coverage and accuracy of the images answered with at least the probability ``below``."""
    # Chow's rule (IEEE Trans. Information Theory 16, 1970, p. 41); coverage is the share of answers (El-Yaniv
    # & Wiener, JMLR 11, 2010), None if n is 0.
    checked_reject(below)
    answered = probabilities.max(axis=1, initial=0.0) >= below
    n, n_answered = len(labels), int(answered.sum())
    predicted = classes[probabilities[answered].argmax(axis=1)]
    n_right = int((predicted == labels[answered]).sum())
    coverage = n_answered / n if n else None
    return scored(n_right, n_answered) | {"n": n, "n_answered": n_answered, "coverage": coverage}


def rejected_word(classes: Iterable[str]) -> str:
    """Return ``unknown``, or a variant of it that is not a class name."""
    word, taken = "unknown", {*classes}
    while word in taken:
        word += " (rejected)"
    return word


def checked_reject(below: Any) -> float:
    """Return the minimum probability as a float; raise HeadError if it is not in [0, 1)."""
    if (
        isinstance(below, bool)
        or not isinstance(below, int | float | np.integer | np.floating)
        or not 0 <= below < 1
    ):
        raise HeadError(f"reject must be a probability of at least 0 and below 1; found {below!r}")
    return float(below)

"""Answering "unknown" where a head is not sure enough."""

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
    """Say how many images a head answers, and how many of its answers are right.

    An image is answered where its most probable class has at least the probability ``below``: Chow's rule
    (IEEE Trans. Information Theory 16, 1970, p. 41). Coverage is the share that is answered (El-Yaniv &
    Wiener, JMLR 11, 2010).

    Parameters
    ----------
    labels : ndarray of shape (n,), str
    probabilities : ndarray of shape (n, n_classes), float
    classes : ndarray of shape (n_classes,), str
        What the columns stand for.
    below : float
        In [0, 1).

    Returns
    -------
    dict
        ``{"n", "n_answered", "coverage", "top1", "top1_ci"}``: coverage in [0, 1], None where n is 0; the
        accuracy of the answers and its 95% interval, None where there is none.

    Raises
    ------
    HeadError
        ``below`` is no probability.

    Examples
    --------
    >>> scored = rejection_score(
    ...     np.array(["fen", "moor", "moor"]),
    ...     np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]),
    ...     np.array(["fen", "moor"]),
    ...     below=0.7,
    ... )
    >>> scored["n_answered"], scored["top1"]
    (2, 1.0)
    """
    checked_reject(below)
    answered = probabilities.max(axis=1, initial=0.0) >= below
    n, n_answered = len(labels), int(answered.sum())
    told = classes[probabilities[answered].argmax(axis=1)]
    n_right = int((told == labels[answered]).sum())
    coverage = n_answered / n if n else None
    return scored(n_right, n_answered) | {"n": n, "n_answered": n_answered, "coverage": coverage}


def rejected_word(classes: Iterable[str]) -> str:
    """Return the word for an image that is rejected: one that no class is called.

    Examples
    --------
    >>> rejected_word(["fen", "moor"]), rejected_word(["fen", "unknown"])
    ('unknown', 'unknown (rejected)')
    """
    word, taken = "unknown", {*classes}
    while word in taken:
        word += " (rejected)"
    return word


def checked_reject(below: Any) -> float:
    """Return a probability in [0, 1) as float.

    Raises
    ------
    HeadError
        It is none.
    """
    if (
        isinstance(below, bool)
        or not isinstance(below, int | float | np.integer | np.floating)
        or not 0 <= below < 1
    ):
        raise HeadError(f"reject is a probability, at least 0 and below 1; found {below!r}")
    return float(below)

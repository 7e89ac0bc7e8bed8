"""How far a score may be from the truth: intervals by formula and by resampling."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError

__all__ = [
    "REPLICATES",
    "bootstrap",
    "bootstrap_scores",
    "percentile_interval",
    "scored",
    "wilson_interval",
]

REPLICATES = 2000

_CONFIDENCE = 0.95
_BLOCK_NUMBERS = 4_000_000


def wilson_interval(correct: int, n: int, confidence: float = _CONFIDENCE) -> tuple[float, float]:
    """Give the interval that a fraction's true value lies in, from ``correct`` successes in ``n`` trials.

    The score interval of Wilson (J. Am. Stat. Assoc. 22, 1927, p. 209), which Brown, Cai & DasGupta
    (Statistical Science 16, 2001, p. 101) recommend for small n. It takes the trials as independent.

    Parameters
    ----------
    correct, n : int
        0 <= correct <= n, and n at least 1.
    confidence : float
        In (0, 1).

    Returns
    -------
    tuple of float
        Lower and upper end, in [0, 1].

    Raises
    ------
    HeadError
        The numbers are outside their ranges.

    Examples
    --------
    >>> low, high = wilson_interval(95, 100)
    >>> round(low, 4), round(high, 4)
    (0.8882, 0.9785)
    """
    if not 0 <= correct <= n or n < 1 or not 0 < confidence < 1:
        raise HeadError(
            "an interval needs 0 <= correct <= n, n >= 1 and 0 < confidence < 1; "
            f"found correct={correct}, n={n} and confidence={confidence}"
        )
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    fraction = correct / n
    centre = fraction + z**2 / (2 * n)
    half = z * math.sqrt(fraction * (1 - fraction) / n + z**2 / (4 * n**2))
    low, high = ((centre + side) / (1 + z**2 / n) for side in (-half, half))
    # Both are exact at the ends but for rounding.
    return (0.0 if correct == 0 else low), (1.0 if correct == n else high)


def scored(n_right: int, n: int) -> dict[str, Any]:
    """Return ``{"n", "top1", "top1_ci"}``: accuracy and its 95% Wilson interval, None where n is 0."""
    if not n:
        return {"n": 0, "top1": None, "top1_ci": None}
    return {"n": n, "top1": n_right / n, "top1_ci": list(wilson_interval(n_right, n))}


def percentile_interval(values: NDArray[np.float64], confidence: float = _CONFIDENCE) -> tuple[float, float]:
    """Give the interval that holds the middle of what resampling gave (Efron & Tibshirani 1993, chapter 13).

    Parameters
    ----------
    values : ndarray of shape (replicates,), float64
    confidence : float
        In (0, 1).

    Returns
    -------
    tuple of float
    """
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def bootstrap(
    rows: Any,
    multiplicity: NDArray[np.int64],
    statistic: Callable[[NDArray[Any]], NDArray[np.float64]],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Draw as many units as there are, with replacement, again and again, and score each draw.

    Units are what is independent of each other, such as images, or patients with several images each (the
    cluster bootstrap: Davison & Hinkley 1997, section 3.8). Units that are alike are drawn together, from a
    multinomial distribution, which is the same and much faster.

    Parameters
    ----------
    rows : ndarray or SciPy sparse matrix of shape (n_kinds, n_sums)
        What one unit of each kind adds to the sums that the statistic is made of.
    multiplicity : ndarray of shape (n_kinds,), int
        How many units there are of each kind; at least one in all.
    statistic : callable
        Takes the sums of some draws, shape (n_draws, n_sums), and returns their scores, shape (n_draws,) or
        (n_draws, n_scores).
    replicates : int
        Number of draws.
    seed : int
        The same one gives the same draws.

    Returns
    -------
    ndarray of shape (replicates,) or (replicates, n_scores), float64
    """
    random = np.random.default_rng(seed)
    n_units = int(multiplicity.sum())
    width = max(len(multiplicity), rows.shape[1])
    step = max(1, _BLOCK_NUMBERS // width)
    scores = []
    for start in range(0, replicates, step):
        size = min(step, replicates - start)
        draws = random.multinomial(n_units, multiplicity / n_units, size=size)
        scores.append(statistic(draws @ rows))
    return np.concatenate(scores)


def bootstrap_scores(
    units: NDArray[np.intp],
    true: NDArray[np.intp],
    predicted: NDArray[np.intp],
    n_classes: int,
    statistic: Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Resample images, a unit at a time, and score each draw by its counts for each class.

    Parameters
    ----------
    units : ndarray of shape (n,), int
        Each image's unit; images of one unit are drawn together.
    true, predicted : ndarray of shape (n,), int
        Column numbers of classes.
    n_classes : int
    statistic : callable
        Takes ``right, n_true, n_predicted``, each int of shape (n_draws, n_classes): images recognised,
        images of the class, images taken for it.
    replicates, seed : int
        As for :func:`bootstrap`.

    Returns
    -------
    ndarray of shape (replicates,) or (replicates, n_scores), float64
    """
    from scipy.sparse import csr_array

    kinds, multiplicity = _kinds(units, true * n_classes + predicted)
    owner = np.repeat(np.arange(len(kinds)), [len(kind) for kind in kinds])
    cells = np.fromiter((cell for kind in kinds for cell in kind), np.int64, len(owner))
    label, guess = cells // n_classes, cells % n_classes
    right = label == guess
    columns = np.concatenate([label[right], n_classes + label, 2 * n_classes + guess])
    kind_of = np.concatenate([owner[right], owner, owner])
    # Entries at the same place are added up.
    sums = csr_array((np.ones(len(columns), np.int64), (kind_of, columns)), shape=(len(kinds), 3 * n_classes))

    def score(totals: NDArray[np.int64]) -> NDArray[np.float64]:
        return statistic(
            totals[:, :n_classes], totals[:, n_classes : 2 * n_classes], totals[:, 2 * n_classes :]
        )

    return bootstrap(sums, multiplicity, score, replicates=replicates, seed=seed)


def _kinds(
    units: NDArray[np.intp], cells: NDArray[np.intp]
) -> tuple[list[tuple[int, ...]], NDArray[np.int64]]:
    """Return the different contents that units have, as sorted cells, and how many units have each."""
    _, n_images = np.unique(units, return_counts=True)
    alone = cells
    found: Counter[tuple[int, ...]] = Counter()
    if (n_images > 1).any():
        order = np.lexsort((cells, units))
        alone = cells[order][np.repeat(n_images == 1, n_images)]
        found.update(_together(cells[order], n_images))
    single, n_single = np.unique(alone, return_counts=True)
    found.update({(int(cell),): int(n) for cell, n in zip(single, n_single, strict=True)})
    return list(found), np.array(list(found.values()), np.int64)


def _together(cells: NDArray[np.intp], n_images: NDArray[np.intp]) -> Iterator[tuple[int, ...]]:
    ends = np.cumsum(n_images)
    for end, size in zip(ends[n_images > 1].tolist(), n_images[n_images > 1].tolist(), strict=True):
        yield tuple(cells[end - size : end].tolist())

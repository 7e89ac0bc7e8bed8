"""Confidence intervals, by formula and by resampling."""

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
    """Return Wilson's score interval of a fraction, given ``correct`` successes in ``n`` trials."""
    # Wilson (J. Am. Stat. Assoc. 22, 1927, p. 209), recommended for small n by Brown, Cai & DasGupta
    # (Statistical Science 16, 2001, p. 101). Trials are taken as independent. scipy.stats.binomtest
    # agrees to rounding, but is a hundred times slower and takes a second to import; every fit needs this.
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
    # Exact but for rounding.
    return (0.0 if correct == 0 else low), (1.0 if correct == n else high)


def scored(n_right: int, n: int) -> dict[str, Any]:
    """Return ``{"n", "top1", "top1_ci"}``: accuracy and its 95% Wilson interval, None if n is 0."""
    if not n:
        return {"n": 0, "top1": None, "top1_ci": None}
    return {"n": n, "top1": n_right / n, "top1_ci": list(wilson_interval(n_right, n))}


def percentile_interval(values: NDArray[np.float64], confidence: float = _CONFIDENCE) -> tuple[float, float]:
    """Return the percentile bootstrap interval (Efron & Tibshirani 1993, chapter 13)."""
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
    """Resample units with replacement and compute the statistic of each draw."""
    # Units are what is independent, such as images, or patients with several images each (cluster bootstrap:
    # Davison & Hinkley 1997, section 3.8). Row k of `rows` is what one unit of kind k adds to the sums that
    # `statistic` takes, in shape (n_draws, n_sums); `multiplicity` counts the units of each kind. Equal units
    # are drawn together from a multinomial distribution, which is equivalent and much faster.
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
    """Resample units of images and score each draw by its counts for each class."""
    # `statistic` takes (right, n_true, n_predicted), each int of shape (n_draws, n_classes): images of the
    # class that are recognised, images of the class, and images predicted as the class.
    from scipy.sparse import csr_array

    kinds, multiplicity = _kinds(units, true * n_classes + predicted)
    owner = np.repeat(np.arange(len(kinds)), [len(kind) for kind in kinds])
    cells = np.fromiter((cell for kind in kinds for cell in kind), np.int64, len(owner))
    label, guess = cells // n_classes, cells % n_classes
    right = label == guess
    columns = np.concatenate([label[right], n_classes + label, 2 * n_classes + guess])
    kind_of = np.concatenate([owner[right], owner, owner])
    # Duplicate entries are summed.
    sums = csr_array((np.ones(len(columns), np.int64), (kind_of, columns)), shape=(len(kinds), 3 * n_classes))

    def score(totals: NDArray[np.int64]) -> NDArray[np.float64]:
        return statistic(
            totals[:, :n_classes], totals[:, n_classes : 2 * n_classes], totals[:, 2 * n_classes :]
        )

    return bootstrap(sums, multiplicity, score, replicates=replicates, seed=seed)


def _kinds(
    units: NDArray[np.intp], cells: NDArray[np.intp]
) -> tuple[list[tuple[int, ...]], NDArray[np.int64]]:
    """Return the distinct contents of units, as sorted cells, and the number of units with each."""
    _, n_images = np.unique(units, return_counts=True)
    alone = cells
    found: Counter[tuple[int, ...]] = Counter()
    if (n_images > 1).any():
        order = np.lexsort((cells, units))
        alone = cells[order][np.repeat(n_images == 1, n_images)]
        found.update(_multi_image_units(cells[order], n_images))
    single, n_single = np.unique(alone, return_counts=True)
    found.update({(int(cell),): int(n) for cell, n in zip(single, n_single, strict=True)})
    return list(found), np.array(list(found.values()), np.int64)


def _multi_image_units(cells: NDArray[np.intp], n_images: NDArray[np.intp]) -> Iterator[tuple[int, ...]]:
    ends = np.cumsum(n_images)
    for end, size in zip(ends[n_images > 1].tolist(), n_images[n_images > 1].tolist(), strict=True):
        yield tuple(cells[end - size : end].tolist())

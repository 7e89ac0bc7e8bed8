"""Conformal prediction sets: as many labels as it takes to hold the right one with a given coverage."""

import logging
import math
from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.heads.fit_warnings import warn
from featstore.messages import listed

__all__ = [
    "are_held_out",
    "checked_coverage",
    "held_out_probabilities",
    "in_sets",
    "least_calibrating",
    "n_calibrating",
    "set_thresholds",
]

_logger = logging.getLogger(__name__)

# Half a megabyte of JSON; the coverage then varies by 0.15 points only.
_MOST_IMAGES = 20_000


def held_out_probabilities(
    classes: NDArray[np.str_], labels: NDArray[np.str_], probabilities: NDArray[np.float64]
) -> dict[str, list[float]]:
    """Return the probabilities of held-out images' own labels by class, ascending."""
    step = -(-len(labels) // _MOST_IMAGES) or 1
    true = np.searchsorted(classes, labels[::step])
    own = probabilities[::step][np.arange(len(true)), true]
    return {
        str(label): [float(f"{value:.7g}") for value in np.sort(own[true == number]).tolist()]
        for number, label in enumerate(classes)
    }


def are_held_out(held_out: Any, classes: Sequence[Any]) -> bool:
    """Return whether values from a file are such probabilities, or none."""
    if not isinstance(held_out, dict) or [*held_out] not in ([], [*classes]):
        return False
    return all(
        isinstance(values, list)
        and all(isinstance(value, float | int) and 0 <= value <= 1 for value in values)
        and all(one <= other for one, other in pairwise(values))
        for values in held_out.values()
    )


def set_thresholds(
    held_out: Mapping[str, Sequence[float]],
    classes: Sequence[str],
    *,
    coverage: float,
    by_class: bool,
    name: str,
) -> NDArray[np.float64]:
    """Return the probability from which on each class is in a set, float64 of shape (n_classes,)."""
    # Split conformal prediction (Vovk, Gammerman & Shafer 2005). With the probability of the label as score,
    # sets are the smallest on average of all that have the coverage, over all images or for each class
    # (Sadinle, Lei & Wasserman, J. Am. Stat. Assoc. 114, 2019, p. 223). Of n held-out images, the threshold
    # is the k-th smallest probability with k = floor((n + 1) (1 - coverage)): a new image's is below it with
    # a chance of k / (n + 1) at most. MAPIE computes the same, but takes estimators and keeps nothing.
    checked_coverage(coverage)
    least = least_calibrating(coverage)
    if not (n := n_calibrating(held_out)):
        raise HeadError(
            f"{name} holds nothing to calibrate prediction sets on: it is of an earlier version, was "
            "imported, extended, tuned or edited, or no image was held out when it was fitted; fit a head "
            "with validation images or with folds"
        )
    if not by_class:
        if n < least:
            raise HeadError(_too_few(f"{name} was fitted with {n}", coverage, least))
        return np.full(len(classes), _threshold(sorted(chain.from_iterable(held_out.values())), coverage))
    few = [f"{label} ({len(held_out[label])})" for label in classes if len(held_out[label]) < least]
    if len(few) == len(classes):
        raise HeadError(_too_few(f"{name} has fewer of each class: {listed(few)}", coverage, least))
    if few:
        warn(
            _logger,
            "a coverage of %g takes %d held-out images of a class: in every set is %s",
            coverage,
            least,
            listed(few),
        )
    return np.array([_threshold(held_out[label], coverage) for label in classes])


def in_sets(probabilities: NDArray[np.floating], thresholds: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which classes are in the set of each image, bool of shape (n, n_classes)."""
    chosen = np.asarray(probabilities >= thresholds, np.bool_)
    # No set is empty: one label more never lowers the coverage.
    chosen[np.arange(len(chosen)), probabilities.argmax(axis=1)] = True
    return chosen


def n_calibrating(held_out: Mapping[str, Sequence[float]]) -> int:
    """Return the number of images that sets are calibrated on."""
    return sum(map(len, held_out.values()))


def least_calibrating(coverage: float) -> int:
    """Return the number of images that sets of this coverage take at least."""
    return math.ceil(coverage / (1 - coverage) - 1e-9)


def checked_coverage(coverage: float) -> float:
    """Return the coverage; raise HeadError unless it is a fraction between 0 and 1."""
    if isinstance(coverage, bool) or not isinstance(coverage, int | float) or not 0 < coverage < 1:
        raise HeadError(f"coverage must be above 0 and below 1, such as 0.95; found {coverage!r}")
    return coverage


def _threshold(ascending: Sequence[float], coverage: float) -> float:
    k = math.floor((len(ascending) + 1) * (1 - coverage) + 1e-9)
    return float(ascending[k - 1]) if k else 0.0


def _too_few(found: str, coverage: float, least: int) -> str:
    return (
        f"a coverage of {coverage:g} takes at least {least} held-out images; {found}: ask for less, hold out "
        "more with a larger validation share, or fit with folds"
    )

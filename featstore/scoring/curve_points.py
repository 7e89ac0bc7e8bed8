"""What learning curves are made of: training sets of several sizes, and a forecast.

Smaller training sets are chosen by a hash, so that they stay the same when images are added and lie within
larger ones. With the key of an image's content or group as for the cross-validators of ``featstore.splits``,
and the salt of the repeat, the split rule's own followed by ``"#"`` and the repeat's number, from 0::

    digest = SHA-256(salt in UTF-8 + key)
    u      = the digest's bytes 16 to 23 as a big-endian unsigned integer, in [0, 2**64)

an image is in the set of a fraction f if u < floor(f * 2**64). A set of k images a class (shots) has the k of
each with the smallest u.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.splits import SplitRule
from featstore.splits.keys import draws, label_key
from featstore.stats.intervals import percentile_interval
from featstore.stats.power_law import fit_power_law

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = [
    "Shots",
    "Size",
    "checked_fractions",
    "checked_shots",
    "forecast_of",
    "training_sets",
    "verdict_on",
]

# A law with three parameters needs at least one further point to be testable.
_FEWEST_SIZES = 4
_FEWEST_MISTAKES = 5
# Gains in accuracy that are worth collecting twice as many images, and that hardly are.
_HELP, _HARDLY = 0.005, 0.01


class Shots(NamedTuple):
    """A size as a number of images of each class."""

    number: int


Size: TypeAlias = float | Shots
"""A share of the training images, or a number of each class."""


def checked_fractions(fractions: Sequence[float]) -> list[float]:
    """Return fractions in increasing order, with 1; raise HeadError if one is none."""
    sizes = sorted({float(fraction) for fraction in fractions} | {1.0})
    if not all(0 < size <= 1 for size in sizes):
        raise HeadError(
            "fractions of the training images must be above 0 and at most 1; "
            f"found {', '.join(f'{size:g}' for size in sizes)}"
        )
    return sizes


def checked_shots(shots: Sequence[int]) -> list[Shots]:
    """Return numbers of images in increasing order; raise HeadError if one is none."""
    if unfit := [one for one in shots if one != int(one) or one < 1]:
        raise HeadError(f"shots are numbers of images, at least 1; found {', '.join(map(str, unfit))}")
    return [Shots(number) for number in sorted({int(one) for one in shots})]


def training_sets(
    table: "FeatureTable",
    train: NDArray[np.intp],
    missing: Callable[[NDArray[np.intp]], set[str]],
    rule: SplitRule,
    sizes: Sequence[Size],
    repeats: int,
) -> tuple[dict[Size, list[NDArray[np.intp]]], list[dict[str, Any]]]:
    """Return the rows of each size's sets, and the sizes with a set that lacks what ``missing`` names."""
    # The last size is all images; one of as many a class as there are is left out.
    keys = [label_key(key) for key in np.asarray(table.group_keys(rule))[train].tolist()]
    drawn_by = [draws(keys, salt=f"{rule.salt}#{repeat}", first_byte=16) for repeat in range(repeats)]
    labels = np.asarray(table.label_texts)[train]
    sets: dict[Size, list[NDArray[np.intp]]] = {1.0: [train]}
    left_out = []
    for size in sizes[:-1]:
        drawn = [train[_chosen(size, draw, labels)] for draw in drawn_by]
        if lacking := sorted(set().union(*map(missing, drawn))):
            named = {"shots": size.number} if isinstance(size, Shots) else {"fraction": size}
            left_out.append({**named, "classes": lacking})
        elif len(drawn[0]) < len(train) or not isinstance(size, Shots):
            sets[size] = drawn
    return dict(sorted(sets.items(), key=lambda one: float(np.mean([*map(len, one[1])])))), left_out


def _chosen(size: Size, draw: NDArray[np.uint64], labels: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Return which images are in a set of a size."""
    if not isinstance(size, Shots):
        return np.asarray(draw < np.uint64(int(size * 2**64)))
    codes = np.unique(labels, return_inverse=True)[1]
    counts = np.bincount(codes)
    rank = np.empty(len(draw), np.intp)
    rank[np.lexsort((draw, codes))] = np.arange(len(draw)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank < size.number


def forecast_of(
    points: list[dict[str, Any]], draws: NDArray[np.float64], score: str
) -> tuple[dict[str, float] | None, dict[str, Any] | None]:
    """Return the power law through points, by their score, and what it forecasts for twice as many images."""
    if len(points) < _FEWEST_SIZES:
        return None, None
    n_all = points[-1]["n_train"]
    sizes = np.array([point["n_train"] for point in points]) / n_all
    measured = np.array([[1 - point[score] for point in points]])
    floor, slope, exponent = (value[0].item() for value in fit_power_law(sizes, measured))
    floors, slopes, exponents = fit_power_law(sizes, 1 - draws)
    return {"floor": floor, "slope": slope, "exponent": exponent}, {
        "n_train": round(2 * n_all),
        score: 1 - floor - slope * 2.0**-exponent,
        f"{score}_ci": list(percentile_interval(1 - floors - slopes * 2**-exponents)),
        "gain": slope * (1 - 2.0**-exponent),
        "gain_ci": list(percentile_interval(slopes * (1 - 2**-exponents))),
    }


def verdict_on(
    forecast: dict[str, Any] | None, n_wrong: int, n_images: int, split: str
) -> tuple[bool | None, str]:
    """Return whether twice as many images would help, and that in words."""
    unknown = "whether twice as many images would help cannot be determined"
    if forecast is None:
        return None, f"{unknown} from fewer than {_FEWEST_SIZES} sizes"
    if n_wrong < _FEWEST_MISTAKES:
        return None, f"{unknown}: only {n_wrong} of {n_images:,} {split} images are misclassified now"
    (low, high), gain = forecast["gain_ci"], forecast["gain"]
    by = f"{100 * gain:.1f} points (nominal 95% interval {100 * low:.1f} to {100 * high:.1f})"
    if low >= _HELP:
        return True, f"twice as many images would help: by about {by}"
    if high <= _HARDLY:
        return False, f"twice as many images would hardly help: by about {by}"
    return None, f"{unknown} from {n_images:,} {split} images: by about {by}"

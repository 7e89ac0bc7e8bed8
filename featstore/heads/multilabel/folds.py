"""Folds of images with several labels: groups stay together, each label is spread evenly."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featstore.errors import SplitError
from featstore.splits.keys import draws, label_key

__all__ = ["LabelFolds", "label_divisions", "label_folds"]

_Numbers = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelFolds:
    """Training and held-out positions of each fold; every training part has images with each label."""

    divisions: list[tuple[_Numbers, _Numbers]]
    unjudged: NDArray[np.bool_]  # (n_classes,): labels of which no image is held out, or none without it


def label_divisions(keys: Sequence[str], has: NDArray[np.bool_], *, folds: int, salt: str) -> LabelFolds:
    """Divide images into folds by their groups."""
    numbers = label_folds(keys, has, folds=folds, salt=salt)
    is_held_out, unjudged = np.ones(len(has), np.bool_), np.zeros(has.shape[1], np.bool_)
    for present in (has, ~has):
        met = np.stack([present[numbers == fold].any(axis=0) for fold in range(folds)])
        is_single = met.sum(axis=0) == 1
        unjudged |= is_single
        # Images of a label that lie in one fold are in every training part, and held out by none.
        is_held_out &= ~present[:, is_single].any(axis=1)
    divisions = [
        (np.flatnonzero((numbers != fold) | ~is_held_out), np.flatnonzero((numbers == fold) & is_held_out))
        for fold in range(folds)
    ]
    divisions = [(inside, outside) for inside, outside in divisions if len(outside)]
    if not divisions:
        raise SplitError(
            f"{len(has)} images cannot be divided into {folds} folds: those with a label, or without "
            "it, stay together; add images"
        )
    return LabelFolds(divisions=divisions, unjudged=unjudged)


def label_folds(keys: Sequence[str], has: NDArray[np.bool_], *, folds: int, salt: str) -> NDArray[np.intp]:
    """Assign images to folds by their groups, int of shape (n,).

    Iterative stratification (Sechidis, Tsoumakas & Vlahavas, ECML PKDD 2011, algorithm 1), of groups: those
    with the rarest label go first, each to the fold that lacks most images with it.
    """
    # The largest groups first, and ties in hash order, where the paper draws.
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
        raise SplitError(f"folds must be an integer of at least 2; found {folds!r}")
    names, unit = np.unique(np.asarray(keys, np.str_), return_inverse=True)
    if len(names) < folds:
        raise SplitError(
            f"{len(names)} images or groups cannot be divided into {folds} folds; use fewer folds"
        )
    sizes = np.bincount(unit)
    counts = np.zeros((len(names), has.shape[1]), np.intp)
    np.add.at(counts, unit, has)
    order = np.lexsort((draws([label_key(str(name)) for name in names], salt=salt, first_byte=8), -sizes))
    remaining = counts.sum(axis=0)
    lacking, room = np.tile(remaining / folds, (folds, 1)), np.full(folds, len(has) / folds)
    found = np.full(len(names), -1, np.intp)

    def assign(number: int, wanted: NDArray[np.float64]) -> None:
        nonlocal remaining
        fold = int(np.lexsort((-room, -wanted))[0])
        found[number] = fold
        lacking[fold] -= counts[number]
        room[fold] -= sizes[number]
        remaining = remaining - counts[number]

    while remaining.any():
        label = int(np.where(remaining > 0, remaining, len(has) + 1).argmin())
        for number in order[(counts[order, label] > 0) & (found[order] < 0)].tolist():
            assign(number, lacking[:, label])
    for number in order[found[order] < 0].tolist():
        assign(number, room)
    return found[unit]

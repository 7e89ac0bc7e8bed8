"""Stratification: moving few images so that small classes occur in every part."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["class_codes", "fill_folds", "fill_parts"]

_Ints = NDArray[np.intp]


def class_codes(labels: Sequence[str | None] | NDArray[np.str_]) -> tuple[list[str], _Ints]:
    """Return the sorted classes, and each row's class number, -1 without a label."""
    texts = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
    classes = sorted({text for text in texts if text})
    numbers = {text: number for number, text in enumerate(classes)}
    return classes, np.array([numbers.get(text, -1) for text in texts], np.intp)


def fill_parts(
    parts: _Ints, drawn: NDArray[np.uint64], codes: _Ints, can_be: NDArray[np.bool_], *, order: Sequence[int]
) -> _Ints:
    """Move as few units as possible so that each class occurs in every part, if it has enough."""
    # Rows with the same hash in `drawn` are one unit. `can_be`, of shape (n, n_parts), says which parts a row
    # may be moved to. Parts are filled in `order`; none loses its last unit of a class to a later one.
    n_classes, n_parts = int(codes.max(initial=-1)) + 1, can_be.shape[1]
    is_labelled = codes >= 0
    n_images = np.bincount(codes[is_labelled] * n_parts + parts[is_labelled], minlength=n_classes * n_parts)
    if n_images.reshape(n_classes, n_parts)[:, list(order)].all():
        return parts
    assigned = _Assignment(parts, drawn, codes, n_classes, n_parts)
    may_go = np.ones((assigned.n_units, n_parts), np.bool_)
    for part in range(n_parts):
        may_go[assigned.unit_of_row[~can_be[:, part]], part] = False
    for at, part in enumerate(order):
        kept = {*order[:at]}
        for code in np.flatnonzero(assigned.counts[:, part] == 0).tolist():
            if assigned.counts[code, part]:
                continue
            unit = _unit_to_move(assigned, code, part, may_go[:, part], kept)
            if unit is not None:
                assigned.move(unit, part)
    return assigned.by_row(parts)


def fill_folds(folds: _Ints, drawn: NDArray[np.uint64], codes: _Ints, n_folds: int) -> _Ints:
    """Move one unit of each class with several units, all in one fold, to the next fold."""
    n_classes = int(codes.max(initial=-1)) + 1
    assigned = _Assignment(folds, drawn, codes, n_classes, n_folds)
    is_apart = assigned.counts > 0
    for code in np.flatnonzero((is_apart.sum(axis=1) == 1) & (assigned.counts.sum(axis=1) > 1)).tolist():
        if (assigned.counts[code] > 0).sum() > 1:
            continue
        fold = int(assigned.counts[code].argmax())
        there = (fold + 1) % n_folds
        for unit in assigned.units(code, fold).tolist():
            counts = assigned.counts[assigned.codes(unit)]
            counts[:, fold] -= 1
            counts[:, there] += 1
            if (((counts > 0).sum(axis=1) > 1) | (counts.sum(axis=1) == 1)).all():
                assigned.move(unit, there)
                break
    return assigned.by_row(folds)


def _unit_to_move(
    assigned: "_Assignment", code: int, part: int, may_go: NDArray[np.bool_], kept: set[int]
) -> int | None:
    """Return the unit to move into a part that lacks a class: from the part with most units of the class."""
    counts = assigned.counts[code]
    # Among equals, take from train before validation before test.
    for source in sorted(range(len(counts)), key=lambda one: (-counts[one], -one)):
        units = assigned.units(code, source)
        units = units[may_go[units]]
        # The unit whose hash is nearest to the part's range.
        for unit in (units if part < source else units[::-1]).tolist():
            if source not in kept or (assigned.counts[assigned.codes(unit), source] > 1).all():
                return int(unit)
    return None


class _Assignment:
    """The part and the classes of each unit: rows that stay together."""

    def __init__(
        self, parts: _Ints, drawn: NDArray[np.uint64], codes: _Ints, n_classes: int, n_parts: int
    ) -> None:
        # Ascending: a unit's number is its position in hash order.
        names, self.unit_of_row = np.unique(drawn, return_inverse=True)
        self.n_units = len(names)
        self._part = np.zeros(self.n_units, np.intp)
        self._part[self.unit_of_row] = parts
        # Units torn apart by given splits are not moved.
        self._is_torn = np.zeros(self.n_units, np.bool_)
        self._is_torn[self.unit_of_row[self._part[self.unit_of_row] != parts]] = True
        labelled = np.flatnonzero(codes >= 0)
        units, codes, parts = self.unit_of_row[labelled], codes[labelled], parts[labelled]
        seen = np.unique((units * n_parts + parts) * n_classes + codes)
        self.counts = np.bincount(
            seen % n_classes * n_parts + seen // n_classes % n_parts, minlength=n_classes * n_parts
        ).reshape(n_classes, n_parts)
        self._units, self._codes = np.divmod(np.unique(units * n_classes + codes), n_classes)
        self._first_of_unit = np.searchsorted(self._units, np.arange(self.n_units + 1))
        self._by_class = np.argsort(self._codes, kind="stable")
        self._first_of_class = np.searchsorted(self._codes[self._by_class], np.arange(n_classes + 1))

    def units(self, code: int, part: int) -> _Ints:
        """Return a class's movable units in a part, in hash order."""
        at = self._by_class[self._first_of_class[code] : self._first_of_class[code + 1]]
        units = self._units[at]
        return np.asarray(units[(self._part[units] == part) & ~self._is_torn[units]], np.intp)

    def codes(self, unit: int) -> _Ints:
        """Return the classes of a unit."""
        return self._codes[self._first_of_unit[unit] : self._first_of_unit[unit + 1]]

    def move(self, unit: int, part: int) -> None:
        """Move a unit to another part."""
        codes = self.codes(unit)
        self.counts[codes, self._part[unit]] -= 1
        self.counts[codes, part] += 1
        self._part[unit] = part

    def by_row(self, parts: _Ints) -> _Ints:
        """Return each row's part; rows of units torn apart by given splits keep theirs."""
        torn = self._is_torn[self.unit_of_row]
        return np.asarray(np.where(torn, parts, self._part[self.unit_of_row]), np.intp)

"""Giving small classes a share of every part, where the hash alone leaves them without."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["class_codes", "fill_folds", "fill_parts"]

_Ints = NDArray[np.intp]


def class_codes(labels: Sequence[str | None] | NDArray[np.str_]) -> tuple[list[str], _Ints]:
    """Return the classes, sorted, and the number of each row's, -1 where it has no label."""
    texts = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
    classes = sorted({text for text in texts if text})
    numbers = {text: number for number, text in enumerate(classes)}
    return classes, np.array([numbers.get(text, -1) for text in texts], np.intp)


def fill_parts(
    parts: _Ints, drawn: NDArray[np.uint64], codes: _Ints, can_be: NDArray[np.bool_], *, order: Sequence[int]
) -> _Ints:
    """Move as little as gives each class something in every part, where it has enough for that.

    Parameters
    ----------
    parts : ndarray of shape (n,), int
        As the hash alone deals the rows, numbered in the hash order.
    drawn : ndarray of shape (n,), uint64
        The hash; rows with the same one stay together.
    codes : ndarray of shape (n,), int
        The rows' classes, -1 for those without.
    can_be : ndarray of shape (n, n_parts), bool
        Which parts a row may be moved to.
    order : sequence of int
        The parts to fill, the most needed first: none is emptied of a class for the sake of one after it.

    Returns
    -------
    ndarray of shape (n,), int
    """
    n_classes, n_parts = int(codes.max(initial=-1)) + 1, can_be.shape[1]
    is_labelled = codes >= 0
    n_images = np.bincount(codes[is_labelled] * n_parts + parts[is_labelled], minlength=n_classes * n_parts)
    if n_images.reshape(n_classes, n_parts)[:, list(order)].all():
        return parts
    dealt = _Dealt(parts, drawn, codes, n_classes, n_parts)
    may_go = np.ones((dealt.n_units, n_parts), np.bool_)
    for part in range(n_parts):
        may_go[dealt.unit_of_row[~can_be[:, part]], part] = False
    for at, part in enumerate(order):
        kept = {*order[:at]}
        for code in np.flatnonzero(dealt.counts[:, part] == 0).tolist():
            if dealt.counts[code, part]:
                continue
            unit = _to_move(dealt, code, part, may_go[:, part], kept)
            if unit is not None:
                dealt.move(unit, part)
    return dealt.by_row(parts)


def fill_folds(folds: _Ints, drawn: NDArray[np.uint64], codes: _Ints, n_folds: int) -> _Ints:
    """Move one unit of each class that has several, all in one fold, to the next fold.

    Parameters and returns are those of :func:`fill_parts`.
    """
    n_classes = int(codes.max(initial=-1)) + 1
    dealt = _Dealt(folds, drawn, codes, n_classes, n_folds)
    is_apart = dealt.counts > 0
    for code in np.flatnonzero((is_apart.sum(axis=1) == 1) & (dealt.counts.sum(axis=1) > 1)).tolist():
        if (dealt.counts[code] > 0).sum() > 1:
            continue
        fold = int(dealt.counts[code].argmax())
        there = (fold + 1) % n_folds
        for unit in dealt.units(code, fold).tolist():
            counts = dealt.counts[dealt.codes(unit)]
            counts[:, fold] -= 1
            counts[:, there] += 1
            if (((counts > 0).sum(axis=1) > 1) | (counts.sum(axis=1) == 1)).all():
                dealt.move(unit, there)
                break
    return dealt.by_row(folds)


def _to_move(dealt: "_Dealt", code: int, part: int, may_go: NDArray[np.bool_], kept: set[int]) -> int | None:
    """Return the unit to move into a part that lacks a class: from where the class has most."""
    counts = dealt.counts[code]
    # Of equals, train gives before validation and that before test.
    for source in sorted(range(len(counts)), key=lambda one: (-counts[one], -one)):
        units = dealt.units(code, source)
        units = units[may_go[units]]
        # The one whose hash is the nearest to the part's own range.
        for unit in (units if part < source else units[::-1]).tolist():
            if source not in kept or (dealt.counts[dealt.codes(unit), source] > 1).all():
                return int(unit)
    return None


class _Dealt:
    """In which part each unit is, and of which classes: a unit is the rows that stay together."""

    def __init__(
        self, parts: _Ints, drawn: NDArray[np.uint64], codes: _Ints, n_classes: int, n_parts: int
    ) -> None:
        # Ascending, so that a unit's number is its place in the hash order.
        names, self.unit_of_row = np.unique(drawn, return_inverse=True)
        self.n_units = len(names)
        self._part = np.zeros(self.n_units, np.intp)
        self._part[self.unit_of_row] = parts
        # Given splits may tear a unit apart: it then stays as it is.
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
        """Return a class's units in a part that can be moved, in the hash order."""
        at = self._by_class[self._first_of_class[code] : self._first_of_class[code + 1]]
        units = self._units[at]
        return np.asarray(units[(self._part[units] == part) & ~self._is_torn[units]], np.intp)

    def codes(self, unit: int) -> _Ints:
        """Return the classes of a unit."""
        return self._codes[self._first_of_unit[unit] : self._first_of_unit[unit + 1]]

    def move(self, unit: int, part: int) -> None:
        """Put a unit into another part."""
        codes = self.codes(unit)
        self.counts[codes, self._part[unit]] -= 1
        self.counts[codes, part] += 1
        self._part[unit] = part

    def by_row(self, parts: _Ints) -> _Ints:
        """Return each row's part; of torn units as they were."""
        torn = self._is_torn[self.unit_of_row]
        return np.asarray(np.where(torn, parts, self._part[self.unit_of_row]), np.intp)

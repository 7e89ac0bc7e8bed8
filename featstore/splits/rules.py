"""Split rules: how images are assigned to train, validation and test."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featstore.errors import SplitError
from featstore.splits.keys import (
    RANGE,
    checked_fraction,
    checked_hashes,
    checked_pattern,
    draws,
    folder_names,
    pattern_names,
    percentages,
    retrain_names,
    rows_as_bytes,
    salt_bytes,
    text_bytes,
)
from featstore.splits.strata import class_codes, fill_parts

__all__ = ["PARTS", "SPLITS", "SplitRule", "assign_splits", "group_keys", "part_numbers"]

SPLITS = ("train", "validation", "test")

_RULES = ("content", "group", "folder", "pattern", "filename", "retrain")
# Left out of the dictionary at these values, so that earlier versions can read it.
_LATER_FIELDS = {
    "group_pattern": None,
    "retrain_prefix": None,
    "validation_from_train": False,
    "stratify": False,
}
# In the order of hash ranges, and in the order of filling.
PARTS = ("test", "validation", "train")
_FILLED = ("train", "test", "validation")

_Texts = Sequence[str | None] | NDArray[np.str_]


@dataclass(frozen=True, kw_only=True)
class SplitRule:
    """Rule that assigns images to train, validation and test.

    Parameters
    ----------
    by : {"content", "group", "folder", "pattern", "filename", "retrain"}
        What the split is decided by: the image's content hash, its group, the folder of its file, the match
        of ``group_pattern`` in its path, its file name, or the formula of TensorFlow's ``retrain.py``. Rows
        that agree in it are always in one split.
    test, validation : float
        Fraction of each, in [0, 1), together below 1. Zero leaves the split empty.
    salt : str
        Any text; another salt gives another split. Not used by ``"retrain"``.
    group_pattern : str, optional
        For ``"pattern"``, a regular expression searched for in the catalog's path, such as
        ``"(plant[0-9]+)_"``; the group is its first capturing group, or the whole match if it has none. At
        most 1,000 characters.
    retrain_prefix : str, optional
        For ``"retrain"``, what preceded ``CLASS/FILE`` in the paths that ``retrain.py`` hashed: its
        ``--image_dir`` as given. The default, nothing, is the same on every machine, but differs from any run
        of ``retrain.py``.
    validation_from_train : bool
        Whether validation images are also taken from those that are given to train: for official lists of
        train and test only.
    stratify : bool, optional
        Whether classes that the hash alone leaves without an image in a split get one, if they have enough:
        in train, then in test, then in validation. No other class changes. Default: True, except for
        ``"retrain"``. Heads of earlier versions use the hash alone.

    Raises
    ------
    SplitError
        A field has an invalid value, or one that its rule does not use.

    Examples
    --------
    >>> SplitRule(test=0.2).to_dict()
    {'by': 'content', 'test': 0.2, 'validation': 0.1, 'salt': '', 'stratify': True}
    """

    by: str = "content"
    test: float = 0.1
    validation: float = 0.1
    salt: str = ""
    group_pattern: str | None = None
    retrain_prefix: str | None = None
    validation_from_train: bool = False
    stratify: bool | None = None

    def __post_init__(self) -> None:
        if self.by not in _RULES:
            raise SplitError(f"by must be one of {', '.join(_RULES)}; found {self.by!r}")
        for name in ("test", "validation"):
            object.__setattr__(self, name, checked_fraction(name, getattr(self, name)))
        if self.test + self.validation >= 1:
            raise SplitError(
                "test and validation together must be below 1 to leave images for train; found "
                f"test={self.test} and validation={self.validation}"
            )
        salt_bytes(self.salt)
        if self.by == "pattern":
            checked_pattern(self.group_pattern)
        elif self.group_pattern is not None:
            raise SplitError(
                f"group_pattern is only used by splits by pattern; found {self.group_pattern!r} with a split "
                f"by {self.by}"
            )
        if self.by == "retrain":
            if self.salt:
                raise SplitError(f"a split by retrain has no salt; found {self.salt!r}")
            if self.retrain_prefix is not None and not isinstance(self.retrain_prefix, str):
                raise SplitError(f"retrain_prefix must be a str; found {self.retrain_prefix!r}")
        elif self.retrain_prefix is not None:
            raise SplitError(
                f"retrain_prefix is only used by splits by retrain; found {self.retrain_prefix!r} with a "
                f"split by {self.by}"
            )
        if not isinstance(self.validation_from_train, bool):
            raise SplitError(
                f"validation_from_train must be True or False; found {self.validation_from_train!r}"
            )
        if self.stratify is None:
            object.__setattr__(self, "stratify", self.by != "retrain")
        if not isinstance(self.stratify, bool):
            raise SplitError(f"stratify must be True or False; found {self.stratify!r}")
        if self.stratify and self.by == "retrain":
            raise SplitError(
                "a split by retrain reproduces retrain.py, which does not stratify; leave stratify out"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values, without those that the rule does not use."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {
            name: value
            for name, value in values.items()
            if name not in _LATER_FIELDS or value != _LATER_FIELDS[name]
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Create a rule from the output of :meth:`to_dict`.

        Parameters
        ----------
        data : mapping

        Returns
        -------
        SplitRule

        Raises
        ------
        SplitError
            A field is unknown or has an invalid value.
        """
        known = {entry.name for entry in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise SplitError(
                f"a split rule has the fields {', '.join(sorted(known))}; found {', '.join(unknown)}"
            )
        return cls(**(_LATER_FIELDS | {**data}))


def assign_splits(
    rule: SplitRule,
    *,
    content_hash: NDArray[np.uint8],
    groups: _Texts | None = None,
    paths: Sequence[str] | NDArray[np.str_] | None = None,
    given: _Texts | None = None,
    labels: _Texts | None = None,
) -> NDArray[np.str_]:
    """Return the split of each row: train, validation or test.

    A row's split depends on its hash alone, except in classes that would have no image in a split: if the
    rule stratifies and ``labels`` are given, at most two images (or groups) of each such class are moved. The
    order of rows never matters. :mod:`featstore.splits` defines the formula, and what changes when rows are
    added.

    Parameters
    ----------
    rule : SplitRule
    content_hash : ndarray of shape (n, 32), uint8
    groups : sequence of n str or None, optional
        Required by rules by group. None and ``""`` both mean that the row has no group.
    paths : sequence of n str, optional
        Paths in the catalog, with ``/`` between folders; required by rules by folder, pattern, file name or
        retrain.
    given : sequence of n str or None, optional
        Splits fixed by the user, which override the rule, except for ``validation_from_train`` of
        :class:`SplitRule`. None and ``""`` leave the row to the rule.
    labels : sequence of n str or None, optional
        Classes of the rows, to stratify by; without them all rows are assigned by the hash alone. Rows whose
        label is None or ``""`` belong to no class.

    Returns
    -------
    ndarray of shape (n,), str
        ``"train"``, ``"validation"`` or ``"test"``.

    Raises
    ------
    SplitError
        A column that the rule needs is missing, lengths differ, or ``given`` holds another value.

    Examples
    --------
    >>> hashes = np.arange(96, dtype=np.uint8).reshape(3, 32)
    >>> assign_splits(SplitRule(test=0.3), content_hash=hashes).tolist()
    ['validation', 'train', 'train']
    """
    hashes = _checked_columns(content_hash, groups=groups, paths=paths, given=given, labels=labels)
    parts = part_numbers(
        rule,
        hashes,
        _names(rule, groups, paths),
        given=None if given is None else _given_numbers(given),
        classes=None if labels is None else class_codes(labels)[1],
    )
    return np.asarray(np.array(PARTS, dtype="<U10")[parts])


def part_numbers(
    rule: SplitRule,
    hashes: NDArray[np.uint8],
    names: list[str] | None = None,
    *,
    given: NDArray[np.intp] | None = None,
    classes: NDArray[np.intp] | None = None,
) -> NDArray[np.intp]:
    """Return the number in ``PARTS`` of each row's split; see :func:`assign_splits`."""
    # Of given splits and classes the numbers too, -1 where there is none.
    parts = np.full(len(hashes), PARTS.index("train"))
    drawn = None
    if rule.by == "retrain":
        percent = percentages(names or [])
        validation, test = 100 * rule.validation, 100 * rule.test
        parts[percent < test + validation] = PARTS.index("test")
        parts[percent < validation] = PARTS.index("validation")
    else:
        drawn = draws(_keys(rule, hashes, names), salt=rule.salt, first_byte=0)
        below_test = int(rule.test * RANGE)
        below_validation = below_test + int(rule.validation * RANGE)
        parts[drawn < np.uint64(below_validation)] = PARTS.index("validation")
        parts[drawn < np.uint64(below_test)] = PARTS.index("test")
    can_be = np.ones((len(hashes), len(PARTS)), np.bool_)
    if given is not None:
        can_be = (given[:, None] < 0) | (given[:, None] == np.arange(len(PARTS)))
        if rule.validation_from_train:
            can_be[given == PARTS.index("train"), PARTS.index("validation")] = True
        parts = np.where(can_be[np.arange(len(parts)), parts], parts, given)
    if rule.stratify and classes is not None and drawn is not None:
        is_used = {"train": True, "validation": rule.validation > 0, "test": rule.test > 0}
        order = [PARTS.index(part) for part in _FILLED if is_used[part]]
        parts = fill_parts(parts, drawn, classes, can_be, order=order)
    return parts


def _given_numbers(given: _Texts) -> NDArray[np.intp]:
    """Return the number in ``PARTS`` of each given split, -1 where there is none."""
    numbers = {None: -1, "": -1} | {part: number for number, part in enumerate(PARTS)}
    entries = given.tolist() if isinstance(given, np.ndarray) else given
    if unknown := sorted(set(entries) - numbers.keys(), key=str):
        raise SplitError(
            f"given splits must be one of {', '.join(SPLITS)}; found {', '.join(map(repr, unknown))}"
        )
    return np.fromiter(map(numbers.__getitem__, entries), np.intp, count=len(entries))


def group_keys(
    rule: SplitRule,
    *,
    content_hash: NDArray[np.uint8],
    groups: _Texts | None = None,
    paths: Sequence[str] | NDArray[np.str_] | None = None,
) -> NDArray[np.str_]:
    """Return each row's group under the rule, as ``groups`` of a cross-validator; str of shape (n,)."""
    # Rows without a group, and all rows of a rule by content, have their content hash in hexadecimal.
    hashes = _checked_columns(content_hash, groups=groups, paths=paths)
    names = _names(rule, groups, paths)
    keys = [key.hex() for key in rows_as_bytes(hashes)]
    if names is not None:
        keys = [name or key for name, key in zip(names, keys, strict=True)]
    return np.array(keys, dtype=np.str_)


def _checked_columns(content_hash: Any, **columns: Any) -> NDArray[np.uint8]:
    hashes = checked_hashes(content_hash)
    for name, column in columns.items():
        if column is not None and len(column) != len(hashes):
            raise SplitError(
                f"{name} must have one entry for each of the {len(hashes)} rows; found {len(column)}"
            )
    return hashes


def _names(
    rule: SplitRule, groups: _Texts | None, paths: Sequence[str] | NDArray[np.str_] | None
) -> list[str] | None:
    """Return the text that each row is split by, ``""`` if it has none; None for a rule by content."""
    if rule.by == "content":
        return None
    if rule.by == "group":
        if groups is None:
            raise SplitError("a split by group needs groups; found none")
        names = [name or "" for name in groups]
        missing = (
            'a split by group needs groups, and no image has one; add a column "group" to a CSV, '
            "write groups of near-duplicates with featstore duplicates --write-groups, or split by content"
        )
    else:
        if paths is None:
            word = "file name" if rule.by == "filename" else rule.by
            raise SplitError(f"a split by {word} needs paths; found none")
        paths = list(paths)
        if rule.by == "filename":
            return [os.path.basename(path) for path in paths]
        if rule.by == "retrain":
            return retrain_names(rule.retrain_prefix or "", paths)
        if rule.by == "folder":
            names = folder_names(paths)
            missing = "a split by folder needs folders, and no image is in one; split by content"
        else:
            names = pattern_names(rule.group_pattern or "", paths)
            missing = (
                f"the group pattern {rule.group_pattern!r} matches none of the {len(paths):,} paths, such as "
                f"{paths[0] if paths else ''!r}; it is searched for in the whole path, case-sensitively"
            )
    if names and not any(names):
        raise SplitError(missing)
    return names


def _keys(rule: SplitRule, hashes: NDArray[np.uint8], names: list[str] | None) -> Iterable[bytes]:
    keys = rows_as_bytes(hashes)
    if names is None:
        return keys
    mark = f"{rule.by}:".encode()
    if rule.by == "filename":
        return (mark + text_bytes(name) for name in names)
    return (mark + text_bytes(name) if name else key for name, key in zip(names, keys, strict=True))

"""The rule that deals images into train, validation and test, and what it says of each image."""

import os
from collections.abc import Mapping, Sequence
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

__all__ = ["SPLITS", "SplitRule", "assign_splits", "group_keys"]

SPLITS = ("train", "validation", "test")

_RULES = ("content", "group", "folder", "pattern", "filename", "retrain")
# Left out of the dictionary where they have no meaning, so that earlier versions read it too.
_LATER_FIELDS = {
    "group_pattern": None,
    "retrain_prefix": None,
    "validation_from_train": False,
    "stratify": False,
}
# In the order of the hash, and the most needed first.
_PARTS = ("test", "validation", "train")
_FILLED = ("train", "test", "validation")

_Texts = Sequence[str | None] | NDArray[np.str_]


@dataclass(frozen=True, kw_only=True)
class SplitRule:
    """How images are dealt into train, validation and test.

    Parameters
    ----------
    by : {"content", "group", "folder", "pattern", "filename", "retrain"}
        What decides: the image's content hash; its group; the folder that its file lies in; what
        ``group_pattern`` finds in its path; its file's name; or TensorFlow's ``retrain.py``. Rows that agree
        in it are always in one split.
    test, validation : float
        The fraction of all that each gets, in [0, 1), together below 1. Zero leaves the split empty.
    salt : str
        Any text; another salt deals anew. ``"retrain"`` has none.
    group_pattern : str, optional
        For ``"pattern"``, a regular expression that is searched in the catalog's path, such as
        ``"(plant[0-9]+)_"``; its first capturing group is the image's group, or the whole match where it has
        no groups. Of at most 1,000 characters.
    retrain_prefix : str, optional
        For ``"retrain"``, what stood before ``CLASS/FILE`` in the paths that ``retrain.py`` hashed: its
        ``--image_dir`` as it received it. By default nothing, which is the same on every machine but deals
        differently from any run of ``retrain.py``.
    validation_from_train : bool
        Whether the rule takes its validation images out of those that are given to train, too: for official
        lists of train and test only.
    stratify : bool, optional
        Whether a class that the hash alone leaves without an image in a part is given one, where it has
        enough: in train, then in test, then in validation. No other class changes. By default all but
        ``"retrain"`` do. Heads of earlier versions keep to the hash alone.

    Raises
    ------
    SplitError
        A field has a value that it cannot have, or one that its rule has no use for.

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
            raise SplitError(f"a split goes by one of {', '.join(_RULES)}; found {self.by!r}")
        for name in ("test", "validation"):
            object.__setattr__(self, name, checked_fraction(name, getattr(self, name)))
        if self.test + self.validation >= 1:
            raise SplitError(
                f"test and validation together must leave something for train; found test={self.test} and "
                f"validation={self.validation}"
            )
        salt_bytes(self.salt)
        if self.by == "pattern":
            checked_pattern(self.group_pattern)
        elif self.group_pattern is not None:
            raise SplitError(
                f"a group pattern is for splits by pattern; found {self.group_pattern!r} with a split by "
                f"{self.by}"
            )
        if self.by == "retrain":
            if self.salt:
                raise SplitError(f"the rule of retrain.py has no salt; found {self.salt!r}")
            if self.retrain_prefix is not None and not isinstance(self.retrain_prefix, str):
                raise SplitError(f"the prefix for retrain is a text; found {self.retrain_prefix!r}")
        elif self.retrain_prefix is not None:
            raise SplitError(
                f"a prefix for retrain is for splits by retrain; found {self.retrain_prefix!r} with a split "
                f"by {self.by}"
            )
        if not isinstance(self.validation_from_train, bool):
            raise SplitError(f"validation_from_train is true or false; found {self.validation_from_train!r}")
        if self.stratify is None:
            object.__setattr__(self, "stratify", self.by != "retrain")
        if not isinstance(self.stratify, bool):
            raise SplitError(f"stratify is true or false; found {self.stratify!r}")
        if self.stratify and self.by == "retrain":
            raise SplitError(
                "a split by retrain deals as retrain.py did, which does not stratify; leave stratify out"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; those that the rule makes no use of are left out."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {
            name: value
            for name, value in values.items()
            if name not in _LATER_FIELDS or value != _LATER_FIELDS[name]
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild a rule from :meth:`to_dict`.

        Raises
        ------
        SplitError
            A field is unknown or has a value that it cannot have.
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

    A row's split depends on its hash alone, but in classes that this leaves without an image in a part: of
    each of these at most two images (or groups) are moved, where the rule stratifies and ``labels`` are
    given. The order of the rows never matters. The formula, and what changes when rows are added, stands at
    the top of :mod:`featstore.splits`.

    Parameters
    ----------
    rule : SplitRule
    content_hash : ndarray of shape (n, 32), uint8
    groups : sequence of n str or None, optional
        Needed where the rule goes by group. None and ``""`` both mean that the row has none.
    paths : sequence of n str, optional
        With ``/`` between folders, as the catalog has them; needed where the rule goes by folder, pattern,
        file name or retrain.
    given : sequence of n str or None, optional
        Splits that the user has fixed; each wins over the rule, but see ``validation_from_train`` of
        :class:`SplitRule`. None and ``""`` leave the row to the rule.
    labels : sequence of n str or None, optional
        The rows' classes, for a rule that stratifies; without, all are dealt by the hash alone. Rows whose
        label is None or ``""`` are in no class.

    Returns
    -------
    ndarray of shape (n,), str
        ``"train"``, ``"validation"`` or ``"test"``.

    Raises
    ------
    SplitError
        What the rule goes by is missing, lengths differ, or ``given`` holds another word.

    Examples
    --------
    >>> hashes = np.arange(96, dtype=np.uint8).reshape(3, 32)
    >>> assign_splits(SplitRule(test=0.3), content_hash=hashes).tolist()
    ['validation', 'train', 'train']
    """
    hashes = _checked_columns(content_hash, groups=groups, paths=paths, given=given, labels=labels)
    names = _names(rule, groups, paths)
    parts = np.full(len(hashes), _PARTS.index("train"))
    drawn = None
    if rule.by == "retrain":
        percent = percentages(names or [])
        validation, test = 100 * rule.validation, 100 * rule.test
        parts[percent < test + validation] = _PARTS.index("test")
        parts[percent < validation] = _PARTS.index("validation")
    else:
        drawn = draws(_keys(rule, hashes, names), salt=rule.salt, first_byte=0)
        below_test = int(rule.test * RANGE)
        below_validation = below_test + int(rule.validation * RANGE)
        parts[drawn < np.uint64(below_validation)] = _PARTS.index("validation")
        parts[drawn < np.uint64(below_test)] = _PARTS.index("test")
    can_be = np.ones((len(hashes), len(_PARTS)), np.bool_)
    if given is not None:
        parts, can_be = _with_given(rule, parts, given)
    if rule.stratify and labels is not None and drawn is not None:
        is_dealt = {"train": True, "validation": rule.validation > 0, "test": rule.test > 0}
        order = [_PARTS.index(part) for part in _FILLED if is_dealt[part]]
        parts = fill_parts(parts, drawn, class_codes(labels)[1], can_be, order=order)
    return np.asarray(np.array(_PARTS, dtype="<U10")[parts])


def _with_given(
    rule: SplitRule, parts: NDArray[np.intp], given: _Texts
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the parts after given splits, and which each row may be in, of shape (n, n_parts)."""
    fixed = np.array([entry or "" for entry in given], dtype=np.str_)
    if unknown := sorted(set(fixed.tolist()) - {"", *SPLITS}):
        raise SplitError(
            f"a given split is one of {', '.join(SPLITS)}; found {', '.join(map(repr, unknown))}"
        )
    can_be = np.stack([(fixed == "") | (fixed == part) for part in _PARTS], axis=1)
    if rule.validation_from_train:
        can_be[fixed == "train", _PARTS.index("validation")] = True
    is_allowed = can_be[np.arange(len(parts)), parts]
    numbers = {part: number for number, part in enumerate(_PARTS)}
    given_parts = np.array([numbers.get(entry, 0) for entry in fixed.tolist()], np.intp)
    return np.where(is_allowed, parts, given_parts), can_be


def group_keys(
    rule: SplitRule,
    *,
    content_hash: NDArray[np.uint8],
    groups: _Texts | None = None,
    paths: Sequence[str] | NDArray[np.str_] | None = None,
) -> NDArray[np.str_]:
    """Say for each row what the rule keeps together, as the ``groups`` of a cross-validator.

    Parameters
    ----------
    rule : SplitRule
    content_hash, groups, paths
        As for :func:`assign_splits`.

    Returns
    -------
    ndarray of shape (n,), str
        The group, folder, match or name that the rule goes by; the content hash in hexadecimal where it goes
        by content, or where the row has none of these.

    Raises
    ------
    SplitError
        What the rule goes by is missing, or lengths differ.

    Examples
    --------
    >>> hashes = np.zeros((3, 32), dtype=np.uint8)
    >>> rule = SplitRule(by="pattern", group_pattern="plant[0-9]+")
    >>> group_keys(rule, content_hash=hashes, paths=["a/plant7_1.jpg", "a/plant7_2.jpg", "b/plant3.jpg"])
    array(['plant7', 'plant7', 'plant3'], dtype='<U6')
    """
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
    """Return the text that each row goes by, ``""`` where it has none; None for a rule by content."""
    if rule.by == "content":
        return None
    if rule.by == "group":
        if groups is None:
            raise SplitError("a split by group needs the groups; found none")
        names = [name or "" for name in groups]
        missing = (
            'a split by group needs groups, and no image has one; give them in the column "group" of a CSV, '
            "note near-duplicates with featstore duplicates --write-groups, or split by content"
        )
    else:
        if paths is None:
            word = "file name" if rule.by == "filename" else rule.by
            raise SplitError(f"a split by {word} needs the paths; found none")
        paths = list(paths)
        if rule.by == "filename":
            return [os.path.basename(path) for path in paths]
        if rule.by == "retrain":
            return retrain_names(rule.retrain_prefix or "", paths)
        if rule.by == "folder":
            names = folder_names(paths)
            missing = "a split by folder needs folders, and no image lies in one; split by content"
        else:
            names = pattern_names(rule.group_pattern or "", paths)
            missing = (
                f"the group pattern {rule.group_pattern!r} finds nothing in any of the {len(paths):,} paths, "
                f"such as {paths[0] if paths else ''!r}; it is searched in the whole path as it stands, case "
                "included"
            )
    if names and not any(names):
        raise SplitError(missing)
    return names


def _keys(rule: SplitRule, hashes: NDArray[np.uint8], names: list[str] | None) -> list[bytes]:
    keys = rows_as_bytes(hashes)
    if names is None:
        return keys
    mark = f"{rule.by}:".encode()
    if rule.by == "filename":
        return [mark + text_bytes(name) for name in names]
    return [mark + text_bytes(name) if name else key for name, key in zip(names, keys, strict=True)]

"""The images that several heads are compared on: those that none of them was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError, SplitError
from featstore.heads.head import Head
from featstore.heads.multilabel.head import MultiLabelHead
from featstore.heads.regression.head import RegressionHead
from featstore.scoring.predictions import resampling_units

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["CommonImages", "find_common_images"]

_SPLITS = ("validation", "test")
_AnyHead: TypeAlias = Head | MultiLabelHead | RegressionHead


@dataclass(frozen=True, kw_only=True, eq=False)
class CommonImages:
    """Images that are in a split for every head, and that none was trained on."""

    names: list[str]  # of the heads
    tables: list["FeatureTable"]  # of each head
    rows: list[NDArray[np.intp]]  # (n,): of each table
    unit: str
    units: NDArray[np.intp]  # (n,): what is resampled
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(self.units)


def find_common_images(
    heads: Sequence[_AnyHead],
    tables: "FeatureTable | Sequence[FeatureTable]",
    split: str,
    names: Sequence[str] | None,
) -> CommonImages:
    """Return what heads are compared on; raise SplitError if there is none."""
    if len(heads) < 2:
        raise HeadError(f"a comparison needs at least two heads; found {len(heads)}")
    if split not in _SPLITS:
        raise SplitError(f"split must be {' or '.join(_SPLITS)}; found {split!r}")
    of_each: list[FeatureTable] = list(tables) if isinstance(tables, Sequence) else [tables for _ in heads]
    if len(of_each) != len(heads):
        raise HeadError(f"expected a table for each of the {len(heads)} heads; found {len(of_each)}")
    called = _names(heads) if names is None else list(names)
    if len(set(called)) != len(heads):
        raise HeadError(f"expected {len(heads)} different names; found {', '.join(called)}")
    for head, table in zip(heads, of_each, strict=True):
        head.check_fingerprint(table.fingerprint, spec=table.spec)
    contents = [_contents(head, table, split) for head, table in zip(heads, of_each, strict=True)]
    fitted_on = {content for head in heads for table in of_each for content in _seen(head, table, split)}
    common, left_out = _common(contents, fitted_on)
    if not common:
        raise SplitError(
            f"no image is in {split} for all of {', '.join(called)}: of those that are in it for one, "
            f"{left_out['removed']} are of classes that a head was fitted without, or that were removed from "
            f"it, {left_out['seen']} (or others of their group) were seen by another in training, "
            f"{left_out['absent']} have no features or label for another and {left_out['conflicting']} have "
            "conflicting labels; fit the heads with one split rule on one catalog"
            + (", and without refitting on validation" if split == "validation" else "")
        )
    rows = [np.array([one.first_row[content] for content in common], np.intp) for one in contents]
    # Of the first head whose rule keeps groups together.
    at = next((at for at, head in enumerate(heads) if head.split_rule.by != "content"), 0)
    unit, units = resampling_units(of_each[at], rows[at], heads[at].split_rule)
    return CommonImages(names=called, tables=of_each, rows=rows, unit=unit, units=units, left_out=left_out)


@dataclass(frozen=True, kw_only=True)
class _Contents:
    """Contents of a table, identified by their hashes."""

    first_row: dict[bytes, int]
    # Only if the head's rule keeps more than copies together.
    units: dict[bytes, int]
    labels: dict[bytes, set[str]]
    splits: dict[bytes, set[str]]
    split: str
    removed: set[bytes]

    def is_candidate(self, content: bytes) -> bool:
        return self.split in self.splits.get(content, ())


def _contents(head: _AnyHead, table: "FeatureTable", split: str) -> _Contents:
    if isinstance(head, MultiLabelHead):
        sets = np.packbits(head.label_sets_of(table), axis=1)
        labels = np.array([one.tobytes().hex() for one in sets])
        removed, is_labelled = np.zeros(len(table), np.bool_), np.asarray(table.is_labelled)
    elif isinstance(head, RegressionHead):
        labels = head.target_of(table).astype(np.str_)
        removed, is_labelled = np.zeros(len(table), np.bool_), np.asarray(table.is_labelled)
    else:
        labels = np.asarray(table.y)
        removed, is_labelled = head.are_of_removed_classes(head.labels_of(table)), labels != ""
    splits = np.asarray(table.splits(head.split_rule))
    rows = np.flatnonzero(is_labelled)
    hashes = [table.content_hash_bytes[row].tobytes() for row in rows.tolist()]
    units: dict[bytes, int] = {}
    if head.split_rule.by != "content":
        codes = resampling_units(table, rows, head.split_rule)[1]
        units = dict(zip(hashes, codes.tolist(), strict=True))
    found = _Contents(first_row={}, units=units, labels={}, splits={}, split=split, removed=set())
    for row, content in zip(rows.tolist(), hashes, strict=True):
        found.first_row.setdefault(content, row)
        found.labels.setdefault(content, set()).add(str(labels[row]))
        found.splits.setdefault(content, set()).add(str(splits[row]))
        if removed[row]:
            found.removed.add(content)
    return found


def _seen(head: _AnyHead, table: "FeatureTable", split: str) -> set[bytes]:
    is_seen = head.was_fitted_on(table)
    if split != "validation":
        is_seen = is_seen | head.was_chosen_on(table)
    return {row.tobytes() for row in np.asarray(table.content_hash_bytes)[is_seen]}


def _common(contents: Sequence[_Contents], fitted_on: set[bytes]) -> tuple[list[bytes], dict[str, int]]:
    """Return the sorted contents to compare on, and counts of those left out by reason."""
    common, left_out = [], {"removed": 0, "seen": 0, "absent": 0, "conflicting": 0}
    seen = {content for one in contents for content, splits in one.splits.items() if splits != {one.split}}
    seen |= fitted_on
    for one in contents:
        seen_units = {unit for content, unit in one.units.items() if content in seen}
        seen |= {content for content, unit in one.units.items() if unit in seen_units}
    for content in sorted(
        {content for one in contents for content in one.first_row if one.is_candidate(content)}
    ):
        if any(content in one.removed for one in contents):
            left_out["removed"] += 1
        elif content in seen:
            left_out["seen"] += 1
        elif any(content not in one.first_row for one in contents):
            left_out["absent"] += 1
        elif len(set().union(*(one.labels[content] for one in contents))) > 1:
            left_out["conflicting"] += 1
        else:
            common.append(content)
    return common, left_out


def _names(heads: Sequence[_AnyHead]) -> list[str]:
    names = [head.name for head in heads]
    if len(set(names)) < len(names):
        names = [f"{head.name} on {head.space or head.spec.name}" for head in heads]
    if len(set(names)) < len(names):
        names = [f"{name} ({number})" for number, name in enumerate(names, start=1)]
    return names

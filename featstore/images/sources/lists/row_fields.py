"""What a row of a list says of its image."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from featstore.errors import SourceError
from featstore.images.sources.lists.column_names import MARKED, ListOptions
from featstore.images.sources.records import checked_split
from featstore.label_sets import joined_labels

__all__ = ["RowFields", "row_fields"]


_MARKS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


class RowFields(NamedTuple):
    """The fields of an image's record that a list can give."""

    label: str | None = None
    group: str | None = None
    split: str | None = None
    weight: float | None = None
    target: float | None = None

    def described(self) -> str:
        """Return the fields that have a value."""
        named = self._asdict().items()
        return ", ".join(f"{name} {value!r}" for name, value in named if value is not None) or "no label"


def row_fields(where: str, cells: Mapping[str, str], options: ListOptions) -> RowFields:
    """Return the fields that the texts of a row's cells stand for, by the names of our columns."""
    label, group, word = (cells.get(name, "").strip() or None for name in ("label", "group", "split"))
    if options.label_columns:
        label = _marked(where, cells, options)
    weight = None
    if "weight" in cells:
        weight = _number(where, "weight", cells["weight"])
        if not weight > 0:
            raise SourceError(
                f"{where}: a weight must be a number above 0; found {cells['weight']!r}; leave the "
                "label empty where an image should not count"
            )
    target = None
    if text := cells.get("target", "").strip():
        target = _number(where, f"target {options.target}", text, hint=", or empty where it is not known")
    split = checked_split(word, where=where)
    return RowFields(label=label, group=group, split=split, weight=weight, target=target)


def _marked(where: str, cells: Mapping[str, str], options: ListOptions) -> str | None:
    """Return the labels whose columns hold 1, joined; None if all of them are empty."""
    marks = {name: cells[f"{MARKED}{name}"].strip() for name in options.label_columns}
    if not any(marks.values()):
        return None
    for name, mark in marks.items():
        if mark.lower() not in _MARKS:
            raise SourceError(
                f"{where}: the column {name!r} holds 0 or 1 for each image; found {mark[:40]!r}"
            )
    return joined_labels((name for name, mark in marks.items() if _MARKS[mark.lower()]), options.separator)


def _number(where: str, name: str, text: str, *, hint: str = "") -> float:
    try:
        # Python's own numbers may hold underscores.
        number = math.nan if "_" in text else float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise SourceError(f"{where}: the {name} is a number{hint}; found {text.strip()[:40]!r}")
    return number

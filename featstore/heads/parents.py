"""Parents of classes: from a CSV file, or from the names themselves."""

import csv
import os
from collections.abc import Iterable

from featstore.class_names import normalised_name
from featstore.errors import HeadError
from featstore.heads.hierarchy import Hierarchy
from featstore.images.sources.lists.column_names import LABEL_WORDS
from featstore.images.sources.lists.text_files import open_text
from featstore.messages import listed

__all__ = ["class_parents"]

_ENDINGS = (".csv", ".tsv")


def class_parents(hierarchy: str | os.PathLike[str], classes: Iterable[str]) -> dict[str, str]:
    """Return the parent of each class, and of each parent that has one.

    Parameters
    ----------
    hierarchy : str or path
        A file that ends in ``.csv`` or ``.tsv``, with the columns ``class`` (or ``label``) and ``parent``;
        parents may have rows of their own, and further columns are not looked at, so that it may be the list
        of the images. Or what stands between the levels in the names of the classes: of ``"animal/dog"`` the
        parent is ``"animal"`` with ``"/"``.
    classes : iterable of str
        Such as ``head.classes``.

    Returns
    -------
    dict of str to str
        For ``dataclasses.replace(head, parents=…)``.

    Raises
    ------
    HeadError
        The file cannot be used, none of the classes has a parent, or a name is an ancestor of itself.

    Examples
    --------
    >>> import featstore
    >>> featstore.class_parents("/", ["animal/cat", "animal/dog", "car"])
    {'animal/cat': 'animal', 'animal/dog': 'animal'}
    """
    labels, given = [str(label) for label in classes], os.fspath(hierarchy)
    parents = _read(given) if given.lower().endswith(_ENDINGS) else _of_names(given, labels)
    if not any(label in parents for label in labels):
        raise HeadError(
            f"none of the classes {listed(labels)} has a parent by {given!r}: give a .csv with the columns "
            "class and parent, or what stands between the levels in the names"
        )
    Hierarchy.of(labels, parents)
    return parents


def _of_names(separator: str, classes: list[str]) -> dict[str, str]:
    if not separator:
        raise HeadError("a hierarchy is a .csv file, or what stands between levels, such as '/'; found ''")
    parents: dict[str, str] = {}
    for label in classes:
        parts = label.split(separator)
        if "" in (part.strip() for part in parts):
            raise HeadError(f"the class {label!r} has an empty level between {separator!r}")
        for depth in range(1, len(parts)):
            parents[separator.join(parts[: depth + 1])] = separator.join(parts[:depth])
    return parents


def _read(path: str) -> dict[str, str]:
    parents: dict[str, str] = {}
    known: dict[str, tuple[str, int]] = {}
    try:
        with open_text(path, newline="") as file:
            rows = csv.reader(file, delimiter="\t" if path.lower().endswith(".tsv") else ",")
            at, above = _columns(path, next(rows, []))
            for row in rows:
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) <= max(at, above):
                    raise HeadError(
                        f"{path}, line {rows.line_num}: expected a class and a parent; found {row}"
                    )
                label, parent = (normalised_name(row[column].strip()) for column in (at, above))
                if not label:
                    continue
                before, line = known.setdefault(label, (parent, rows.line_num))
                if before != parent:
                    raise HeadError(
                        f"{path}, line {rows.line_num}: the parent of {label!r} is {parent or 'none'!r} here "
                        f"and {before or 'none'!r} on line {line}; a class has one parent"
                    )
                if parent:
                    parents[label] = parent
    except FileNotFoundError as error:
        raise HeadError(f"there is no file {path}; it holds the columns class and parent") from error
    except OSError as error:
        raise HeadError(f"{path} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise HeadError(f"{path} is no CSV file in UTF-8: {error}") from error
    return parents


def _columns(path: str, header: list[str]) -> tuple[int, int]:
    names = [name.strip().lower() for name in header]
    found = [word for word in ("class", *LABEL_WORDS) if word in names]
    if not found or "parent" not in names:
        shown = ", ".join(map(repr, header[:8])) or "nothing"
        raise HeadError(f"{path} needs the columns class and parent in its first line; found {shown}")
    return names.index(found[0]), names.index("parent")

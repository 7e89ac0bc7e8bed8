"""Lists of images in memory: paths, or a table with a column of paths."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from featstore.class_names import normalised_name
from featstore.errors import SourceError
from featstore.images.sources.lists.column_names import ListOptions, find_columns
from featstore.images.sources.lists.listed_files import ListedFiles
from featstore.images.sources.lists.row_fields import RowFields, row_fields
from featstore.images.sources.objects import with_stamps
from featstore.images.sources.records import ImageRecord, Records, Source

__all__ = ["can_be_path", "cell_text", "open_list_in_memory"]

_NAME = "images"
_MAX_CHARACTERS = 2000


def open_list_in_memory(images: Any, options: ListOptions) -> Source:
    """List images given as paths, or as a table such as a pandas DataFrame."""
    root = options.image_root or os.getcwd()
    files = ListedFiles(root)
    unused: list[str] = []
    records = Records()
    failures: list[tuple[str, str]] = []
    seen: dict[str, RowFields] = {}
    for number, cells in enumerate(_rows(images, unused, options)):
        path, found = files.look_up(options.completed(_path(number, cells["path"], options)))
        where = f"row {number}"
        texts = {name: cell_text(where, name, cell) or "" for name, cell in cells.items() if name != "path"}
        fields = row_fields(where, texts, options)
        if path in seen:
            if seen[path] != fields:
                raise SourceError(
                    f"{where}: {path!r} has {fields.described()} here and {seen[path].described()} before; "
                    "keep one of the two rows"
                )
            continue
        seen[path] = fields
        if isinstance(found, str):
            failures.append((path, found))
            continue
        records.append(ImageRecord(path=path, **fields._asdict(), stamp=found))
    if records.lack_stamps:
        records, missing = with_stamps(records, root)
        failures += missing
    if not records:
        raise SourceError(_nothing_found(failures, root))
    return Source(
        name=_NAME,
        root=root,
        location="",
        records=records,
        failures=failures,
        ignored=0,
        unused_columns=unused,
    )


def _rows(images: Any, unused: list[str], options: ListOptions) -> Iterator[dict[str, Any]]:
    """Yield each image's cells by column."""
    if not hasattr(images, "columns"):
        if not isinstance(images, Iterable) or isinstance(images, dict):
            raise SourceError(
                "a source is a path, a list of paths or a table with a column 'path'; "
                f"found {type(images).__name__}"
            )
        if columns := [name for name in options.given() if name.endswith("_column") or name == "target"]:
            raise SourceError(f"a list of paths has no columns: leave out {' and '.join(columns)}")
        is_ordered = not isinstance(images, set | frozenset)
        yield from ({"path": path} for path in (images if is_ordered else sorted(images, key=str)))
        return
    columns = list(images.columns)
    names = [str(name) for name in columns]
    try:
        places = find_columns(names, options)
    except ValueError as error:
        raise SourceError(f"the table's columns: {error}") from error
    if "path" not in places:
        found = ", ".join(map(repr, names[:8])) or "none"
        raise SourceError(
            "the table needs a column 'path' and, optionally, 'label', 'group', 'split'; found "
            f"{found}: rename them, as in table.rename(columns={{{names[0] if names else 'file'!r}: 'path'}})"
        )
    unused += [name for place, name in enumerate(names) if place not in places.values()]
    for cells in zip(*(list(images[columns[place]]) for place in places.values()), strict=True):
        yield dict(zip(places, cells, strict=True))


def _path(number: int, cell: Any, options: ListOptions) -> str:
    if isinstance(cell, int) and options.path_column is not None:
        # A column of ids that is named holds what it holds.
        cell = str(cell)
    if not isinstance(cell, str | bytes | os.PathLike):
        raise SourceError(
            f"row {number}: a path is a text or a pathlib.Path; found {type(cell).__name__}. For pictures in "
            "memory there is featstore.BackboneFeatures"
        )
    path = os.fsdecode(cell)
    if not can_be_path(path):
        raise SourceError(f"row {number}: {path[:40]!r} cannot be the path of a file")
    return path


def cell_text(where: str, name: str, cell: Any) -> str | None:
    """Return the text of a cell that may be a number, or None if it is empty."""
    if _is_missing(cell):
        return None
    if not isinstance(cell, str) and hasattr(cell, "__len__"):
        raise SourceError(
            f"{where}: the {name} is {cell!r:.80}, and an image has one {name}; "
            "images of several classes at once are not what featstore learns"
        )
    if isinstance(cell, float) and cell.is_integer():
        # Whole numbers beside an empty cell are floats in pandas.
        cell = int(cell)
    text = normalised_name(str(cell).strip())
    if "\0" in text or len(text) > _MAX_CHARACTERS:
        raise SourceError(f"{where}: the {name} {text[:40]!r} has a NUL or over {_MAX_CHARACTERS:,} letters")
    if not _is_encodable(str.encode, text):
        raise SourceError(f"{where}: the {name} {text[:40]!r} cannot be written in UTF-8")
    return text or None


def can_be_path(text: str) -> bool:
    """Return whether a text can be the path of a file, and is not too long for a catalog."""
    is_short = bool(text.strip()) and len(text) <= _MAX_CHARACTERS
    return is_short and "\0" not in text and _is_encodable(os.fsencode, text)


def _is_encodable(encode: Callable[[str], bytes], text: str) -> bool:
    """Return whether a text has no half of a letter in it."""
    try:
        encode(text)
    except UnicodeEncodeError:
        return False
    return True


def _is_missing(cell: Any) -> bool:
    if cell is None or type(cell).__name__ == "NAType":
        return True
    try:
        # Only NaN and NaT are not themselves.
        return bool(cell != cell)
    except ValueError:
        return False


def _nothing_found(failures: list[tuple[str, str]], root: str) -> str:
    if not failures:
        return "the list names no image"
    path, reason = failures[0]
    return (
        f"none of the {len(failures):,} files in the list can be used; the first is {path!r}: {reason}. "
        f"Relative paths start from {root!r}, the current folder unless image_root says otherwise"
    )

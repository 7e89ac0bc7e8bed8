"""Reading a CSV list of images: path, and where the user gives them label, group and split."""

import csv
import os
import re
import stat
from collections.abc import Iterator
from itertools import chain

from featstore.errors import SourceError
from featstore.images.folders import unusable_reason
from featstore.images.records import ImageRecord, split_of_word
from featstore.stamps import FileStamp

__all__ = ["read_csv_list"]

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_DELIMITER_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
_COLUMNS = ("path", "label", "group", "split")
# At four bytes a character less than what a row of a catalog may have, however many rows there are.
_MAX_CHARACTERS = 2000
_MAX_HEADER = 2**20
_Fields = tuple[str | None, str | None, str | None]


def read_csv_list(location: str) -> tuple[list[ImageRecord], list[tuple[str, str]]]:
    """Read a list of images.

    The first row names the columns: ``path``, and optionally ``label``, ``group`` and ``split``; others are
    not used. The text is UTF-8, with or without a byte-order mark, in which paths may hold any bytes that a
    file name can; fields are separated by commas in a ``.csv`` and by tabs in a ``.tsv``, and quoted as
    spreadsheets do. White space around a label, group or split is dropped, and an empty one means none. No
    word does: ``nan``, ``NA`` and ``none`` are labels and groups like any other, and not splits. A split is
    written ``train`` or ``training``; ``validation``, ``valid``, ``val`` or ``dev``; ``test`` or ``testing``;
    in any case. Paths, labels and groups have at most 2,000 characters.

    A path is taken as it stands (``~`` means nothing) and then normalised as :func:`os.path.normpath` does:
    relative ones start from the list's folder and may leave it by ``..``, absolute ones stay absolute. It is
    the user's own list, and naming a file in it gives no access that its user lacks. A row that repeats
    another is dropped.

    Parameters
    ----------
    location : str
        An absolute path that ends in ``.csv`` or ``.tsv``.

    Returns
    -------
    records : list of ImageRecord
        In the order of the list.
    failures : list of (path, reason)
        The rows whose path is no regular file that can be seen, in the order of the list.

    Raises
    ------
    SourceError
        The list cannot be read; a row is malformed or contradicts another, named by its line; or none of its
        files exists.
    """
    root = os.path.dirname(location)
    # Absolute paths survive the joining: the prefix is used for relative ones only.
    prefix = root if root.endswith(os.sep) else root + os.sep
    records: list[ImageRecord] = []
    failures: list[tuple[str, str]] = []
    seen: dict[str, tuple[_Fields, int]] = {}
    for path, fields, line in _read_rows(location):
        if (earlier := seen.setdefault(path, (fields, line)))[1] != line:
            if earlier[0] != fields:
                raise _conflict(location, path, earlier, (fields, line))
            continue
        try:
            status = os.stat(path if os.path.isabs(path) else prefix + path)
        except OSError as error:
            failures.append((path, unusable_reason(error)))
            continue
        except ValueError as error:
            raise SourceError(f"{_at(location, line)}: the path holds a NUL character") from error
        if stat.S_ISREG(status.st_mode):
            label, group, split = fields
            records.append(
                ImageRecord(path=path, label=label, group=group, split=split, stamp=FileStamp.of(status))
            )
        else:
            failures.append((path, unusable_reason(status)))
    if not records:
        raise _nothing_found(location, root, failures)
    return records, failures


def _read_rows(location: str) -> Iterator[tuple[str, _Fields, int]]:
    """Yield path, (label, group, split) and number of the first line of each row."""
    delimiter = _DELIMITERS[os.path.splitext(location)[1].lower()]
    line = 1
    with open(location, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        # A large file of one line is no list, and is not read to its end to find that out.
        lines = chain(filter(None, [file.readline(_MAX_HEADER)]), file)
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            places, n_columns = _read_header(location, next(rows, None), delimiter)
            path_place = places["path"]
            names = [name for name in _COLUMNS[1:] if name in places]
            other_places = [places[name] for name in names]
            known: dict[tuple[str, ...], _Fields] = {}
            line = rows.line_num + 1
            for row in rows:
                if len(row) == n_columns:
                    path = row[path_place]
                    if not path:
                        raise SourceError(f"{_at(location, line)}: the path is empty")
                    if len(path) > _MAX_CHARACTERS:
                        raise _too_long(location, line, "path", path)
                    values = tuple([row[place] for place in other_places])
                    fields = known.get(values)
                    if fields is None:
                        named = dict(zip(names, values, strict=True))
                        fields = known[values] = _read_fields(location, line, named)
                    yield _normalised(path), fields, line
                elif row:
                    raise SourceError(
                        f"{_at(location, line)}: expected {n_columns} columns, as in the header, found "
                        f"{len(row)}; quote a field that holds the separator"
                    )
                line = rows.line_num + 1
        except csv.Error as error:
            hint = "; is a quote left open?" if re.search("limit|unexpected end", str(error)) else ""
            said = str(error).replace("\t", "\\t")
            raise SourceError(f"{_at(location, line)}: {said}{hint}") from error


def _read_header(location: str, header: list[str] | None, delimiter: str) -> tuple[dict[str, int], int]:
    """Find the columns by their names; return their places and how many columns there are."""
    if header is None:
        raise SourceError(
            f"{location!r} is empty; its first line has to name the columns: path and, as you like, label, "
            "group, split"
        )
    names = [name.strip().lower() for name in header]
    if any("\0" in name for name in names):
        raise SourceError(f"{location!r} is not UTF-8 text; save it as CSV in UTF-8")
    for name in _COLUMNS:
        if names.count(name) > 1:
            raise SourceError(f"{_at(location, 1)}: the column {name!r} is named more than once")
    if "path" not in names:
        found = ", ".join(repr(name[:40]) for name in header[:8]) or "an empty line"
        hint = ""
        for mark, word in _DELIMITER_NAMES.items():
            if len(header) == 1 and mark != delimiter and mark in header[0]:
                hint = f" (the fields look separated by {word}; expected {_DELIMITER_NAMES[delimiter]})"
        raise SourceError(
            f"{_at(location, 1)}: the first line has to name the columns: path and, as you like, label, "
            f"group, split; found {found}{hint}"
        )
    return {name: names.index(name) for name in _COLUMNS if name in names}, len(names)


def _read_fields(location: str, line: int, values: dict[str, str]) -> _Fields:
    for name, value in values.items():
        if "\0" in value:
            raise SourceError(f"{_at(location, line)}: the {name} holds a NUL character")
        if len(value) > _MAX_CHARACTERS:
            raise _too_long(location, line, name, value)
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise SourceError(
                f"{_at(location, line)}: the {name} is not UTF-8: {os.fsencode(value)[:40]!r}; save the list "
                "in UTF-8"
            ) from error
    label, group, word = (values.get(name, "").strip() or None for name in _COLUMNS[1:])
    split = None if word is None else split_of_word(word)
    if word is not None and split is None:
        raise SourceError(
            f"{_at(location, line)}: split is train, validation (val, valid, dev) or test, or empty to leave "
            f"it to the rule; found {word!r}"
        )
    return label, group, split


def _too_long(location: str, line: int, name: str, text: str) -> SourceError:
    return SourceError(
        f"{_at(location, line)}: the {name} has {len(text):,} characters, and may have {_MAX_CHARACTERS:,}; "
        f"it begins {text[:40]!r}"
    )


def _normalised(path: str) -> str:
    # Only these can be changed by normpath, which costs more than the rest of the row.
    if "//" in path or "/." in path or path[0] == "." or path[-1] == "/" or os.sep != "/":
        path = os.path.normpath(path)
        if path.startswith("//"):
            path = path[1:]
        if os.sep != "/":
            path = path.replace(os.sep, "/")
    return path


def _conflict(
    location: str, path: str, earlier: tuple[_Fields, int], later: tuple[_Fields, int]
) -> SourceError:
    trios = zip(_COLUMNS[1:], earlier[0], later[0], strict=True)
    name, before, now = next(trio for trio in trios if trio[1] != trio[2])
    return SourceError(
        f"{_at(location, later[1])}: {path!r} has {name} {now or 'none'!r} here and {before or 'none'!r} on "
        f"line {earlier[1]}; keep one of the two rows"
    )


def _nothing_found(location: str, root: str, failures: list[tuple[str, str]]) -> SourceError:
    if not failures:
        return SourceError(f"{location!r} has a header but no rows; each row after it names one image")
    path, reason = failures[0]
    return SourceError(
        f"none of the {len(failures)} files in {location!r} can be used; the first is {path!r}: {reason}. "
        f"Relative paths start from the list's own folder, {root!r}"
    )


def _at(location: str, line: int) -> str:
    return f"{location!r}, line {line}"

"""CSV and TSV lists of images, with optional labels, groups and splits."""

import csv
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from featstore.class_names import normalised_name
from featstore.errors import SourceError
from featstore.images.sources.column_names import COLUMNS, PATH_WORDS, find_columns
from featstore.images.sources.image_names import is_image_name
from featstore.images.sources.listed_files import ListedFiles
from featstore.images.sources.records import ImageRecord, checked_split
from featstore.images.sources.text_files import find_dialect, open_text
from featstore.io.stamps import FileStamp

__all__ = ["CsvListing", "read_csv_list"]

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
# The row numbers that pandas and others write.
_ROW_NUMBERS = re.compile(r"(unnamed: \d+|index|id|)")
# At four bytes a character less than what a row of a catalog may have, however many rows there are.
_MAX_CHARACTERS = 2000
# What is no word; old programs end a text with the last of these.
_BLANK = " \t\r\n\v\f\u00a0\x1a"
_Fields = tuple[str | None, str | None, str | None]


@dataclass(kw_only=True)
class CsvListing:
    """The content of a list."""

    records: list[ImageRecord] = field(default_factory=list)  # in the order of the list
    failures: list[tuple[str, str]] = field(default_factory=list)  # path and reason, in the order of the list
    unused: list[str] = field(default_factory=list)  # names of columns


def read_csv_list(location: str) -> CsvListing:
    """Read a CSV or TSV list of images; docs/reference/sources.md says what may stand in it."""
    # A path is taken as it stands (~ means nothing) and then normalised as os.path.normpath does. It is the
    # user's own list: naming a file in it, by .. or an absolute path, gives no access that its user lacks. No
    # word means an empty cell: nan, NA and none are labels and groups like any other.
    root = os.path.dirname(location)
    files = ListedFiles(root)
    listing = CsvListing()
    seen: dict[str, tuple[_Fields, int]] = {}
    for text, fields, line in _read_rows(location, listing):
        try:
            path, found = files.look_up(text)
        except ValueError as error:
            raise SourceError(f"{_at(location, line)}: the path holds a NUL character") from error
        if (earlier := seen.setdefault(path, (fields, line)))[1] != line:
            if earlier[0] != fields:
                raise _conflict(location, path, earlier, (fields, line))
            continue
        if isinstance(found, str):
            listing.failures.append((path, found))
            continue
        label, group, split = fields
        listing.records.append(
            ImageRecord(path=path, label=label, group=group, split=split, stamp=FileStamp.of(found))
        )
    if not listing.records:
        raise _nothing_found(location, root, listing.failures)
    return listing


def _read_rows(location: str, listing: CsvListing) -> Iterator[tuple[str, _Fields, int]]:
    """Yield path, (label, group, split) and line number of each row."""
    separator = _SEPARATORS[os.path.splitext(location)[1].lower()]
    line = 1
    try:
        with open_text(location, newline="") as file:
            dialect, lines, before = find_dialect(file, separator=separator, columns=PATH_WORDS)
            rows = dialect.reader(lines)
            line = before + 1
            header = next(rows, None)
            places, listing.unused = _read_header(location, header, line)
            n_columns = len(header or ())
            n_named = 1 + max(number for number, name in enumerate(header or ()) if name.strip())
            path_place = places["path"]
            names = [name for name in COLUMNS[1:] if name in places]
            other_places = [places[name] for name in names]
            known: dict[tuple[str, ...], _Fields] = {}
            line = before + rows.line_num + 1
            for row in rows:
                if len(row) != n_columns or not row[path_place] or row[path_place].isspace():
                    row = _evened(location, line, row, (n_named, n_columns), path_place)
                if row:
                    path = row[path_place]
                    if len(path) > _MAX_CHARACTERS:
                        raise _too_long(location, line, "path", path)
                    values = tuple([row[place] for place in other_places])
                    fields = known.get(values)
                    if fields is None:
                        named = dict(zip(names, values, strict=True))
                        fields = known[values] = _read_fields(location, line, named)
                    yield path, fields, line
                line = before + rows.line_num + 1
    except csv.Error as error:
        hint = "; is a quote left open?" if re.search("limit|unexpected end", str(error)) else ""
        message = str(error).replace("\t", "\\t")
        raise SourceError(f"{_at(location, line)}: {message}{hint}") from error
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{_at(location, line)} or after it: broken {error.encoding.upper()} text; save the list in UTF-8"
        ) from error


def _evened(location: str, line: int, row: list[str], widths: tuple[int, int], path_place: int) -> list[str]:
    """Return a row with as many fields as there are columns; empty for a blank row."""
    n_named, n_columns = widths
    if not any(field.strip(_BLANK) for field in row):
        return []
    if len(row) < n_named or any(field.strip() for field in row[n_columns:]):
        hint = "quote a field that holds the separator"
        if len(row) == n_columns + 1:
            hint += ", and name the column of row numbers, if the first is one"
        raise SourceError(
            f"{_at(location, line)}: expected {n_columns} columns, as in the header, found {len(row)}; {hint}"
        )
    if not row[path_place].strip():
        raise SourceError(f"{_at(location, line)}: the path is empty")
    return row


def _read_header(location: str, header: list[str] | None, line: int) -> tuple[dict[str, int], list[str]]:
    """Return the positions of the known columns, and the names of unused ones."""
    if header is None:
        raise SourceError(
            f"{location!r} is empty; its first line has to name the columns: path and, optionally, label, "
            "group, split"
        )
    names = [name.strip().lower() for name in header]
    if any("\0" in name for name in names):
        raise SourceError(f"{location!r} is not UTF-8 text; save it as CSV in UTF-8")
    try:
        places = find_columns(names)
    except ValueError as error:
        raise SourceError(f"{_at(location, line)}: {error}") from error
    if "path" not in places:
        shown = ", ".join(repr(name[:40]) for name in header[:8]) or "an empty line"
        hint = ""
        if any(is_image_name(name.strip()) for name in header):
            hint = ". It looks like an image's row: put a line above it with the names, such as path,label"
        raise SourceError(
            f"{_at(location, line)}: the first line has to name the columns: path and, optionally, label, "
            f"group, split; found {shown}{hint}"
        )
    unused = [header[number].strip() for number in range(len(names)) if number not in places.values()]
    return places, [name for name in unused if not _ROW_NUMBERS.fullmatch(name.lower())]


def _read_fields(location: str, line: int, values: dict[str, str]) -> _Fields:
    # A few characters become three in this form.
    values = {name: normalised_name(value) for name, value in values.items()}
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
    label, group, word = (values.get(name, "").strip() or None for name in COLUMNS[1:])
    return label, group, checked_split(word, where=_at(location, line))


def _too_long(location: str, line: int, name: str, text: str) -> SourceError:
    return SourceError(
        f"{_at(location, line)}: the {name} has {len(text):,} characters, and may have {_MAX_CHARACTERS:,}; "
        f"it begins {text[:40]!r}"
    )


def _conflict(
    location: str, path: str, earlier: tuple[_Fields, int], later: tuple[_Fields, int]
) -> SourceError:
    trios = zip(COLUMNS[1:], earlier[0], later[0], strict=True)
    name, before, now = next(trio for trio in trios if trio[1] != trio[2])
    return SourceError(
        f"{_at(location, later[1])}: {path!r} has {name} {now or 'none'!r} here and {before or 'none'!r} on "
        f"line {earlier[1]}; keep one of the two rows"
    )


def _nothing_found(location: str, root: str, failures: list[tuple[str, str]]) -> SourceError:
    if not failures:
        return SourceError(f"{location!r} has a header but no rows; each row after it names one image")
    path, reason = failures[0]
    hint = f". Relative paths start from the list's own folder, {root!r}" if "no such file" in reason else ""
    if len(failures) == 1:
        return SourceError(f"the only file in {location!r} cannot be used: {path!r}: {reason}{hint}")
    return SourceError(
        f"none of the {len(failures):,} files in {location!r} can be used; the first is {path!r}: "
        f"{reason}{hint}"
    )


def _at(location: str, line: int) -> str:
    return f"{location!r}, line {line}"

"""CSV, TSV and JSON Lines lists of images, with optional labels, groups and splits."""

import csv
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from featstore.class_names import normalised_name
from featstore.errors import SourceError, first_line
from featstore.images.sources.image_names import is_image_name
from featstore.images.sources.lists.column_names import PATH_WORDS, ListOptions, find_columns
from featstore.images.sources.lists.in_memory import can_be_path, cell_text
from featstore.images.sources.lists.listed_files import ListedFiles
from featstore.images.sources.lists.row_fields import RowFields, row_fields
from featstore.images.sources.lists.text_files import find_dialect, open_text
from featstore.images.sources.objects import with_stamps
from featstore.images.sources.records import ImageRecord, Records

__all__ = ["CsvListing", "read_csv_list"]

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
# The row numbers that pandas and others write.
_IDS = re.compile(r"(\w+_)?ids?")
_ROW_NUMBERS = re.compile(r"(unnamed: \d+|index|id|)")
# At four bytes a character less than what a row of a catalog may have, however many rows there are.
_MAX_CHARACTERS = 2000
# Groups and weights may differ in each row.
_MAX_KNOWN = 2**16
# What is no word; old programs end a text with the last of these.
_BLANK = " \t\r\n\v\f\u00a0\x1a"


@dataclass(kw_only=True)
class CsvListing:
    """The content of a list."""

    records: Records = field(default_factory=Records)  # in the order of the list
    failures: list[tuple[str, str]] = field(default_factory=list)  # path and reason, in the order of the list
    unused: list[str] = field(default_factory=list)  # names of columns


def read_csv_list(location: str, options: ListOptions) -> CsvListing:
    """Read a CSV, TSV or JSON Lines list of images; docs/reference/sources.md says what may stand in it."""
    # A path is taken as it stands (~ means nothing) and then normalised as os.path.normpath does. It is the
    # user's own list: naming a file in it, by .. or an absolute path, gives no access that its user lacks. No
    # word means an empty cell: nan, NA and none are labels and groups like any other.
    root = options.image_root or os.path.dirname(location)
    files = ListedFiles(root)
    listing = CsvListing()
    failed: dict[str, tuple[RowFields, int]] = {}
    for text, fields, line in _rows_of(location)(location, listing, options):
        try:
            path, found = files.look_up(options.completed(text))
        except ValueError as error:
            raise SourceError(f"{_at(location, line)}: the path holds a NUL character") from error
        if isinstance(found, str):
            earlier = failed.setdefault(path, (fields, line))
            if earlier[1] != line and earlier[0] == fields:
                continue
            if earlier[1] != line and not _is_further_label(earlier[0], fields, options):
                raise _conflict(location, path, earlier, (fields, line))
            listing.failures.append((path, found))
            continue
        listing.records.append(ImageRecord(path=path, **fields._asdict(), stamp=found))
    listing.records = _once_each(location, listing, options)
    if listing.records.lack_stamps:
        listing.records, missing = with_stamps(listing.records, root)
        listing.failures += missing
    if not listing.records:
        raise _nothing_found(location, root, listing.failures)
    return listing


def _once_each(location: str, listing: CsvListing, options: ListOptions) -> Records:
    """Return the records without rows that say again what an earlier one of the same path has said."""
    from featstore.io.texts import PathIndex

    records, needless = listing.records, set[int]()
    for first, others in PathIndex(records.columns.paths).repeats().items():
        earlier = _fields_of(records[first])
        for row in others:
            path, later = records[row].path, _fields_of(records[row])
            if earlier == later:
                needless.add(row)
            elif not _is_further_label(earlier, later, options):
                raise _conflict(location, path, *_lines_of(location, path, later, options))
    return records.without(needless) if needless else records


def _lines_of(
    location: str, path: str, later: RowFields, options: ListOptions
) -> tuple[tuple[RowFields, int], tuple[RowFields, int]]:
    """Read a list again for a path's first row, and one that contradicts it."""
    files = ListedFiles(options.image_root or os.path.dirname(location))
    rows = (
        (fields, line)
        for text, fields, line in _rows_of(location)(location, CsvListing(), options)
        if files.look_up(options.completed(text))[0] == path
    )
    first = next(rows)
    return first, next(row for row in rows if row[0] == later)


def _fields_of(record: ImageRecord) -> RowFields:
    return RowFields(*(getattr(record, name) for name in RowFields._fields))


def _is_further_label(earlier: RowFields, later: RowFields, options: ListOptions) -> bool:
    return options.label_separator is not None and earlier._replace(label=None) == later._replace(label=None)


def _rows_of(location: str) -> Callable[..., Iterator[tuple[str, RowFields, int]]]:
    return _read_json_rows if location.lower().endswith(".jsonl") else _read_rows


def _read_rows(
    location: str, listing: CsvListing, options: ListOptions
) -> Iterator[tuple[str, RowFields, int]]:
    """Yield path, fields and line number of each row."""
    separator = _SEPARATORS[os.path.splitext(location)[1].lower()]
    line = 1
    try:
        with open_text(location, newline="") as file:
            words = PATH_WORDS if options.path_column is None else [options.path_column.strip().lower()]
            dialect, lines, before = find_dialect(file, separator=separator, columns=words)
            rows = dialect.reader(lines)
            line = before + 1
            header = next(rows, None)
            places, listing.unused = _read_header(location, header, line, options)
            n_columns = len(header or ())
            n_named = 1 + max(number for number, name in enumerate(header or ()) if name.strip())
            path_place = places["path"]
            names = [name for name in places if name != "path"]
            other_places = [places[name] for name in names]
            known: dict[tuple[str, ...], RowFields] = {}
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
                        if len(known) == _MAX_KNOWN:
                            known.clear()
                        named = dict(zip(names, values, strict=True))
                        fields = known[values] = _read_fields(location, line, named, options)
                    yield path, fields, line
                line = before + rows.line_num + 1
    except csv.Error as error:
        hint = "; is a quote left open?" if re.search("limit|unexpected end", str(error)) else ""
        message = str(error).replace("\t", "\\t")
        raise SourceError(f"{_at(location, line)}: {message}{hint}") from error
    except UnicodeDecodeError as error:
        raise _broken_text(location, line, error) from error


def _read_json_rows(
    location: str, listing: CsvListing, options: ListOptions
) -> Iterator[tuple[str, RowFields, int]]:
    """Yield path, fields and line number of each JSON object."""
    unused: dict[str, None] = {}
    line = 0
    try:
        with open_text(location) as file:
            for line, text in enumerate(file, 1):
                if not text.strip():
                    continue
                where = _at(location, line)
                try:
                    row = json.loads(text)
                except (ValueError, RecursionError) as error:
                    raise SourceError(f"{where}: not JSON: {first_line(error)}") from error
                if not isinstance(row, dict):
                    raise SourceError(f'{where}: expected an object such as {{"file_name": "1.jpg"}}')
                names = list(row)
                try:
                    places = find_columns(names, options)
                except ValueError as error:
                    raise SourceError(f"{where}: {error}") from error
                path = row[names[places["path"]]] if "path" in places else None
                if not isinstance(path, str | int) or isinstance(path, bool) or not str(path).strip():
                    raise SourceError(
                        f"{where}: there is no path of an image in file_name; found {path!r:.40}"
                    )
                if not can_be_path(str(path)):
                    raise SourceError(f"{where}: {str(path)[:40]!r} cannot be the path of a file")
                cells = {name: row[names[place]] for name, place in places.items() if name != "path"}
                named = {name: cell_text(where, name, cell) or "" for name, cell in cells.items()}
                unused |= dict.fromkeys(name for at, name in enumerate(names) if at not in places.values())
                yield str(path), _read_fields(location, line, named, options), line
    except UnicodeDecodeError as error:
        raise _broken_text(location, line + 1, error) from error
    listing.unused = list(unused)


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


def _read_header(
    location: str, header: list[str] | None, line: int, options: ListOptions
) -> tuple[dict[str, int], list[str]]:
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
        places = find_columns(header, options)
    except ValueError as error:
        raise SourceError(f"{_at(location, line)}: {error}") from error
    if "path" not in places:
        shown = ", ".join(repr(name[:40]) for name in header[:8]) or "an empty line"
        hint = ""
        if any(is_image_name(name.strip()) for name in header):
            hint = ". It looks like an image's row: put a line above it with the names, such as path,label"
        elif any(_IDS.fullmatch(name) for name in names):
            hint = ". Name the column of ids with path_column, and what these lack, such as .jpg, with suffix"
        raise SourceError(
            f"{_at(location, line)}: the first line has to name the columns: path and, optionally, label, "
            f"group, split; found {shown}{hint}"
        )
    unused = [header[number].strip() for number in range(len(names)) if number not in places.values()]
    return places, [name for name in unused if not _ROW_NUMBERS.fullmatch(name.lower())]


def _read_fields(location: str, line: int, values: dict[str, str], options: ListOptions) -> RowFields:
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
    return row_fields(_at(location, line), values, options)


def _broken_text(location: str, line: int, error: UnicodeDecodeError) -> SourceError:
    return SourceError(
        f"{_at(location, line)} or after it: broken {error.encoding.upper()} text; save the list in UTF-8"
    )


def _too_long(location: str, line: int, name: str, text: str) -> SourceError:
    return SourceError(
        f"{_at(location, line)}: the {name} has {len(text):,} characters, and may have {_MAX_CHARACTERS:,}; "
        f"it begins {text[:40]!r}"
    )


def _conflict(
    location: str, path: str, earlier: tuple[RowFields, int], later: tuple[RowFields, int]
) -> SourceError:
    trios = zip(RowFields._fields, earlier[0], later[0], strict=True)
    name, before, now = next(trio for trio in trios if trio[1] != trio[2])
    return SourceError(
        f"{_at(location, later[1])}: {path!r} has {name} {_said(now)} here and {_said(before)} on "
        f"line {earlier[1]}; keep one of the two rows"
    )


def _said(value: str | float | None) -> str:
    return repr("none" if value is None else value)


def _nothing_found(location: str, root: str, failures: list[tuple[str, str]]) -> SourceError:
    if not failures:
        return SourceError(f"{location!r} has a header but no rows; each row after it names one image")
    path, reason = failures[0]
    hint = ""
    if "no such file" in reason:
        hint = f". Relative paths start from {root!r}, the list's own folder unless image_root says otherwise"
    if len(failures) == 1:
        return SourceError(f"the only file in {location!r} cannot be used: {path!r}: {reason}{hint}")
    return SourceError(
        f"none of the {len(failures):,} files in {location!r} can be used; the first is {path!r}: "
        f"{reason}{hint}"
    )


def _at(location: str, line: int) -> str:
    return f"{location!r}, line {line}"

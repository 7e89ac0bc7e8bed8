"""Split lists: text files that name the images of a split."""

import os
import posixpath
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace

from featstore.class_names import normalised_name
from featstore.errors import SourceError
from featstore.images.sources.folders import unusable_reason
from featstore.images.sources.lists.listed_files import readings
from featstore.images.sources.lists.text_files import open_text
from featstore.images.sources.records import Records, Source
from featstore.io.urls import is_url
from featstore.messages import count, listed

__all__ = ["with_split_lists"]

_SHOWN = 3
_SHOWN_CHARACTERS = 200
_SEVERAL = -1


def with_split_lists(source: Source, lists: Mapping[str, str | os.PathLike[str] | None]) -> Source:
    """Assign the images of a source to the splits of lists, text files with one path a line."""
    # A path may lack its extension. If no file is called as a line says, white space around it is dropped,
    # backslashes are read as slashes, and names may be in another Unicode form. No character starts a
    # comment, since a name may hold it.
    given = {split: os.fsdecode(path) for split, path in lists.items() if path is not None}
    if not given:
        return source
    _refuse_splits_of_its_own(source)
    index = _Index(source)
    owners: dict[int, str] = {}
    for split, path in given.items():
        rows = index.rows(path)
        if shared := [row for row in rows if row in owners]:
            names = [source.records[row].path for row in shared]
            raise SourceError(
                f"{path!r} and {given[owners[shared[0]]]!r} name {count(len(shared), 'image')} in common: "
                f"{_first(names)}; an image is in one split only"
            )
        owners.update(dict.fromkeys(rows, split))
    records = Records(
        replace(record, split=owners[row]) if row in owners else record
        for row, record in enumerate(source.records)
    )
    return replace(source, records=records)


def _refuse_splits_of_its_own(source: Source) -> None:
    if not source.records.columns.splits.distinct() - {None}:
        return
    own = next(record for record in source.records if record.split is not None)
    is_folder = is_url(source.location) or os.path.isdir(source.location)
    where = "the folders' names" if is_folder else "the list's column split"
    raise SourceError(
        f"{source.location or 'the list'!r} gives splits itself, by {where} ({own.path!r} is in "
        f"{own.split}); leave out the lists, or the splits in the source"
    )


@dataclass(frozen=True, slots=True)
class _Missing:
    """A line of a list that matches no image of the source."""

    name: str
    line: int


class _Index:
    """The images of a source by relative path, with and without extension."""

    def __init__(self, source: Source) -> None:
        self._records = source.records
        self._root = source.root
        paths = [self._normalised(record.path) for record in source.records]
        forms = [normalised_name(path) for path in paths]
        self._exact = _rows_by_name(paths)
        # Of names in any Unicode form.
        self._folded = self._exact if forms == paths else _rows_by_name(forms)
        unusable = [normalised_name(self._normalised(path)) for path, _ in source.failures]
        self._unusable = {*unusable, *(os.path.splitext(path)[0] for path in unusable)}

    def rows(self, path: str) -> list[int]:
        """Return the row of each image in a list, once each and in the list's order."""
        rows: dict[int, None] = {}
        missing: list[_Missing] = []
        lines = _read_lines(path)
        for number, line in lines:
            row = self._row(path, number, line)
            if row is not None:
                rows[row] = None
            elif self._unusable.isdisjoint(map(normalised_name, self._readings(line))):
                missing.append(_Missing(line.strip(), number))
        if not lines:
            raise SourceError(f"{path!r} names no image; a list has one on each line, such as class/image")
        if missing:
            named = [f"{entry.name[:_SHOWN_CHARACTERS]!r} (line {entry.line})" for entry in missing]
            raise SourceError(
                f"{len(missing):,} of the {len(lines):,} names in {path!r} fit no image in {self._root!r}: "
                f"{listed(named, most=_SHOWN)}; each line is an image's path seen from there, "
                f"with or without its extension, such as {self._records[0].path!r}"
            )
        return list(rows)

    def _row(self, path: str, number: int, line: str) -> int | None:
        names = self._readings(line)
        folded = list(map(normalised_name, names))
        for wanted, by_name in ((names, self._exact), (folded, self._folded)):
            for name in wanted:
                row = by_name.get(name)
                if row == _SEVERAL:
                    raise self._ambiguous(path, number, name)
                if row is not None:
                    return row
        return None

    def _ambiguous(self, path: str, number: int, name: str) -> SourceError:
        known = [self._normalised(record.path) for record in self._records]
        fitting = [one for one in known if name in (one, os.path.splitext(one)[0])]
        hint = "give the extension"
        if not fitting:
            folded = [(one, normalised_name(one)) for one in known]
            fitting = [one for one, form in folded if name in (form, os.path.splitext(form)[0])]
            hint = "give the extension, and the name in the Unicode form that the file has"
        return SourceError(
            f"{path!r}, line {number}: {name!r} fits {len(fitting)} images, {_first(fitting)}; {hint}"
        )

    def _readings(self, line: str) -> list[str]:
        return [self._normalised(name) for name in readings(line)]

    def _normalised(self, name: str) -> str:
        return os.path.relpath(name, self._root) if name.startswith("/") else posixpath.normpath(name)


def _rows_by_name(paths: list[str]) -> dict[str, int]:
    """Return the row of each path and, unless that is a path itself, of each without extension."""
    rows: dict[str, int] = {}
    stems: dict[str, int] = {}
    for row, path in enumerate(paths):
        rows[path] = _SEVERAL if path in rows else row
        stem = os.path.splitext(path)[0]
        stems[stem] = _SEVERAL if stem in stems else row
    return stems | rows


def _read_lines(path: str) -> list[tuple[int, str]]:
    """Return number and text of each non-blank line, without its end."""
    reason, lines = "", []
    try:
        status = os.stat(path)
        if stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode):
            with open_text(path) as file:
                lines = [(number, line.removesuffix("\n")) for number, line in enumerate(file, 1)]
        else:
            reason = unusable_reason(status)
    except OSError as error:
        reason = unusable_reason(error)
    except UnicodeDecodeError as error:
        reason = f"broken {error.encoding.upper()} text"
    except ValueError:
        reason = "its name holds a NUL character"
    if reason:
        raise SourceError(
            f"the list {path!r} cannot be read: {reason}; give a text file with one image a line"
        )
    for number, line in lines:
        if "\0" in line:
            raise SourceError(
                f"{path!r}, line {number}: not a text in UTF-8; save the list as plain text in UTF-8"
            )
    return [(number, line) for number, line in lines if line.strip()]


def _first(names: list[str]) -> str:
    return listed([*map(repr, names)], most=_SHOWN)

"""The file of corrections: read with care, and replaced whole at each decision."""

import csv
import hashlib
import itertools
import os
from collections.abc import Callable
from dataclasses import fields

from featstore.errors import CorrectionsError
from featstore.images.sources.lists.text_files import open_text
from featstore.io.atomic import failure_reason, replacing
from featstore.io.outputs import check_destination
from featstore.store.corrections.corrections import Correction, Corrections

__all__ = ["check_corrections_path", "read_corrections", "record_correction", "undo_correction"]

_COLUMNS = ("decision", "path", "content_hash", "old", "new", "who", "when")
_NEEDED = ("decision", "content_hash", "new")
_FIELDS = {field.name for field in fields(Correction)}
_MAX_ATTEMPTS = 20

_Rows = list[dict[str, str]]


def read_corrections(path: str | os.PathLike[str]) -> Corrections:
    """Read a file of corrections.

    Parameters
    ----------
    path : path_like
        A CSV file with the columns ``decision``, ``content_hash`` and ``new``, and optionally ``path``,
        ``old``, ``who`` and ``when``, as ``featstore review`` writes it; others are not looked at.

    Returns
    -------
    Corrections

    Raises
    ------
    CorrectionsError
        The file cannot be read, lacks a column, or has a line that is no correction.

    Examples
    --------
    >>> import featstore, tempfile
    >>> content = str(table.content_hash[1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/corrections.csv"
    ...     one = featstore.Correction(content_hash=content, decision="relabel", old="roses", new="tulips")
    ...     featstore.record_correction(path, one)
    ...     corrections = featstore.read_corrections(path)
    >>> corrections.current[content].new
    'tulips'
    """
    name = os.fspath(path)
    try:
        return _corrections(_read(name)[1], name)
    except FileNotFoundError:
        raise CorrectionsError(
            f"there is no file {name} of corrections; `featstore review` writes one"
        ) from None


def record_correction(path: str | os.PathLike[str], correction: Correction) -> None:
    """Add a correction to a file, which is made where there is none.

    The file is replaced whole, so that it is never half written; what others write meanwhile is kept, and so
    are columns that featstore does not know.

    Parameters
    ----------
    path : path_like
    correction : Correction

    Raises
    ------
    CorrectionsError
        The file is no file of corrections, or the correction contradicts it: two images cannot be duplicates
        of each other.
    OutputError, StoreError
        It cannot be written there.

    Examples
    --------
    >>> import featstore, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     one = featstore.Correction(content_hash="0" * 64, decision="exclude", who="Ada")
    ...     featstore.record_correction(f"{folder}/corrections.csv", one)
    ...     with open(f"{folder}/corrections.csv") as file:
    ...         print(file.readline().strip())
    decision,path,content_hash,old,new,who,when
    """
    row = {name: getattr(correction, name) for name in _COLUMNS}
    _change(path, lambda rows: [*rows, row])


def undo_correction(path: str | os.PathLike[str], content_hash: str) -> Correction:
    """Take the last correction of an image out of a file again; the one before it counts then.

    Parameters
    ----------
    path : path_like
    content_hash : str
        64 hexadecimal digits.

    Returns
    -------
    Correction
        What was taken out.

    Raises
    ------
    CorrectionsError
        The file has none of this image.

    Examples
    --------
    >>> import featstore, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/corrections.csv"
    ...     featstore.record_correction(
    ...         path, featstore.Correction(content_hash="0" * 64, decision="exclude")
    ...     )
    ...     featstore.undo_correction(path, "0" * 64).decision, len(featstore.read_corrections(path))
    ('exclude', 0)
    """
    taken: dict[str, str] = {}

    def change(rows: _Rows) -> _Rows:
        at = max((n for n, row in enumerate(rows) if row["content_hash"] == content_hash), default=None)
        if at is None:
            raise CorrectionsError(f"{os.fspath(path)} has no correction of the image {content_hash[:12]}…")
        taken.update(rows[at])
        return [*rows[:at], *rows[at + 1 :]]

    _change(path, change)
    return _correction(taken)


def _change(path: str | os.PathLike[str], change: Callable[[_Rows], _Rows]) -> None:
    """Replace the rows of a file; begin again where another process has replaced it meanwhile."""
    target = check_corrections_path(path)
    for _ in range(_MAX_ATTEMPTS):
        state = _state(target)
        columns, rows = ([*_COLUMNS], []) if state is None else _read(target)
        changed = change(rows)
        _corrections(changed, target)

        def check(state: bytes | None = state) -> None:
            if _state(target) != state:
                raise _ChangedError

        try:
            with (
                replacing(target, before_rename=check) as temporary,
                open(temporary, "x", encoding="utf-8", errors="surrogateescape", newline="") as file,
            ):
                writer = csv.DictWriter(file, columns, restval="")
                writer.writeheader()
                writer.writerows(changed)
        except _ChangedError:
            continue
        return
    raise CorrectionsError(f"{target} was written by others {_MAX_ATTEMPTS} times meanwhile; try again")


def check_corrections_path(path: str | os.PathLike[str]) -> str:
    """Return the absolute path of a file of corrections, or raise where none can be written."""
    check_destination(path)
    target = os.path.abspath(os.fspath(path))
    if not os.path.isdir(os.path.dirname(target)):
        raise CorrectionsError(f"there is no folder {os.path.dirname(target)} to write {target} into")
    if os.path.isdir(target):
        raise CorrectionsError(f"{target} is a folder; name the file of corrections")
    return target


class _ChangedError(Exception):
    """Another process has replaced the file since it was read."""


def _read(path: str) -> tuple[list[str], _Rows]:
    """Return a file's columns and rows."""
    try:
        with open_text(path, newline="") as file:
            # A spreadsheet may have saved it with another separator.
            head = file.readline()
            separator = next((one for one in ",;\t" if f"content_hash{one}" in head), ",")
            reader = csv.reader(itertools.chain([head], file), delimiter=separator, strict=True)
            columns = [name.strip() for name in next(reader, [])]
            if lacking := [name for name in _NEEDED if name not in columns]:
                raise CorrectionsError(
                    f"{path} is no file of corrections: it lacks the column {lacking[0]!r}; found "
                    f"{', '.join(map(repr, columns[:8])) or 'nothing'}"
                )
            lacking, rows = [name for name in _COLUMNS if name not in columns], []
            for fields_ in reader:
                if len(fields_) > len(columns):
                    found = f"{len(fields_)} fields in {len(columns)} columns"
                    raise CorrectionsError(f"{path}, line {reader.line_num}: {found}")
                if any(fields_):
                    row = dict.fromkeys([*columns, *lacking], "") | dict(zip(columns, fields_, strict=False))
                    _checked(row, f"{path}, line {reader.line_num}")
                    rows.append(row)
            return [*columns, *lacking], rows
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorrectionsError(f"cannot read {path}: {failure_reason(error)}") from error


def _checked(row: dict[str, str], where: str) -> None:
    try:
        _correction(row)
    except CorrectionsError as error:
        raise CorrectionsError(f"{where}: {error}") from None


def _correction(row: dict[str, str]) -> Correction:
    return Correction(**{name: row[name] for name in _FIELDS})


def _corrections(rows: _Rows, path: str) -> Corrections:
    return Corrections(tuple(map(_correction, rows)), path)


def _state(path: str) -> bytes | None:
    """Return the digest of a file's bytes, or None if there is no file."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CorrectionsError(f"cannot read {path}: {failure_reason(error)}") from error

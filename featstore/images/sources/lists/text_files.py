"""Text files as found in practice: encodings, and the dialects of delimited tables."""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

__all__ = ["Dialect", "find_dialect", "open_text"]

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SEPARATORS = (",", ";", "\t", "|")
_EXCEL_HINT = re.compile(r'"?sep=([!#-/:-@\[-`{-~\t])"?[;,\t]*', re.IGNORECASE)
_MAX_HEADER = 2**20
# Of the csv module, whose own limit is a little above.
_MAX_FIELD = 100_000


def open_text(path: str, *, newline: str | None = None) -> io.TextIOWrapper:
    """Open a text in UTF-8, or in UTF-16 or 32 by its byte-order mark or first characters."""
    # Bytes that are not UTF-8 become surrogate escapes.
    file = open(path, "rb")  # noqa: SIM115 (what is returned closes it)
    try:
        head = file.peek(4)[:4]
        encoding = next((name for mark, name in _MARKS if head.startswith(mark)), None)
        if encoding is None:
            # The zeros of two ASCII letters.
            zeros = [byte == 0 for byte in head]
            is_little, is_big = zeros == [False, True] * 2, zeros == [True, False] * 2
            encoding = "utf-16-le" if is_little else "utf-16-be" if is_big else "utf-8"
        return io.TextIOWrapper(file, encoding=encoding, errors="surrogateescape", newline=newline)
    except BaseException:
        file.close()
        raise


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The format of a delimited table."""

    separator: str
    are_padded: bool = False  # blanks stand after separators, as in: path, "label"
    is_strict: bool = True  # nothing stands between a closing quote and the separator

    def reader(self, lines: Iterator[str]) -> "CsvReader":
        """Return a reader of rows."""
        return csv.reader(
            lines, delimiter=self.separator, skipinitialspace=self.are_padded, strict=self.is_strict
        )


def find_dialect(
    file: io.TextIOWrapper, *, separator: str, columns: Sequence[str]
) -> tuple[Dialect, Iterator[str], int]:
    """Detect a table's format from its header."""
    before, given = 0, ""
    # A large file of one line is no table, and is not read to its end to find that out.
    while line := file.readline(_MAX_HEADER):
        hint = _EXCEL_HINT.fullmatch(line.rstrip("\r\n"))
        if hint and not given:
            given = hint[1]
        elif line.strip():
            break
        before += 1
    found = separator
    for candidate in [given] if given else sorted(_SEPARATORS, key=lambda one: one != separator):
        names = next(csv.reader([line[:_MAX_FIELD]], delimiter=candidate, skipinitialspace=True), [])
        if any(name.strip().lower() in columns for name in names):
            found = candidate
            break
    else:
        return Dialect(separator=given or separator), chain(filter(None, [line]), file), before
    blanks = " " if found == "\t" else r"[ \t]"
    at = re.escape(found)
    are_padded = re.search(rf"{at}{blanks}+\S", line) is not None
    is_strict = True
    padding = re.compile(rf'({at}{blanks}+)"|"{blanks}+(?={at}|[\r\n]|$)')
    # What is broken is found again as the rows are read, and named by its line.
    with suppress(UnicodeDecodeError):
        for text in chain([line], file):
            for match in padding.finditer(text) if '"' in text else ():
                are_padded |= match[1] is not None
                is_strict &= match[1] is not None
    file.seek(0)
    for _ in range(before):
        file.readline(_MAX_HEADER)
    return Dialect(separator=found, are_padded=are_padded, is_strict=is_strict), file, before

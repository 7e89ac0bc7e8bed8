"""Thumbnails that fit into a report."""

from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ImageError
from featstore.images.reading import default_workers, map_ahead
from featstore.images.thumbnails import read_thumbnail, webp

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["Thumbnails", "embed"]

# Longer side in pixels, and quality, from the best to the smallest: 12 kB to 700 bytes for a photo.
_LEVELS = ((224, 75), (192, 72), (160, 70), (128, 65), (112, 62), (96, 60), (80, 55), (64, 50), (48, 45))
_SAMPLE_IMAGES = 48
# Of the share of the budget that the sample leaves one to hope for.
_SAFETY = 1.03
# Quotes and comma of a text in a list.
_AROUND = 3


@dataclass(kw_only=True, eq=False)
class Thumbnails:
    """WebP files in base64, and which of them each row of a table has."""

    size_px: int | None = None
    files: list[str] = field(default_factory=list)
    of_row: dict[int, int] = field(default_factory=dict)
    unreadable: list[tuple[int, str]] = field(default_factory=list)  # row and reason


@dataclass(frozen=True, eq=False)
class _Tried:
    row: int
    file: bytes = b""
    reason: str = ""


def embed(
    table: "FeatureTable", rows: Sequence[int], *, n_bytes: int, progress: Callable[[int, int], None]
) -> Thumbnails:
    """Make thumbnails of rows, in order, within a number of bytes of a report."""
    paths, hashes = np.asarray(table.paths), np.ascontiguousarray(table.content_hash_bytes)
    first_of: dict[bytes, int] = {}
    same: dict[int, list[int]] = {}
    for row in rows:
        same.setdefault(first_of.setdefault(hashes[row].tobytes(), row), []).append(row)
    firsts = list(same)
    level = _chosen_level(paths, hashes, firsts, n_bytes)
    found = Thumbnails()
    if level is None:
        return found
    found.size_px, n_left = level[0], n_bytes
    for number, one in enumerate(_made(paths, hashes, firsts, level), start=1):
        progress(number, len(firsts))
        if one.reason:
            found.unreadable += [(row, one.reason) for row in same[one.row]]
            continue
        text = b64encode(one.file).decode("ascii")
        if (n_left := n_left - len(text) - _AROUND) < 0:
            break
        found.of_row.update(dict.fromkeys(same[one.row], len(found.files)))
        found.files.append(text)
    return found


def _chosen_level(
    paths: NDArray[np.str_], hashes: NDArray[np.uint8], rows: list[int], n_bytes: int
) -> tuple[int, int] | None:
    """Return the best level at which thumbnails of all rows fit, or the smallest; None if there are none."""
    sample = rows[:: -(-len(rows) // _SAMPLE_IMAGES)] if rows else []
    largest = _LEVELS[0][0]
    pixels = []
    for row in sample:
        try:
            pixels.append(read_thumbnail(str(paths[row]), hashes[row].tobytes(), largest))
        except ImageError:
            continue
    if not pixels:
        # Reading the others says why.
        return _LEVELS[-1] if rows else None
    for size_px, quality in _LEVELS:
        sizes = [len(webp(one, size_px=size_px, quality=quality)) for one in pixels]
        if float(np.mean(sizes)) * 4 / 3 * len(rows) * _SAFETY <= n_bytes:
            return size_px, quality
    return _LEVELS[-1]


def _made(
    paths: NDArray[np.str_], hashes: NDArray[np.uint8], rows: list[int], level: tuple[int, int]
) -> Iterator[_Tried]:
    """Make thumbnails on threads, in order."""
    size_px, quality = level

    def make(row: int) -> _Tried:
        try:
            pixels = read_thumbnail(str(paths[row]), hashes[row].tobytes(), size_px)
        except ImageError as error:
            return _Tried(row, reason=str(error))
        return _Tried(row, webp(pixels, size_px=size_px, quality=quality))

    workers = default_workers()
    yield from map_ahead(make, rows, workers=workers, ahead=4 * workers)

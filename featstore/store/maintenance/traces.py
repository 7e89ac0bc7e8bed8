"""Search of every byte of a store for what tells of images: the proof that they are forgotten."""

import mmap
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.io.hdf5.raw import unreadable
from featstore.io.json_values import json_values
from featstore.io.storage.mirror import mirrored
from featstore.io.storage.opening import storage_of
from featstore.io.urls import is_url
from featstore.store.catalogs.catalog import OPTIONAL_TEXTS, TEXTS
from featstore.store.catalogs.columns import open_columns
from featstore.store.head_images import read_head_images
from featstore.store.shard_reports import all_reports

if TYPE_CHECKING:
    from featstore.store.folder import StoreFolder

__all__ = ["Patterns", "Trace", "TraceReport", "find_traces"]

_WIDTH = 8
_LOW = np.uint64(2**16 - 1)
_BLOCK_BYTES = 2**22


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What is left of images in a file.

    Attributes
    ----------
    path : str
        Absolute, or a URL.
    reason : str
    """

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class TraceReport:
    """Result of :meth:`FeatureStore.find_traces`.

    Attributes
    ----------
    files : int
        Files that were searched.
    bytes : int
        Their size.
    traces : tuple of Trace
    """

    files: int
    bytes: int
    traces: tuple[Trace, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return json_values(self)


class Patterns:
    """What tells of images in any file: the first eight bytes of their hashes, in all forms."""

    # The whole hash begins with them; heads have them as little-endian numbers, texts as digits.
    def __init__(self, contents: Collection[bytes]) -> None:
        beginnings = {content[:_WIDTH] for content in contents}
        digits = {one.hex().encode() for one in beginnings}
        self._wanted = (
            beginnings | {one[::-1] for one in beginnings} | digits | {one.upper() for one in digits}
        )
        self._numbers = np.array([int.from_bytes(one[:_WIDTH], "little") for one in self._wanted], "<u8")
        self._may_be = np.zeros(2**16, np.bool_)
        self._may_be[self._numbers & _LOW] = True

    def is_in(self, data: Any) -> bool:
        """Return whether any of them is among some bytes."""
        # Of each eight bytes, wherever they begin, the first two are looked up in a table: as fast for a
        # thousand images as for one.
        for start in range(0, len(data), _BLOCK_BYTES):
            block = data[start : start + _BLOCK_BYTES + 2 * _WIDTH]
            for shift in range(min(_WIDTH, len(block) - _WIDTH + 1)):
                numbers = np.frombuffer(block, "<u8", (len(block) - shift) // _WIDTH, shift)
                found = np.flatnonzero(self._may_be[numbers & _LOW])
                for number in found[np.isin(numbers[found], self._numbers)].tolist():
                    at = shift + number * _WIDTH
                    if block[at : at + _WIDTH] in self._wanted or block[at : at + 2 * _WIDTH] in self._wanted:
                        return True
        return False

    def are_in(self, path: str) -> bool:
        """Return whether any of them is in a file of this machine, or in the copy of an object."""
        try:
            with storage_of(path).open(path) as file:
                if not os.fstat(file.fileno()).st_size:
                    return False
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    return self.is_in(data)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise unreadable(path, error) from error


def find_traces(
    store: "StoreFolder", contents: Collection[bytes], progress: Callable[[int, int], None] | None = None
) -> TraceReport:
    """Search a store for images; see :meth:`FeatureStore.find_traces`."""
    storage, patterns = storage_of(store.path), Patterns(contents)
    paths = sorted(storage.below(store.path))
    sizes = {path: entry.size for path in paths if (entry := storage.find(path)) is not None}
    heads = {*map(store.head_path, store.head_names)}
    texts = {*map(store.catalog_path, store.catalog_names)} | all_reports(store)
    traces, n_bytes = [], 0
    for path, size in sizes.items():
        if patterns.are_in(path):
            traces.append(Trace(path=path, reason="holds the hash of the content, or its first eight bytes"))
        elif path in texts and _is_in_texts(path, patterns):
            traces.append(Trace(path=path, reason="names the hash of the content in a text"))
        elif path in heads and not _knows_its_rows(path):
            traces.append(Trace(path=path, reason="holds features of images that it does not know"))
        n_bytes += size
        if progress is not None:
            progress(n_bytes, sum(sizes.values()))
    copies = [path for path in (mirrored() if is_url(store.path) else ()) if patterns.are_in(path)]
    traces += [Trace(path=path, reason="is a copy of an object, and holds the hash") for path in copies]
    return TraceReport(files=len(sizes), bytes=n_bytes, traces=tuple(traces))


def _is_in_texts(path: str, patterns: Patterns) -> bool:
    """Return whether a catalog's texts, which are compressed, name one of the hashes."""
    with open_columns(path) as columns:
        names = [name for name in TEXTS | OPTIONAL_TEXTS if columns.has(name)]
        return any(patterns.is_in(b"\0".join(texts)) for name in names for texts in columns.text_blocks(name))


def _knows_its_rows(path: str) -> bool:
    images = read_head_images(path)
    return images.is_known or not images.has_rows

"""Segments that a compaction has replaced, and that are kept a while for those who read them.

In a folder they are removed at once: who has mapped a file keeps it. From a bucket a reader fetches rows when
they are used; so a file ``retired-….json`` there lists the segments, lists of the space leave them out, and a
later compaction removes them. Who reads for longer than that finds its rows in the new segment.
"""

import functools
import os
import re
import secrets
import time
from collections.abc import Iterable, Sequence

from featstore.errors import DamagedError, StoreNotFoundError
from featstore.io.storage.access import Entry
from featstore.io.storage.opening import storage_of
from featstore.store.description import read_json, write_json

__all__ = ["remove_retired", "retire", "retired_names", "retired_paths"]

KEPT_SECONDS = 3600

_FORMAT, _VERSION = "featstore-retired", 1
_NAME = re.compile(r"retired-[0-9a-f]{32}\.json")


def retire(folder: str, paths: Sequence[str]) -> None:
    """Remove sealed files of a space whose rows are in another one by now, or list them for removal."""
    storage = storage_of(folder)
    if storage.keeps_removed:
        storage.remove(paths)
        return
    names = sorted(map(os.path.basename, paths))
    marker = os.path.join(folder, f"retired-{secrets.token_hex(16)}.json")
    write_json(marker, {"format": _FORMAT, "format_version": _VERSION, "segments": names})


def retired_names(entries: Iterable[Entry]) -> set[str]:
    """Return the names of the segments that are listed for removal."""
    return {name for entry in _markers(entries) for name in _segments(entry.path)}


def retired_paths(folder: str) -> set[str]:
    """Return the paths of what is kept for readers, and of the files that list it."""
    storage = storage_of(folder)
    entries = [] if storage.keeps_removed else storage.entries(folder)
    retired = retired_names(entries)
    return {entry.path for entry in entries if entry.name in retired or _NAME.fullmatch(entry.name)}


def remove_retired(folder: str, *, at_once: bool = False) -> int:
    """Remove the segments that were listed long enough ago, or all, and return how many these are."""
    storage = storage_of(folder)
    if storage.keeps_removed:
        return 0
    n_removed = 0
    for entry in _markers(storage.entries(folder)):
        # Clocks differ; a segment that is removed too soon costs its readers a second look, and no row.
        if at_once or time.time_ns() - entry.modified_ns > KEPT_SECONDS * 10**9:
            names = _segments(entry.path)
            storage.remove([os.path.join(folder, name) for name in names])
            storage.remove([entry.path])
            n_removed += len(names)
    return n_removed


def _markers(entries: Iterable[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.is_file and _NAME.fullmatch(entry.name)]


@functools.lru_cache(maxsize=4096)
def _segments(marker: str) -> tuple[str, ...]:
    """Read a list of segments; one that is gone, or damaged, lists none, and their rows are there twice."""
    try:
        found = read_json(marker, kind=_FORMAT, version=_VERSION).get("segments")
    except (DamagedError, StoreNotFoundError):
        return ()
    return tuple(os.path.basename(str(name)) for name in found) if isinstance(found, list) else ()

"""Reports of shards: the outcome of each image, kept in a store until the catalog is written.

A report is a file as those of catalogs are: ``shards/SPACE/CATALOG.3-of-16.h5``.
"""

import logging
import os
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from featstore.errors import DamagedError, StoreError
from featstore.io.atomic import failure_reason
from featstore.io.storage.access import Entry
from featstore.io.storage.opening import file_exists, storage_of
from featstore.store.catalogs.catalog import Catalog
from featstore.store.catalogs.file import read_catalog_as, write_catalog
from featstore.store.folder import SHARDS

if TYPE_CHECKING:
    from featstore.store.folder import StoreFolder

__all__ = [
    "all_reports",
    "read_report",
    "read_reports",
    "remove_reports",
    "reported_catalog",
    "reported_spaces",
    "shards_of",
    "write_report",
]

_log = logging.getLogger(__name__)

_NAME = re.compile(r"(.+)\.(\d+-of-\d+|[0-9a-f]{32})\.h5")


def write_report(store: "StoreFolder", space: str, catalog: Catalog, part: str) -> None:
    """Keep the outcome of the images of a part of a source, named ``3-of-16`` or by 32 digits."""
    folder = _folder(store, space)
    store._make_folder(SHARDS)
    try:
        storage_of(folder).make_folder(folder)
    except OSError as error:
        raise StoreError(f"cannot make the folder {folder}: {failure_reason(error)}") from error
    write_catalog(os.path.join(folder, f"{catalog.name}.{part}.h5"), catalog)


def all_reports(store: "StoreFolder") -> set[str]:
    """Return the paths of all reports."""
    folder = os.path.join(store.path, SHARDS)
    found = [entry for name in _names(folder) for entry in _entries(os.path.join(folder, name))]
    return {entry.path for entry in found if _NAME.fullmatch(entry.name)}


def reported_catalog(path: str) -> str:
    """Return the name of the catalog that a report is for a part of."""
    match = _NAME.fullmatch(os.path.basename(path))
    return match[1] if match else ""


def reported_spaces(store: "StoreFolder", catalog: str) -> list[str]:
    """Return the spaces for which there are reports of a catalog's parts, sorted."""
    spaces = _names(os.path.join(store.path, SHARDS))
    return [space for space in spaces if _paths(store, space, catalog)]


def read_reports(store: "StoreFolder", space: str, catalog: str) -> Iterator[tuple[str, Catalog]]:
    """Read the reports of a catalog's parts one by one, the newest first; yield their paths too."""
    for path in _paths(store, space, catalog):
        if (report := _read(path, catalog)) is not None:
            yield path, report


def read_report(store: "StoreFolder", space: str, catalog: str, part: str) -> Catalog | None:
    """Read the report of a part, None where there is none."""
    path = os.path.join(_folder(store, space), f"{catalog}.{part}.h5")
    return _read(path, catalog) if file_exists(path) else None


def _read(path: str, catalog: str) -> Catalog | None:
    try:
        return read_catalog_as(path, catalog)
    except DamagedError as error:
        _log.warning("%s; its shard counts as lacking: extract it again", error)
        return None


def shards_of(paths: Iterable[str]) -> int:
    """Return into how many shards the newest report divides its source; 1 where none does."""
    for path in paths:
        if (match := _NAME.fullmatch(os.path.basename(path))) and "-of-" in match[2]:
            return int(match[2].rpartition("-")[2])
    return 1


def remove_reports(store: "StoreFolder", space: str, paths: list[str]) -> None:
    """Remove reports of which the catalog has been written, and their folder with the last."""
    folder, storage = _folder(store, space), storage_of(store.path)
    storage.remove(paths)
    storage.clean(folder)
    storage.remove_folders([folder, os.path.join(store.path, SHARDS)])


def _paths(store: "StoreFolder", space: str, catalog: str) -> list[str]:
    found = [
        (-entry.modified_ns, entry.path)
        for entry in _entries(_folder(store, space))
        if (match := _NAME.fullmatch(entry.name)) and match[1] == catalog
    ]
    return [path for _, path in sorted(found)]


def _names(folder: str) -> list[str]:
    return sorted(entry.name for entry in _entries(folder))


def _entries(folder: str) -> list[Entry]:
    try:
        return storage_of(folder).entries(folder, is_dated=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StoreError(f"cannot read {folder}: {failure_reason(error)}") from error


def _folder(store: "StoreFolder", space: str) -> str:
    folder = os.path.join(store.path, SHARDS)
    if os.path.islink(folder) or os.path.islink(os.path.join(folder, space)):
        raise StoreError(f"{folder} is a link to somewhere else, or holds one, which featstore never follows")
    return os.path.join(folder, space)

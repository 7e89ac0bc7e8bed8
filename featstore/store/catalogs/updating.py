"""Optimistic concurrent updates of catalogs."""

import random
import time
from collections.abc import Callable

from featstore.errors import StoreError, StoreNotFoundError
from featstore.io.hdf5.raw import unreadable
from featstore.io.storage.access import ChangedError
from featstore.io.storage.opening import storage_of
from featstore.store.catalogs.catalog import Catalog
from featstore.store.catalogs.file import read_catalog, read_catalog_as, write_catalog

__all__ = ["update_catalog"]

_MAX_ATTEMPTS = 10
# In a bucket no writer waits for another: the loser of a race lets others go first.
_LONGEST_PAUSE_S = 0.2


def update_catalog(
    path: str, change: Callable[[Catalog | None], Catalog | None], *, name: str | None = None
) -> Catalog | None:
    """Change a catalog, named after its file or otherwise; try again if another process replaced it."""
    storage = storage_of(path)
    for attempt in range(_MAX_ATTEMPTS):
        try:
            version = storage.version(path)
        except OSError as error:
            raise unreadable(path, error) from error
        try:
            current = None if version is None else _read(path, name)
        except StoreNotFoundError:
            continue
        changed = change(current)
        if changed is None or (current is not None and changed.equals(current)):
            return current
        try:
            write_catalog(path, changed, expected=version)
        except ChangedError:
            if not storage.keeps_removed:
                time.sleep(random.uniform(0, _LONGEST_PAUSE_S) * (attempt + 1))
            continue
        return changed
    raise StoreError(
        f"{path} was written by others {_MAX_ATTEMPTS} times while this process was changing it; what they "
        "wrote is kept and this change is not made: run this again when they are done"
    )


def _read(path: str, name: str | None) -> Catalog:
    return read_catalog(path) if name is None else read_catalog_as(path, name)

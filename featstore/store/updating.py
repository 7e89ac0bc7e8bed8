"""Optimistic concurrent updates of catalogs."""

import hashlib
from collections.abc import Callable

from featstore.errors import StoreError, StoreNotFoundError
from featstore.io.raw import unreadable
from featstore.store.catalog import Catalog
from featstore.store.catalog_file import read_catalog, write_catalog

__all__ = ["update_catalog"]

_MAX_ATTEMPTS = 10


def update_catalog(path: str, change: Callable[[Catalog | None], Catalog | None]) -> Catalog | None:
    """Change a catalog; call ``change`` again if another process replaced it meanwhile."""
    for _ in range(_MAX_ATTEMPTS):
        state = _state(path)
        try:
            current = None if state is None else read_catalog(path)
        except StoreNotFoundError:
            continue
        changed = change(current)
        if changed is None or (current is not None and changed.equals(current)):
            return current

        def check(state: bytes | None = state) -> None:
            if _state(path) != state:
                raise _Changed

        try:
            write_catalog(path, changed, before_rename=check)
        except _Changed:
            continue
        return changed
    raise StoreError(
        f"{path} was written by others {_MAX_ATTEMPTS} times while this process was changing it; what they "
        "wrote is kept and this change is not made: run this again when they are done"
    )


class _Changed(Exception):  # noqa: N818
    """Another process has replaced the file since it was read."""


def _state(path: str) -> bytes | None:
    """Return the digest of a file's bytes, or None if there is no file."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(path, error) from error

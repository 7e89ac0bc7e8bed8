"""A catalog changed without losing what other processes write meanwhile."""

import hashlib
from collections.abc import Callable

from featstore.errors import StoreError, StoreNotFoundError
from featstore.io.raw import unreadable
from featstore.store.catalog import Catalog, read_catalog, write_catalog

__all__ = ["update_catalog"]

_MAX_ATTEMPTS = 10


def update_catalog(path: str, change: Callable[[Catalog | None], Catalog | None]) -> Catalog | None:
    """Change a catalog: right before a new one takes its place, what was read must still be there.

    Otherwise ``change`` is called again, with the catalog that is there by then.

    Parameters
    ----------
    path : str
    change : callable
        Given the catalog that is there, or None, returns the one to write. None, or an equal one, writes
        nothing.

    Returns
    -------
    Catalog or None
        What is there now.

    Raises
    ------
    StoreError
        It cannot be read or written, or others write it all the time.
    """
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
    """Return the digest of a file's bytes, or None where there is no file."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(path, error) from error

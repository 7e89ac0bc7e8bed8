"""New folders, written whole and renamed into place."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from featstore.errors import FeatstoreError, StoreError
from featstore.io.atomic import TEMPORARY_PREFIX, failure_reason, sync_folder

__all__ = ["files_below", "made_folder", "new_folder"]


@contextmanager
def new_folder(place: str, *, overwrite: bool, error_class: type[FeatstoreError]) -> Iterator[str]:
    """Yield a temporary folder that becomes ``place`` when the block ends without an error."""
    parent = os.path.dirname(place)
    folder, old = (os.path.join(parent, TEMPORARY_PREFIX + secrets.token_hex(16)) for _ in range(2))
    try:
        os.mkdir(folder)
        yield folder
        for name in files_below(folder):
            with open(os.path.join(folder, name), "rb+") as file:
                os.fsync(file.fileno())
        with suppress(OSError):
            os.rmdir(place)  # which removes an empty folder and no other
        if overwrite and os.path.isdir(place):
            os.rename(place, old)
        os.rename(folder, place)
        sync_folder(parent)
    except OSError as error:
        if isinstance(error, FeatstoreError):
            raise
        raise error_class(
            f"cannot write {place}: {failure_reason(error)}; nothing was left behind"
        ) from error
    finally:
        if os.path.isdir(old) and not os.path.lexists(place):
            os.rename(old, place)
        for left in (folder, old):
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def made_folder(path: str) -> Iterator[None]:
    """Make a folder for files to come, and remove it again if it was made for nothing."""
    is_new = not os.path.lexists(path)
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make the folder {path}: {failure_reason(error)}") from error
    try:
        yield
    finally:
        if is_new:
            with suppress(OSError):
                os.rmdir(path)  # which removes an empty folder and no other


def files_below(folder: str) -> list[str]:
    """Return the files below a folder, by relative path with ``/``."""
    return sorted(
        os.path.relpath(os.path.join(home, name), folder).replace(os.sep, "/")
        for home, _, names in os.walk(folder)
        for name in names
    )

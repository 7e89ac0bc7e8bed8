"""The folder of an exported model: checked before, written whole, and replaced atomically."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from featstore.errors import (
    ExportError,
    FeatstoreError,
)
from featstore.export.card import CARD, LABELS, PHOTO
from featstore.export.description import (
    DESCRIPTION,
    read_description,
)
from featstore.io.atomic import TEMPORARY_PREFIX, failure_reason, sync_folder
from featstore.io.outputs import check_outside_stores

__all__ = ["check_place", "files_below", "new_folder", "write_text"]


def check_place(place: str, *, overwrite: bool) -> None:
    """Raise ExportError if a folder cannot be created or replaced."""
    check_outside_stores(place)
    if not os.path.isdir(os.path.dirname(place)):
        raise ExportError(f"the folder {os.path.dirname(place)} does not exist; make it, or choose another")
    if not os.path.lexists(place) or (os.path.isdir(place) and not os.listdir(place)):
        return
    if not overwrite:
        raise ExportError(f"{place} exists; choose another folder, or replace it with --force")
    try:
        ours = {*read_description(place).files, LABELS, CARD, PHOTO, DESCRIPTION}
    except ExportError as error:
        raise ExportError(
            f"{place} exists and is not an exported model, and --force replaces nothing else; "
            "choose another folder"
        ) from error
    if others := sorted({*files_below(place)} - ours):
        raise ExportError(
            f"{place} holds more than an exported model, such as {others[0]}, which --force would remove; "
            "take it out, or choose another folder"
        )


@contextmanager
def new_folder(place: str, *, overwrite: bool) -> Iterator[str]:
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
        raise ExportError(
            f"cannot write {place}: {failure_reason(error)}; nothing was left behind"
        ) from error
    finally:
        if os.path.isdir(old) and not os.path.lexists(place):
            os.rename(old, place)
        for left in (folder, old):
            shutil.rmtree(left, ignore_errors=True)


def files_below(folder: str) -> list[str]:
    """Return the files below a folder, by relative path with ``/``."""
    return sorted(
        os.path.relpath(os.path.join(home, name), folder).replace(os.sep, "/")
        for home, _, names in os.walk(folder)
        for name in names
    )


def write_text(path: str, text: str) -> None:
    """Write a new text file."""
    # Labels that come from folders keep the bytes of names that are not UTF-8.
    with open(path, "x", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        file.write(text)

"""A file appears whole or not at all: temporary name, flush, fsync, rename."""

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from featstore.errors import FeatstoreError, StoreError

__all__ = ["TEMPORARY_PREFIX", "failure_reason", "replacing", "sync_folder", "write_text"]

TEMPORARY_PREFIX = ".tmp-"

# HDF5 quotes the operating system: "… errno = 28, error message = 'No space left on device', …"
_HDF5_MESSAGE = re.compile(r"error message = '([^']*)'")


@contextmanager
def replacing(target: str) -> Iterator[str]:
    """Write a file whole: the name that this yields becomes ``target`` when the block ends without an error.

    The file is flushed to the disk before it is renamed, and its folder after; where anything fails before
    the rename, ``target`` is as it was and nothing is left behind. Only a process killed in between leaves
    its temporary file, whose name begins with ``.tmp-``.

    Parameters
    ----------
    target : str
        Path of the file to be. Its folder must exist.

    Yields
    ------
    str
        The temporary path, in the same folder and with the same extension; the block creates it.

    Raises
    ------
    StoreError
        The operating system refused; the message says what.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(os.path.join(folder, "a.txt")) as temporary:
    ...         with open(temporary, "w") as file:
    ...             _ = file.write("whole")
    ...     os.listdir(folder)
    ['a.txt']
    """
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, TEMPORARY_PREFIX + secrets.token_hex(16) + os.path.splitext(name)[1])
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and not isinstance(error, FeatstoreError):
            raise StoreError(
                f"cannot write {target}: {failure_reason(error)}; what was written before is safe"
            ) from error
        raise
    sync_folder(folder)


def write_text(target: str, text: str) -> None:
    """Replace a file by one that holds this text, in UTF-8."""
    with replacing(target) as temporary, open(temporary, "x", encoding="utf-8") as file:
        file.write(text)


def sync_folder(folder: str) -> None:
    """Flush a folder's entries to the disk, so that a rename in it survives a power cut."""
    if os.name != "posix":
        return
    try:
        descriptor = os.open(folder or ".", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder; they order renames themselves.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise StoreError(f"cannot flush the folder {folder}: {failure_reason(error)}") from error


def failure_reason(error: BaseException) -> str:
    """Say in a few words what the operating system, or HDF5, complained about.

    Examples
    --------
    >>> failure_reason(OSError(28, "No space left on device"))
    'no space left on device'
    """
    if found := _HDF5_MESSAGE.search(str(error)):
        text = found[1]
    else:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]

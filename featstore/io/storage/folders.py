"""Files of stores in folders."""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, TypeVar

from featstore.errors import StoreError
from featstore.io import atomic
from featstore.io.storage.access import ANY, ChangedError, Entry

__all__ = ["Folders"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Folders:
    """The file system."""

    keeps_removed = True
    # Segments stay below this, so that no folding ever needs more room than it on the disk.
    max_file_bytes = 4 * 2**30
    max_mapped_bytes = None

    def check_writable(self, folder: str) -> None:
        """Raise OSError if a folder cannot be written, or made where there is none."""
        while not os.path.lexists(folder):
            folder = os.path.dirname(folder)
        if not os.path.isdir(folder):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder)
        if not os.access(folder, os.W_OK | os.X_OK):
            is_read_only = hasattr(os, "statvfs") and os.statvfs(folder).f_flag & os.ST_RDONLY
            code = errno.EROFS if is_read_only else errno.EACCES
            raise OSError(code, os.strerror(code), folder)

    def make_folder(self, path: str, *, parents: bool = True) -> None:
        """Make a folder durable."""
        (atomic.make_folders if parents else atomic.make_last_folder)(path)

    def entries(self, folder: str, *, is_dated: bool = False) -> list[Entry]:
        """Return what is in a folder, by name."""
        with os.scandir(folder) as found:
            return [_entry(one, is_dated=is_dated) for one in sorted(found, key=lambda one: one.name)]

    def below(self, folder: str) -> list[str]:
        """Return the paths of all files below a folder."""
        return [os.path.join(home, name) for home, _, names in os.walk(folder) for name in names]

    def find(self, path: str) -> Entry | None:
        """Return what is known of a file, or None where there is none."""
        if not os.path.lexists(path):
            return None
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return None
        return Entry(
            path,
            os.path.basename(path),
            is_file=stat.S_ISREG(status.st_mode),
            is_folder=stat.S_ISDIR(status.st_mode),
            size=status.st_size,
            modified_ns=status.st_mtime_ns,
        )

    def version(self, path: str) -> str | None:
        """Return the digest of a file's bytes, or None where there is no file."""
        try:
            with open(path, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return None

    def open(self, path: str, *, is_sealed: bool = False) -> BinaryIO:
        """Open a file."""
        return open(path, "rb")

    def open_parts(self, path: str) -> BinaryIO:
        """Open a file."""
        return open(path, "rb")

    @contextmanager
    def replacing(
        self,
        target: str,
        *,
        verify: Callable[[str], None] | None = None,
        expected: str | None = ANY,
        in_turn: bool = False,
        create_only: bool = False,
    ) -> Iterator[str]:
        """Yield a temporary path beside the file, which replaces it when the block ends without an error."""

        def check() -> None:
            if expected != ANY and self.version(target) != expected:
                raise ChangedError

        with atomic.replacing(
            target, verify=verify, before_rename=check if in_turn else None, create_only=create_only
        ) as temporary:
            yield temporary

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files for good, those that are there."""
        folders = set()
        for path in paths:
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StoreError(f"cannot remove {path}: {atomic.failure_reason(error)}") from error
            folders.add(os.path.dirname(path))
        for folder in folders:
            atomic.sync_folder(folder)

    def remove_folders(self, paths: Iterable[str]) -> None:
        """Remove folders that are empty."""
        with suppress(OSError):
            for path in paths:
                os.rmdir(path)

    def copy(self, path: str, target: str) -> None:
        """Copy a file, and make its new name durable."""
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copyfile(path, target, follow_symlinks=False)
        atomic.sync_folder(os.path.dirname(target))

    def move(self, path: str, target: str) -> None:
        """Rename a file durably."""
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.rename(path, target)
        atomic.sync_folder(os.path.dirname(target))
        atomic.sync_folder(os.path.dirname(path))

    def clean(self, folder: str, *, at_once: bool = False) -> int:
        """Remove temporary files that killed processes left in a folder a day ago or earlier."""
        return atomic.remove_stale(folder, at_once=at_once)

    def forget(self, path: str) -> None:
        """Do nothing: a file is read where it lies."""

    def map(self, function: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
        """Apply a function to one item after another."""
        return [function(item) for item in items]


def _entry(found: "os.DirEntry[str]", *, is_dated: bool) -> Entry:
    is_file = found.is_file(follow_symlinks=False)
    is_folder = not is_file and found.is_dir(follow_symlinks=False)
    if not is_dated:
        return Entry(found.path, found.name, is_file, is_folder)
    status = found.stat(follow_symlinks=False)
    return Entry(found.path, found.name, is_file, is_folder, status.st_size, status.st_mtime_ns)

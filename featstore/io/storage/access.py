"""What every place for the files of a store can do."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol, TypeVar

from featstore.io.storage.parts import Parts

__all__ = ["ANY", "ChangedError", "Entry", "Storage"]

ANY: Final = "any version"
"""Whatever is there, or is not."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class ChangedError(Exception):
    """Another process has written, or removed, the file since it was looked at."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder that is there, or an object."""

    path: str
    name: str
    is_file: bool  # of links neither this nor the next
    is_folder: bool
    size: int = 0  # in bytes; 0 for a folder
    modified_ns: int = 0  # since 1970; 0 for a folder of objects


class Storage(Protocol):
    """Files by path. What is not there is a FileNotFoundError; what cannot be used now, another OSError."""

    @property
    def keeps_removed(self) -> bool:
        """Whether a removed file stays readable for those who have it open."""

    @property
    def max_file_bytes(self) -> int:
        """The largest file that should be made."""

    @property
    def max_mapped_bytes(self) -> int | None:
        """How much of its files a process should keep mapped."""

    def check_writable(self, folder: str) -> None:
        """Raise OSError or StoreError if a store cannot be made in a folder, without making it."""

    def make_folder(self, path: str, *, parents: bool = True) -> None:
        """Make a folder durable, if there are folders."""

    def entries(self, folder: str, *, is_dated: bool = False) -> list[Entry]:
        """Return what is in a folder, by name, for sure with sizes and times where these are asked for."""

    def below(self, folder: str) -> list[str]:
        """Return the paths of all files below a folder."""

    def find(self, path: str) -> Entry | None:
        """Return what is known of a file, or None where there is none."""

    def version(self, path: str) -> str | None:
        """Return what changes with a file's bytes, or None where there is no file."""

    def open(self, path: str, *, is_sealed: bool = False) -> BinaryIO:
        """Open a whole file, with a descriptor that can be mapped; a sealed one is never written again."""

    def open_parts(self, path: str) -> BinaryIO | Parts:
        """Open a sealed file of which little but its largest column will be read."""

    def replacing(
        self,
        target: str,
        *,
        verify: Callable[[str], None] | None = None,
        expected: str | None = ANY,
        in_turn: bool = False,
        create_only: bool = False,
    ) -> AbstractContextManager[str]:
        """Yield a temporary path on this machine, which becomes the file if the block ends without an error.

        The temporary file is given to ``verify`` before. ChangedError is raised if the file is not of the
        version ``expected`` any more; who replaces such a file passes ``in_turn``. With ``create_only`` a
        file that is there stays.
        """

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files for good, those that are there; raise StoreError where one cannot be."""

    def remove_folders(self, paths: Iterable[str]) -> None:
        """Remove folders that are empty, if there are folders."""

    def copy(self, path: str, target: str) -> None:
        """Copy a file within the same store."""

    def move(self, path: str, target: str) -> None:
        """Rename a file within the same store."""

    def clean(self, folder: str, *, at_once: bool = False) -> int:
        """Remove what killed processes left in a folder a day ago, and return how many files these were.

        With ``at_once`` also what they left since, where no process writes into the folder.
        """

    def forget(self, path: str) -> None:
        """Read a file anew from where it lies, even if there is a copy of it here."""

    def map(self, function: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
        """Apply a function that reads files, to as many at a time as is worth it."""

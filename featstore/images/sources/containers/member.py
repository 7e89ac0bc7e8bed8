"""What a file that holds many images says of them, before any of them is read."""

import mmap
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from featstore.errors import ImageError

__all__ = [
    "CACHED_CONTAINERS",
    "MAX_IMAGE_BYTES",
    "NO_COLUMNS",
    "ColumnError",
    "Columns",
    "Container",
    "Member",
    "mapped",
    "named_members",
    "read_at",
]

MAX_IMAGE_BYTES = 2**30
CACHED_CONTAINERS = 64

_NAME = re.compile(r"[^\x00-\x1f]{1,2000}")


class ColumnError(ImageError):
    """A column that was asked for is not there, or holds something else."""


class Columns(NamedTuple):
    """Columns of a table of images that were asked for by name; None for those that are found."""

    path: str | None = None
    label: str | None = None


NO_COLUMNS = Columns()


class Member(NamedTuple):
    """One image of a container."""

    place: Any  # of its bytes, as the reader understands it
    label: str | int | None = None  # or the number of its class
    path: str = ""  # in an archive, which may give its class
    problem: str | None = None  # why it cannot be read


@dataclass(kw_only=True)
class Container:
    """Content of a file that holds many images."""

    members: dict[str, Member] = field(default_factory=dict)
    failures: list[tuple[str | None, str]] = field(default_factory=list)  # None: all from some place on
    others: Counter[str] = field(default_factory=Counter)  # by ending
    skipped: Counter[str] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)  # fields of records without an image

    def add(self, named: Iterable[tuple[str, Member]]) -> None:
        """Add members, or failures where they have a problem, under names that are distinct."""
        for name, member in named_members(named).items():
            if member.problem is None:
                self.members[name] = member
            else:
                self.failures.append((name, member.problem))


def named_members(named: Iterable[tuple[str, Member]]) -> dict[str, Member]:
    """Key members by their names, or by numbers where names are missing, shared, or none for a path."""
    listed = list(named)
    uses = Counter(name for name, _ in listed)
    members = {}
    for at, (name, member) in enumerate(listed):
        key = name
        if uses[name] > 1 or not _NAME.fullmatch(name) or (".." in name and ".." in name.split("/")):
            key = f"{at:06d}"
            while key in uses:
                key += "_"
        members[key] = member
    return members


@contextmanager
def mapped(path: str) -> Iterator[memoryview]:
    """Map a file into memory, so that of it only the pages that are looked at are read."""
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            yield memoryview(b"")
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages, memoryview(pages) as buffer:
            yield buffer


def read_at(file: int, begin: int, size: int) -> bytes:
    """Return some bytes of an open file; fewer where it ends before."""
    os.lseek(file, begin, os.SEEK_SET)
    data = os.read(file, size)
    while len(data) < size and (more := os.read(file, size - len(data))):
        data += more
    return data

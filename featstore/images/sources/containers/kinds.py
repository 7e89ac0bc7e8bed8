"""Kinds of files that hold many images, and the bytes of one image in any of them."""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from featstore.errors import ImageError
from featstore.images.sources.containers.member import NO_COLUMNS, Columns, Container, Member
from featstore.images.sources.containers.parquet import COLUMN_MARK, list_parquet, read_from_parquet
from featstore.images.sources.containers.tar import TAR_ENDINGS, list_tar, read_from_tar
from featstore.images.sources.containers.tfrecord import is_tfrecord_name, list_tfrecord, read_from_tfrecord
from featstore.images.sources.containers.zip import list_zip, read_from_zip
from featstore.io.stamps import MEMBER_MARK, FileStamp

__all__ = ["ContainerKind", "kind_of", "list_container", "member_status", "read_member"]


@dataclass(frozen=True, kw_only=True)
class ContainerKind:
    """How files of one kind are listed and read; both functions raise ImageError for broken files."""

    name: str  # in the plural
    expected: str  # what such files must hold
    is_name: Callable[[str], bool]
    members: Callable[..., Container]  # of a path and its stamp, and Columns where it has_columns
    read: Callable[[int, Any], bytes]  # an open file's descriptor, a member's place
    has_columns: bool = False


_KINDS = (
    ContainerKind(
        name="TFRecord shards",
        expected="the encoded images as image/encoded, as the Inception scripts write them",
        is_name=is_tfrecord_name,
        members=list_tfrecord,
        read=read_from_tfrecord,
    ),
    ContainerKind(
        name="tar archives",
        expected="image files, such as 0001.jpg beside 0001.cls, or in class folders",
        is_name=lambda name: name.lower().endswith(TAR_ENDINGS),
        members=list_tar,
        read=read_from_tar,
    ),
    ContainerKind(
        name="zip archives",
        expected="image files, in class folders if they have labels",
        is_name=lambda name: name.lower().endswith(".zip"),
        members=list_zip,
        read=read_from_zip,
    ),
    ContainerKind(
        name="Parquet files",
        expected="a column of images as Hugging Face's datasets writes it: a struct of bytes and path",
        is_name=lambda name: name.lower().endswith(".parquet"),
        members=list_parquet,
        read=read_from_parquet,
        has_columns=True,
    ),
)


@lru_cache(maxsize=256)
def kind_of(path: str) -> ContainerKind | None:
    """Return the kind of container that a path names, None if it names none."""
    name = os.path.basename(path)
    return next((kind for kind in _KINDS if kind.is_name(name)), None)


def list_container(path: str, columns: Columns = NO_COLUMNS) -> tuple[Container, FileStamp]:
    """Return what a container holds, and its stamp; raise ImageError or OSError if it cannot be read."""
    # Taken before it is read, so that a change meanwhile shows in the next run.
    stamp = FileStamp.of(os.stat(path))
    kind = _known_kind(path)
    return kind.members(path, stamp, *([columns] if kind.has_columns else [])), stamp


def read_member(path: str) -> bytes | None:
    """Return the bytes of an image named ``CONTAINER::NAME``, or None if no such container is a file."""
    for holder, name in _divisions(path):
        try:
            file = os.open(holder, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        except (FileNotFoundError, NotADirectoryError):
            continue
        try:
            status = os.fstat(file)
            if stat.S_ISREG(status.st_mode):
                kind, stamp = _known_kind(holder), FileStamp.of(status)
                return kind.read(file, _member(kind, holder, stamp, name).place)
        finally:
            os.close(file)
    return None


def member_status(path: str) -> os.stat_result | None:
    """Return the status of the container that holds an image, or None if no such container is a file."""
    for holder, name in _divisions(path):
        if os.path.isfile(holder) and kind_of(holder) is not None:
            status = os.stat(holder)
            _member(_known_kind(holder), holder, FileStamp.of(status), name)
            return status
    return None


def _member(kind: ContainerKind, path: str, stamp: FileStamp, name: str) -> Member:
    """Return a member; raise ImageError if there is none, or it has a problem."""
    column, mark, _ = name.partition(COLUMN_MARK)
    if kind.has_columns and mark:
        container = kind.members(path, stamp, Columns(path=column))
    else:
        container = kind.members(path, stamp)
    if name in container.members:
        return container.members[name]
    problems: dict[str | None, str] = dict(container.failures)
    raise ImageError(problems.get(name) or f"no image {name!r} is in {os.path.basename(path)!r}")


def _divisions(path: str) -> Iterator[tuple[str, str]]:
    """Yield what may be a container, and the name in it."""
    at = path.find(MEMBER_MARK)
    while at > 0:
        yield path[:at], path[at + len(MEMBER_MARK) :]
        at = path.find(MEMBER_MARK, at + 1)


def _known_kind(path: str) -> ContainerKind:
    kind = kind_of(path)
    if kind is None:
        raise ImageError(f"{os.path.basename(path)!r} is no container of images by its name")
    return kind

"""Tar archives of images, such as the shards of a WebDataset."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from featstore.errors import ImageError
from featstore.images.sources.containers.archive import LABEL_ENDINGS, ArchiveEntry, clean_name, list_archive
from featstore.images.sources.containers.listings import listed_once
from featstore.images.sources.containers.member import (
    CACHED_CONTAINERS,
    MAX_IMAGE_BYTES,
    Container,
    mapped,
    read_at,
)
from featstore.images.sources.image_names import LOOKED_AT_BYTES
from featstore.io.archives.inflating import InflatedFile, InflateError, compression_of
from featstore.io.archives.tar import TarError, TarMember, iter_members
from featstore.io.stamps import FileStamp

__all__ = ["TAR_ENDINGS", "list_tar", "read_from_tar"]

TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")

_MAX_TEXT_BYTES = 2**16
_OPEN_STREAMS = 2


class Place(NamedTuple):
    """Where a member of a compressed archive is: a file as it was at one time, and bytes of what it holds."""

    path: str
    stamp: FileStamp
    begin: int
    size: int


@lru_cache(maxsize=CACHED_CONTAINERS)
def list_tar(path: str, stamp: FileStamp) -> Container:
    """Locate the images of an archive; of these, only the headers are read, unless it is compressed."""
    return listed_once(path, stamp, lambda: _listed_now(path, stamp), place_of=_place_of)


def _place_of(values: list[Any]) -> "tuple[int, int] | Place":
    if len(values) == 2:
        begin, size = map(int, values)
        return begin, size
    path, stamp, begin, size = values
    return Place(str(path), FileStamp(*map(int, stamp)), int(begin), int(size))


def _listed_now(path: str, stamp: FileStamp) -> Container:
    with mapped(path) as buffer:
        if not buffer:
            raise ImageError("no tar archive: the file is empty")
        program = compression_of(bytes(buffer[:8]))
        if program is None:
            return _listed(buffer)
    container = _listed(_inflated(path, stamp, program))
    for name, member in container.members.items():
        container.members[name] = member._replace(place=Place(path, stamp, *member.place))
    return container


def read_from_tar(file: int, place: "tuple[int, int] | Place") -> bytes:
    """Return the bytes of a member of an open archive."""
    size = place[-1]
    if isinstance(place, Place):
        try:
            program = compression_of(read_at(file, 0, 8))
            data = _inflated(place.path, place.stamp, program)[place.begin : place.begin + size]
        except InflateError as error:
            raise ImageError(str(error)) from error
    else:
        data = read_at(file, *place)
    if len(data) < size:
        raise ImageError("the archive was cut short since it was listed")
    return data


@lru_cache(maxsize=_OPEN_STREAMS)
def _inflated(path: str, stamp: FileStamp, program: str | None) -> InflatedFile:
    try:
        return InflatedFile(path, str(program))
    except InflateError as error:
        raise ImageError(
            f"{error}; decompress it, or use gzip: images hardly compress, so it grows little"
        ) from error


def _listed(buffer: "memoryview | InflatedFile") -> Container:
    failures: list[tuple[str | None, str]] = []
    container = list_archive(
        _entries(buffer, failures),
        read_head=lambda place: bytes(buffer[place[0] : place[0] + min(place[1], LOOKED_AT_BYTES)]),
    )
    container.failures += failures
    return container


def _entries(
    buffer: "memoryview | InflatedFile", failures: list[tuple[str | None, str]]
) -> Iterator[ArchiveEntry]:
    places: dict[str, tuple[int, int]] = {}
    n_members = 0
    try:
        for member in iter_members(buffer):
            n_members += 1
            if member.kind == "folder":
                continue
            place, problem = (member.begin, member.size), _problem(member)
            if member.kind == "hard link":
                place = places.get(clean_name(member.target), (0, 0))
                problem = None if place[0] else "a link to what is not in the archive before it"
            name = clean_name(member.name)
            text = None
            if problem is None:
                places[name] = place
                if member.size <= _MAX_TEXT_BYTES and name.lower().endswith(LABEL_ENDINGS):
                    text = bytes(buffer[member.begin : member.begin + member.size])
            yield ArchiveEntry(member.name, place, problem, text)
        if isinstance(buffer, InflatedFile):
            buffer.check()
    except (TarError, InflateError) as error:
        if not n_members:
            raise ImageError(f"no tar archive: {error}") from error
        failures.append((None, f"{error}; the {n_members:,} members before are used"))


def _problem(member: TarMember) -> str | None:
    if member.kind == "cut":
        return "truncated: the archive ends before the member does"
    if member.kind == "file":
        if member.size > MAX_IMAGE_BYTES:
            return f"the member has {member.size:,} bytes; an image may have {MAX_IMAGE_BYTES:,}"
        return None
    return (
        f"a {member.kind}, not a regular file"
        if member.kind != "sparse"
        else "a sparse file, which is not read"
    )

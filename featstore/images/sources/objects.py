"""Images on object stores and other servers: those below a prefix, and those of a list of URLs."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import TypeVar

from featstore.class_names import normalised_name
from featstore.errors import ImageError, SourceUnavailableError
from featstore.images.sources.folders import FolderListing, arrange
from featstore.images.sources.image_names import (
    LOOKED_AT_BYTES,
    begins_as_image,
    is_image_name,
    is_of_another_program,
    may_hold_image,
)
from featstore.images.sources.records import ImageRecord, Records
from featstore.images.sources.refusals import Refusals
from featstore.io.remote.access import Found
from featstore.io.remote.failures import request_threads
from featstore.io.remote.opening import begin_of, find_object, is_on_the_web, list_objects
from featstore.io.stamps import UNKNOWN, FileStamp
from featstore.io.urls import joined, server_of

__all__ = ["walk_prefix", "with_stamps"]

_MARK = "featstore.json"
_AT_A_TIME = 4096

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def walk_prefix(url: str) -> FolderListing:
    """List the images below a prefix by the rules of folders; the first folder below it is the class."""
    # Objects whose names do not tell whether they are images are looked at, 512 bytes of each.
    listing = FolderListing()
    # Held in files: which folders are stores shows at the end only.
    objects = Records(map(_record, list_objects(url)))
    paths = (path or "" for path in objects.columns.paths)
    stores = {path[: -len(_MARK)] for path in paths if path.endswith(f"/{_MARK}")}
    folders: dict[str, bool] = {"": True}
    doubtful: list[ImageRecord] = []
    for found in objects:
        folder, name = _divided(found.path)
        if not _is_looked_into(folder, folders, stores, listing):
            continue
        if not name or (found.stamp.size == 0 and "." not in name):
            # What consoles write for an empty folder.
            if name:
                _is_looked_into(f"{folder}{name}/", folders, stores, listing)
        elif name[0] == ".":
            if name.startswith("._"):
                listing.skipped["._*"] += 1
            elif is_image_name(name):
                listing.skipped["hidden images"] += 1
        elif is_image_name(name):
            listing.records.append(found)
        elif may_hold_image(name) and found.stamp.size:
            doubtful.append(found)
        else:
            _count_other(listing, found)
    for found, holds_image in _at_once(lambda found: _holds_image(url, found), doubtful):
        if holds_image:
            listing.records.append(found)
        else:
            _count_other(listing, found)
    listing.records = listing.records.by_path()
    arrange(listing)
    return listing


def with_stamps(records: Iterable[ImageRecord], root: str) -> tuple[Records, list[tuple[str, str]]]:
    """Look up the objects among the records, those without a stamp; return what is there, and failures."""
    # Of many web servers some are always away: their images are failures, unless none answers.
    known = Records()
    failures: list[tuple[str, str]] = []
    refusals = Refusals()
    away: dict[str, SourceUnavailableError] = {}
    answering: set[str] = set()

    def look_up(record: ImageRecord) -> FileStamp | ImageError | SourceUnavailableError:
        if record.stamp != UNKNOWN:
            return record.stamp
        url = joined(root, record.path)
        server = server_of(url)
        if server in away:
            return away[server]
        try:
            found = find_object(url)
        except ImageError as error:
            return error
        except SourceUnavailableError as error:
            if not is_on_the_web(url) or server in answering:
                raise
            return away.setdefault(server, error)
        answering.add(server)
        return FileStamp.of_object(found.size, found.tag)

    for record, found in _at_once(look_up, records):
        if isinstance(found, SourceUnavailableError):
            failures.append((record.path, found.reason))
            continue
        if isinstance(found, ImageError):
            refusals.note(record.path, found)
            failures.append((record.path, str(found)))
        else:
            refusals.note(record.path, None)
            known.append(replace(record, stamp=found))
    if away and not answering:
        raise next(iter(away.values()))
    return known, failures


def _at_once(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[tuple[_Item, _Result]]:
    """Yield items with what a function returns for them, in order; several are asked for at a time."""
    waiting = iter(items)
    with request_threads() as pool:
        while some := list(islice(waiting, _AT_A_TIME)):
            yield from zip(some, pool.map(function, some), strict=True)


def _is_looked_into(folder: str, known: dict[str, bool], stores: set[str], listing: FolderListing) -> bool:
    """Return whether a folder, ``""`` or ending in ``"/"``, is one whose images count; note it once."""
    if (answer := known.get(folder)) is not None:
        return answer
    above, name = _divided(folder[:-1])
    answer = _is_looked_into(above, known, stores, listing)
    if answer:
        if name.startswith(".") or is_of_another_program(name) or folder in stores:
            listing.skipped[name] += 1
            answer = False
        elif above.count("/") < 2:
            listing.folders.append(folder[:-1])
    known[folder] = answer
    return answer


def _divided(key: str) -> tuple[str, str]:
    folder, slash, name = key.rpartition("/")
    return folder + slash, name


def _record(found: Found) -> ImageRecord:
    folder = found.key.partition("/")[0] if "/" in found.key else None
    return ImageRecord(
        path=found.key,
        label=None if folder is None else normalised_name(folder),
        stamp=FileStamp.of_object(found.size, found.tag),
    )


def _count_other(listing: FolderListing, found: ImageRecord) -> None:
    folder, name = _divided(found.path)
    listing.others[folder, os.path.splitext(name)[1].lower()] += 1


def _holds_image(url: str, found: ImageRecord) -> bool:
    try:
        return begins_as_image(begin_of(joined(url, found.path), LOOKED_AT_BYTES))
    except ImageError:
        return False

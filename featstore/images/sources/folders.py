"""Folder sources: list every image below a folder with its size and times, without decoding."""

import os
import stat
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from featstore.class_names import normalised_name
from featstore.images.sources.image_names import (
    holds_image,
    is_image_name,
    is_of_another_program,
    may_hold_image,
)
from featstore.images.sources.records import ImageRecord, Records, split_of_word
from featstore.io.outputs import is_store
from featstore.io.stamps import FileStamp

__all__ = ["FolderListing", "arrange", "split_by_folders", "unusable_reason", "walk_folder"]

# Links that point at each other's parents make a number of ways through a tree that grows like a factorial.
_MAX_VISITS = 16

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(kw_only=True)
class FolderListing:
    """Result of walking a folder; paths are sorted by their bytes, the same on every machine."""

    records: Records = field(default_factory=Records)
    failures: list[tuple[str, str]] = field(default_factory=list)  # path and reason
    # Files that are no images, by folder ("" or ending in "/") and ending in lower case ("" for none).
    others: Counter[tuple[str, str]] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)  # folders by name, and files by kind
    folders: list[str] = field(default_factory=list)  # in the root, and in these

    def other_endings(self) -> dict[str, int]:
        """Count the files that are not images by extension, most frequent first."""
        counts: Counter[str] = Counter()
        for (_, ending), number in self.others.items():
            counts[ending] += number
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def empty_folders(self) -> list[str]:
        """Return the class folders without any image, however deep."""
        columns = self.records.columns
        depth = 2 if columns.splits.distinct() - {None} else 1
        full = {"/".join((path or "").split("/")[:depth]) for path in columns.paths}
        candidates = {folder for folder in self.folders if folder.count("/") == depth - 1}
        return sorted(candidates - full, key=os.fsencode)


def walk_folder(root: str) -> FolderListing:
    """List the images below a folder, labelled by the first folder below the root or split."""
    # Folders are splits if all in the root that hold images are named like one, one of them train and one
    # another; no image may lie in the root itself, and none in train outside of class folders. Links are
    # followed: a folder that is reached in two ways is listed under both, but never inside itself, and at
    # most 16 times. Each image costs one stat; only files with neither an image's nor another known ending
    # are opened, and no pipe or device.
    listing = FolderListing()
    visits: Counter[tuple[int, int]] = Counter()
    with os.scandir(root):
        # In the order of their paths, so that none has to be held to sort them in the end.
        pending: list[_Folder | ImageRecord] = [_Folder(root, "", None, frozenset())]
    while pending:
        item = pending.pop()
        if isinstance(item, ImageRecord):
            listing.records.append(item)
            continue
        folder, prefix, label, above = item
        try:
            status = os.stat(folder)
            identity = (status.st_dev, status.st_ino)
            if identity in above:
                continue
            visits[identity] += 1
            if visits[identity] > _MAX_VISITS:
                listing.failures.append((prefix[:-1], f"reached by links in more than {_MAX_VISITS} ways"))
                continue
            with os.scandir(folder) as entries:
                folders, records = _list_entries(entries, prefix, label, listing)
        except OSError as error:
            listing.failures.append((prefix[:-1], f"the folder cannot be read: {unusable_reason(error)}"))
            continue
        inside = above | {identity}
        if prefix.count("/") < 2:
            listing.folders += [prefix + name for name in folders]
        below = [
            _Folder(
                os.path.join(folder, name),
                f"{prefix}{name}/",
                normalised_name(name) if label is None else label,
                inside,
            )
            for name in folders
        ]
        pending += sorted([*below, *records], key=lambda item: os.fsencode(item.path), reverse=True)
    arrange(listing)
    return listing


class _Folder(NamedTuple):
    """A folder that is still to be listed."""

    location: str
    path: str  # from the root, ending in "/"
    label: str | None
    above: frozenset[tuple[int, int]]


def arrange(listing: FolderListing) -> None:
    """Take folders for splits if they are such, and sort failures."""
    listing.records = split_by_folders(listing.records)
    listing.failures.sort(key=lambda failure: os.fsencode(failure[0]))


def split_by_folders(records: Records) -> Records:
    """Take first folders for splits and second ones for labels, if the first are such."""
    return Records(map(_split_by_folder, records)) if _is_split_by_folders(records) else records


def _is_split_by_folders(records: Records) -> bool:
    """Return whether the folders in the root are splits, by the rule of :func:`walk_folder`."""
    labels = records.columns.labels.distinct()
    splits = {None if label is None else split_of_word(label) for label in labels}
    if None in splits or "train" not in splits or len(splits) == 1:
        return False
    train = {label for label in labels if label is not None and split_of_word(label) == "train"}
    return all(record.path.count("/") > 1 for record in records if record.label in train)


def _split_by_folder(record: ImageRecord) -> ImageRecord:
    folder, *below = record.path.split("/")
    return ImageRecord(
        path=record.path,
        label=normalised_name(below[0]) if len(below) > 1 else None,
        split=split_of_word(folder),
        stamp=record.stamp,
    )


def _list_entries(
    entries: "os._ScandirIterator[str]", prefix: str, label: str | None, listing: FolderListing
) -> tuple[list[str], list[ImageRecord]]:
    """Return one folder's subfolders and images, and note in the listing what else is there."""
    folders, records = [], []
    for entry in entries:
        name = entry.name
        if name[0] == ".":
            _skip_hidden(entry, listing)
            continue
        is_image = is_image_name(name)
        try:
            if entry.is_dir():
                if is_of_another_program(name) or is_store(entry.path):
                    listing.skipped[name] += 1
                else:
                    folders.append(name)
                continue
            if not is_image and not (may_hold_image(name) and entry.is_file() and holds_image(entry.path)):
                if entry.is_symlink() and may_hold_image(name):
                    # A dangling link may stand for a whole class folder: it is not passed over.
                    entry.stat()
                listing.others[prefix, os.path.splitext(name)[1].lower()] += 1
                continue
            # On Windows the listing of a folder knows no inodes.
            status = os.stat(entry.path) if os.name == "nt" else entry.stat()
        except OSError as error:
            if is_image or may_hold_image(name):
                listing.failures.append((prefix + name, _link_reason(entry, error)))
            else:
                listing.others[prefix, os.path.splitext(name)[1].lower()] += 1
            continue
        if stat.S_ISREG(status.st_mode):
            records.append(ImageRecord(path=prefix + name, label=label, stamp=FileStamp.of(status)))
        else:
            listing.failures.append((prefix + name, unusable_reason(status)))
    return folders, records


def _skip_hidden(entry: "os.DirEntry[str]", listing: FolderListing) -> None:
    """Count a hidden folder, or a hidden file with an image's extension."""
    name = entry.name
    if name.startswith("._"):
        listing.skipped["._*"] += 1
    elif is_image_name(name):
        listing.skipped["hidden images"] += 1
    else:
        with suppress(OSError):
            if entry.is_dir(follow_symlinks=False):
                listing.skipped[name] += 1


def unusable_reason(found: OSError | os.stat_result) -> str:
    """Return in a few words why a path cannot be used as an image file."""
    if isinstance(found, OSError):
        if isinstance(found, FileNotFoundError | NotADirectoryError):
            return "no such file"
        return (found.strerror or type(found).__name__).lower()
    for is_kind, name in _KINDS:
        if is_kind(found.st_mode):
            return f"{name}, not a regular file"
    return "not a regular file"


def _link_reason(entry: "os.DirEntry[str]", error: OSError) -> str:
    if entry.is_symlink() and isinstance(error, FileNotFoundError | NotADirectoryError):
        return "a dangling link: what it points to does not exist"
    return unusable_reason(error)

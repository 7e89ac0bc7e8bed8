"""Walking a folder: every image below it with its size and time, none of them opened."""

import os
import stat
from collections import Counter
from dataclasses import dataclass, field

from featstore.images.records import ImageRecord, is_image_name, split_of_word
from featstore.stamps import FileStamp

__all__ = ["FolderListing", "unusable_reason", "walk_folder"]

_SKIPPED_FOLDERS = frozenset(("__MACOSX",))

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
    """What a walk found.

    Parameters
    ----------
    records : list of ImageRecord
        Sorted by the bytes of the relative path (:func:`os.fsencode`), the same on every machine.
    failures : list of (path, reason)
        Sorted likewise.
    other_endings : Counter
        How many files had each ending that is not an image's, in lower case; ``""`` for none.
    """

    records: list[ImageRecord] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    other_endings: Counter[str] = field(default_factory=Counter)


def walk_folder(root: str) -> FolderListing:
    """List the images below a folder.

    The label is the first folder below the root, however deep the image lies; an image directly in the root
    has none.

    A root whose folders are splits is recognised, and then each of these gives its images their split, and
    the folder below it is the label. For this all folders in the root that hold images must be named like a
    split (see :func:`~featstore.images.records.split_of_word`), one of them train and one another; no image
    may lie in the root itself, and none in train outside of class folders. Images that lie in a validation or
    test folder itself have no label.

    Hidden names (a leading dot) and ``__MACOSX`` are skipped. Links are followed, to files and to
    folders: a folder that is reached in two ways is listed under both, but never inside itself, and at most
    16 times. Each file costs one ``stat``; none is opened, so that pipes and devices cannot block.

    Parameters
    ----------
    root : str
        An absolute path of a folder.

    Raises
    ------
    OSError
        The root itself cannot be listed; of the folders below it, this is a failure in the listing.
    """
    listing = FolderListing()
    visits: Counter[tuple[int, int]] = Counter()
    with os.scandir(root):
        pending: list[tuple[str, str, str | None, frozenset[tuple[int, int]]]]
        pending = [(root, "", None, frozenset())]
    while pending:
        folder, prefix, label, above = pending.pop()
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
                folders = _list_entries(entries, prefix, label, listing)
        except OSError as error:
            listing.failures.append((prefix[:-1], f"the folder cannot be read: {unusable_reason(error)}"))
            continue
        inside = above | {identity}
        folders.sort(key=os.fsencode, reverse=True)
        for name in folders:
            below = f"{prefix}{name}/"
            pending.append((os.path.join(folder, name), below, name if label is None else label, inside))
    listing.records.sort(key=lambda record: os.fsencode(record.path))
    if _is_split_by_folders(listing.records):
        listing.records = [_split_by_folder(record) for record in listing.records]
    listing.failures.sort(key=lambda failure: os.fsencode(failure[0]))
    return listing


def _is_split_by_folders(records: list[ImageRecord]) -> bool:
    """Say whether the folders in the root are splits, by the rule of :func:`walk_folder`."""
    labels = {record.label for record in records}
    splits = {None if label is None else split_of_word(label) for label in labels}
    if None in splits or "train" not in splits or len(splits) == 1:
        return False
    train = {label for label in labels if label is not None and split_of_word(label) == "train"}
    return all(record.path.count("/") > 1 for record in records if record.label in train)


def _split_by_folder(record: ImageRecord) -> ImageRecord:
    folder, *below = record.path.split("/")
    return ImageRecord(
        path=record.path,
        label=below[0] if len(below) > 1 else None,
        split=split_of_word(folder),
        stamp=record.stamp,
    )


def _list_entries(
    entries: "os._ScandirIterator[str]", prefix: str, label: str | None, listing: FolderListing
) -> list[str]:
    """Add one folder's images to the listing and return the names of the folders in it."""
    folders = []
    records = listing.records
    for entry in entries:
        name = entry.name
        if name[0] == ".":
            continue
        is_image = is_image_name(name)
        try:
            if entry.is_dir():
                if name not in _SKIPPED_FOLDERS:
                    folders.append(name)
                continue
            if not is_image and not (entry.is_symlink() and "." not in name):
                listing.other_endings[os.path.splitext(name)[1].lower()] += 1
                continue
            # On Windows the listing of a folder knows no inodes.
            status = os.stat(entry.path) if os.name == "nt" else entry.stat()
        except OSError as error:
            # A dangling link without an ending may stand for a whole class folder: it is not passed over.
            if is_image or "." not in name:
                listing.failures.append((prefix + name, _link_reason(entry, error)))
            else:
                listing.other_endings[os.path.splitext(name)[1].lower()] += 1
            continue
        if not is_image:
            listing.other_endings[""] += 1
        elif stat.S_ISREG(status.st_mode):
            records.append(ImageRecord(path=prefix + name, label=label, stamp=FileStamp.of(status)))
        else:
            listing.failures.append((prefix + name, unusable_reason(status)))
    return folders


def unusable_reason(found: OSError | os.stat_result) -> str:
    """Say in a few words why a path cannot be used as an image file: what it is, or what the system said."""
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

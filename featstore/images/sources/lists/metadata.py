"""Folders with a metadata.csv or metadata.jsonl, as Hugging Face's imagefolder has them."""

import json
import os
from dataclasses import replace

from featstore.images.sources.folders import FolderListing
from featstore.images.sources.lists.column_names import ListOptions
from featstore.images.sources.lists.csv_list import CsvListing, read_csv_list
from featstore.images.sources.lists.text_files import open_text
from featstore.images.sources.records import ImageRecord, Records, split_of_word

__all__ = ["find_metadata", "with_metadata"]

_NAMES = ("metadata.csv", "metadata.jsonl")
_PATH_COLUMN = "file_name"
_MAX_HEADER = 2**16


def find_metadata(folder: str, listing: FolderListing) -> list[str]:
    """Return the lists that say something of a folder's images, in it and in the folders in it."""
    above = ["", *sorted(f"{name}/" for name in listing.folders if "/" not in name)]
    paths = (os.path.join(folder, prefix, name) for prefix in above for name in _NAMES)
    return [path for path in paths if os.path.isfile(path) and _has_path_column(path)]


def with_metadata(
    folder: str, listing: FolderListing, lists: list[str], options: ListOptions
) -> tuple[FolderListing, list[str]]:
    """Return a folder's images as its lists describe them, what is not there, and unused columns."""
    described: dict[str, ImageRecord] = {}
    failures = list(listing.failures)
    unused: dict[str, None] = {}
    for path in lists:
        prefix = os.path.relpath(os.path.dirname(path), folder)
        found = read_csv_list(path, replace(options, path_column=_PATH_COLUMN))
        unused |= dict.fromkeys(found.unused)
        described |= _within(prefix, found)
        failures += [(_joined(prefix, name), reason) for name, reason in found.failures]
    has_labels = any(record.label is not None for record in described.values())
    listed = {record.path: record for record in listing.records}
    records = [
        _described(listed.get(path, record), described.get(path), has_labels=has_labels)
        for path, record in (described | listed).items()
    ]
    records.sort(key=lambda record: os.fsencode(record.path))
    failures = list(dict(failures).items())
    failures.sort(key=lambda failure: os.fsencode(failure[0]))
    if has_labels:
        # Folders are no classes, and none is empty.
        records, folders = _split_by_folders(records), []
    else:
        folders = listing.folders
    return replace(listing, records=Records(records), failures=failures, folders=folders), list(unused)


def _described(listed: ImageRecord, said: ImageRecord | None, *, has_labels: bool) -> ImageRecord:
    if said is None:
        return replace(listed, label=None) if has_labels else listed
    return ImageRecord(
        path=listed.path,
        label=said.label if has_labels else listed.label,
        group=said.group,
        split=said.split or listed.split,
        weight=said.weight,
        target=said.target,
        stamp=listed.stamp,
    )


def _within(prefix: str, found: CsvListing) -> dict[str, ImageRecord]:
    names = [_joined(prefix, record.path) for record in found.records]
    return {name: replace(record, path=name) for name, record in zip(names, found.records, strict=True)}


def _joined(prefix: str, path: str) -> str:
    return path if path.startswith("/") else os.path.normpath(f"{prefix}/{path}").replace(os.sep, "/")


def _split_by_folders(records: list[ImageRecord]) -> list[ImageRecord]:
    """Give images the splits that the folders in the root are, if all of these are such."""
    splits = {
        folder: split_of_word(folder) for folder in {record.path.partition("/")[0] for record in records}
    }
    found = set(splits.values())
    if None in found or "train" not in found or len(found) == 1:
        return records
    return [
        replace(record, split=record.split or splits[record.path.partition("/")[0]]) for record in records
    ]


def _has_path_column(path: str) -> bool:
    """Return whether a list's first line names files as imagefolder does; others have such lists too."""
    try:
        with open_text(path) as file:
            line = file.readline(_MAX_HEADER)
    except (OSError, UnicodeError):
        return False
    if path.endswith(".jsonl"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            return False
        return isinstance(row, dict) and _PATH_COLUMN in row
    return _PATH_COLUMN in (
        name.strip(' "\r\n').lower() for name in line.replace(";", ",").replace("\t", ",").split(",")
    )

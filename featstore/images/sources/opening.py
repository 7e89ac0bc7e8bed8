"""Opening of a source: a folder of images or of TFRecord shards, a CSV list, shards, or a list in memory."""

import glob
import os
import re
import stat
from typing import Any

from featstore.class_names import normalised_name
from featstore.errors import SourceError
from featstore.images.sources.csv_list import read_csv_list
from featstore.images.sources.folders import FolderListing, unusable_reason, walk_folder
from featstore.images.sources.image_names import IMAGE_SUFFIXES, is_image_name
from featstore.images.sources.list_in_memory import open_list_in_memory
from featstore.images.sources.records import ImageRecord, Source
from featstore.images.sources.split_lists import with_split_lists
from featstore.images.sources.tfrecords import catalog_stem, is_tfrecord_name, open_tfrecords, tfrecords_in

__all__ = ["ImageRecord", "Source", "is_image_name", "open_source"]

_EXPECTED = "give a folder of images, a .csv list or TFRecord shards"
_LIST_SUFFIXES = (".csv", ".tsv")
_MAX_NAME = 100


def open_source(
    source: Any,
    *,
    train_list: str | os.PathLike[str] | None = None,
    validation_list: str | os.PathLike[str] | None = None,
    test_list: str | os.PathLike[str] | None = None,
) -> Source:
    """List the images of a folder, a CSV, TFRecord shards or a list in memory, without decoding them."""
    lists = {"train": train_list, "validation": validation_list, "test": test_list}
    if isinstance(source, str | bytes | os.PathLike):
        opened = _open(os.fsdecode(source))
    elif shards := _shards_of_list(source):
        opened = _open_shards(shards)
    else:
        opened = open_list_in_memory(source)
    return with_split_lists(opened, lists)


def _open(given: str) -> Source:
    if not given:
        raise SourceError("the source's path is empty; {_EXPECTED}")
    location = os.path.abspath(given)
    try:
        status = os.stat(location)
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError) and (shards := _matching_shards(location)):
            return _open_shards(shards)
        raise SourceError(_missing(given, location, error)) from error
    if stat.S_ISDIR(status.st_mode):
        return _open_folder(location)
    stem, suffix = os.path.splitext(os.path.basename(location))
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{given!r} is {unusable_reason(status)}; {_EXPECTED}")
    if is_tfrecord_name(os.path.basename(location)):
        return open_tfrecords([location], location=location, name=_catalog_name(catalog_stem(location)))
    if suffix.lower() not in _LIST_SUFFIXES:
        raise SourceError(_wrong_file(given, location))
    try:
        listing = read_csv_list(location)
    except OSError as error:
        raise SourceError(f"{given!r} cannot be read: {unusable_reason(error)}") from error
    return Source(
        name=_catalog_name(stem),
        root=os.path.dirname(location),
        location=location,
        records=listing.records,
        failures=listing.failures,
        ignored=0,
        unused_columns=listing.unused,
    )


def _open_folder(location: str) -> Source:
    try:
        listing = walk_folder(location)
    except OSError as error:
        raise SourceError(
            f"the folder {location!r} cannot be read: {unusable_reason(error)}; look at its permissions"
        ) from error
    name = _catalog_name(os.path.basename(location))
    if not listing.records:
        if shards := tfrecords_in(location):
            paths = [os.path.join(location, shard) for shard in shards]
            return open_tfrecords(paths, location=location, name=name)
        raise SourceError(_no_image(location, listing))
    return Source(
        name=name,
        root=location,
        location=location,
        records=listing.records,
        failures=listing.failures,
        ignored=listing.others.total(),
        ignored_endings=listing.other_endings(),
        skipped=dict(sorted(listing.skipped.items())),
        empty_folders=listing.empty_folders(),
    )


def _matching_shards(pattern: str) -> list[str]:
    """Return the shards that a pattern such as ``train-*-of-*`` matches, sorted."""
    return sorted(path for path in glob.glob(pattern) if is_tfrecord_name(os.path.basename(path)))


def _shards_of_list(source: Any) -> list[str]:
    """Return the paths of a list in memory if all of them are those of shards."""
    if not isinstance(source, list | tuple) or not source:
        return []
    if not all(
        isinstance(path, str | os.PathLike) and is_tfrecord_name(os.path.basename(path)) for path in source
    ):
        return []
    return sorted(os.path.abspath(os.fspath(path)) for path in source)


def _open_shards(paths: list[str]) -> Source:
    """Open several shards, under the name that they share."""
    folders = {os.path.dirname(path) for path in paths}
    if len(folders) > 1:
        raise SourceError(
            f"the shards lie in {len(folders)} folders; give the folder or the shards of one, under --catalog"
        )
    stems = {catalog_stem(path) for path in paths}
    (folder,) = folders
    stem = stems.pop() if len(stems) == 1 else os.path.basename(folder)
    return open_tfrecords(paths, location=folder, name=_catalog_name(stem))


def _catalog_name(stem: str) -> str:
    """Return a name that is a safe file name on every system."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", normalised_name(stem))[:_MAX_NAME]
    return re.sub(r"^[^A-Za-z0-9]+|-+$", "", name) or "images"


def _missing(given: str, location: str, error: OSError | ValueError) -> str:
    if isinstance(error, ValueError):
        return f"{given!r} is not a path: it holds a NUL character"
    if not isinstance(error, FileNotFoundError):
        return f"{given!r} cannot be used: {unusable_reason(error)}"
    if os.path.lexists(location):
        return f"{given!r} is a dangling link: what it points to does not exist"
    where = "" if os.path.isabs(given) else f" (looked for {location!r})"
    hint = "; '~' is expanded by shells only" if given.startswith("~") else ""
    return f"there is nothing at {given!r}{where}; {_EXPECTED}{hint}"


def _wrong_file(given: str, location: str) -> str:
    if is_image_name(os.path.basename(location)):
        return (
            f"{given!r} is a single image; give the folder that it is in, or label it with an existing head: "
            "featstore predict HEAD IMAGE"
        )
    return (
        f"{given!r} is a file, and not a list of images by its name; give a folder of images, a .csv "
        "(commas) or .tsv (tabs) with a column named path"
    )


def _no_image(location: str, listing: FolderListing) -> str:
    endings = " ".join(sorted(IMAGE_SUFFIXES))
    looked = (
        f"looked in it and below it for files ending in {endings}, in any case, and for others that begin as "
        "images do"
    )
    n_others = listing.others.total()
    found = "found no file at all" if not n_others else f"found {n_others} other file{'s' * (n_others != 1)}"
    if n_others:
        common = [ending or "no ending" for ending in list(listing.other_endings())[:5]]
        found += f" ({', '.join(common)})"
    if listing.failures:
        path, reason = listing.failures[0]
        found += f" and {len(listing.failures)} that cannot be used, first {path!r}: {reason}"
    skipped = "Hidden files are skipped"
    if listing.skipped:
        named = ", ".join(f"{number:,} {name}" for name, number in sorted(listing.skipped.items())[:5])
        skipped = f"Skipped as hidden or of other programs: {named}"
    return f"no image in {location!r}: {looked}; {found}. {skipped}. Is it the right folder?"

"""Opening of a source: a folder, a CSV list, containers such as shards and archives, or a list in memory."""

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from featstore.class_names import normalised_name
from featstore.errors import SourceError
from featstore.images.sources.containers.kinds import kind_of
from featstore.images.sources.containers.member import Columns
from featstore.images.sources.containers.opening import catalog_stem, containers_in, open_containers
from featstore.images.sources.containers.patterns import matching_containers
from featstore.images.sources.folders import FolderListing, unusable_reason, walk_folder
from featstore.images.sources.image_names import IMAGE_SUFFIXES, is_image_name
from featstore.images.sources.lists.coco import read_coco
from featstore.images.sources.lists.column_names import ListOptions
from featstore.images.sources.lists.csv_list import read_csv_list
from featstore.images.sources.lists.in_memory import open_list_in_memory
from featstore.images.sources.lists.metadata import find_metadata, with_metadata
from featstore.images.sources.lists.split_lists import with_split_lists
from featstore.images.sources.objects import walk_prefix
from featstore.images.sources.records import ImageRecord, Records, Source
from featstore.io.outputs import is_store
from featstore.io.remote.opening import is_on_the_web
from featstore.io.urls import is_url, last_name, without_credential
from featstore.label_sets import joined_labels, split_labels

__all__ = ["ImageRecord", "Source", "is_image_name", "open_source"]

_EXPECTED = (
    "give a folder of images, a .csv list, archives (.tar, .zip), shards (.parquet, TFRecord), or a prefix "
    "such as s3://bucket/folder"
)
_LIST_SUFFIXES = (".csv", ".tsv", ".jsonl")
_COCO_SUFFIX = ".json"
_LIST_OPTIONS = (
    *("path_column", "label_column", "label_columns", "weight_column", "target"),
    *("image_root", "suffix"),
)
_COLUMN_OPTIONS = tuple(name for name in _LIST_OPTIONS if name not in ("image_root", "suffix"))
_MAX_NAME = 100


def open_source(
    source: Any,
    *,
    train_list: str | os.PathLike[str] | None = None,
    validation_list: str | os.PathLike[str] | None = None,
    test_list: str | os.PathLike[str] | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    image_root: str | os.PathLike[str] | None = None,
    suffix: str | None = None,
    weight_column: str | None = None,
    label_columns: Sequence[str] = (),
    label_separator: str | None = None,
    target: str | None = None,
) -> Source:
    """List the images of a folder, a list, or of files that hold many, without decoding them."""
    options = ListOptions.checked(
        path_column, label_column, image_root, suffix, weight_column, label_columns, label_separator, target
    )
    lists = {"train": train_list, "validation": validation_list, "test": test_list}
    if isinstance(source, str | bytes | os.PathLike):
        opened = _open(os.fsdecode(source), options)
    elif containers := _containers_of_list(source):
        opened = _open_containers(containers, options)
    else:
        opened = open_list_in_memory(source, options)
    return with_split_lists(_with_label_sets(opened, options), lists)


def _with_label_sets(source: Source, options: ListOptions) -> Source:
    """Return a source whose images have several labels, or numbers instead of them, if they are to."""
    if options.target is not None:
        # Class folders beside a list are no labels then.
        records = Records(replace(record, label=None) for record in source.records)
        return replace(source, records=records, empty_folders=(), target=options.target)
    if options.label_separator is None and not options.label_columns:
        return source
    separator = options.separator
    records = Records(
        record
        if record.label is None
        else replace(record, label=joined_labels(split_labels(record.label, separator), separator))
        for record in source.records
    )
    return replace(source, records=records, label_separator=separator)


def _open(given: str, options: ListOptions) -> Source:
    if not given:
        raise SourceError(f"the source's path is empty; {_EXPECTED}")
    if is_url(given):
        _refuse(options, "the images below a prefix")
        return _open_prefix(given)
    location = os.path.abspath(given)
    try:
        status = os.stat(location)
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError) and (matches := matching_containers(location)):
            return _open_containers(matches, options)
        raise SourceError(_missing(given, location, error)) from error
    if stat.S_ISDIR(status.st_mode):
        return _open_folder(location, options)
    stem, suffix = os.path.splitext(os.path.basename(location))
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{given!r} is {unusable_reason(status)}; {_EXPECTED}")
    if kind_of(location) is not None:
        folder, name = os.path.dirname(location), _catalog_name(catalog_stem([location]))
        columns = _columns([location], options)
        return open_containers([location], root=folder, location=location, name=name, columns=columns)
    if suffix.lower() not in (*_LIST_SUFFIXES, _COCO_SUFFIX):
        raise SourceError(_wrong_file(given, location))
    try:
        if suffix.lower() == _COCO_SUFFIX:
            _refuse(options, "annotations of COCO", *_COLUMN_OPTIONS)
            listing = read_coco(location, options)
        else:
            listing = read_csv_list(location, options)
    except OSError as error:
        raise SourceError(f"{given!r} cannot be read: {unusable_reason(error)}") from error
    return Source(
        name=_catalog_name(stem),
        root=options.image_root or os.path.dirname(location),
        location=location,
        records=listing.records,
        failures=listing.failures,
        ignored=0,
        unused_columns=listing.unused,
    )


def _open_folder(location: str, options: ListOptions) -> Source:
    try:
        listing = walk_folder(location)
    except OSError as error:
        raise SourceError(
            f"the folder {location!r} cannot be read: {unusable_reason(error)}; look at its permissions"
        ) from error
    lists = find_metadata(location, listing)
    if not listing.records and (containers := containers_in(location)):
        name, columns = _catalog_name(os.path.basename(location)), _columns(containers, options)
        return open_containers(containers, root=location, location=location, name=name, columns=columns)
    _refuse(options, "the images of a folder", *(("path_column", "image_root", "suffix") if lists else ()))
    if not listing.records:
        raise SourceError(_no_image(location, listing))
    unused: list[str] = []
    if lists:
        listing, unused = with_metadata(location, listing, lists, options)
    return _of_listing(location, listing, unused)


def _open_prefix(given: str) -> Source:
    """Open what lies below a prefix of an object store."""
    location = given.rstrip("/")
    name = last_name(location)
    if is_on_the_web(location):
        raise SourceError(
            f"{without_credential(location)!r} is on a web server, which has no listing; give a .csv list of "
            "the images' addresses"
        )
    if name.lower().endswith((*_LIST_SUFFIXES, _COCO_SUFFIX)) or kind_of(name) is not None:
        raise SourceError(_far_container(location))
    listing = walk_prefix(location)
    if not listing.records:
        if is_image_name(name):
            raise SourceError(_wrong_file(given, name))
        raise SourceError(_no_image(location, listing))
    return _of_listing(location, listing)


def _of_listing(location: str, listing: FolderListing, unused: Sequence[str] = ()) -> Source:
    return Source(
        name=_catalog_name(last_name(location) if is_url(location) else os.path.basename(location)),
        root=location,
        location=location,
        records=listing.records,
        failures=listing.failures,
        ignored=listing.others.total(),
        ignored_endings=listing.other_endings(),
        skipped=dict(sorted(listing.skipped.items())),
        empty_folders=listing.empty_folders(),
        unused_columns=unused,
    )


def _refuse(options: ListOptions, what: str, *names: str) -> None:
    """Raise SourceError if options of lists are given for another source."""
    if found := [name for name in options.given() if name in (names or _LIST_OPTIONS)]:
        options_of_lists = [f"{name} (--{name.replace('_', '-')})" for name in found]
        it = "them" if len(found) > 1 else "it"
        raise SourceError(f"{' and '.join(options_of_lists)}: for lists, not for {what}: leave {it} out")


def _containers_of_list(source: Any) -> list[str]:
    """Return the paths of a list in memory if all of them are those of containers."""
    if not isinstance(source, list | tuple) or not source:
        return []
    if not all(isinstance(path, str | os.PathLike) and kind_of(os.fspath(path)) for path in source):
        return []
    if far := [path for path in source if is_url(os.fspath(path))]:
        raise SourceError(_far_container(far[0]))
    return sorted({os.path.abspath(os.fspath(path)) for path in source}, key=os.fsencode)


def _columns(paths: Sequence[str], options: ListOptions) -> Columns:
    """Return the columns of tables of images that are asked for; raise SourceError for other options."""
    kinds = [kind_of(path) for path in paths]
    if not all(kind is not None and kind.has_columns for kind in kinds):
        _refuse(options, "the images of archives and shards")
    _refuse(options, "the images in Parquet files", "image_root", "suffix", "weight_column", "target")
    return Columns(path=options.path_column, label=options.label_column)


def _open_containers(paths: list[str], options: ListOptions) -> Source:
    """Open several containers, under the name that they share."""
    folders = {os.path.dirname(path) for path in paths}
    if len(folders) > 1:
        raise SourceError(
            f"the shards lie in {len(folders)} folders; give the folder or the shards of one, under --catalog"
        )
    (folder,) = folders
    name, columns = _catalog_name(catalog_stem(paths)), _columns(paths, options)
    return open_containers(paths, root=folder, location=folder, name=name, columns=columns)


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
        f"{given!r} is a file, and neither a list of images nor an archive by its name; give a folder of "
        "images, a .csv (commas) or .tsv (tabs) with a column path, a .json of COCO, or a .tar, .zip, "
        ".parquet or .tfrecord"
    )


def _far_container(location: str) -> str:
    return (
        f"{location!r} is a list, an archive or a shard by its name, and these are read from the disk only: "
        "download it; a .csv may name URLs"
    )


def _no_image(location: str, listing: FolderListing) -> str:
    if not is_url(location) and is_store(location):
        return f"{location!r} is a store, which holds features of images; give the folder of the images"
    endings = " ".join(sorted(IMAGE_SUFFIXES))
    looked = (
        f"looked in it and below it for files ending in {endings}, in any case, and for others that begin as "
        "images do"
    )
    n_others = listing.others.total()
    found = "found no file at all" if not n_others else f"found {n_others} other file{'s' * (n_others != 1)}"
    if n_others:
        common = [repr(ending[:20])[1:-1] or "no ending" for ending in list(listing.other_endings())[:5]]
        found += f" ({', '.join(common)})"
    if listing.failures:
        path, reason = listing.failures[0]
        found += f" and {len(listing.failures)} that cannot be used, first {path!r}: {reason}"
    skipped = "Hidden files are skipped"
    if listing.skipped:
        named = ", ".join(f"{name} ({number:,})" for name, number in sorted(listing.skipped.items())[:5])
        skipped = f"Skipped as hidden or of other programs: {named}"
    return f"no image in {location!r}: {looked}; {found}. {skipped}. Is it the right folder?"

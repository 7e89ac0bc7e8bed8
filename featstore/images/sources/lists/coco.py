"""Image-level labels of a COCO annotation file: the one category that an image's annotations have."""

import json
import os
from collections.abc import Mapping
from typing import Any

from featstore.errors import SourceError, first_line
from featstore.images.sources.lists.column_names import ListOptions
from featstore.images.sources.lists.csv_list import CsvListing
from featstore.images.sources.lists.in_memory import can_be_path, cell_text
from featstore.images.sources.lists.listed_files import ListedFiles
from featstore.images.sources.objects import with_stamps
from featstore.images.sources.records import ImageRecord
from featstore.label_sets import joined_labels
from featstore.messages import listed

__all__ = ["read_coco"]

_SHOWN = 3


def read_coco(location: str, options: ListOptions) -> CsvListing:
    """Read the images of an annotation file; those with several categories are failures."""
    content = _content(location)
    names = _category_names(location, content["categories"])
    categories: dict[Any, dict[str, None]] = {}
    for number, annotation in enumerate(content["annotations"]):
        where = f"{location!r}, annotation {number}"
        image, category = _field(where, annotation, "image_id"), _field(where, annotation, "category_id")
        if category not in names:
            raise SourceError(f"{where}: there is no category {category!r} in categories")
        categories.setdefault(image, {})[names[category]] = None
    root = options.image_root or os.path.dirname(location)
    files = ListedFiles(root)
    listing = CsvListing()
    seen: set[str] = set()
    for number, image in enumerate(content["images"]):
        where = f"{location!r}, image {number}"
        text = str(_field(where, image, "file_name"))
        if not can_be_path(text):
            raise SourceError(f"{where}: file_name {text[:40]!r} cannot be the path of a file")
        path, found = files.look_up(options.completed(text))
        if path in seen:
            raise SourceError(f"{where}: {path!r} is listed before; keep one of the two")
        seen.add(path)
        labels = list(categories.pop(_field(where, image, "id"), ()))
        if len(labels) > 1 and options.label_separator is None:
            listing.failures.append((path, _several(labels)))
        elif isinstance(found, str):
            listing.failures.append((path, found))
        else:
            label = joined_labels(labels, options.separator) if labels else None
            listing.records.append(ImageRecord(path=path, label=label, stamp=found))
    if listing.records.lack_stamps:
        listing.records, missing = with_stamps(listing.records, root)
        listing.failures += missing
    if categories:
        raise SourceError(
            f"{location!r} has annotations of {len(categories):,} images that it does not list, the first of "
            f"id {next(iter(categories))!r}"
        )
    if not listing.records:
        raise SourceError(_nothing_found(location, files, listing))
    return listing


def _content(location: str) -> dict[str, list[Any]]:
    try:
        with open(location, encoding="utf-8-sig") as file:
            content = json.load(file)
    except OSError:
        raise
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{location!r} is no JSON: {first_line(error)}") from error
    keys = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in keys):
        found = (
            ", ".join(repr(str(key)[:40]) for key in list(content)[:8])
            if isinstance(content, dict)
            else "a list"
        )
        raise SourceError(
            f"{location!r} is no annotation file of COCO: expected an object with the lists images, "
            f"annotations and categories; found {found}"
        )
    return content


def _category_names(location: str, categories: list[Any]) -> dict[Any, str]:
    names = {}
    for number, category in enumerate(categories):
        where = f"{location!r}, category {number}"
        name = cell_text(where, "label", _field(where, category, "name"))
        if name is None:
            raise SourceError(f"{where}: its name is empty")
        names[_field(where, category, "id")] = name
    return names


def _field(where: str, entry: Any, key: str) -> Any:
    """Return a number or a text of an entry."""
    value = entry.get(key) if isinstance(entry, Mapping) else None
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise SourceError(f"{where}: expected {key}, a number or a text; found {value!r:.40}")
    return value


def _several(labels: list[str]) -> str:
    named = listed([label[:40] for label in labels], most=_SHOWN)
    return f"{len(labels)} categories ({named}); an image has one label without --label-separator"


def _nothing_found(location: str, files: ListedFiles, listing: CsvListing) -> str:
    if not listing.failures:
        return f"{location!r} lists no image"
    path, reason = listing.failures[0]
    hint = f". Relative paths start from {files.root!r}; name another folder with image_root" * (
        "no such" in reason
    )
    return (
        f"none of the {len(listing.failures):,} images in {location!r} can be used; the first is {path!r}: "
        f"{reason}{hint}"
    )

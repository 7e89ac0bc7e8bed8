"""Changes of a source since its catalog was written: missing images, empty classes, moved folders."""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from featstore.errors import SourceError, StoreError
from featstore.images.sources.opening import Source
from featstore.io.long_arrays import blocks_of
from featstore.io.texts import CodedTexts, distinct_texts
from featstore.io.urls import is_url
from featstore.label_sets import split_labels
from featstore.store import Catalog, FeatureStore
from featstore.store.catalogs.moved import is_left_behind
from featstore.store.segments.keys import ContentFilter

__all__ = [
    "SourceChanges",
    "catalog_name_for",
    "check_same_source",
    "find_changes",
    "find_moved",
    "is_same_place",
    "parents",
    "warn_of_lost_splits",
]

_log = logging.getLogger(__name__)

# Of the contents of a catalog, what has to be in a source elsewhere that it follows its images to.
_SHARE_MOVED = 0.5


@dataclass(frozen=True, kw_only=True)
class SourceChanges:
    """Differences between a source and its earlier catalog."""

    gone: tuple[str, ...] = ()  # paths of images whose content is nowhere in it any more
    emptied_classes: dict[str, int] = field(default_factory=dict)  # how many images each had
    moved_from: str | None = None  # its earlier location


def find_changes(before: Catalog, after: Catalog) -> SourceChanges:
    """Compare a source's old catalog with its new one."""
    known = ContentFilter.of_contents(after.content_hash)
    lost: list[str] = []
    for block in blocks_of(len(before)):
        is_kept = known.have(before.content_hash[block]) & before.content_hash[block].any(axis=1)
        lost += [before.paths[row] for row in (block.start + np.flatnonzero(~is_kept)).tolist()]
        before.forget_pages()
    # A folder that cannot be read is listed itself, and what is in it may well be there.
    asked = {name for path in lost for name in (path, *parents(path))}
    there = {path for path in after.paths if path in asked} if asked else set()
    labels = {
        label for text in distinct_texts(after.labels) for label in _labels(text, after.label_separator)
    }
    counts: Counter[str] = Counter()
    for text, number in _counted(before.labels).items():
        for label in _labels(text, before.label_separator):
            counts[label] += number * (label not in labels)
    counts = +counts
    return SourceChanges(
        gone=tuple(path for path in lost if path not in there and there.isdisjoint(parents(path))),
        emptied_classes=dict(sorted(counts.items())),
        moved_from=None if is_same_place(before.location, after.location) else before.location or None,
    )


def _counted(labels: Sequence[str | None]) -> Mapping[str | None, int]:
    return labels.counts() if isinstance(labels, CodedTexts) else Counter(labels)


def _labels(text: str | None, separator: str) -> list[str]:
    if text is None:
        return []
    return split_labels(text, separator) if separator else [text]


def catalog_name_for(store: FeatureStore, source: Source) -> str:
    """Return the default name of a source's catalog: its own, or that of a catalog that followed it."""
    names = store.catalog_names
    if source.name not in names:
        for catalog in _readable(store):
            if catalog.moved_from and is_same_place(catalog.location, source.location):
                return catalog.name
    return source.name


def find_moved(store: FeatureStore, content_hash: NDArray[np.uint8], *, is_complete: bool) -> str | None:
    """Return the catalog of a source that was moved here: most of its images have these hashes (n, 32)."""
    best, name = _SHARE_MOVED, None
    here: ContentFilter | None = None
    for catalog in _readable(store):
        here = ContentFilter.of_contents(content_hash) if here is None else here
        contents = ContentFilter.of_contents(catalog.content_hash)
        n_common = contents.n_common(here)
        share = n_common / max(1, len((contents if is_complete else here).prefixes))
        if share >= best and is_left_behind(catalog):
            best, name = share, catalog.name
    return name


def check_same_source(catalog: Catalog, source: Source) -> None:
    """Raise SourceError if a catalog belongs to another source that still exists."""
    if is_same_place(catalog.location, source.location):
        return
    if not catalog.location or is_url(catalog.location) or os.path.lexists(catalog.location):
        raise SourceError(
            f"the catalog {catalog.name!r} describes {catalog.location or 'a list'}, not "
            f"{source.location or 'a list'}; give this source another name with --catalog NAME"
        )


def warn_of_lost_splits(catalog: Catalog, source: Source) -> None:
    """Warn about given splits in the catalog that the source no longer gives."""
    n_given = len(catalog) - _counted(catalog.splits).get(None, 0)
    if n_given and not source.records.columns.splits.distinct() - {None}:
        _log.warning(
            "%d images of the catalog %s had given splits, and this call gives none: the split rule decides "
            "now; to keep the splits, give the lists again",
            n_given,
            catalog.name,
        )


def is_same_place(first: str, second: str) -> bool:
    """Return whether two locations are the same, by path or by inode."""
    if first == second:
        return True
    try:
        return os.path.samefile(first, second)
    except OSError:
        return False


def _readable(store: FeatureStore) -> Iterator[Catalog]:
    for name in store.catalog_names:
        try:
            yield store.catalog(name)
        except StoreError as error:
            _log.info("the catalog %s is skipped: %s", name, error)


def parents(path: str) -> Iterator[str]:
    """Yield the folders above a relative path, the innermost first."""
    while path := path.rpartition("/")[0]:
        yield path

"""Removal of images from everything in a store that holds or names them.

The features go first and the catalogs last, each file whole: after a crash at any step the same call finds
what is left, by path too, and ends as if nothing had happened.
"""

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import StoreError, StoreNotFoundError
from featstore.io.atomic import TEMPORARY_PREFIX
from featstore.io.json_values import json_values
from featstore.io.stamps import is_there
from featstore.io.storage.mirror import mirrored
from featstore.io.storage.opening import storage_of
from featstore.io.urls import is_url
from featstore.messages import count
from featstore.store.catalogs.catalog import Catalog
from featstore.store.catalogs.file import read_catalog_as
from featstore.store.catalogs.updating import update_catalog
from featstore.store.corrections.corrections import DUPLICATE
from featstore.store.head_images import read_head_images, remove_from_head
from featstore.store.head_origins import read_origin
from featstore.store.maintenance.resealing import reseal
from featstore.store.maintenance.traces import Patterns
from featstore.store.maintenance.verify import DAMAGED_FOLDER, open_checked
from featstore.store.named_images import NamedImages, named_images, rows_at
from featstore.store.segments.keys import are_among
from featstore.store.segments.retired import remove_retired, retired_paths
from featstore.store.segments.segment import Segment
from featstore.store.shard_reports import all_reports, reported_catalog
from featstore.store.space import Space, segment_paths
from featstore.store.tables.grouping import renamed_near_groups

if TYPE_CHECKING:
    from featstore.store.folder import StoreFolder

__all__ = ["ForgetReport", "forget_images"]

_MAX_ROUNDS = 10


@dataclass(frozen=True, kw_only=True)
class ForgetReport:
    """Result of :meth:`FeatureStore.forget`.

    Attributes
    ----------
    content_hashes : tuple of str
        Of the images.
    spaces : dict of str to int
        Rows of each space that are removed, of all views.
    catalogs : dict of str to int
        Images that are removed from each catalog.
    reports : int
        Reports of shards that lose images.
    heads : tuple of str
        Heads that are removed, since they hold features of the images or may do so: fit them again.
    changed_heads : tuple of str
        Heads that stay and were fitted, or chosen, on the images: what they were fitted on is forgotten, but
        they depend on it until they are fitted again.
    files : tuple of str
        Absolute paths of files that are removed whole: set aside by repairs, left over from killed
        processes, or kept for readers in a bucket.
    bytes : int
        Size of the rows in the segments that are rewritten.
    consequences : tuple of str
        One sentence for each head that changes, and for whatever else is to be done.
    unknown : tuple of str
        Absolute paths that were named and are of no file, and of no image of a catalog.
    removed : bool
        False if nothing was removed yet.
    """

    content_hashes: tuple[str, ...]
    spaces: dict[str, int]
    catalogs: dict[str, int]
    reports: int
    heads: tuple[str, ...]
    changed_heads: tuple[str, ...]
    files: tuple[str, ...]
    bytes: int
    consequences: tuple[str, ...]
    unknown: tuple[str, ...]
    removed: bool

    @property
    def is_empty(self) -> bool:
        """Whether the store holds nothing of the images, nor files in which some of it may be."""
        holds = (self.spaces, self.catalogs, self.reports, self.heads, self.changed_heads, self.files)
        return not any(holds)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return json_values(self)


def forget_images(
    store: "StoreFolder", images: Sequence[str | os.PathLike[str]], *, dry_run: bool
) -> ForgetReport:
    """Remove images from a store; see :meth:`FeatureStore.forget`."""
    named = named_images(store, images)
    spaces, n_bytes = {}, 0
    for name in store.space_names:
        held = [*_held(store, name, named.contents)]
        n_bytes += sum(segment.n_bytes for _, segment, _ in held)
        if n_rows := sum(int(is_held.sum()) for _, _, is_held in held):
            spaces[name] = n_rows
    catalogs = {name: store.catalog(name) for name in store.catalog_names}
    lost = {name: _lost(catalog, named) for name, catalog in catalogs.items()}
    reports = {path: reported_catalog(path) for path in sorted(all_reports(store))}
    reports = {path: name for path, name in reports.items() if _changed(named, read_catalog_as(path, name))}
    heads, changed_heads, sentences = _heads(
        store, named.contents, {name for name in lost if len(lost[name])}
    )
    report = ForgetReport(
        content_hashes=tuple(sorted(content.hex() for content in named.contents)),
        spaces=spaces,
        catalogs={name: len(rows) for name, rows in lost.items() if len(rows)},
        reports=len(reports),
        heads=heads,
        changed_heads=changed_heads,
        files=tuple(_left_files(store)),
        bytes=n_bytes,
        consequences=(*sentences, *_of_catalogs(catalogs, named.contents), *_outside(store, catalogs, lost)),
        unknown=named.unknown,
        removed=not dry_run,
    )
    if dry_run:
        return report
    storage = storage_of(store.path)
    _remove_temporaries(store)
    for name in store.space_names:
        _remove_rows(store, name, named.contents)
        remove_retired(os.path.join(store.path, "spaces", name), at_once=True)
    _remove_set_aside(store)
    for path, name in reports.items():
        update_catalog(path, partial(_changed, named), name=name)
    storage.remove(map(store.head_path, heads))
    for name in changed_heads:
        remove_from_head(store.head_path(name), named.contents)
    for name in _in_order(catalogs, named):
        update_catalog(store.catalog_path(name), partial(_changed, named))
    _remove_copies(store, named.contents)
    return report


def _held(
    store: "StoreFolder", name: str, contents: Collection[bytes]
) -> Iterator[tuple[Space, Segment, NDArray[np.bool_]]]:
    """Yield the segments of a space that have rows of some images, and which rows these are."""
    folder = os.path.join(store.path, "spaces", name)
    space = Space(folder)
    for path in sorted(segment_paths(folder)):
        # What compaction removes meanwhile is in a new segment, which the next round finds.
        try:
            segment = open_checked(path, space)
            is_held = are_among(segment.keys()[0], contents)
        except StoreNotFoundError:
            continue
        if is_held.any():
            yield space, segment, is_held


def _remove_rows(store: "StoreFolder", name: str, contents: Collection[bytes]) -> None:
    for _ in range(_MAX_ROUNDS):
        n_held = 0
        for space, segment, is_held in _held(store, name, contents):
            n_held += 1
            try:
                if not is_held.all():
                    reseal(space, segment, np.flatnonzero(~is_held))
            except StoreNotFoundError:
                continue
            storage_of(segment.path).remove([segment.path])
        if not n_held:
            return
    raise StoreError(
        f"another process keeps writing these images into {name}; run this again when it is done"
    )


def _lost(catalog: Catalog, named: NamedImages) -> NDArray[np.int64]:
    """Return the rows of a catalog that are of the images, or at their paths."""
    is_lost = are_among(catalog.content_hash, named.contents)
    is_lost[[*rows_at(catalog, named.paths)]] = True
    return np.flatnonzero(is_lost)


def _changed(named: NamedImages, catalog: Catalog | None) -> Catalog | None:
    """Return a catalog without the images and all that names them, or None if it has nothing of them."""
    if catalog is None:
        return None
    lost = _lost(catalog, named)
    reasons = [_without_hash(reason, named.contents) for reason in catalog.reasons]
    groups = renamed_near_groups(catalog.near_groups, named.contents)
    changed = replace(catalog, reasons=reasons, near_groups=groups)
    if not len(lost) and changed.equals(catalog):
        return None
    return changed.take(np.setdiff1d(np.arange(len(catalog)), lost))


def _without_hash(reason: str | None, contents: Collection[bytes]) -> str | None:
    if reason is None or not reason.startswith(DUPLICATE):
        return reason
    is_named = any(content.hex() in reason for content in contents)
    return f"{DUPLICATE} an image that was forgotten" if is_named else reason


def _in_order(catalogs: dict[str, Catalog], named: NamedImages) -> list[str]:
    """Return the catalogs' names, last those by which paths are known."""
    return sorted(catalogs, key=lambda name: bool(rows_at(catalogs[name], named.paths)))


def _heads(
    store: "StoreFolder", contents: Collection[bytes], catalogs: Collection[str]
) -> tuple[tuple[str, ...], tuple[str, ...], list[str]]:
    """Return the heads to remove, those to change, and a sentence for each of them and for doubtful ones."""
    removed, changed, sentences = [], [], []
    for name in store.head_names:
        path = store.head_path(name)
        images = read_head_images(path)
        is_fitted, is_chosen = images.has("fitted", contents), images.has("chosen", contents)
        head = f"the head {name} ({images.kind})"
        if images.has_rows and (is_fitted or not images.is_known):
            removed.append(name)
            why = "was fitted on what is forgotten" if is_fitted else "does not know what it was fitted on"
            sentences.append(f"{head} {why}, and keeps features: it is removed; fit it again")
        elif is_fitted or is_chosen:
            changed.append(name)
            how = "was fitted" if is_fitted else "had its parameters chosen"
            sentences.append(
                f"{head} {how} on what is forgotten, and holds none of its features: it stays, and depends "
                "on it until it is fitted again"
            )
        elif images.seen is None and {*catalogs} & {*read_origin(path).catalogs}:
            sentences.append(
                f"{head} does not know which images it was fitted on, and holds no features: it stays, and "
                "may depend on what is forgotten until it is fitted again"
            )
    return tuple(removed), tuple(changed), sentences


def _of_catalogs(catalogs: dict[str, Catalog], contents: Collection[bytes]) -> Iterator[str]:
    """Yield a sentence for each catalog in which images lose the name of their group."""
    for name, catalog in catalogs.items():
        if groups := {*renamed_near_groups(catalog.near_groups, contents)} - {*catalog.near_groups}:
            yield (
                f"{count(len(groups), 'group')} of near-duplicates in the catalog {name} had a name by the "
                "hash of what is forgotten, and get another: other images in them may change splits"
            )


def _outside(
    store: "StoreFolder", catalogs: dict[str, Catalog], lost: dict[str, NDArray[np.int64]]
) -> Iterator[str]:
    """Yield sentences on what lies outside of the store."""
    paths = {path for name, rows in lost.items() for path in catalogs[name].take(rows).absolute_paths()}
    if there := sorted(filter(is_there, paths)):
        shown = f"{there[0]} is" if len(there) == 1 else f"{there[0]} and {len(there) - 1:,} more are"
        yield f"{shown} still there: the next extraction takes in again what is not deleted"
    if is_url(store.path):
        yield "a bucket that keeps earlier versions of objects holds the images until these are deleted"


def _left_files(store: "StoreFolder") -> Iterator[str]:
    """Yield what is set aside, left over and kept for readers: with rows whose images may not be known."""
    yield from _set_aside(store)
    yield from _temporaries(store)
    for name in store.space_names:
        yield from sorted(retired_paths(os.path.join(store.path, "spaces", name)))


def _set_aside(store: "StoreFolder") -> list[str]:
    beginning = os.path.join(store.path, DAMAGED_FOLDER, "")
    return sorted(path for path in storage_of(store.path).below(store.path) if path.startswith(beginning))


def _temporaries(store: "StoreFolder") -> list[str]:
    found = storage_of(store.path).below(store.path)
    return sorted(path for path in found if os.path.basename(path).startswith(TEMPORARY_PREFIX))


def _remove_set_aside(store: "StoreFolder") -> None:
    storage, paths = storage_of(store.path), _set_aside(store)
    storage.remove(paths)
    home = os.path.join(store.path, DAMAGED_FOLDER)
    folders = {os.path.dirname(path) for path in paths} | {home}
    folders |= {os.path.dirname(folder) for folder in folders if folder != home}
    storage.remove_folders(sorted(folders - {store.path}, key=len, reverse=True))


def _remove_temporaries(store: "StoreFolder") -> None:
    for folder in sorted({os.path.dirname(path) for path in _temporaries(store)}):
        storage_of(folder).clean(folder, at_once=True)
        if left := [path for path in _temporaries(store) if os.path.dirname(path) == folder]:
            raise StoreError(
                f"another process is writing {left[0]}; nothing was forgotten: run this again when it is done"
            )


def _remove_copies(store: "StoreFolder", contents: Collection[bytes]) -> None:
    """Remove the copies of objects here that hold anything of the images, of whatever store they are."""
    patterns = Patterns(contents)
    for path in mirrored() if is_url(store.path) else ():
        if patterns.are_in(path):
            os.unlink(path)

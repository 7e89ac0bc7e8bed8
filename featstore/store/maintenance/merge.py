"""Merging of stores by copying files; segment names are random and never conflict."""

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from featstore.errors import StoreError
from featstore.io.atomic import failure_reason
from featstore.io.hdf5.raw import damaged
from featstore.io.storage.opening import storage_of
from featstore.io.urls import is_url
from featstore.store.catalogs.catalog import Catalog
from featstore.store.catalogs.file import read_catalog
from featstore.store.segments.segment import LATEST_NS, Segment, read_description, segment_writer
from featstore.store.space import Space

if TYPE_CHECKING:
    from featstore.store.folder import StoreFolder

__all__ = ["MergeReport", "check_merge", "merge_stores"]

_CHOICES = ("error", "keep", "replace")
# Clocks differ; a segment from beyond tomorrow is dated anew.
_MAX_AHEAD_NS = 24 * 3600 * 10**9


@dataclass(frozen=True, kw_only=True)
class MergeReport:
    """Result of a merge.

    Attributes
    ----------
    spaces : tuple of str
        Spaces that were not here before.
    segments, rows : int
        Sealed files that were copied, and their rows.
    skipped : int
        Segments of which every key was here already.
    catalogs, heads : tuple of str
        Those that were copied.
    kept : tuple of str
        Catalogs and heads that stayed as they were although the other store has different ones of the same
        name.
    """

    spaces: tuple[str, ...]
    segments: int
    rows: int
    skipped: int
    catalogs: tuple[str, ...]
    heads: tuple[str, ...]
    kept: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def check_merge(ours: "StoreFolder", others: Sequence["StoreFolder"], *, on_conflict: str = "error") -> None:
    """Raise StoreError if stores cannot be merged; see :meth:`FeatureStore.check_merge`."""
    _check_choice(ours, others, on_conflict)
    if on_conflict != "error":
        return
    stores = [ours, *others]
    for at, other in enumerate(stores):
        for first in stores[:at]:
            if clashing := [*_new_catalogs(first, other)[1], *_new_heads(first, other)[1]]:
                raise _conflict(first, other, clashing)


def _check_choice(ours: "StoreFolder", others: Sequence["StoreFolder"], on_conflict: str) -> None:
    if on_conflict not in _CHOICES:
        raise StoreError(f"on_conflict must be one of {', '.join(_CHOICES)}; found {on_conflict!r}")
    for other in others:
        if ours.path == other.path or (
            not is_url(ours.path + other.path) and os.path.realpath(ours.path) == os.path.realpath(other.path)
        ):
            raise StoreError(f"{other.path} is this very store; merge another one into it")


def _conflict(first: "StoreFolder", other: "StoreFolder", clashing: list[str]) -> StoreError:
    return StoreError(
        f"{first.path} and {other.path} both have {', '.join(clashing)}, with different contents; nothing "
        "was copied. Choose with on_conflict (--on-conflict): keep what comes first, or replace it by what "
        "comes after"
    )


def merge_stores(
    ours: "StoreFolder",
    other: "StoreFolder",
    *,
    on_conflict: str = "error",
    progress: Callable[[int, int], None] | None = None,
) -> MergeReport:
    """Copy another store's contents; see :meth:`FeatureStore.merge`."""
    _check_choice(ours, [other], on_conflict)
    theirs = [other.space(name) for name in other.space_names]
    total = sum(segment.n_bytes for space in theirs for segment in space.segments)
    catalogs, clashing_catalogs = _new_catalogs(ours, other)
    heads, clashing_heads = _new_heads(ours, other)
    clashing = [*clashing_catalogs, *clashing_heads]
    if clashing and on_conflict == "error":
        raise _conflict(ours, other, clashing)
    if on_conflict == "replace":
        catalogs += clashing_catalogs
        heads += clashing_heads
        clashing = []
    n_segments = n_rows = n_skipped = n_bytes = 0
    created = tuple(space.name for space in theirs if space.name not in ours.space_names)
    for source in theirs:
        make = partial(
            ours.create_space, source.spec, feature_dim=source.feature_dim, provenance=source.provenance
        )
        # What is new is made with the first thing that can be copied into it.
        target = None if source.name in created else make()
        names = {segment.name for segment in target.segments} if target is not None else {*()}
        for segment in source.segments:
            if target is None or (segment.name not in names and not _is_covered(segment, target)):
                _check_rows(segment, source)
                target = target or make()
                _take_segment(segment, target)
                n_segments += 1
                n_rows += segment.n_rows
            else:
                n_skipped += 1
            n_bytes += segment.n_bytes
            if progress is not None:
                progress(n_bytes, total)
        if target is None:
            make()
    ours.make()
    for entry in [*catalogs]:
        theirs_now = other.catalog(entry.removeprefix("catalog "))
        ours_now = ours.update_catalog(theirs_now.name, partial(_chosen, theirs_now, on_conflict))
        if ours_now is None or not ours_now.equals(theirs_now):
            catalogs.remove(entry)
            clashing.append(entry)
    for entry in heads:
        name = entry.removeprefix("head ")
        _copy_file(other.head_path(name), ours.head_path(name))
    return MergeReport(
        spaces=created,
        segments=n_segments,
        rows=n_rows,
        skipped=n_skipped,
        catalogs=tuple(entry.removeprefix("catalog ") for entry in catalogs),
        heads=tuple(entry.removeprefix("head ") for entry in heads),
        kept=tuple(clashing),
    )


def _chosen(theirs: Catalog, on_conflict: str, current: Catalog | None) -> Catalog | None:
    """Return the catalog to write; one written since the comparison is a conflict too."""
    if current is None or on_conflict == "replace" or current.equals(theirs):
        return theirs
    if on_conflict == "error":
        raise StoreError(
            f"another process has written the catalog {theirs.name} meanwhile, with different contents; "
            "the features are merged, it is not. Choose with on_conflict (--on-conflict): keep this store's, "
            "or replace it"
        )
    return None


def _is_covered(segment: Segment, target: Space) -> bool:
    hashes, views = segment.keys()
    return bool((target.lookup(hashes, views) >= 0).all())


def _check_rows(segment: Segment, source: Space) -> None:
    """Verify every row of a segment."""
    if (segment.feature_dim, segment.dtype) != (source.feature_dim, source.dtype):
        raise damaged(segment.path, f"its rows are {segment.feature_dim} x {segment.dtype}")
    if wrong := segment.damaged_row_numbers():
        raise damaged(segment.path, f"{len(wrong):,} rows do not agree with their checksums")


def _take_segment(segment: Segment, target: Space) -> None:
    """Copy a segment under its own name."""
    # A clock may show a time before 1970, which no segment can have.
    now_ns = min(max(time.time_ns(), 0), LATEST_NS)
    if segment.created_ns <= now_ns + _MAX_AHEAD_NS:
        _copy_file(segment.path, os.path.join(target.path, segment.name))
        return
    # A clock that ran ahead, or a stranger's joke: what is sealed here from now on would come before it.
    _, provenance = read_description(segment.path)
    with segment_writer(
        target.path,
        target.spec,
        n_rows=segment.n_rows,
        feature_dim=segment.feature_dim,
        created_ns=now_ns,
        provenance=provenance,
    ) as writer:
        for rows in segment.blocks():
            writer.write(rows)


def _copy_file(source: str, target: str) -> None:
    def verify(temporary: str) -> None:
        if not _same_bytes(temporary, source):
            raise ValueError(f"it holds other bytes than {source}")

    storage = storage_of(target)
    storage.make_folder(os.path.dirname(target), parents=False)
    with storage.replacing(target, verify=verify) as temporary:
        _copy_bytes(source, temporary)


def _copy_bytes(source: str, target: str) -> None:
    try:
        file = storage_of(source).open(source)
    except OSError as error:
        raise StoreError(f"cannot read {source}: {failure_reason(error)}") from error
    with file, open(target, "xb") as copy:
        shutil.copyfileobj(file, copy, 2**20)


def _new_catalogs(ours: "StoreFolder", other: "StoreFolder") -> tuple[list[str], list[str]]:
    """Return the other store's catalogs that are missing here, and those that differ."""
    new, clashing = [], []
    for name in other.catalog_names:
        catalog = other.catalog(name)
        if name not in ours.catalog_names:
            new.append(f"catalog {name}")
        elif not read_catalog(ours.catalog_path(name)).equals(catalog):
            clashing.append(f"catalog {name}")
    return new, clashing


def _new_heads(ours: "StoreFolder", other: "StoreFolder") -> tuple[list[str], list[str]]:
    new, clashing = [], []
    for name in other.head_names:
        if name not in ours.head_names:
            new.append(f"head {name}")
        elif not _same_bytes(ours.head_path(name), other.head_path(name)):
            clashing.append(f"head {name}")
    return new, clashing


def _same_bytes(path: str, other: str) -> bool:
    try:
        with storage_of(path).open(path) as mine, storage_of(other).open(other) as theirs:
            while True:
                block = mine.read(2**20)
                if block != theirs.read(2**20):
                    return False
                if not block:
                    return True
    except OSError as error:
        raise StoreError(f"cannot compare {path} and {other}: {failure_reason(error)}") from error

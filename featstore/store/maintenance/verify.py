"""Verification of every byte of a store; damage is reported, not raised."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featstore.errors import DamagedError, FeatstoreError, StoreError, StoreNotFoundError
from featstore.hashing import fingerprint
from featstore.io.archives.safe_zip import check_contents
from featstore.io.hdf5.raw import unreadable
from featstore.io.json_values import json_values
from featstore.io.storage.opening import storage_of
from featstore.io.urls import is_url
from featstore.store.catalogs.digests import digest_of_catalog
from featstore.store.catalogs.file import read_catalog
from featstore.store.segments.retired import retired_paths
from featstore.store.segments.segment import Segment, open_segment, read_description
from featstore.store.shard_reports import all_reports
from featstore.store.space import Space, segment_paths

if TYPE_CHECKING:
    from featstore.store.folder import StoreFolder

__all__ = ["DAMAGED_FOLDER", "Damage", "VerifyReport", "check_catalog", "open_checked", "verify_store"]

# Where a repair puts what is damaged, under the paths that it had in the store.
DAMAGED_FOLDER = "damaged"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Damage:
    """One damaged file.

    Attributes
    ----------
    path : str
        Absolute.
    space : str or None
        The space that it belongs to; None for a catalog or head.
    rows : tuple of int
        The damaged rows, counted from the segment's first; empty where the damage is not in its rows.
    reason : str
    repairable : bool
        False where the file is not damaged but cannot be read: a newer version wrote it, or the operating
        system refuses.
    """

    path: str
    space: str | None
    rows: tuple[int, ...] = ()
    reason: str
    repairable: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return json_values(self)


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """Result of a verification.

    Attributes
    ----------
    segments, catalogs, heads : int
        Files that were checked.
    rows : int
        Rows that agree with their checksums.
    damaged : tuple of Damage
    leftovers : tuple of str
        Absolute paths of files that are no part of a store: temporary ones of killed processes, which
        ``compact`` removes once they are a day old, and foreign ones.
    set_aside : tuple of str
        Absolute paths of damaged files that earlier repairs have set aside.
    """

    segments: int
    rows: int
    catalogs: int
    heads: int
    damaged: tuple[Damage, ...]
    leftovers: tuple[str, ...]
    set_aside: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged; leftovers do no harm."""
        return not self.damaged

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return json_values(self)


def verify_store(store: "StoreFolder", progress: Progress | None = None) -> VerifyReport:
    """Read every segment, catalog and head of a store; see :meth:`FeatureStore.verify`."""
    storage = storage_of(store.path)
    for path in storage.below(store.path) if is_url(store.path) else []:
        # What lies there is verified, and not a copy of it.
        storage.forget(path)
    damage: list[Damage] = []
    opened: list[tuple[str, Segment]] = []
    n_segments = 0
    for name in store.space_names:
        folder = os.path.join(store.path, "spaces", name)
        try:
            space = Space(folder)
        except FeatstoreError as error:
            space = None
            damage.append(_damage(error, os.path.join(folder, "space.json"), space=name))
        for path in sorted(segment_paths(folder)):
            try:
                opened.append((name, open_checked(path, space)))
            except StoreNotFoundError:
                # Compaction elsewhere removed it since it was listed.
                continue
            except FeatstoreError as error:
                damage.append(_damage(error, path, space=name))
            n_segments += 1
    n_rows = n_seen = 0
    total = sum(segment.n_rows for _, segment in opened)
    for name, segment in opened:
        try:
            wrong = segment.damaged_row_numbers()
            is_frame_whole = segment.is_frame_whole()
        except StoreNotFoundError:
            n_segments -= 1
            continue
        except FeatstoreError as error:
            damage.append(_damage(error, segment.path, space=name))
            continue
        finally:
            n_seen += segment.n_rows
            if progress is not None:
                progress(n_seen, total)
        n_rows += segment.n_rows - len(wrong)
        if wrong:
            reason = f"{len(wrong):,} of {segment.n_rows:,} rows do not agree with their checksums"
            damage.append(Damage(path=segment.path, space=name, rows=tuple(wrong), reason=reason))
        elif not is_frame_whole:
            reason = "what stands around its rows does not agree with its checksum"
            damage.append(Damage(path=segment.path, space=name, reason=reason))
    for name in store.catalog_names:
        path = store.catalog_path(name)
        try:
            check_catalog(path)
        except FeatstoreError as error:
            damage.append(_damage(error, path))
    for name in store.head_names:
        path = store.head_path(name)
        try:
            check_head(path)
        except FeatstoreError as error:
            damage.append(_damage(error, path))
    leftovers, set_aside = _others(store)
    return VerifyReport(
        segments=n_segments,
        rows=n_rows,
        catalogs=len(store.catalog_names),
        heads=len(store.head_names),
        damaged=tuple(damage),
        leftovers=leftovers,
        set_aside=set_aside,
    )


def open_checked(path: str, space: Space | None, *, any_time: bool = False) -> Segment:
    """Open a segment and check its metadata, against its space where that can be read."""
    spec, _ = read_description(path)
    if space is None:
        return open_segment(path, expected_fingerprint=fingerprint(spec))
    segment = open_segment(path, expected_fingerprint=space.fingerprint, any_time=any_time)
    if (segment.feature_dim, segment.dtype) != (space.feature_dim, space.dtype):
        raise DamagedError(
            f"its rows are {segment.feature_dim} x {segment.dtype}; "
            f"the space's are {space.feature_dim} x {space.dtype}"
        )
    return segment


def check_catalog(path: str) -> None:
    """Read a catalog, and check the digest in it."""
    catalog = read_catalog(path)
    if catalog.digest not in ("", digest_of_catalog(catalog)):
        raise DamagedError("its digest is not that of its images and labels")


def check_head(path: str) -> None:
    """Check the bytes of a head's file, without loading the head."""
    try:
        check_contents(path)
    except StoreError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise DamagedError(str(error)) from error


def _damage(error: FeatstoreError, path: str, *, space: str | None = None) -> Damage:
    # The path stands beside the reason.
    reason = str(error).split("; run featstore verify", maxsplit=1)[0].removeprefix(f"{path} is damaged: ")
    reason = reason.replace(f"cannot read {path}: ", "cannot be read: ", 1)
    return Damage(path=path, space=space, reason=reason, repairable=isinstance(error, DamagedError))


def _others(store: "StoreFolder") -> tuple[tuple[str, ...], tuple[str, ...]]:
    """List foreign files in the store's folder, and files that were set aside."""
    known = {os.path.join(store.path, "featstore.json")}
    known.update(map(store.catalog_path, store.catalog_names))
    known.update(map(store.head_path, store.head_names))
    known |= all_reports(store)
    for name in store.space_names:
        folder = os.path.join(store.path, "spaces", name)
        known.add(os.path.join(folder, "space.json"))
        known.update(segment_paths(folder))
        known.update(retired_paths(folder))
    found = {*storage_of(store.path).below(store.path)}
    aside = os.path.join(store.path, DAMAGED_FOLDER, "")
    set_aside = {path for path in found if path.startswith(aside)}
    return tuple(sorted(found - known - set_aside)), tuple(sorted(set_aside))

"""Repair of damaged stores: damaged files are set aside, never deleted, and their good rows kept."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.backbones.spec import BackboneSpec
from featstore.errors import BackboneError, DamagedError, FormatVersionError, StoreError, StoreNotFoundError
from featstore.hashing import fingerprint
from featstore.io.atomic import failure_reason
from featstore.io.json_values import json_values
from featstore.io.storage.opening import file_exists, storage_of
from featstore.store.catalogs.catalog import Catalog
from featstore.store.catalogs.file import read_location
from featstore.store.description import read_json, write_space_description
from featstore.store.maintenance.resealing import reseal
from featstore.store.maintenance.verify import (
    DAMAGED_FOLDER,
    Damage,
    check_catalog,
    check_head,
    open_checked,
    verify_store,
)
from featstore.store.segments.segment import open_segment, read_description
from featstore.store.space import Space, segment_paths

if TYPE_CHECKING:
    from featstore.store.folder import StoreFolder

__all__ = ["MissingImages", "RepairReport", "mend_description", "repair_store"]

# Mending a space's description lets its segments be checked against it; nothing needs a third pass.
_MAX_PASSES = 3


@dataclass(frozen=True, kw_only=True)
class MissingImages:
    """Images that have to be extracted again.

    Attributes
    ----------
    space, catalog : str
    location : str
        The source that the catalog describes.
    images : int
        How many of its images have no features in the space, or not of all views.
    views : int or None
        How many views an image had; None if unknown.
    """

    space: str
    catalog: str
    location: str
    images: int
    views: int | None


@dataclass(frozen=True, kw_only=True)
class RepairReport:
    """Result of a repair, and what is left to do.

    Attributes
    ----------
    set_aside : tuple of (str, str)
        Absolute paths of damaged files, before and after.
    rescued : int
        Rows of damaged segments that agree with their checksums, and are kept.
    lost : int
        Rows of damaged segments that do not; those of segments that cannot be opened are not counted.
    missing : tuple of MissingImages
        What to extract again: the unchanged files are read again, and only the lost features computed.
    catalogs : tuple of (str, str or None)
        Catalogs that were set aside, and the sources that they described, where that can be read.
    heads : tuple of str
        Heads that were set aside: fit them again.
    remaining : tuple of Damage
        What could not be mended: written by a newer version, or not to be read here. What the operating
        system has refused once, while this looked for damage, is among them even if it was read later.
    """

    set_aside: tuple[tuple[str, str], ...]
    rescued: int
    lost: int
    missing: tuple[MissingImages, ...]
    catalogs: tuple[tuple[str, str | None], ...]
    heads: tuple[str, ...]
    remaining: tuple[Damage, ...]

    @property
    def ok(self) -> bool:
        """Whether the store is sound now."""
        return not self.remaining

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        set_aside = [{"from": source, "to": target} for source, target in self.set_aside]
        catalogs = [{"name": name, "location": location} for name, location in self.catalogs]
        return {**json_values(self), "set_aside": set_aside, "catalogs": catalogs}


def repair_store(store: "StoreFolder", progress: Callable[[int, int], None] | None = None) -> RepairReport:
    """Repair a store; see :meth:`FeatureStore.repair`."""
    repair = _Repair(store)
    refused: dict[str, Damage] = {}
    for number in range(_MAX_PASSES + 1):
        damaged = verify_store(store, progress if number < _MAX_PASSES else None).damaged
        refused |= {damage.path: damage for damage in damaged if not damage.repairable}
        found = [damage for damage in damaged if damage.repairable]
        if not found or number == _MAX_PASSES:
            break
        # A space's description first: without it, there is no opening the space.
        for damage in sorted(found, key=lambda damage: not damage.path.endswith("space.json")):
            if (refusal := repair.mend(damage)) is not None:
                refused[damage.path] = refusal
    left = {damage.path: damage for damage in found}
    return repair.report(remaining=tuple((left | refused).values()))


def mend_description(path: str, write: Callable[[], None], *, kind: str, version: int) -> None:
    """Set a damaged ``featstore.json`` aside and rewrite it; leave a sound one."""
    try:
        read_json(path, kind=kind, version=version)
    except DamagedError:
        # Copied, so that the store is never without one.
        _set_aside(os.path.dirname(path), path, copy=True)
        write()


class _Repair:
    """A repair in progress, and its results so far."""

    def __init__(self, store: "StoreFolder") -> None:
        self.store = store
        self.set_aside: list[tuple[str, str]] = []
        self.rescued = self.lost = 0
        self.catalogs: list[tuple[str, str | None]] = []
        self.heads: list[str] = []
        # The keys of lost rows by space; None where a segment's are not known.
        self.lost_keys: dict[str, set[tuple[bytes, int]] | None] = {}

    def mend(self, damage: Damage) -> Damage | None:
        """Repair what is still damaged; return the reason if it cannot be read."""
        folder, file = os.path.split(damage.path)
        name, extension = os.path.splitext(file)
        try:
            if file == "space.json":
                self._mend_space(folder)
            elif damage.space is not None:
                self._mend_segment(damage.path, damage.space)
            elif extension == ".head":
                if _is_damaged(check_head, damage.path):
                    self.heads.append(name)
                    self._move(damage.path)
            elif _is_damaged(check_catalog, damage.path):
                self.catalogs.append((name, read_location(damage.path)))
                self._move(damage.path)
        except _Unreadable as refusal:
            return Damage(path=damage.path, space=damage.space, reason=str(refusal), repairable=False)
        return None

    def report(self, *, remaining: tuple[Damage, ...]) -> RepairReport:
        return RepairReport(
            set_aside=tuple(self.set_aside),
            rescued=self.rescued,
            lost=self.lost,
            missing=tuple(self._missing()),
            catalogs=tuple(self.catalogs),
            heads=tuple(self.heads),
            remaining=remaining,
        )

    def _mend_space(self, folder: str) -> None:
        """Rewrite the description from one of the segments, each of which holds it."""
        recovered = None
        for path in sorted(segment_paths(folder)):
            try:
                with _reading():
                    described, provenance = read_description(path)
                    spec = BackboneSpec.from_dict(described)
                    segment = open_segment(path, expected_fingerprint=fingerprint(described), any_time=True)
            except (BackboneError, DamagedError, FormatVersionError, StoreNotFoundError):
                continue
            if spec.name == os.path.basename(folder):
                recovered = spec, segment.feature_dim, provenance
                break
        self._move(os.path.join(folder, "space.json"), copy=recovered is not None)
        if recovered is not None:
            spec, feature_dim, provenance = recovered
            write_space_description(folder, spec, feature_dim=feature_dim, provenance=provenance)

    def _mend_segment(self, path: str, space_name: str) -> None:
        """Write a segment's good rows to a new one, and set the file aside."""
        keys: set[tuple[bytes, int]] | None = None
        wrong: list[int] = []
        segment = None
        try:
            with _reading():
                space = _described_space(os.path.dirname(path))
                segment = open_checked(path, space, any_time=True)
                wrong = segment.damaged_row_numbers()
                hashes, views = segment.keys()
                keys = {(hashes[number].tobytes(), int(views[number])) for number in wrong}
        except StoreNotFoundError:
            # Compaction elsewhere has removed it since: its rows are in a new one.
            return
        except (BackboneError, DamagedError, FormatVersionError):
            pass
        if segment is not None and keys is not None:
            if len(wrong) < segment.n_rows:
                reseal(space, segment, np.setdiff1d(np.arange(segment.n_rows), wrong))
            self.rescued += segment.n_rows - len(wrong)
            self.lost += len(wrong)
        known = self.lost_keys.get(space_name, set())
        self.lost_keys[space_name] = None if known is None or keys is None else known | keys
        self._move(path)

    def _missing(self) -> list[MissingImages]:
        """Count, by catalog, the images whose features a space has lost."""
        missing = []
        for space_name, keys in self.lost_keys.items():
            if space_name not in self.store.space_names:
                continue
            space = self.store.space(space_name)
            for name in self.store.catalog_names:
                with suppress(DamagedError):
                    if (lost := _missing_of(self.store.catalog(name), space, keys)) is not None:
                        missing.append(lost)
        return missing

    def _move(self, path: str, *, copy: bool = False) -> None:
        self.set_aside.append((path, _set_aside(self.store.path, path, copy=copy)))


class _Unreadable(Exception):  # noqa: N818
    """The operating system cannot read a file that a repair needs."""


@contextmanager
def _reading() -> Iterator[None]:
    """Convert operating system errors to ``_Unreadable``; let damage pass to the caller."""
    try:
        yield
    except (BackboneError, DamagedError, FormatVersionError, StoreNotFoundError):
        raise
    except StoreError as error:
        raise _Unreadable(str(error)) from error


def _is_damaged(read: Callable[[str], object], path: str) -> bool:
    """Return whether a file is still damaged: another process may have replaced it."""
    try:
        with _reading():
            read(path)
    except DamagedError:
        return True
    except (FormatVersionError, StoreNotFoundError):
        return False
    return False


def _described_space(folder: str) -> Space:
    if not file_exists(os.path.join(folder, "space.json")):
        raise DamagedError(f"nothing is left that describes the space {folder}")
    return Space(folder)


def _missing_of(
    catalog: Catalog, space: Space, lost_keys: set[tuple[bytes, int]] | None
) -> MissingImages | None:
    """Count a catalog's images that lack a view which any of them has or had; None if none do."""
    hashes = catalog.content_hash[catalog.usable]
    contents = set(map(bytes, hashes))
    there = {
        view: found
        for view in np.unique(space.view).tolist()
        if (found := space.lookup(hashes, view) >= 0).any()
    }
    lost = {view for content, view in lost_keys or () if content in contents}
    # A catalog that was never extracted into this space has lost nothing.
    if not lost and not (there or lost_keys is None):
        return None
    n_views = max(lost | there.keys(), default=0) + 1
    is_there = np.ones(len(hashes), np.bool_)
    for view in range(n_views):
        is_there &= there.get(view, False)
    images = int((~is_there).sum())
    # How many views a segment held that cannot be opened is not known.
    is_unknown = lost_keys is None and space.spec.views is not None
    if not images and not is_unknown:
        return None
    return MissingImages(
        space=space.name,
        catalog=catalog.name,
        location=catalog.location,
        images=images,
        views=None if is_unknown else n_views,
    )


def _set_aside(store_path: str, path: str, *, copy: bool = False) -> str:
    """Move or copy a file to the same place below the folder of damaged files; return its path."""
    home, storage = os.path.join(store_path, DAMAGED_FOLDER), storage_of(store_path)
    target = os.path.join(home, os.path.relpath(path, store_path))
    if os.path.islink(home):
        raise StoreError(f"{home} is a link to somewhere else, which featstore never follows; remove it")
    number = 0
    try:
        stem = target
        while storage.find(target) is not None:
            number += 1
            target = f"{stem}.{number}"
        (storage.copy if copy else storage.move)(path, target)
    except OSError as error:
        raise StoreError(f"cannot set {path} aside: {failure_reason(error)}") from error
    return target

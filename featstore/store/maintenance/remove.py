"""Removal of spaces, catalogs and heads, and what no longer works without them."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import NotInStoreError, StoreError
from featstore.io.atomic import failure_reason
from featstore.io.json_values import json_values
from featstore.io.storage.access import Entry
from featstore.io.storage.opening import storage_of
from featstore.messages import count
from featstore.store.head_origins import read_origin
from featstore.store.shard_reports import all_reports, remove_reports

if TYPE_CHECKING:
    from featstore.store.folder import StoreFolder

__all__ = ["RemovalReport", "remove_from_store"]

_DESCRIPTION = "space.json"
_MAX_ROUNDS = 10


@dataclass(frozen=True, kw_only=True)
class RemovalReport:
    """Result of :meth:`FeatureStore.remove`.

    Attributes
    ----------
    spaces, catalogs, heads : tuple of str
        What was removed, or would be.
    files, bytes : int
        Number and size of their files.
    consequences : tuple of str
        One sentence for each head or catalog that stays and will miss something.
    removed : bool
        False if nothing was removed yet.
    """

    spaces: tuple[str, ...]
    catalogs: tuple[str, ...]
    heads: tuple[str, ...]
    files: int
    bytes: int
    consequences: tuple[str, ...]
    removed: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return json_values(self)


def remove_from_store(
    store: "StoreFolder",
    *,
    spaces: Sequence[str],
    catalogs: Sequence[str],
    heads: Sequence[str],
    dry_run: bool,
) -> RemovalReport:
    """Remove parts of a store; see :meth:`FeatureStore.remove`."""
    spaces, catalogs, heads = (tuple(sorted({*names})) for names in (spaces, catalogs, heads))
    if not (spaces or catalogs or heads):
        raise NotInStoreError("nothing to remove: name a space, a catalog or a head")
    folders = [os.path.join(store.path, "spaces", name) for name in spaces]
    paths = [*map(store.head_path, heads), *map(store.catalog_path, catalogs)]
    storage = storage_of(store.path)
    found = [entry for entry in map(storage.find, paths) if entry is not None]
    found += [entry for folder in folders for entry in _files(folder)]
    report = RemovalReport(
        spaces=spaces,
        catalogs=catalogs,
        heads=heads,
        files=len(found),
        bytes=sum(entry.size for entry in found),
        consequences=(
            *_of_heads(store, spaces, catalogs, heads),
            *_of_catalogs(store, spaces, catalogs),
        ),
        removed=not dry_run,
    )
    if not dry_run:
        storage.remove(paths)
        for name, folder in zip(spaces, folders, strict=True):
            shards = [path for path in all_reports(store) if os.path.basename(os.path.dirname(path)) == name]
            if shards:
                remove_reports(store, name, shards)
            _remove_space(folder)
    return report


def _remove_space(folder: str) -> None:
    # Its description goes last: at any instant before there is a whole space, with fewer rows.
    storage = storage_of(folder)
    description = os.path.join(folder, _DESCRIPTION)
    for _ in range(_MAX_ROUNDS):
        paths = [entry.path for entry in _files(folder) if entry.path != description]
        if not paths:
            storage.remove([description])
            storage.remove_folders([folder])
            return
        storage.remove(paths)
    raise StoreError(f"another process writes into {folder}; run this again when it is done")


def _files(folder: str) -> list[Entry]:
    try:
        return [entry for entry in storage_of(folder).entries(folder, is_dated=True) if entry.is_file]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"cannot read {folder}: {failure_reason(error)}") from error


def _of_heads(
    store: "StoreFolder", spaces: Sequence[str], catalogs: Sequence[str], heads: Sequence[str]
) -> Iterator[str]:
    """Yield a sentence for each head that stays and was fitted on what is removed."""
    for name in store.head_names:
        if name not in heads:
            origin = read_origin(store.head_path(name))
            missing = [f"space {one}" for one in origin.spaces if one in spaces]
            missing += [f"catalog {one}" for one in origin.catalogs if one in catalogs]
            if missing:
                yield (
                    f"the head {name} was fitted on the {' and the '.join(missing)}: it still predicts, but "
                    "cannot be evaluated, extended or fine-tuned on it"
                )


def _of_catalogs(store: "StoreFolder", spaces: Sequence[str], catalogs: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each catalog that stays and has images without any other features."""
    for name in store.catalog_names if spaces else ():
        if name in catalogs:
            continue
        # Damaged files say nothing here, and may be what is to be removed.
        with suppress(StoreError):
            hashes = store.catalog(name).content_hash
            has_lost = _are_in_any(store, spaces, hashes)
            has_other = _are_in_any(store, [one for one in store.space_names if one not in spaces], hashes)
            if n_bare := int((has_lost & ~has_other).sum()):
                yield (
                    f"{count(n_bare, 'image')} of the catalog {name} will have no features: extract them "
                    "again before they are used"
                )


def _are_in_any(store: "StoreFolder", spaces: Sequence[str], hashes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    found = np.zeros(len(hashes), np.bool_)
    for name in spaces:
        with suppress(StoreError):
            space = store.space(name)
            if not space.holds_maps:
                found |= space.lookup(hashes) >= 0
    return found

"""A JSON-serialisable summary of a store."""

import os
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.splits import SPLITS, SplitRule, assign_splits

if TYPE_CHECKING:
    from featstore.store.catalog import Catalog
    from featstore.store.folder import StoreFolder
    from featstore.store.space import Space

__all__ = ["describe_store"]


def describe_store(store: "StoreFolder") -> dict[str, Any]:
    """Return a summary of a store; :meth:`FeatureStore.info` documents the keys."""
    spaces = [store.space(name) for name in store.space_names]
    return {
        "path": store.path,
        "format_version": store.format_version,
        "spaces": [_describe_space(space) for space in spaces],
        "catalogs": [_describe_catalog(store.catalog(name), spaces) for name in store.catalog_names],
        "heads": [_describe_head(store, name) for name in store.head_names],
    }


def _describe_space(space: "Space") -> dict[str, Any]:
    numbers = np.flatnonzero(space.view == 0)
    first_of_key = space.lookup(space.content_hash[numbers]) == numbers
    return {
        "name": space.name,
        "architecture": space.spec.architecture,
        "feature_dim": space.feature_dim,
        "dtype": space.spec.dtype,
        "rows": space.n_rows,
        "images": int(np.count_nonzero(first_of_key)),
        "views": len(np.unique(space.view)),
        "segments": len(space.segments),
        "bytes": sum(segment.n_bytes for segment in space.segments),
        "fingerprint": space.fingerprint,
        "spec": space.spec.to_dict(),
        "provenance": space.provenance,
    }


def _describe_catalog(catalog: "Catalog", spaces: list["Space"]) -> dict[str, Any]:
    usable = np.flatnonzero(catalog.usable)
    hashes = catalog.content_hash[usable]
    numbers = usable.tolist()
    given = [catalog.splits[number] for number in numbers]
    n_given = Counter(given)
    labels = [catalog.labels[number] for number in numbers]
    splits = assign_splits(
        SplitRule(), content_hash=hashes, given=given if n_given.keys() - {None} else None, labels=labels
    )
    classes = sorted({label for label in labels if label is not None})
    places = {label: number for number, label in enumerate([*classes, None])}
    codes = np.fromiter(map(places.__getitem__, labels), np.int64, count=len(labels))
    counts = {split: np.bincount(codes[splits == split], minlength=len(places)).tolist() for split in SPLITS}
    copies = _copies(hashes, numbers)
    present = {space.name: space.lookup(hashes) >= 0 for space in spaces}
    return {
        "name": catalog.name,
        "location": catalog.location,
        "images": len(catalog),
        "failed": len(catalog) - len(usable),
        "labeled": len(labels) - labels.count(None),
        "classes": [
            {
                "label": label,
                "images": sum(counts[split][number] for split in SPLITS),
                **{split: counts[split][number] for split in SPLITS},
            }
            for number, label in enumerate(classes)
        ],
        "splits": {split: sum(counts[split]) for split in SPLITS},
        "given_splits": {split or "rule": n_given[split] for split in (*SPLITS, None)},
        "duplicates": [
            {"content_hash": content.hex(), "paths": [catalog.paths[row] for row in rows]}
            for content, rows in copies.items()
        ],
        "label_conflicts": [
            {"content_hash": content.hex(), "labels": by_label}
            for content, rows in copies.items()
            if len(by_label := _paths_by_label(catalog, rows)) > 1
        ],
        "spaces": {name: int(is_there.sum()) for name, is_there in present.items()},
        "complete": {
            space.name: int(_is_complete(space, hashes, present[space.name]).sum()) for space in spaces
        },
    }


def _copies(hashes: NDArray[np.uint8], numbers: list[int]) -> dict[bytes, list[int]]:
    """Return the rows of each content hash that occurs more than once."""
    beginnings = np.ascontiguousarray(hashes).view(np.uint64)[:, 0]
    order = np.argsort(beginnings, kind="stable")
    same = beginnings[order][1:] == beginnings[order][:-1]
    rows_by_content = defaultdict(list)
    is_candidate = np.zeros(len(order), np.bool_)
    is_candidate[order[1:][same]] = is_candidate[order[:-1][same]] = True
    for at in np.flatnonzero(is_candidate).tolist():
        rows_by_content[hashes[at].tobytes()].append(numbers[at])
    return {content: rows for content, rows in rows_by_content.items() if len(rows) > 1}


def _is_complete(
    space: "Space", hashes: NDArray[np.uint8], has_image: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return whether each content hash has every view that any has in the space."""
    views = np.unique(space.view).tolist()
    complete = has_image.copy() if 0 in views or not views else np.ones(len(hashes), np.bool_)
    for view in views:
        if view:
            complete[complete] = space.lookup(hashes[complete], view) >= 0
    return complete


def _paths_by_label(catalog: "Catalog", rows: list[int]) -> dict[str, list[str]]:
    by_label = defaultdict(list)
    for row in rows:
        if (label := catalog.labels[row]) is not None:
            by_label[label].append(catalog.paths[row])
    return dict(by_label)


def _describe_head(store: "StoreFolder", name: str) -> dict[str, Any]:
    path = store.head_path(name)
    return {"name": name, "path": path, "bytes": os.lstat(path).st_size}

"""What a store holds, as one JSON-able dictionary."""

import os
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.splits import SPLITS, SplitRule, assign_splits

if TYPE_CHECKING:
    from featstore.store.catalog import Catalog
    from featstore.store.space import Space
    from featstore.store.store import FeatureStore

__all__ = ["describe_store"]


def describe_store(store: "FeatureStore") -> dict[str, Any]:
    """Describe a store; :meth:`FeatureStore.info` documents the keys."""
    spaces = [store.space(name) for name in store.space_names]
    catalogs = [store.catalog(name) for name in store.catalog_names]
    return {
        "path": store.path,
        "format_version": store.format_version,
        "spaces": [_describe_space(space) for space in spaces],
        "catalogs": [_describe_catalog(catalog, spaces) for catalog in catalogs],
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
    numbers = usable.tolist()
    hashes = catalog.content_hash[usable]
    labels = [catalog.labels[number] for number in numbers]
    splits = assign_splits(
        SplitRule(),
        content_hash=hashes,
        given=[catalog.splits[number] for number in numbers],
        labels=labels,
    ).tolist()
    given = Counter(catalog.splits[number] for number in numbers)
    counts = Counter(zip(labels, splits, strict=True))
    rows_by_content = defaultdict(list)
    for number, content in zip(numbers, map(bytes, hashes), strict=True):
        rows_by_content[content].append(number)
    copies = {content: rows for content, rows in rows_by_content.items() if len(rows) > 1}
    return {
        "name": catalog.name,
        "location": catalog.location,
        "images": len(catalog),
        "failed": len(catalog) - len(usable),
        "labeled": sum(label is not None for label in labels),
        "classes": [
            {
                "label": label,
                "images": sum(counts[label, split] for split in SPLITS),
                **{split: counts[label, split] for split in SPLITS},
            }
            for label in sorted({label for label in labels if label is not None})
        ],
        "splits": {split: splits.count(split) for split in SPLITS},
        "given_splits": {split or "rule": given[split] for split in (*SPLITS, None)},
        "duplicates": [
            {"content_hash": content.hex(), "paths": [catalog.paths[row] for row in rows]}
            for content, rows in copies.items()
        ],
        "label_conflicts": [
            {"content_hash": content.hex(), "labels": told}
            for content, rows in copies.items()
            if len(told := _paths_by_label(catalog, rows)) > 1
        ],
        "spaces": {space.name: int((space.lookup(hashes) >= 0).sum()) for space in spaces},
        "complete": {space.name: int(_is_complete(space, hashes).sum()) for space in spaces},
    }


def _is_complete(space: "Space", hashes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Say of each content whether it has every view that any has in the space."""
    complete = np.ones(len(hashes), np.bool_)
    for view in np.unique(space.view).tolist() or [0]:
        complete[complete] = space.lookup(hashes[complete], view) >= 0
    return complete


def _paths_by_label(catalog: "Catalog", rows: list[int]) -> dict[str, list[str]]:
    told = defaultdict(list)
    for row in rows:
        if (label := catalog.labels[row]) is not None:
            told[label].append(catalog.paths[row])
    return dict(told)


def _describe_head(store: "FeatureStore", name: str) -> dict[str, Any]:
    path = store.head_path(name)
    return {"name": name, "path": path, "bytes": os.lstat(path).st_size}

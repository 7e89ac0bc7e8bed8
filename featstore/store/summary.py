"""A JSON-serialisable summary of a store."""

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.class_names import normalised_name
from featstore.io.hdf5.raw import damaged
from featstore.io.storage.opening import storage_of
from featstore.label_sets import label_matrix
from featstore.splits import PARTS, SPLITS, SplitRule, part_numbers
from featstore.store.catalogs.catalog import DIGEST
from featstore.store.catalogs.columns import open_columns
from featstore.store.catalogs.digests import digest_of_columns
from featstore.store.head_origins import read_origin
from featstore.store.tables.columns import number_texts

if TYPE_CHECKING:
    from featstore.store.catalogs.columns import CatalogColumns
    from featstore.store.folder import StoreFolder
    from featstore.store.space import Space

__all__ = ["describe_store"]

_BLOCK_ROWS = 2**17

SEPARATOR = "label_separator"
TARGET = "target_name"


def describe_store(store: "StoreFolder") -> dict[str, Any]:
    """Return a summary of a store; :meth:`FeatureStore.info` documents the keys."""
    # With millions of images it must not take gigabytes: of a catalog only some columns are read, texts as
    # numbers, and paths for copies alone.
    spaces = [store.space(name) for name in store.space_names]
    catalogs = [_describe_catalog(store, name, spaces) for name in store.catalog_names]
    digests = {catalog["name"]: catalog["digest"] for catalog in catalogs}
    return {
        "path": store.path,
        "format_version": store.format_version,
        "spaces": [_describe_space(space) for space in spaces],
        "catalogs": catalogs,
        "heads": [_describe_head(store, name, digests) for name in store.head_names],
    }


def _describe_space(space: "Space") -> dict[str, Any]:
    return {
        "name": space.name,
        "architecture": space.spec.architecture,
        "feature_dim": space.feature_dim,
        "dtype": space.spec.dtype,
        "rows": space.n_rows,
        "images": sum(_count_first(space, block) for block in _blocks(space.n_rows)),
        "views": len(_views(space)),
        "segments": len(space.segments),
        "bytes": sum(segment.n_bytes for segment in space.segments),
        "fingerprint": space.fingerprint,
        "spec": space.spec.to_dict(),
        "provenance": space.provenance,
    }


def _blocks(n_rows: int) -> Iterator[slice]:
    for start in range(0, n_rows, _BLOCK_ROWS):
        yield slice(start, min(start + _BLOCK_ROWS, n_rows))


def _count_first(space: "Space", block: slice) -> int:
    """Count rows that are the first of view 0 of an image."""
    numbers = block.start + np.flatnonzero(space.view[block] == 0)
    return int(np.count_nonzero(space.lookup(space.content_hash[numbers]) == numbers))


def _views(space: "Space") -> list[int]:
    return np.flatnonzero(np.bincount(space.view)).tolist()


def _describe_catalog(store: "StoreFolder", name: str, spaces: list["Space"]) -> dict[str, Any]:
    path = store.catalog_path(name)
    with open_columns(path) as columns:
        rows, hashes, n_failed = _usable(columns)
        target = columns.attribute(TARGET) if columns.has_attribute(TARGET) else ""
        unread = columns.attribute("unread") if columns.has_attribute("unread") else "0"
        if not unread.isdecimal():
            raise damaged(path, f"its number of unread images is {unread!r}")
        classes, codes = _numbers(columns) if target else _classes(columns)
        names, name_codes = columns.coded_texts("split")
        if unknown := set(names) - {None, *SPLITS}:
            raise damaged(path, f"its splits are {', '.join(map(repr, sorted(map(str, unknown))))}")
        codes = codes[rows]
        numbers = [-1 if one is None else PARTS.index(one) for one in names]
        given = np.array(numbers, np.intp)[name_codes[rows]]
        separator = columns.attribute(SEPARATOR) if columns.has_attribute(SEPARATOR) else ""
        parts = part_numbers(
            SplitRule(),
            hashes,
            given=given if (given >= 0).any() else None,
            classes=None if separator or target else codes,
        )
        n_given = np.bincount(given + 1, minlength=len(PARTS) + 1).tolist()
        counts = {
            split: np.bincount(codes[parts == PARTS.index(split)] + 1, minlength=len(classes) + 1).tolist()
            for split in SPLITS
        }
        n_in = {split: sum(counts[split]) for split in SPLITS}
        if separator:
            classes, counts = _by_label(classes, counts, separator)
        copies = _copies(hashes)
        paths = columns.texts_of("path", _rows_of(rows, copies))
        present = {space.name: _is_present(space, hashes, 0) for space in spaces}
        return {
            "name": name,
            "location": columns.attribute("location"),
            "images": columns.n_rows,
            "failed": n_failed,
            "unread": int(unread),
            "labeled": int(np.count_nonzero(codes >= 0)),
            "classes": [
                {
                    "label": label,
                    "images": sum(counts[split][number] for split in SPLITS),
                    **{split: counts[split][number] for split in SPLITS},
                }
                for number, label in enumerate(() if target else classes, 1)
            ],
            "target": _target(target, classes, codes) if target else None,
            "splits": n_in,
            "given_splits": {
                **{split: n_given[PARTS.index(split) + 1] for split in SPLITS},
                "rule": n_given[0],
            },
            "duplicates": [
                {"content_hash": content.hex(), "paths": [paths[row] for row in rows[found].tolist()]}
                for content, found in copies.items()
            ],
            "label_conflicts": [
                {"content_hash": content.hex(), "labels": by_label}
                for content, found in copies.items()
                if not separator
                and len(by_label := _paths_by_label(paths, rows[found], codes[found], classes)) > 1
            ],
            "spaces": {space: int(np.count_nonzero(is_there)) for space, is_there in present.items()},
            "complete": {
                space.name: int(np.count_nonzero(_is_complete(space, hashes, present[space.name])))
                for space in spaces
            },
            "digest": _digest(columns),
        }


def _digest(columns: "CatalogColumns") -> str:
    return columns.attribute(DIGEST) if columns.has_attribute(DIGEST) else digest_of_columns(columns)


def _usable(columns: "CatalogColumns") -> tuple[NDArray[np.int64], NDArray[np.uint8], int]:
    """Return the rows of images that could be used, their hashes, and how many others there are."""
    hashes = columns.numbers("content_hash", "u1")
    is_usable = (columns.coded_texts("reason")[1] == 0) & hashes.any(axis=1)
    rows = np.flatnonzero(is_usable)
    n_failed = len(hashes) - len(rows)
    return rows, hashes[rows] if n_failed else hashes, n_failed


def _classes(columns: "CatalogColumns") -> tuple[list[str], NDArray[np.intp]]:
    """Return the sorted labels of a catalog, and the number of each image's, -1 without one."""
    texts, codes = columns.coded_texts("label")
    labels = [text and normalised_name(text) for text in texts]
    classes = sorted({label for label in labels if label})
    places = {label: number for number, label in enumerate(classes)}
    return classes, np.array([places[label] if label else -1 for label in labels], np.intp)[codes]


def _numbers(columns: "CatalogColumns") -> tuple[list[str], NDArray[np.intp]]:
    """Return the different numbers of a catalog as texts, ascending, and the place of each image's."""
    values = columns.numbers("target", "<f8") if columns.has("target") else np.full(columns.n_rows, np.nan)
    known = ~np.isnan(values)
    different, places = np.unique(values[known], return_inverse=True)
    codes = np.full(len(values), -1, np.intp)
    codes[known] = places
    return number_texts(different), codes


def _target(name: str, texts: list[str], codes: NDArray[np.intp]) -> dict[str, Any]:
    """Return what is known of the numbers of usable images."""
    values = np.array(texts, np.float64)[codes[codes >= 0]]
    if not len(values):
        return {"name": name, "smallest": None, "mean": None, "largest": None}
    return {
        "name": name,
        "smallest": float(values.min()),
        "mean": float(values.mean()),
        "largest": float(values.max()),
    }


def _by_label(
    texts: list[str], counts: dict[str, list[int]], separator: str
) -> tuple[list[str], dict[str, list[int]]]:
    """Return the labels in texts of several, and how many images of each split have each."""
    classes, has = label_matrix(texts, separator)
    by_label = {
        split: [number[0], *(np.array(number[1:]) @ has).tolist()] for split, number in counts.items()
    }
    return classes.tolist(), by_label


def _copies(hashes: NDArray[np.uint8]) -> dict[bytes, list[int]]:
    """Return the places of each content hash that occurs more than once."""
    beginnings = np.ascontiguousarray(hashes).view(np.uint64)[:, 0]
    order = np.argsort(beginnings, kind="stable")
    same = beginnings[order][1:] == beginnings[order][:-1]
    places = defaultdict(list)
    is_candidate = np.zeros(len(order), np.bool_)
    is_candidate[order[1:][same]] = is_candidate[order[:-1][same]] = True
    for at in np.flatnonzero(is_candidate).tolist():
        places[hashes[at].tobytes()].append(at)
    return {content: found for content, found in places.items() if len(found) > 1}


def _rows_of(rows: NDArray[np.int64], copies: dict[bytes, list[int]]) -> NDArray[np.int64]:
    return np.sort(rows[np.array([place for found in copies.values() for place in found], np.int64)])


def _is_present(space: "Space", hashes: NDArray[np.uint8], view: int) -> NDArray[np.bool_]:
    found = np.empty(len(hashes), np.bool_)
    for block in _blocks(len(hashes)):
        found[block] = space.lookup(hashes[block], view) >= 0
    return found


def _is_complete(
    space: "Space", hashes: NDArray[np.uint8], has_image: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return whether each content hash has every view that any has in the space."""
    views = _views(space)
    complete = has_image.copy() if 0 in views or not views else np.ones(len(hashes), np.bool_)
    for view in views:
        if view:
            complete &= _is_present(space, hashes, view)
    return complete


def _paths_by_label(
    paths: dict[int, str], rows: NDArray[np.int64], codes: NDArray[np.intp], classes: list[str]
) -> dict[str, list[str]]:
    by_label = defaultdict(list)
    for row, code in zip(rows.tolist(), codes.tolist(), strict=True):
        if code >= 0:
            by_label[classes[code]].append(paths[row])
    return dict(by_label)


def _describe_head(store: "StoreFolder", name: str, digests: dict[str, str]) -> dict[str, Any]:
    path = store.head_path(name)
    found = storage_of(path).find(path)
    changes = read_origin(path).changes(digests)
    is_outdated = not {"changed", "missing"}.isdisjoint(changes.values())
    return {
        "name": name,
        "path": path,
        "bytes": found.size if found is not None else 0,
        "catalogs": changes,
        "up_to_date": False if is_outdated else True if {*changes.values()} == {"unchanged"} else None,
    }

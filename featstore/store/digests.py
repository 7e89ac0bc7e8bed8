"""Digests of what a fit takes from a catalog, by which a head knows whether it has changed since."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.class_names import normalised_name

if TYPE_CHECKING:
    from featstore.store.catalog import Catalog
    from featstore.store.catalog_columns import CatalogColumns

__all__ = ["CatalogDigests", "digest_of_catalog", "digest_of_columns"]


class CatalogDigests(Mapping[str, str]):
    """The digest of each catalog, computed when it is first asked for unless its file has it."""

    def __init__(self, catalogs: "Iterable[Catalog]" = ()) -> None:
        self._known: dict[str, str | Catalog] = {one.name: one.digest or one for one in catalogs}

    def __getitem__(self, name: str) -> str:
        known = self._known[name]
        if not isinstance(known, str):
            known = self._known[name] = digest_of_catalog(known)
        return known

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


_BLOCK_ROWS = 2**16
_TEXTS = ("label", "group", "near_group", "split")


def digest_of_catalog(catalog: "Catalog") -> str:
    """Return a digest of the usable images by content, with all that is said of them."""
    # Neither paths nor order count: a renamed image is the same image.
    usable = np.flatnonzero(catalog.usable)
    columns = (catalog.labels, catalog.groups, catalog.near_groups, catalog.splits)
    coded = [_coded(column, usable) for column in columns]
    weights, targets = (np.asarray(column)[usable] for column in (catalog.weights, catalog.targets))
    names = (catalog.label_separator, catalog.target_name)
    return _digest(catalog.content_hash[usable], coded, weights, targets, names)


def digest_of_columns(columns: "CatalogColumns") -> str:
    """Return the digest of the catalog in an open file, without a Python object for each text."""
    hashes = columns.numbers("content_hash", "u1")
    usable = np.flatnonzero((columns.coded_texts("reason")[1] == 0) & hashes.any(axis=1))
    none = np.zeros(len(usable), np.int32)
    coded: list[tuple[list[str | None], NDArray[np.int32]]] = []
    for name in _TEXTS:
        if columns.has(name):
            texts, codes = columns.coded_texts(name)
            coded.append((texts, codes[usable]))
        else:
            coded.append(([None], none))
    weights, targets = (
        columns.numbers(name, "<f8")[usable] if columns.has(name) else np.full(len(usable), np.nan)
        for name in ("weight", "target")
    )
    separator, target = (
        columns.attribute(name) if columns.has_attribute(name) else ""
        for name in ("label_separator", "target_name")
    )
    return _digest(hashes[usable], coded, weights, targets, (separator, target))


def _coded(
    column: Sequence[str | None], rows: NDArray[np.intp]
) -> tuple[list[str | None], NDArray[np.int32]]:
    """Return the different texts of a column, and the number of each row's."""
    texts = [*{*column, None}]
    places = {text: number for number, text in enumerate(texts)}
    return texts, np.fromiter(map(places.__getitem__, column), np.int32, len(column))[rows]


def _digest(
    hashes: NDArray[np.uint8],
    coded: Sequence[tuple[list[str | None], NDArray[np.int32]]],
    weights: NDArray[np.float64],
    targets: NDArray[np.float64],
    names: tuple[str, str],
) -> str:
    separator, target = names
    digest = hashlib.sha256(f"{len(hashes)} {separator!a}".encode())
    keys: list[NDArray[np.int32] | NDArray[np.float64]] = []
    for name, (texts, codes) in zip(_TEXTS, coded, strict=True):
        named = [normalised_name(text or "") if name == "label" else text or "" for text in texts]
        used = sorted({named[code] for code in np.unique(codes).tolist()})
        places = {text: place for place, text in enumerate(used)}
        keys.append(np.array([places.get(text, -1) for text in named], "<i4")[codes])
        digest.update(f" {name} {used!a}".encode())
    keys.append(weights.astype("<f8"))
    if target:
        digest.update(f" target {target!a}".encode())
        keys.append(targets.astype("<f8"))
    beginnings = np.ascontiguousarray(hashes).view("<u8").reshape(-1, 4)[:, 0]
    varying = [key for key in keys if len(key) and not (np.isnan(key).all() or (key == key[0]).all())]
    order = np.lexsort((*varying, beginnings))
    for part in (hashes, *keys):
        for start in range(0, len(order), _BLOCK_ROWS):
            digest.update(part[order[start : start + _BLOCK_ROWS]].tobytes())
    return digest.hexdigest()

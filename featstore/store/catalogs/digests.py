"""Digests of what a fit takes from a catalog, by which a head knows whether it has changed since."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from featstore.class_names import normalised_name
from featstore.io.long_arrays import blocks_of, forget_pages, in_buckets
from featstore.io.texts import CodedTexts

if TYPE_CHECKING:
    from featstore.store.catalogs.catalog import Catalog
    from featstore.store.catalogs.columns import CatalogColumns

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


_TEXTS = ("label", "group", "near_group", "split")
_ROW = np.dtype([("hash", "u1", 32), ("codes", "<i4", (len(_TEXTS),)), ("weight", "<f8"), ("target", "<f8")])
_BLOCK_ROWS = 2**16
_TOP_BYTE = 7  # of a hash's beginning, as a little-endian number

_Coded: TypeAlias = tuple[list[str | None], NDArray[np.int32]]


def digest_of_catalog(catalog: "Catalog") -> str:
    """Return a digest of the usable images by content, with all that is said of them."""
    # Neither paths nor order count: a renamed image is the same image.
    columns = (catalog.labels, catalog.groups, catalog.near_groups, catalog.splits)
    weights, targets = (np.asarray(column) for column in (catalog.weights, catalog.targets))
    names = (catalog.label_separator, catalog.target_name)
    return _digest(catalog.content_hash, catalog.usable, [*map(_coded, columns)], weights, targets, names)


def digest_of_columns(columns: "CatalogColumns") -> str:
    """Return the digest of the catalog in an open file, without a Python object for each text."""
    hashes = columns.numbers("content_hash", "u1")
    usable = (columns.coded_texts("reason")[1] == 0) & hashes.any(axis=1)
    none: _Coded = ([None], np.zeros(len(hashes), np.int32))
    coded = [columns.coded_texts(name) if columns.has(name) else none for name in _TEXTS]
    weights, targets = (
        columns.numbers(name, "<f8") if columns.has(name) else np.full(len(hashes), np.nan)
        for name in ("weight", "target")
    )
    separator, target = (
        columns.attribute(name) if columns.has_attribute(name) else ""
        for name in ("label_separator", "target_name")
    )
    return _digest(hashes, usable, coded, weights, targets, (separator, target))


def _coded(column: Sequence[str | None]) -> _Coded:
    """Return the different texts of a column, and the number of each row's."""
    if not isinstance(column, CodedTexts):
        coded = CodedTexts()
        for block in blocks_of(len(column)):
            coded.extend(column[block])
        column = coded
    return column.texts, column.codes


def _digest(
    hashes: NDArray[np.uint8],
    usable: NDArray[np.bool_],
    coded: Sequence[_Coded],
    weights: NDArray[np.float64],
    targets: NDArray[np.float64],
    names: tuple[str, str],
) -> str:
    separator, target = names
    digest = hashlib.sha256(f"{np.count_nonzero(usable)} {separator!a}".encode())
    places = []
    for name, (texts, codes) in zip(_TEXTS, coded, strict=True):
        named = [normalised_name(text or "") if name == "label" else text or "" for text in texts]
        is_used = np.zeros(len(texts), np.bool_)
        for block in blocks_of(len(codes)):
            is_used[codes[block][usable[block]]] = True
        used = sorted({named[code] for code in np.flatnonzero(is_used).tolist()})
        numbers = {text: place for place, text in enumerate(used)}
        places.append(np.array([numbers.get(text, -1) for text in named], "<i4"))
        digest.update(f" {name} {used!a}".encode())
    if target:
        digest.update(f" target {target!a}".encode())

    def rows() -> Iterator[NDArray[Any]]:
        for block in blocks_of(len(usable), _BLOCK_ROWS):
            chosen = block.start + np.flatnonzero(usable[block])
            some = np.empty(len(chosen), _ROW)
            for name, column in (("hash", hashes), ("weight", weights), ("target", targets)):
                some[name] = column[chosen]
                forget_pages(column)
            for number, (_, codes) in enumerate(coded):
                some["codes"][:, number] = places[number][codes[chosen]]
                forget_pages(codes)
            yield some

    packed, buckets = in_buckets(rows, _ROW.itemsize, _TOP_BYTE)
    ordered = packed.view(_ROW)[:, 0]
    numbered = [lambda some, at=at: some["codes"][:, at] for at in range(len(_TEXTS))]
    keys: list[Callable[[NDArray[Any]], NDArray[Any]]] = [*numbered, itemgetter("weight")]
    if target:
        keys.append(itemgetter("target"))
    for bucket in buckets:
        some = ordered[bucket]
        varying = [key for key in (of(some) for of in keys) if not _is_constant(key)]
        beginnings = np.ascontiguousarray(some["hash"]).view("<u8")[:, 0]
        ordered[bucket] = some[np.lexsort((*varying, beginnings))]
        forget_pages(ordered)
    keys.insert(0, itemgetter("hash"))
    for of in keys:
        for bucket in buckets:
            digest.update(of(ordered[bucket]).tobytes())
            forget_pages(ordered)
    return digest.hexdigest()


def _is_constant(key: NDArray[Any]) -> bool:
    return bool(np.isnan(key).all() or (key == key[0]).all())

"""Reading and writing of catalog files; ``docs/FORMAT.md`` describes them byte for byte."""

import math
import os
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import StoreError
from featstore.io.hdf5.frame import lay_out_frame, seal_frame
from featstore.io.hdf5.opening import create_hdf5, open_hdf5, read_attribute
from featstore.io.hdf5.raw import damaged
from featstore.io.long_arrays import are_all, are_equal, blocks_of, forget_pages
from featstore.io.storage.access import ANY
from featstore.io.storage.opening import storage_of
from featstore.io.texts import Texts, distinct_texts
from featstore.store.catalogs.catalog import (
    ATTRIBUTES,
    DIGEST,
    NUMBERS,
    OPTIONAL_ATTRIBUTES,
    OPTIONAL_FLOATS,
    OPTIONAL_NUMBERS,
    OPTIONAL_TEXTS,
    TEXTS,
    Catalog,
    checked_name,
    checked_texts,
    encoded_text,
)
from featstore.store.catalogs.columns import (
    CATALOG_FORMAT,
    CATALOG_VERSION,
    FIRST_VERSION,
    CatalogColumns,
    decoded_text,
    open_columns,
)
from featstore.store.catalogs.digests import digest_of_catalog

__all__ = ["read_catalog", "read_catalog_as", "read_location", "text_blocks", "write_catalog"]

_CHUNK_BYTES = 2**20
_TEXTS_AT_ONCE = 2**16


def write_catalog(path: str, catalog: Catalog, *, expected: str | None = ANY) -> None:
    """Write a catalog atomically over a version of it; use ``update_catalog`` to change an existing one."""
    written = TEXTS | (OPTIONAL_TEXTS if distinct_texts(catalog.near_groups) - {None} else {})
    texts = {name: _EncodedTexts(getattr(catalog, field), name) for name, field in written.items()}
    widths = {name: column.width() for name, column in texts.items()}
    floats = {name: getattr(catalog, field) for name, field in OPTIONAL_FLOATS.items()}
    floats = {name: values for name, values in floats.items() if not are_all(values, np.isnan)}

    def verify(temporary: str) -> None:
        with open_columns(temporary) as columns:
            if not all(_agreements(columns, catalog, texts, floats)):
                raise ValueError("it holds other entries")

    replacing = storage_of(path).replacing
    with replacing(path, verify=verify, expected=expected, in_turn=True) as temporary:
        with create_hdf5(temporary) as file:
            file.attrs["format"] = np.bytes_(CATALOG_FORMAT.encode())
            file.attrs["format_version"] = np.int64(_version(catalog, floats))
            for field in (*ATTRIBUTES, *(name for name in OPTIONAL_ATTRIBUTES if getattr(catalog, name))):
                text = encoded_text(getattr(catalog, field), field)
                file.attrs[field] = np.array(text, f"S{len(text) or 1}")
            file.attrs[DIGEST] = np.bytes_(digest_of_catalog(catalog).encode())
            for name, column in texts.items():
                _write_column(file, name, f"S{widths[name] or 1}", (len(column),), column)
            for name, (field, kind) in (NUMBERS | OPTIONAL_NUMBERS).items():
                values = getattr(catalog, field)
                _write_column(file, name, kind, values.shape, values)
            for name, values in floats.items():
                _write_column(file, name, "<f8", values.shape, values)
            frame = lay_out_frame(file)
        with open(temporary, "rb+") as sealed:
            seal_frame(sealed, frame)


def _version(catalog: Catalog, floats: dict[str, Any]) -> int:
    """Return the first version whose readers know what is in a catalog."""
    if catalog.target_name:
        return CATALOG_VERSION
    return 2 if floats or catalog.label_separator else FIRST_VERSION


def read_catalog(path: str) -> Catalog:
    """Read a catalog, named after its file, and verify its checksums."""
    return _read(path, name=checked_name(os.path.splitext(os.path.basename(path))[0], "catalog"))


def read_catalog_as(path: str, name: str) -> Catalog:
    """Read a catalog whose file is not named after it."""
    return _read(path, name=name)


def _read(path: str, *, name: str | None = None) -> Catalog:
    """Read a catalog under the given name, or the one in its file."""
    with open_columns(path) as columns:
        fields: dict[str, Any] = {
            field: columns.attribute(field)
            for field in (*ATTRIBUTES, *filter(columns.has_attribute, OPTIONAL_ATTRIBUTES))
        }
        fields["name"] = name or fields["name"]
        present = {column: numbers for column, numbers in OPTIONAL_NUMBERS.items() if columns.has(column)}
        for column, (field, kind) in (NUMBERS | present).items():
            fields[field] = columns.numbers(column, kind)
        for column, field in TEXTS.items():
            fields[field] = columns.texts(column)
        for column, field in OPTIONAL_TEXTS.items():
            if columns.has(column):
                fields[field] = columns.texts(column)
        for column, field in OPTIONAL_FLOATS.items():
            if columns.has(column):
                fields[field] = columns.numbers(column, "<f8")
        try:
            catalog = Catalog(**fields)
        except StoreError as error:
            raise damaged(path, str(error)) from error
        if columns.has_attribute(DIGEST):
            object.__setattr__(catalog, DIGEST, columns.attribute(DIGEST))
        return catalog


def read_location(path: str) -> str | None:
    """Return the source that a (possibly damaged) catalog describes, or None."""
    try:
        with open_hdf5(path) as (file_id, _):
            return decoded_text(read_attribute(file_id, "location", bytes))
    except StoreError:
        return None


def text_blocks(column: Sequence[str | None], width: int, n_rows: int) -> Iterator[NDArray[np.bytes_]]:
    """Yield texts as arrays of fixed-length UTF-8, ``n_rows`` at a time; None becomes ""."""
    for start in range(0, len(column), n_rows):
        yield np.array(
            [encoded_text(text or "", "text") for text in column[start : start + n_rows]], f"S{width}"
        )


class _EncodedTexts:
    """A column of texts as its file holds them, made some at a time: all at once take much memory."""

    def __init__(self, column: Sequence[str | None], name: str) -> None:
        self._column, self._name = column, name
        self._known: dict[str | None, bytes] = {None: b""}

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, at: slice) -> list[bytes]:
        if isinstance(self._column, Texts):
            encoded = self._column.encoded(*at.indices(len(self))[:2])
            self._column.forget_pages()
            return checked_texts(encoded, self._name)
        some = self._column[at]
        if self._name == "path":
            return [encoded_text(text or "", self._name) for text in some]
        for text in some:
            if text not in self._known:
                self._known[text] = encoded_text(text or "", self._name)
        return [self._known[text] for text in some]

    def width(self) -> int:
        """Return the bytes of the longest text."""
        return max((max(map(len, self[block])) for block in blocks_of(len(self), _TEXTS_AT_ONCE)), default=0)


def _agreements(
    columns: CatalogColumns, catalog: Catalog, texts: dict[str, _EncodedTexts], floats: dict[str, Any]
) -> Iterator[bool]:
    """Yield whether what a file holds is what a catalog has, a column at a time."""
    yield columns.n_rows == len(catalog)
    for field in OPTIONAL_ATTRIBUTES:
        yield columns.has_attribute(field) == bool(getattr(catalog, field))
    for field in (*ATTRIBUTES, *filter(columns.has_attribute, OPTIONAL_ATTRIBUTES)):
        yield columns.attribute(field) == getattr(catalog, field)
    for name in (TEXTS | OPTIONAL_TEXTS).keys() - texts.keys():
        yield not columns.has(name)
    for name, column in texts.items():
        start = 0
        for block in columns.text_blocks(name):
            yield block == column[start : start + len(block)]
            start += len(block)
        yield start == len(column)
    for name, (field, kind) in (NUMBERS | OPTIONAL_NUMBERS).items():
        yield _agree(columns.number_blocks(name, kind), getattr(catalog, field))
    for name in OPTIONAL_FLOATS.keys() - floats.keys():
        yield not columns.has(name)
    for name, values in floats.items():
        yield _agree(columns.number_blocks(name, "<f8"), values)


def _agree(blocks: Iterator[NDArray[Any]], values: NDArray[Any]) -> bool:
    start = 0
    for block in blocks:
        if not are_equal(block, values[start : start + len(block)]):
            return False
        start += len(block)
    return start == len(values)


def _write_column(
    file: Any, name: str, kind: str, shape: tuple[int, ...], values: _EncodedTexts | NDArray[Any]
) -> None:
    """Write a column in chunks, with the CRC-32 of its bytes as an attribute."""
    dtype = np.dtype(kind)
    row_bytes = dtype.itemsize * math.prod(shape[1:])
    n_rows = min(shape[0], max(1, _CHUNK_BYTES // row_bytes))
    # Hashes do not compress.
    packing = (
        {} if name == "content_hash" else {"compression": "gzip", "compression_opts": 4, "shuffle": True}
    )
    layout = {"chunks": (n_rows, *shape[1:]), **packing} if n_rows else {}
    dataset = file.create_dataset(name, shape, dtype, track_times=False, **layout)
    checksum = 0
    for start in range(0, shape[0], max(1, n_rows)):
        block = np.ascontiguousarray(values[start : start + n_rows], dtype)
        checksum = zlib.crc32(block.view(np.uint8).data, checksum)
        dataset[start : start + len(block)] = block
        if isinstance(values, np.ndarray):
            forget_pages(values)
    dataset.attrs["crc32"] = np.int64(checksum)

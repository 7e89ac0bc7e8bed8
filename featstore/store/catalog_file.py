"""Reading and writing of catalog files; ``docs/FORMAT.md`` describes them byte for byte."""

import math
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import StoreError
from featstore.io.atomic import replacing
from featstore.io.frame import lay_out_frame, seal_frame
from featstore.io.hdf5 import create_hdf5, open_hdf5, read_attribute
from featstore.io.raw import damaged
from featstore.store.catalog import (
    ATTRIBUTES,
    NUMBERS,
    OPTIONAL_ATTRIBUTE,
    OPTIONAL_NUMBERS,
    OPTIONAL_TEXTS,
    TEXTS,
    Catalog,
    checked_name,
    encoded_text,
)
from featstore.store.catalog_columns import CATALOG_FORMAT, CATALOG_VERSION, decoded_text, open_columns

__all__ = ["read_catalog", "read_location", "text_blocks", "write_catalog"]

_CHUNK_BYTES = 2**20


def write_catalog(path: str, catalog: Catalog, *, before_rename: Callable[[], None] | None = None) -> None:
    """Write a catalog atomically; use ``update_catalog`` to change an existing one."""
    written = TEXTS | (OPTIONAL_TEXTS if any(catalog.near_groups) else {})
    texts = {name: _encoded_column(getattr(catalog, field), name) for name, field in written.items()}

    def verify(temporary: str) -> None:
        if _bytes_of(_read(temporary)) != _bytes_of(catalog):
            raise ValueError("it holds other entries")

    with replacing(path, verify=verify, before_rename=before_rename or (lambda: None)) as temporary:
        with create_hdf5(temporary) as file:
            file.attrs["format"] = np.bytes_(CATALOG_FORMAT.encode())
            file.attrs["format_version"] = np.int64(CATALOG_VERSION)
            for field in (*ATTRIBUTES, *([OPTIONAL_ATTRIBUTE] if catalog.moved_from else [])):
                text = encoded_text(getattr(catalog, field), field)
                file.attrs[field] = np.array(text, f"S{len(text) or 1}")
            for name, column in texts.items():
                _write_column(file, name, f"S{max(map(len, column), default=0) or 1}", (len(column),), column)
            for name, (field, kind) in (NUMBERS | OPTIONAL_NUMBERS).items():
                values = getattr(catalog, field)
                _write_column(file, name, kind, values.shape, values)
            frame = lay_out_frame(file)
        with open(temporary, "rb+") as sealed:
            seal_frame(sealed, frame)


def read_catalog(path: str) -> Catalog:
    """Read a catalog, named after its file, and verify its checksums."""
    return _read(path, name=checked_name(os.path.splitext(os.path.basename(path))[0], "catalog"))


def _read(path: str, *, name: str | None = None) -> Catalog:
    """Read a catalog under the given name, or the one in its file."""
    with open_columns(path) as columns:
        has_moved = columns.has_attribute(OPTIONAL_ATTRIBUTE)
        fields: dict[str, Any] = {
            field: columns.attribute(field)
            for field in (*ATTRIBUTES, *([OPTIONAL_ATTRIBUTE] if has_moved else []))
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
        try:
            return Catalog(**fields)
        except StoreError as error:
            raise damaged(path, str(error)) from error


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


def _bytes_of(catalog: Catalog) -> list[Any]:
    """Return a catalog's values in the form in which its file holds them."""
    texts = (TEXTS | OPTIONAL_TEXTS).items()
    return [
        *(encoded_text(getattr(catalog, field), field) for field in (*ATTRIBUTES, OPTIONAL_ATTRIBUTE)),
        *(_encoded_column(getattr(catalog, field), name) for name, field in texts),
        *(getattr(catalog, field).tobytes() for field, _ in (NUMBERS | OPTIONAL_NUMBERS).values()),
    ]


def _write_column(
    file: Any, name: str, kind: str, shape: tuple[int, ...], values: Sequence[bytes] | NDArray[Any]
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
    dataset.attrs["crc32"] = np.int64(checksum)


def _encoded_column(column: Sequence[str | None], name: str) -> list[bytes]:
    known: dict[str | None, bytes] = {None: b""}
    for text in column:
        if text not in known:
            known[text] = encoded_text(text or "", name)
    return [known[text] for text in column]

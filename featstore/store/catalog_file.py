"""Reading and writing of catalog files; ``docs/FORMAT.md`` describes them byte for byte."""

import math
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from h5py import h5a, h5d, h5s, h5t
from numpy.typing import NDArray

from featstore.errors import StoreError
from featstore.io.atomic import replacing
from featstore.io.frame import is_frame_whole, lay_out_frame, locate_frame, seal_frame
from featstore.io.hdf5 import (
    FILE_TYPES,
    create_hdf5,
    open_dataset,
    open_hdf5,
    read_attribute,
)
from featstore.io.manifest import check_version
from featstore.io.raw import damaged
from featstore.store.catalog import (
    ATTRIBUTES,
    MAX_TEXT_BYTES,
    NUMBERS,
    OPTIONAL_ATTRIBUTE,
    OPTIONAL_NUMBERS,
    OPTIONAL_TEXTS,
    TEXTS,
    Catalog,
    checked_name,
    encoded_text,
)
from featstore.store.keys import HASH_BYTES

__all__ = ["read_catalog", "read_location", "text_blocks", "write_catalog"]

FORMAT_VERSION = 1
_FORMAT = "featstore-catalog"
_CHUNK_BYTES = 2**20
_MAX_CHUNK_BYTES = 2**26
# What a column may take once it is unpacked: one long text makes every row of its column as wide, but a file
# that grows by more than this was made to exhaust the reader.
_MAX_EXPANSION = 256
_MIN_EXPANDED_BYTES = 2**30
# And what its texts may take in memory, without the padding: paths with much in common compress well.
_MAX_TEXT_EXPANSION = 64
_MIN_TEXTS_BYTES = 2**26


def write_catalog(path: str, catalog: Catalog, *, before_rename: Callable[[], None] | None = None) -> None:
    """Write a catalog atomically; use ``update_catalog`` to change an existing one."""
    written = TEXTS | (OPTIONAL_TEXTS if any(catalog.near_groups) else {})
    texts = {name: _encoded_column(getattr(catalog, field), name) for name, field in written.items()}

    def verify(temporary: str) -> None:
        if _bytes_of(_read(temporary)) != _bytes_of(catalog):
            raise ValueError("it holds other entries")

    with replacing(path, verify=verify, before_rename=before_rename or (lambda: None)) as temporary:
        with create_hdf5(temporary) as file:
            file.attrs["format"] = np.bytes_(_FORMAT.encode())
            file.attrs["format_version"] = np.int64(FORMAT_VERSION)
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
    with open_hdf5(path) as (file_id, raw):
        file_bytes = raw.n_bytes
        if read_attribute(file_id, "format", bytes) != _FORMAT.encode():
            raise ValueError("it is an HDF5 file, but not a catalog of featstore")
        check_version(path, read_attribute(file_id, "format_version", int), FORMAT_VERSION)
        links = file_id.links
        frame = locate_frame(links, file_id, file_bytes)
        if frame is not None and not is_frame_whole(raw, frame):
            raise ValueError("its bytes do not agree with their checksum")
        has_moved = h5a.exists(file_id, OPTIONAL_ATTRIBUTE.encode())
        columns: dict[str, Any] = {
            field: _decoded(read_attribute(file_id, field, bytes))
            for field in (*ATTRIBUTES, *([OPTIONAL_ATTRIBUTE] if has_moved else []))
        }
        columns["name"] = name or columns["name"]
        present = {name: field for name, field in OPTIONAL_TEXTS.items() if links.exists(name.encode())}
        present_numbers = {
            name: numbers for name, numbers in OPTIONAL_NUMBERS.items() if links.exists(name.encode())
        }
        for name, (field, kind) in (NUMBERS | present_numbers).items():
            columns[field] = _read_numbers(open_dataset(links, file_id, name), name, kind, file_bytes)
        n_rows = len(columns["content_hash"])
        left = max(_MIN_TEXTS_BYTES, _MAX_TEXT_EXPANSION * file_bytes)
        for column, field in (TEXTS | present).items():
            dataset = open_dataset(links, file_id, column)
            if dataset.shape != (n_rows,):
                raise ValueError(
                    f"/{column} has the shape {dataset.shape}; with these images it is ({n_rows},)"
                )
            columns[field], left = _read_texts(dataset, column, file_bytes, left)
        try:
            return Catalog(**columns)
        except StoreError as error:
            raise damaged(path, str(error)) from error


def read_location(path: str) -> str | None:
    """Return the source that a (possibly damaged) catalog describes, or None."""
    try:
        with open_hdf5(path) as (file_id, _):
            return _decoded(read_attribute(file_id, "location", bytes))
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


def _read_texts(dataset: Any, name: str, file_bytes: int, left: int) -> tuple[list[str | None], int]:
    """Read a text column of at most ``left`` bytes; also return the bytes that remain of these."""
    kind = dataset.get_type()
    if not isinstance(kind, h5t.TypeStringID) or kind.is_variable_str():
        raise ValueError(f"/{name} does not consist of fixed-length texts")
    if not 1 <= kind.get_size() <= MAX_TEXT_BYTES:
        raise ValueError(f"/{name} has texts of {kind.get_size():,} bytes")
    known: dict[bytes, str | None] = {b"": None}
    texts: list[str | None] = []
    for block in _read_column(dataset, name, np.dtype(f"S{kind.get_size()}"), (), file_bytes):
        listed = block.tolist()
        new = listed if name == "path" else set(listed) - known.keys()
        left -= sum(map(len, new))
        if left < 0:
            raise ValueError(f"/{name} unpacks to far more than the file's {file_bytes:,} bytes")
        if name == "path":
            # No text holds a zero byte: all of them at once, which is five times as fast.
            texts.extend(text or None for text in _decoded(b"\0".join(listed)).split("\0"))
        else:
            known |= {text: _decoded(text) for text in new}
            texts.extend(map(known.__getitem__, listed))
    return texts, left


def _read_numbers(dataset: Any, name: str, kind: str, file_bytes: int) -> NDArray[Any]:
    if not dataset.get_type().equal(FILE_TYPES[kind]):
        raise ValueError(f"/{name} does not have the type {kind}")
    width = (HASH_BYTES,) if name == "content_hash" else ()
    blocks = list(_read_column(dataset, name, np.dtype(kind), width, file_bytes))
    return np.concatenate(blocks) if blocks else np.empty((0, *width), kind)


def _read_column(
    dataset: Any, name: str, dtype: np.dtype[Any], width: tuple[int, ...], file_bytes: int
) -> Iterator[NDArray[Any]]:
    """Read a column chunk by chunk after checking its unpacked size."""
    shape = tuple(dataset.shape)
    if len(shape) != 1 + len(width) or shape[1:] != width:
        raise ValueError(f"/{name} has the shape {shape}; it must be {('images', *width)}")
    n_rows, row_bytes = shape[0], dtype.itemsize * math.prod(width)
    # Hashes are not compressed, so that the file's size bounds the number of rows, and with it all the rest.
    largest = file_bytes if name == "content_hash" else max(_MIN_EXPANDED_BYTES, _MAX_EXPANSION * file_bytes)
    if n_rows * row_bytes > largest:
        raise ValueError(
            f"/{name} would unpack to {n_rows * row_bytes:,} bytes from a file of {file_bytes:,}"
        )
    if n_rows:
        properties = dataset.get_create_plist()
        if properties.get_layout() != h5d.CHUNKED:
            raise ValueError(f"/{name} is not stored in chunks")
        step = int(properties.get_chunk()[0])
        if tuple(properties.get_chunk()[1:]) != width or step * row_bytes > _MAX_CHUNK_BYTES:
            raise ValueError(f"/{name} has chunks of the shape {properties.get_chunk()}")
        if dataset.get_num_chunks() != -(-n_rows // step):
            raise ValueError(f"/{name} has chunks that were never written")
    checksum = 0
    for start in range(0, n_rows, step if n_rows else 1):
        block = np.empty((min(step, n_rows - start), *width), dtype)
        file_space = h5s.create_simple(shape)
        file_space.select_hyperslab((start, *(0 for _ in width)), block.shape)
        dataset.read(h5s.create_simple(block.shape), file_space, block)
        checksum = zlib.crc32(block.view(np.uint8).data, checksum)
        yield block
    if checksum != read_attribute(dataset, "crc32", int):
        raise ValueError(f"/{name} does not agree with its checksum")


def _encoded_column(column: Sequence[str | None], name: str) -> list[bytes]:
    known: dict[str | None, bytes] = {None: b""}
    for text in column:
        if text not in known:
            known[text] = encoded_text(text or "", name)
    return [known[text] for text in column]


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")

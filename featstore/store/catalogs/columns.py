"""The columns of a catalog file, read one at a time."""

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from h5py import h5a, h5d, h5s, h5t
from numpy.typing import NDArray

from featstore.io.hdf5.frame import is_frame_whole, locate_frame
from featstore.io.hdf5.opening import FILE_TYPES, open_dataset, open_hdf5, read_attribute
from featstore.io.long_arrays import LongArray, blocks_of
from featstore.io.manifest import check_version
from featstore.io.texts import CodedTexts, PlainTexts, Texts
from featstore.store.catalogs.catalog import MAX_TEXT_BYTES
from featstore.store.segments.keys import HASH_BYTES

__all__ = [
    "CATALOG_FORMAT",
    "CATALOG_VERSION",
    "FIRST_VERSION",
    "CatalogColumns",
    "decoded_text",
    "open_columns",
]

# 2: weights, which earlier readers would leave out of a fit, and several labels an image, which they would
# take for one. 3: numbers in place of labels. Other catalogs are written as 1.
CATALOG_VERSION = 3
FIRST_VERSION = 1
CATALOG_FORMAT = "featstore-catalog"

_MAX_CHUNK_BYTES = 2**26
# What a column may take once it is unpacked: one long text makes every row of its column as wide, but a file
# that grows by more than this was made to exhaust the reader.
_MAX_EXPANSION = 256
_MIN_EXPANDED_BYTES = 2**30
# And what its texts may take in memory, without the padding: paths with much in common compress well.
_MAX_TEXT_EXPANSION = 64
_MIN_TEXTS_BYTES = 2**26
# A chunk of short texts has a million of them.
_TEXTS_AT_ONCE = 2**16
_MOSTLY_DIFFERENT = ("path", "group")


class CatalogColumns:
    """An open catalog file; damage is raised as ValueError."""

    def __init__(self, file_id: Any, file_bytes: int) -> None:
        self._file_id = file_id
        self._file_bytes = file_bytes
        self._bytes_left = max(_MIN_TEXTS_BYTES, _MAX_TEXT_EXPANSION * file_bytes)
        self.n_rows = int(open_dataset(file_id.links, file_id, "content_hash").shape[0])

    def has(self, name: str) -> bool:
        """Return whether there is such a column."""
        return bool(self._file_id.links.exists(name.encode()))

    def has_attribute(self, name: str) -> bool:
        """Return whether there is such an attribute."""
        return bool(h5a.exists(self._file_id, name.encode()))

    def attribute(self, name: str) -> str:
        """Return an attribute's text."""
        return decoded_text(read_attribute(self._file_id, name, bytes))

    def number_blocks(self, name: str, kind: str) -> Iterator[NDArray[Any]]:
        """Yield a column of numbers, of shape (n,), or (n, 32) of the content hashes, some rows at a time."""
        dataset = self._dataset(name)
        if not dataset.get_type().equal(FILE_TYPES[kind]):
            raise ValueError(f"/{name} does not have the type {kind}")
        if tuple(dataset.shape[1:]) != _width(name):
            raise ValueError(f"/{name} has the shape {dataset.shape}")
        return self._blocks(dataset, name, np.dtype(kind))

    def numbers(self, name: str, kind: str) -> NDArray[Any]:
        """Return a column of numbers as a whole."""
        column = LongArray(kind, _width(name), n_expected=self.n_rows)
        for block in self.number_blocks(name, kind):
            column.extend(block)
        return column.rows

    def texts(self, name: str) -> Texts:
        """Return a column of texts; "" is None."""
        if name in _MOSTLY_DIFFERENT:
            plain = PlainTexts()
            for listed in self.text_blocks(name):
                plain.extend(listed)
            return plain
        coded = CodedTexts()
        known: dict[bytes, str | None] = {b"": None}
        for listed in self.text_blocks(name):
            known |= {text: decoded_text(text) for text in set(listed) - known.keys()}
            coded.extend([*map(known.__getitem__, listed)])
        return coded

    def coded_texts(self, name: str) -> tuple[list[str | None], NDArray[np.int32]]:
        """Return the different texts of a column, first None, and the number of each row's."""
        known: dict[bytes, int] = {b"": 0}
        codes, start = np.empty(self.n_rows, np.int32), 0
        for listed in self.text_blocks(name):
            for text in set(listed) - known.keys():
                known[text] = len(known)
            codes[start : start + len(listed)] = np.fromiter(map(known.__getitem__, listed), np.int32)
            start += len(listed)
        return [decoded_text(text) or None for text in known], codes

    def texts_of(self, name: str, rows: NDArray[np.int64]) -> dict[int, str]:
        """Return the texts of some rows, ascending, by their numbers."""
        found: dict[int, str] = {}
        start = 0
        for listed in self.text_blocks(name) if len(rows) else ():
            here = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + len(listed))]
            found.update((row, decoded_text(listed[row - start])) for row in here.tolist())
            start += len(listed)
        return found

    def _dataset(self, name: str) -> Any:
        dataset = open_dataset(self._file_id.links, self._file_id, name)
        wanted = (self.n_rows, HASH_BYTES) if name == "content_hash" else (self.n_rows,)
        if tuple(dataset.shape) != wanted:
            raise ValueError(f"/{name} has the shape {dataset.shape}; with these images it is {wanted}")
        return dataset

    def text_blocks(self, name: str) -> Iterator[list[bytes]]:
        """Read a column's texts, all of them together within the bytes that are left to the file's."""
        dataset = self._dataset(name)
        kind = dataset.get_type()
        if not isinstance(kind, h5t.TypeStringID) or kind.is_variable_str():
            raise ValueError(f"/{name} does not consist of fixed-length texts")
        if not 1 <= kind.get_size() <= MAX_TEXT_BYTES:
            raise ValueError(f"/{name} has texts of {kind.get_size():,} bytes")
        seen: set[bytes] = set()
        for block in self._blocks(dataset, name, np.dtype(f"S{kind.get_size()}")):
            for part in blocks_of(len(block), _TEXTS_AT_ONCE):
                listed = block[part].tolist()
                new = listed if name in _MOSTLY_DIFFERENT else set(listed) - seen
                self._bytes_left -= sum(map(len, new))
                if self._bytes_left < 0:
                    raise ValueError(
                        f"/{name} unpacks to far more than the file's {self._file_bytes:,} bytes"
                    )
                if name not in _MOSTLY_DIFFERENT:
                    seen.update(new)
                yield listed

    def _blocks(self, dataset: Any, name: str, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
        """Read a column chunk by chunk after checking its unpacked size."""
        shape = tuple(map(int, dataset.shape))
        n_rows, width = shape[0], shape[1:]
        row_bytes = dtype.itemsize * math.prod(width)
        # Hashes are not compressed, so that the file's size bounds the number of rows, and with it the rest.
        largest = self._file_bytes
        if name != "content_hash":
            largest = max(_MIN_EXPANDED_BYTES, _MAX_EXPANSION * largest)
        if n_rows * row_bytes > largest:
            raise ValueError(
                f"/{name} would unpack to {n_rows * row_bytes:,} bytes from a file of {self._file_bytes:,}"
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


def _width(name: str) -> tuple[int, ...]:
    return (HASH_BYTES,) if name == "content_hash" else ()


@contextmanager
def open_columns(path: str) -> Iterator[CatalogColumns]:
    """Open a catalog, and check its format, version and the checksum over the whole file."""
    with open_hdf5(path) as (file_id, raw):
        if read_attribute(file_id, "format", bytes) != CATALOG_FORMAT.encode():
            raise ValueError("it is an HDF5 file, but not a catalog of featstore")
        check_version(path, read_attribute(file_id, "format_version", int), CATALOG_VERSION)
        frame = locate_frame(file_id.links, file_id, raw.n_bytes)
        if frame is not None and not is_frame_whole(raw, frame):
            raise ValueError("its bytes do not agree with their checksum")
        yield CatalogColumns(file_id, raw.n_bytes)


def decoded_text(text: bytes) -> str:
    """Return a text of a catalog file."""
    return text.decode("utf-8", "surrogateescape")

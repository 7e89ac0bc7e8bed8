"""Safe reading and writing of HDF5 files: no locks, no links, no external storage."""

import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5f, h5fd, h5l, h5p, h5s, h5t

from featstore.errors import StoreError, StoreNotFoundError
from featstore.io.atomic import failure_reason
from featstore.io.hdf5.new_file import NewFile
from featstore.io.hdf5.raw import RawFile, damaged, raw_parts, unreadable
from featstore.io.storage.parts import Parts

__all__ = [
    "FILE_TYPES",
    "create_hdf5",
    "create_plain",
    "locate",
    "open_dataset",
    "open_hdf5",
    "python_access",
    "read_attribute",
]

FILE_TYPES = {
    "<f4": h5t.IEEE_F32LE,
    "<f2": h5t.IEEE_F16LE,
    "u1": h5t.STD_U8LE,
    "<u2": h5t.STD_U16LE,
    "<u4": h5t.STD_U32LE,
    "<i8": h5t.STD_I64LE,
    "<f8": h5t.IEEE_F64LE,
}

_MAX_ATTRIBUTE_BYTES = 2**16
# HDF5's messages when it runs out of memory.
_NO_MEMORY = re.compile(r"memory allocation failed|unable to allocate", re.IGNORECASE)


@contextmanager
def open_hdf5(path: str, *, in_parts: bool = False) -> Iterator[tuple[Any, RawFile | Parts]]:
    """Open a file for reading, and convert every failure to an error of featstore."""
    # HDF5 reads through RawFile: h5py raises the same errors for I/O failures and for damage.
    # With in_parts, for a segment on another machine, its features are left there.
    try:
        raw = raw_parts(path) if in_parts else RawFile(path)
    except FileNotFoundError as error:
        raise StoreNotFoundError(f"there is no file {path}") from error
    except StoreError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error
    with raw:
        try:
            with python_access(raw) as access:
                file_id = h5f.open(os.fsencode(path), h5f.ACC_RDONLY, fapl=access)
            try:
                yield file_id, raw
            finally:
                file_id.close()
        except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            if raw.error is not None:
                raise unreadable(path, raw.error) from error
            if isinstance(error, StoreError):
                raise
            reason = failure_reason(error)
            if _NO_MEMORY.search(reason):
                raise StoreError(f"cannot read {path}: {reason}") from error
            raise damaged(path, reason) from error
        if raw.error is not None:
            raise unreadable(path, raw.error)


@contextmanager
def create_hdf5(path: str, *, alignment: int = 1) -> Iterator[Any]:
    """Create a file for writing."""
    with NewFile(path) as raw:
        try:
            with python_access(raw) as access:
                access.set_alignment(alignment, alignment)
                # Headers of HDF5 1.8 (2008) have checksums of their own, and later readers know them.
                access.set_libver_bounds(h5f.LIBVER_V18, h5f.LIBVER_V18)
                file_id = h5f.create(os.fsencode(path), h5f.ACC_TRUNC, fapl=access)
            with h5py.File(file_id) as file:
                yield file
        except (OSError, RuntimeError, ValueError) as error:
            raise raw.error or error from error
    if raw.error is not None:
        raise raw.error


def create_plain(file: Any, name: str, kind: str, shape: tuple[int, ...]) -> int:
    """Allocate a contiguous dataset in a new file, to be written without HDF5."""
    plain = h5p.create(h5p.DATASET_CREATE)
    plain.set_layout(h5d.CONTIGUOUS)
    plain.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    plain.set_fill_time(h5d.FILL_TIME_NEVER)
    plain.set_obj_track_times(False)
    dataset = h5d.create(file.id, name.encode(), FILE_TYPES[kind], h5s.create_simple(shape), dcpl=plain)
    return int(dataset.get_offset())


@contextmanager
def python_access(raw: RawFile | Parts | NewFile) -> Iterator[Any]:
    """Return a file-access property list: Python I/O, strong close."""
    access = h5p.create(h5p.FILE_ACCESS)
    try:
        access.set_fclose_degree(h5f.CLOSE_STRONG)
        access.set_fileobj_driver(h5fd.fileobj_driver, raw)
        yield access
    finally:
        # One that lives on, as in the frames of an error, would crash HDF5 as the process ends: it holds a
        # Python object.
        access.close()


def read_attribute(object_id: Any, name: str, kind: type) -> Any:
    """Read a scalar attribute as ``int``, or as the ``bytes`` of a fixed-length string."""
    try:
        attribute = h5a.open(object_id, name.encode())
        # h5py does not compare the attribute's shape with that of the array it is read into.
        scalar = attribute.get_space().get_simple_extent_type() == h5s.SCALAR
        size = attribute.get_storage_size()
        found = attribute.get_type()
        if scalar and kind is int and isinstance(found, h5t.TypeIntegerID):
            number = np.empty((), np.int64)
            attribute.read(number, mtype=h5t.NATIVE_INT64)
            return int(number)
        # Texts of variable length would be read from elsewhere in the file.
        fixed = isinstance(found, h5t.TypeStringID) and not found.is_variable_str()
        if scalar and kind is bytes and fixed and 0 < size <= _MAX_ATTRIBUTE_BYTES:
            text = np.empty((), f"S{size}")
            attribute.read(text)
            return bytes(text[()])
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"the attribute {name!r} is missing or not of its kind") from error
    raise ValueError(f"the attribute {name!r} is not of its kind")


def open_dataset(links: Any, file_id: Any, name: str) -> Any:
    """Open a dataset that is stored in this file itself."""
    if links.get_info(name.encode()).type != h5l.TYPE_HARD:
        raise ValueError(f"/{name} is a link to somewhere else, which featstore never follows")
    return h5d.open(file_id, name.encode())


def locate(
    links: Any, file_id: Any, name: str, kinds: Sequence[str], file_bytes: int
) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Return shape, dtype and byte offset of a contiguous dataset of this file."""
    dataset = open_dataset(links, file_id, name)
    found = dataset.get_type()
    kind = next((kind for kind in kinds if found.equal(FILE_TYPES[kind])), None)
    if kind is None:
        raise ValueError(f"/{name} does not have the type {' or '.join(kinds)}")
    # HDF5 gives no offset for what is chunked, compact, virtual, in an external file or not written.
    offset = dataset.get_offset()
    if offset is None:
        raise ValueError(f"/{name} is not stored as one contiguous run in this file")
    shape, dtype = tuple(map(int, dataset.shape)), np.dtype(kind)
    end = offset + math.prod(shape) * dtype.itemsize
    if end > file_bytes:
        raise ValueError(f"the file has {file_bytes:,} bytes and /{name} ends at {end:,}")
    return shape, dtype, int(offset)

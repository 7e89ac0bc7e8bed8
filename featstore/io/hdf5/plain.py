"""Reading of untrusted HDF5 weights files: no links, no external storage, bounded memory."""

import math
import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h5py
from h5py import h5f

from featstore.io.hdf5.opening import python_access
from featstore.io.hdf5.raw import open_raw
from featstore.io.stamps import FileStamp

__all__ = ["open_plain"]

# Weights hardly compress: a file that grows by more than this was made to exhaust its reader.
_MAX_EXPANSION = 16
_MIN_EXPANDED_BYTES = 2**26
_MAX_ATTRIBUTE_BYTES = 2**24
_MAX_OBJECTS = 2**18
# HDF5 file format 3.0, II.A and III.E: where the superblock says how wide numbers are, and a heap of texts.
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_WIDTHS = {0: 13, 1: 13, 2: 9, 3: 9}
_HEAP = b"GCOL\x01\0\0\0"
_HEAP_HEADER = _OBJECT_HEADER = 16

# Of files that passed: to load a network, its weights file is opened several times.
_passed: set[FileStamp] = set()
_MOST_PASSED = 1024


@contextmanager
def open_plain(path: str) -> Iterator[Any]:
    """Open a file for reading, checked for links and excessive sizes where it is new or has changed."""
    # HDF5 reads through RawFile: h5py raises the same errors for I/O failures and for damage.
    with open_raw(path, follow_links=True) as raw:
        opened_ns = time.time_ns()
        is_unchecked = raw.stamp not in _passed
        if is_unchecked:
            _check_heaps(path)
        try:
            with python_access(raw) as access:
                file_id = h5f.open(os.fsencode(path), h5f.ACC_RDONLY, fapl=access)
            with h5py.File(file_id) as file:
                if is_unchecked:
                    _check(file, raw.n_bytes)
                    if raw.error is None and not raw.stamp.is_racy(opened_ns):
                        _remember(raw.stamp)
                yield file
        except (AttributeError, MemoryError, RuntimeError) as error:
            # h5py meets what it does not expect in many ways.
            raise OSError(f"damaged: {error}") from error


def _remember(stamp: FileStamp) -> None:
    if len(_passed) >= _MOST_PASSED:
        _passed.clear()
    _passed.add(stamp)


def _check_heaps(path: str) -> None:
    """Raise ValueError for a text heap whose sizes do not add up; HDF5 1.14 would loop forever."""
    with open(path, "rb") as opened:
        beginning = opened.read(16)
        if not beginning.startswith(_SIGNATURE):
            raise OSError("it does not begin as an HDF5 file does")
        at = _WIDTHS.get(beginning[8], 0)
        if len(beginning) < 16 or beginning[at : at + 2] != b"\x08\x08":
            raise OSError("its numbers are not of eight bytes, as in every file of Keras")
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            start = data.find(_HEAP)
            while start >= 0:
                end = start + _number(data, start + 8)
                position = start + _HEAP_HEADER
                while position + _OBJECT_HEADER <= end:
                    size = _number(data, position + 8)
                    is_free = data[position : position + 2] == b"\0\0"
                    step = size if is_free else _OBJECT_HEADER + -(-size // 8) * 8
                    if step < _OBJECT_HEADER or position + step > min(end, len(data)):
                        raise ValueError(f"its texts at byte {start:,} are damaged")
                    position += step
                start = data.find(_HEAP, start + 1)


def _number(data: mmap.mmap, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _check(file: Any, file_bytes: int) -> None:
    left = max(_MIN_EXPANDED_BYTES, _MAX_EXPANSION * file_bytes)
    seen = {h5py.h5o.get_info(file.id).addr}
    groups = [file]
    while groups:
        group = groups.pop()
        _check_attributes(group)
        for name in group:
            if type(group.get(name, getlink=True)) is not h5py.HardLink:
                raise ValueError(f"{group.name}/{name} is a link to somewhere else, which is never followed")
            found = group[name]
            address = h5py.h5o.get_info(found.id).addr
            if address in seen:
                continue
            seen.add(address)
            if len(seen) > _MAX_OBJECTS:
                raise ValueError(f"it holds more than {_MAX_OBJECTS:,} groups and arrays")
            if isinstance(found, h5py.Group):
                groups.append(found)
                continue
            _check_attributes(found)
            if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "biuf":
                raise ValueError(f"{found.name} does not consist of numbers")
            if found.external or found.is_virtual:
                raise ValueError(f"{found.name} lies in another file, which is never read")
            left -= math.prod(found.shape) * found.dtype.itemsize
            if left < 0:
                raise ValueError(
                    f"with {found.name} it would take far more memory than its {file_bytes:,} bytes"
                )


def _check_attributes(found: Any) -> None:
    for name in found.attrs:
        attribute = found.attrs.get_id(name)
        if math.prod(attribute.shape) * attribute.dtype.itemsize > _MAX_ATTRIBUTE_BYTES:
            raise ValueError(f"the attribute {name!r} of {found.name} is too large")

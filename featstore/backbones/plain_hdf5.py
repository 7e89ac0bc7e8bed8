"""HDF5 files of weights that may come from anyone: everything in them is in them, and fits into memory."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h5py

__all__ = ["open_plain"]

# Weights hardly compress: a file that grows by more than this was made to exhaust its reader.
_MAX_EXPANSION = 16
_MIN_EXPANDED_BYTES = 2**26
_MAX_ATTRIBUTE_BYTES = 2**24
_MAX_OBJECTS = 2**18


@contextmanager
def open_plain(path: str) -> Iterator[Any]:
    """Open a file for reading in which nothing leads elsewhere and nothing is larger than it should be.

    Yields
    ------
    h5py.File

    Raises
    ------
    OSError
        It is no HDF5 file or cannot be read; also for what h5py raises on damaged files.
    ValueError
        It holds a link, an external or virtual dataset, something that is not numbers, or would take much
        more memory than its size; the message says what.
    """
    try:
        with h5py.File(path, "r") as file:
            _check(file, os.path.getsize(path))
            yield file
    except (AttributeError, MemoryError, RuntimeError) as error:
        # h5py meets what it does not expect in many ways.
        raise OSError(f"damaged: {error}") from error


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

"""Memory maps that hold no file descriptor; processes are often limited to 1,024 or 64 of them."""

import ctypes
import math
import mmap
import os
import sys
import weakref
from typing import Any

import numpy as np

from featstore.io.storage.opening import storage_of

__all__ = ["map_array"]


def map_array(
    path: str, dtype: np.dtype[Any], offset: int, shape: tuple[int, ...]
) -> "np.memmap[Any, np.dtype[Any]]":
    """Map part of a file as a read-only array of the given shape, and close the file."""
    end = offset + math.prod(shape) * dtype.itemsize
    with storage_of(path).open(path, is_sealed=True) as file:
        n_bytes = os.fstat(file.fileno()).st_size
        if n_bytes < end:
            raise ValueError(f"it has been cut short: it has {n_bytes:,} bytes of {end:,}")
        start = offset - offset % mmap.ALLOCATIONGRANULARITY
        mapped = _mapped(file.fileno(), end - start, start)
    array: np.memmap[Any, np.dtype[Any]] = np.ndarray(shape, dtype, mapped, offset - start).view(np.memmap)
    # numpy.memmap sets these; its slices are recognised by them.
    array._mmap, array.filename, array.offset, array.mode = mapped, path, offset, "r"  # type: ignore[attr-defined]
    return array


def _mapped(descriptor: int, length: int, start: int) -> Any:
    """Map bytes of a file; Python's own mappings before 3.13 hold a descriptor open."""
    if sys.version_info >= (3, 13):
        return mmap.mmap(descriptor, length, access=mmap.ACCESS_READ, offset=start, trackfd=False)
    if os.name != "posix" or ctypes.sizeof(ctypes.c_void_p) < 8:
        return mmap.mmap(descriptor, length, access=mmap.ACCESS_READ, offset=start)
    address = _LIBC.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, start)
    if address == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    content = (ctypes.c_ubyte * length).from_address(address)
    weakref.finalize(content, _LIBC.munmap, address, length)
    return memoryview(content).toreadonly()


if os.name == "posix":
    _LIBC = ctypes.CDLL(None, use_errno=True)
    _LIBC.mmap.restype = ctypes.c_void_p
    _LIBC.mmap.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int64,
    ]
    _LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    # (void *) -1, from mmap(2).
    _FAILED = ctypes.c_void_p(-1).value

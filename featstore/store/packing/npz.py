"""Export of one space and one catalog as an NPZ file of NumPy."""

import json
import os
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.io.atomic import replacing
from featstore.io.outputs import check_output
from featstore.splits import SplitRule
from featstore.store.packing.contents import described, feature_blocks, rows_at_once, texts_of
from featstore.store.tables.table import FeatureTable

__all__ = ["pack_npz"]

FORMAT_VERSION = 1


def pack_npz(
    path: str | os.PathLike[str],
    table: FeatureTable,
    *,
    rule: SplitRule | None = None,
    overwrite: bool = False,
) -> int:
    """Write a table to one NPZ file; see :meth:`FeatureStore.pack`."""
    target = check_output(path, overwrite=overwrite, inputs=table.paths.tolist())
    hashes = table.content_hash_bytes
    description = np.array(json.dumps(described(table, version=FORMAT_VERSION)))
    with replacing(target, verify=_check) as temporary, zipfile.ZipFile(temporary, "x") as file:
        shape = (len(table), table.feature_dim)
        _write(file, "features", table.dtype, shape, feature_blocks(table))
        _write(file, "content_hash", hashes.dtype, hashes.shape, [hashes])
        for name, column in texts_of(table, rule).items():
            dtype = np.dtype(f"<U{max(map(len, column), default=0) or 1}")
            _write(file, name, dtype, (len(column),), _text_blocks(column, dtype), packed=True)
        _write(file, "description", description.dtype, (), [description])
    return len(table)


def _write(
    file: zipfile.ZipFile,
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    blocks: Iterable[NDArray[Any]],
    *,
    packed: bool = False,
) -> None:
    """Write an array block by block, as numpy.savez does at once."""
    # Of the epoch of zip files: equal packs are equal files.
    entry = zipfile.ZipInfo(f"{name}.npy")
    entry.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    with file.open(entry, "w", force_zip64=True) as member:
        np.lib.format.write_array_header_2_0(member, header)
        for block in blocks:
            member.write(np.ascontiguousarray(block, dtype).tobytes())


def _text_blocks(column: list[str], dtype: np.dtype[Any]) -> Iterator[NDArray[np.str_]]:
    step = rows_at_once(dtype.itemsize)
    for start in range(0, len(column), step):
        yield np.array(column[start : start + step], dtype)


def _check(path: str) -> None:
    """Read a file back against the checksums of what was written."""
    with zipfile.ZipFile(path) as file:
        if (damaged := file.testzip()) is not None:
            raise ValueError(f"{damaged} holds other bytes")

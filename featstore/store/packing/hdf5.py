"""Export of one space and one catalog as a single plain HDF5 file."""

import math
import os
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from featstore.hashing import canonical_json
from featstore.io.atomic import replacing
from featstore.io.hdf5.opening import create_hdf5
from featstore.io.outputs import check_output
from featstore.splits import SplitRule
from featstore.store.catalogs.file import text_blocks
from featstore.store.packing.contents import FORMAT, feature_blocks, rows_at_once, texts_of
from featstore.store.tables.table import FeatureTable

__all__ = ["pack_hdf5"]

FORMAT_VERSION = 1


def pack_hdf5(
    path: str | os.PathLike[str],
    table: FeatureTable,
    *,
    rule: SplitRule | None = None,
    overwrite: bool = False,
) -> int:
    """Write a table to one HDF5 file; see :meth:`FeatureStore.pack`."""
    target = check_output(path, overwrite=overwrite, inputs=table.paths.tolist())
    n_rows = len(table)
    attributes: dict[str, str | int] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "spec": canonical_json(table.spec.to_dict()),
        "fingerprint": table.fingerprint,
        "space": table.space_name,
        "catalog": table.catalog_name,
    }
    checksums: dict[str, int] = {}

    def fill(dataset: h5py.Dataset, blocks: Iterable[NDArray[Any]]) -> None:
        """Write a column block by block, and record the checksum of its bytes."""
        start = checksum = 0
        for block in blocks:
            dataset[start : start + len(block)] = block
            checksum = zlib.crc32(np.ascontiguousarray(block).view(np.uint8).data, checksum)
            start += len(block)
        checksums[dataset.name] = checksum

    with (
        replacing(target, verify=lambda temporary: _check(temporary, attributes, checksums)) as temporary,
        create_hdf5(temporary, alignment=64) as file,
    ):
        for name, value in attributes.items():
            file.attrs[name] = value
        fill(file.create_dataset("features", (n_rows, table.feature_dim), table.dtype), feature_blocks(table))
        hashes = table.content_hash_bytes
        fill(file.create_dataset("content_hash", hashes.shape, hashes.dtype), [hashes])
        for name, column in texts_of(table, rule).items():
            width = max((len(text.encode("utf-8", "surrogateescape")) for text in column), default=0) or 1
            kind = h5py.string_dtype("utf-8", width)
            fill(
                file.create_dataset(name, (n_rows,), kind, chunks=True, compression="gzip"),
                (block.astype(kind) for block in text_blocks(column, width, rows_at_once(width))),
            )
    return n_rows


def _check(path: str, attributes: Mapping[str, str | int], checksums: Mapping[str, int]) -> None:
    """Check a file against what was written into it."""
    with h5py.File(path, locking=False) as file:
        if dict(file.attrs) != attributes:
            raise ValueError("its description differs from what was written")
        for name, expected in checksums.items():
            dataset, checksum = file[name], 0
            step = rows_at_once(dataset.dtype.itemsize * math.prod(dataset.shape[1:]))
            for start in range(0, len(dataset), step):
                block = np.ascontiguousarray(dataset[start : start + step])
                checksum = zlib.crc32(block.view(np.uint8).data, checksum)
            if checksum != expected:
                raise ValueError(f"{name} holds other bytes")

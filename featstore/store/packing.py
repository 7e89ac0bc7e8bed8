"""One space and one catalog as a single plain HDF5 file, for people and programs that want one."""

import os

import h5py

from featstore.hashing import canonical_json
from featstore.splits import SplitRule
from featstore.store.atomic import replacing
from featstore.store.catalog import text_blocks
from featstore.store.hdf5 import create_hdf5
from featstore.store.outputs import check_output
from featstore.store.table import FeatureTable

__all__ = ["pack_table"]

FORMAT_VERSION = 1
_BLOCK_BYTES = 16 * 2**20


def pack_table(
    path: str | os.PathLike[str],
    table: FeatureTable,
    *,
    rule: SplitRule | None = None,
    overwrite: bool = False,
) -> int:
    """Write a table to one HDF5 file; see :meth:`FeatureStore.pack`.

    Returns
    -------
    int
        Number of rows.
    """
    target = check_output(path, overwrite=overwrite, inputs=table.paths.tolist())
    texts = {
        "path": table.relative_paths,
        "label": table.y.tolist(),
        "split": table.splits(rule).tolist(),
        "group": table.groups.tolist(),
    }
    n_rows, feature_dim = len(table), table.feature_dim
    with replacing(target) as temporary, create_hdf5(temporary, alignment=64) as file:
        file.attrs["format"] = "featstore-pack"
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["spec"] = canonical_json(table.spec.to_dict())
        file.attrs["fingerprint"] = table.fingerprint
        file.attrs["space"] = table.space_name
        file.attrs["catalog"] = table.catalog_name
        features = file.create_dataset("features", (n_rows, feature_dim), table.dtype)
        step = max(1, _BLOCK_BYTES // (feature_dim * table.dtype.itemsize))
        for start in range(0, n_rows, step):
            features[start : start + step] = table.select(slice(start, start + step)).X
        file.create_dataset("content_hash", data=table.content_hash_bytes)
        for name, column in texts.items():
            width = max((len(text.encode("utf-8", "surrogateescape")) for text in column), default=0) or 1
            kind = h5py.string_dtype("utf-8", width)
            dataset = file.create_dataset(name, (n_rows,), kind, chunks=True, compression="gzip")
            step = max(1, _BLOCK_BYTES // width)
            for number, block in enumerate(text_blocks(column, width, step)):
                dataset[number * step : number * step + len(block)] = block.astype(kind)
    return n_rows

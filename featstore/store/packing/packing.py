"""The choice of what a table is packed as."""

import os
from collections.abc import Callable
from typing import Any

from featstore.errors import StoreError
from featstore.splits import SplitRule
from featstore.store.tables.table import FeatureTable

__all__ = ["pack_table"]

_FORMATS = ("h5", "npz", "parquet", "tfrecord")
_ENDINGS = {".npz": "npz", ".parquet": "parquet"}


def pack_table(
    path: str | os.PathLike[str],
    table: FeatureTable,
    *,
    format: str | None = None,  # noqa: A002
    shards: int = 1,
    rule: SplitRule | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], Any] | None = None,
) -> int:
    """Write a table for other programs; see :meth:`FeatureStore.pack`."""
    chosen = format or _ENDINGS.get(os.path.splitext(os.fspath(path))[1].lower(), "h5")
    if chosen not in _FORMATS:
        raise StoreError(f"format must be one of {', '.join(_FORMATS)}; found {chosen!r}")
    if shards < 1:
        raise StoreError(f"shards must be at least 1; found {shards}")
    if shards != 1 and chosen != "tfrecord":
        raise StoreError(f"only the format tfrecord has shards; found shards={shards} with {chosen}")
    # Each imported where it is used: a store that is only opened needs neither Pillow nor pyarrow.
    match chosen:
        case "tfrecord":
            from featstore.store.packing.tfrecord import pack_tfrecord

            return pack_tfrecord(
                path, table, n_shards=shards, rule=rule, overwrite=overwrite, progress=progress
            )
        case "parquet":
            from featstore.store.packing.parquet import pack_parquet as pack
        case "npz":
            from featstore.store.packing.npz import pack_npz as pack
        case _:
            from featstore.store.packing.hdf5 import pack_hdf5 as pack
    return pack(path, table, rule=rule, overwrite=overwrite)

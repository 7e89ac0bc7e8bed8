"""The choice of what a table is packed as."""

import os
from collections.abc import Callable
from typing import Any

from featstore.errors import StoreError
from featstore.splits import SplitRule
from featstore.store.tables.table import FeatureTable

__all__ = ["pack_format", "pack_table"]

_FORMATS = ("h5", "npz", "parquet", "tfrecord")
_ENDINGS = {".h5": "h5", ".hdf5": "h5", ".npz": "npz", ".parquet": "parquet"}
_SHARD_ENDINGS = {".tfrecord": "tfrecord", ".tfrecords": "tfrecord"}


def pack_format(path: str | os.PathLike[str], format: str | None = None) -> str:  # noqa: A002
    """Return the format to pack into a path in; raise StoreError if its ending speaks against it.

    Parameters
    ----------
    path : path_like
    format : {"h5", "parquet", "npz", "tfrecord"}, optional
        By default the one of the path's ending.

    Returns
    -------
    str

    Raises
    ------
    StoreError
        There is no such format, the ending is that of another one, or it is of none and no format is given.
    """
    if format not in (None, *_FORMATS):
        raise StoreError(f"format must be one of {', '.join(_FORMATS)}; found {format!r}")
    name = os.path.basename(os.path.normpath(os.fspath(path)))
    ending = os.path.splitext(name)[1].lower()
    if format is None:
        if ending not in _ENDINGS:
            raise StoreError(
                f"the ending of a packed file gives its format: {', '.join(_ENDINGS)}; found {name}. "
                "Rename it, or give the format with --format (format=)"
            )
        return _ENDINGS[ending]
    of_ending = {**_ENDINGS, **_SHARD_ENDINGS}.get(ending, format)
    if of_ending != format:
        endings = ", ".join(known for known, named in _ENDINGS.items() if named == format)
        expected = f"of which files end in {endings}" if endings else "which is a folder"
        raise StoreError(
            f"{name} ends as a file of the format {of_ending} does, and the format given is {format}, "
            f"{expected}; change one of the two"
        )
    return format


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
    chosen = pack_format(path, format)
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

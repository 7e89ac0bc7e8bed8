"""Export of one space and one catalog as a Parquet file."""

import json
import os
from typing import TYPE_CHECKING, Any

from featstore.extras import check_extra
from featstore.io.atomic import replacing
from featstore.io.outputs import check_output
from featstore.splits import SplitRule
from featstore.store.packing.contents import described, texts_of
from featstore.store.tables.table import FeatureTable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["pack_parquet"]

FORMAT_VERSION = 1
# Programs read a file by row groups, one on each core; writing and checking one takes eight times its bytes.
_GROUP_BYTES = 32 * 2**20
_KEY = "featstore"
_OPTIONAL = ("label", "group")
# Numbers hardly compress, and uncompressed they are read in place.
_LAYOUT: dict[str, Any] = {
    "use_dictionary": ["label", "group", "split"],
    "compression": {
        "path": "zstd",
        "label": "zstd",
        "group": "zstd",
        "split": "zstd",
        "content_hash": "none",
        "features.list.element": "none",
    },
    "write_page_checksum": True,
}


def pack_parquet(
    path: str | os.PathLike[str],
    table: FeatureTable,
    *,
    rule: SplitRule | None = None,
    overwrite: bool = False,
) -> int:
    """Write a table to one Parquet file; see :meth:`FeatureStore.pack`."""
    check_extra("parquet", "the format parquet", "pyarrow")
    from pyarrow import parquet

    target = check_output(path, overwrite=overwrite, inputs=table.paths.tolist())
    schema, group = _groups(table, rule)
    starts = range(0, len(table), max(1, _GROUP_BYTES // (table.feature_dim * table.dtype.itemsize)))

    def check(temporary: str) -> None:
        with parquet.ParquetFile(temporary, page_checksum_verification=True) as file:
            if file.schema_arrow.metadata != schema.metadata or file.num_row_groups != len(starts):
                raise ValueError("its description differs from what was written")
            for number, start in enumerate(starts):
                if not file.read_row_group(number).equals(group(start, starts.step)):
                    raise ValueError(f"row group {number} holds other values")

    with (
        replacing(target, verify=check) as temporary,
        open(temporary, "xb") as file,
        parquet.ParquetWriter(file, schema, **_LAYOUT) as writer,
    ):
        for start in starts:
            writer.write_table(group(start, starts.step), row_group_size=starts.step)
    return len(table)


def _groups(table: FeatureTable, rule: SplitRule | None) -> "tuple[Any, Callable[[int, int], Any]]":
    """Return the schema, and a function of (start, size) that makes the Arrow table of some rows."""
    import pyarrow as pa

    element = pa.field("element", pa.from_numpy_dtype(table.dtype), nullable=False)
    features = pa.list_(element, table.feature_dim)
    texts = texts_of(table, rule)
    fields = [pa.field(name, pa.string(), nullable=name in _OPTIONAL) for name in texts]
    fields += [
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("features", features, nullable=False),
    ]
    description = json.dumps(described(table, version=FORMAT_VERSION))
    schema = pa.schema(fields, metadata={_KEY: description})

    def group(start: int, size: int) -> Any:
        rows = slice(start, start + size)
        part = table.select(rows)
        columns = [[_text(name, text) for text in texts[name][rows]] for name in texts]
        values = pa.array(part.X.reshape(-1))
        return pa.table(
            [*columns, part.content_hash.tolist(), pa.FixedSizeListArray.from_arrays(values, type=features)],
            schema=schema,
        )

    return schema, group


def _text(name: str, text: str) -> str | None:
    """Return a text in UTF-8, with escapes for the bytes of file names that are not."""
    if not text and name in _OPTIONAL:
        return None
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

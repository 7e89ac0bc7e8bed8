"""What every packed file holds: a description, texts of each image, and features block by block."""

from collections.abc import Iterator
from typing import Any

from featstore.splits import SplitRule
from featstore.store.segments.segment import FeatureArray
from featstore.store.tables.table import FeatureTable

__all__ = ["FORMAT", "described", "feature_blocks", "rows_at_once", "texts_of"]

FORMAT = "featstore-pack"
_BLOCK_BYTES = 16 * 2**20


def described(table: FeatureTable, *, version: int) -> dict[str, Any]:
    """Return the description of a packed file as JSON values."""
    return {
        "format": FORMAT,
        "format_version": version,
        "spec": table.spec.to_dict(),
        "fingerprint": table.fingerprint,
        "feature_dim": table.feature_dim,
        "space": table.space_name,
        "catalog": table.catalog_name,
    }


def texts_of(table: FeatureTable, rule: SplitRule | None) -> dict[str, list[str]]:
    """Return the columns of texts; ``""`` stands for none."""
    return {
        "path": table.relative_paths,
        "label": table.label_texts.tolist(),
        "group": table.groups.tolist(),
        "split": table.splits(rule).tolist(),
    }


def rows_at_once(row_bytes: int) -> int:
    """Return the number of rows of a block of bounded memory."""
    return max(1, _BLOCK_BYTES // row_bytes)


def feature_blocks(table: FeatureTable) -> Iterator[FeatureArray]:
    """Yield the features in blocks of bounded memory."""
    step = rows_at_once(table.feature_dim * table.dtype.itemsize)
    for start in range(0, len(table), step):
        yield table.select(slice(start, start + step)).X

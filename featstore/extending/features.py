"""Which of the new images' features an old head sees."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.heads.head import Head

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["columns_of"]


def columns_of(old: Head, table: "FeatureTable", *, method: str) -> NDArray[np.int64] | None:
    """Return the columns of the old head's own features; None if the table has no others."""
    if table.fingerprint == old.fingerprint:
        return None
    parts = [part.fingerprint for part in getattr(table.spec, "parts", (table.spec,))]
    own = [part.fingerprint for part in getattr(old.spec, "parts", (old.spec,))]
    if not {*own} <= {*parts}:
        old.check_fingerprint(table.fingerprint, spec=table.spec)
    if method != "gate":
        raise HeadError(
            f"the method {method} adds columns to the old head, which sees {old.spec.name} alone; found "
            f"features of {table.spec.name}: use the method gate, or that space only"
        )
    starts = dict(zip(parts, np.cumsum([0, *table.feature_dims[:-1]]).tolist(), strict=True))
    dims = dict(zip(parts, table.feature_dims, strict=True))
    ranges = [np.arange(starts[part], starts[part] + dims[part], dtype=np.int64) for part in own]
    return np.concatenate(ranges)

"""Rows of a segment, and their checksums."""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.store.segments.keys import HASH_BYTES

__all__ = ["KEY_BYTES", "FeatureArray", "Rows", "damaged_rows", "row_checksums"]

FeatureArray = NDArray[np.float32] | NDArray[np.float16]

KEY_BYTES = HASH_BYTES + 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Some rows of a segment."""

    features: FeatureArray  # (n, feature_dim)
    content_hash: NDArray[np.uint8]  # (n, 32)
    view: NDArray[np.uint16]  # (n,)
    checksum: NDArray[np.uint32]  # (n,)

    def take(self, index: NDArray[Any]) -> "Rows":
        """Return some of the rows."""
        return Rows(**{name: getattr(self, name)[index] for name in self.__slots__})


def row_checksums(
    features: FeatureArray, content_hash: NDArray[np.uint8], view: NDArray[np.uint16]
) -> NDArray[np.uint32]:
    """Return each row's CRC-32 (zlib's, RFC 1952) over its little-endian features, hash and view."""
    n_rows = len(view)
    keys = np.empty((n_rows, KEY_BYTES), np.uint8)
    keys[:, :HASH_BYTES] = content_hash
    keys[:, HASH_BYTES:] = view.astype("<u2").view(np.uint8).reshape(n_rows, 2)
    values = np.ascontiguousarray(features, features.dtype.newbyteorder("<"))
    row_bytes = values.shape[1] * values.itemsize
    value_bytes, key_bytes, crc = values.view(np.uint8).data.cast("B"), keys.data.cast("B"), zlib.crc32
    starts = zip(range(0, n_rows * row_bytes, row_bytes), range(0, keys.size, KEY_BYTES), strict=True)
    checksums = [crc(key_bytes[k : k + KEY_BYTES], crc(value_bytes[v : v + row_bytes])) for v, k in starts]
    return np.array(checksums, np.uint32)


def damaged_rows(rows: Rows) -> NDArray[np.int64]:
    """Return the numbers of the rows that do not match their checksums, int64."""
    return np.flatnonzero(row_checksums(rows.features, rows.content_hash, rows.view) != rows.checksum)

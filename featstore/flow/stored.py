"""Rows that a store already has of images on their way through networks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.spec import BackboneSpec

if TYPE_CHECKING:
    import os

    from featstore.store import FeatureStore, Space

__all__ = ["lacking_views", "spaces_of", "stored_rows"]


def spaces_of(
    store: "FeatureStore | str | os.PathLike[str]", specs: Sequence[BackboneSpec]
) -> "list[Space | None]":
    """Return a store's space of each specification, None where it has none."""
    # Prediction without a store does without h5py.
    from featstore.store import FeatureStore

    opened = store if isinstance(store, FeatureStore) else FeatureStore(store)
    there = set(opened.space_names)
    return [opened.space(spec.name) if spec.name in there else None for spec in specs]


def lacking_views(space: "Space", n_views: int, content_hash: bytes) -> range:
    """Return no views where the space has all of them, else all."""
    return range(0 if all(space.contains(content_hash, view) for view in range(n_views)) else n_views)


def stored_rows(space: "Space", hashes: list[bytes], n_views: int) -> NDArray[Any]:
    """Return the rows of images' views, of shape (n, n_views, feature_dim)."""
    keys = np.frombuffer(b"".join(hashes), np.uint8).reshape(len(hashes), -1).repeat(n_views, axis=0)
    views = np.tile(np.arange(n_views, dtype=np.uint16), len(hashes))
    return space.rows(space.lookup(keys, views)).reshape(len(hashes), n_views, -1)

"""A table of features in a real store: several segments, in another order than the catalog's."""

import numpy as np

import featstore
from fake_tables import blobs, spec_of
from featstore.store import Catalog


def stored_table(path, n=600, n_segments=3, dtype="float32", **shape):
    """Return the store and its table."""
    X, y = blobs(n, spread=2.0, **shape)
    hashes = np.random.default_rng(1).integers(0, 256, (n, 32), np.uint8)
    store = featstore.FeatureStore(path, create=True)
    space = store.create_space(
        spec_of(dtype=dtype), feature_dim=X.shape[1], provenance={"weights": "closed-form"}
    )
    for at in np.array_split(np.random.default_rng(2).permutation(n), n_segments):
        space.append((100 + 3 * X[at]).astype(dtype), hashes[at])
    store.write_catalog(
        Catalog(
            name="photos",
            root="/photos",
            location="/photos",
            paths=[f"{label}/{number}.jpg" for number, label in enumerate(y)],
            labels=y.tolist(),
            groups=[None] * n,
            splits=[None] * n,
            content_hash=hashes,
            sizes=np.full(n, 1000),
            mtimes_ns=np.full(n, 10**18),
            reasons=[None] * n,
        )
    )
    return store, featstore.FeatureStore(path).table()

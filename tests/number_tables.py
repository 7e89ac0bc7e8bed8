"""A table of images with a number each, in a real store."""

import numpy as np

import featstore
from fake_tables import spec_of
from featstore.store import Catalog


def number_arrays(n=300, *, noise=0.3, feature_dim=8, seed=0):
    """Features, and a number that is mostly a straight line of them, around 40 and 12 wide."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, feature_dim))
    line = X @ random.normal(size=feature_dim) + 0.5 * X[:, 0] ** 2
    return X.astype(np.float32), 40 + 12 * (line / line.std() + noise * random.normal(size=n))


def number_table(path, X, y, *, groups=None, copies=(), weights=None, splits=None, name="age"):
    """Return the table of images with these numbers; ``copies`` are pairs of rows with one content."""
    n = len(X)
    hashes = np.random.default_rng(1).integers(0, 256, (n, 32), np.uint8)
    for row, other in copies:
        hashes[row] = hashes[other]
    store = featstore.FeatureStore(path, create=True)
    space = store.create_space(spec_of(), feature_dim=X.shape[1], provenance={"weights": "closed-form"})
    space.append(X, hashes)
    store.write_catalog(
        Catalog(
            name="photos",
            root="/photos",
            location="/photos",
            paths=[f"{number}.jpg" for number in range(n)],
            labels=[None] * n,
            groups=[None] * n if groups is None else list(groups),
            splits=[None] * n if splits is None else list(splits),
            content_hash=hashes,
            sizes=np.full(n, 1000),
            mtimes_ns=np.full(n, 10**18),
            reasons=[None] * n,
            target_name=name,
            targets=y,
            weights=weights,
        )
    )
    return featstore.FeatureStore(path).table()

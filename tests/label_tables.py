"""A table of images with several labels, in a real store."""

import numpy as np

import featstore
from fake_tables import spec_of
from featstore.label_sets import joined_labels
from featstore.store import Catalog

CLASSES = np.array(["bird", "boat", "sea", "tree"])


def label_arrays(n=400, *, spread=1.0, feature_dim=12, seed=0):
    """Features, and which image has which label: sums of the labels' directions, and noise."""
    random = np.random.default_rng(seed)
    has = random.random((n, len(CLASSES))) < [0.5, 0.3, 0.2, 0.4]
    directions = 2 * random.normal(size=(len(CLASSES), feature_dim))
    X = has @ directions + spread * random.normal(size=(n, feature_dim))
    return X.astype(np.float32), has


def label_table(path, X, has, *, known=None, weights=None, separator="|", more_views=(), groups=None):
    """Return the table of images with these labels; unknown where ``known`` says so."""
    n = len(X)
    hashes = np.random.default_rng(1).integers(0, 256, (n, 32), np.uint8)
    texts = [joined_labels(CLASSES[one].tolist(), separator) for one in has]
    store = featstore.FeatureStore(path, create=True)
    space = store.create_space(spec_of(), feature_dim=X.shape[1], provenance={"weights": "closed-form"})
    space.append(X, hashes)
    for number, view in enumerate(more_views, 1):
        space.append(view, hashes, np.full(n, number, np.uint16))
    store.write_catalog(
        Catalog(
            name="photos",
            root="/photos",
            location="/photos",
            paths=[f"{number}.jpg" for number in range(n)],
            labels=[text if known is None or known[at] else None for at, text in enumerate(texts)],
            groups=[None] * n if groups is None else groups,
            splits=[None] * n,
            content_hash=hashes,
            sizes=np.full(n, 1000),
            mtimes_ns=np.full(n, 10**18),
            reasons=[None] * n,
            label_separator=separator,
            weights=weights,
        )
    )
    return featstore.FeatureStore(path).table()

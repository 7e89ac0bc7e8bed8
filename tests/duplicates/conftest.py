"""Real stores of made-up features in which some images are nearly the same."""

import hashlib

import numpy as np
import pytest

from featstore.backbones.spec import BackboneSpec
from featstore.store import Catalog, FeatureStore


def scenes(n=300, *, feature_dim=128, n_classes=3, seed=0):
    """Features that are never negative, of classes with much in common, as a network's are."""
    random = np.random.default_rng(seed)
    numbers = np.arange(n) % n_classes
    centres = 1 + random.normal(size=(n_classes, feature_dim))
    X = np.maximum(centres[numbers] + random.normal(size=(n, feature_dim)), 0).astype(np.float32)
    return X, np.array(["daisy", "rose", "tulip", "lily"])[numbers]


def nearly(X, *, noise=0.2, seed=1):
    return np.maximum(X + noise * np.random.default_rng(seed).normal(size=X.shape), 0).astype(np.float32)


@pytest.fixture
def make_scenes():
    return scenes


@pytest.fixture
def make_nearly():
    return nearly


@pytest.fixture
def make_store(tmp_path):
    """Write features and labels into a store; images with the same name in ``contents`` have the same bytes."""

    def make(X, y, *, contents=None, groups=None, splits=None, name="photos"):
        store = FeatureStore(tmp_path / "photos.fstore", create=True)
        spec = BackboneSpec(
            architecture="tiny", weights_digest="0" * 64, layer="top", size_px=(8, 8), preprocessing="unit"
        )
        contents = contents or [f"image {number}" for number in range(len(y))]
        hashes = np.array(
            [np.frombuffer(hashlib.sha256(one.encode()).digest(), np.uint8) for one in contents]
        )
        _, first = np.unique(hashes.view("V32").ravel(), return_index=True)
        first = np.sort(first)
        space = store.create_space(spec, feature_dim=X.shape[1])
        space.append(np.asarray(X, np.float32)[first], hashes[first])
        n = len(y)
        store.write_catalog(
            Catalog(
                name=name,
                root="/data",
                location="/data",
                paths=[f"{number:05d}.jpg" for number in range(n)],
                labels=list(y),
                groups=groups or [None] * n,
                splits=splits or [None] * n,
                content_hash=hashes,
                sizes=np.zeros(n),
                mtimes_ns=np.zeros(n),
                reasons=[None] * n,
            )
        )
        return store

    return make

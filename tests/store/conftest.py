from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from featstore.backbones.spec import BackboneSpec
from featstore.store import Catalog, FeatureStore

Keys = NDArray[np.uint8]


@pytest.fixture
def make_spec() -> Callable[..., BackboneSpec]:
    def make(**changes: Any) -> BackboneSpec:
        given = {
            "architecture": "tiny",
            "weights_digest": "0" * 64,
            "layer": "top",
            "size_px": (8, 8),
            "preprocessing": "unit",
        }
        return BackboneSpec(**{**given, **changes})

    return make


@pytest.fixture
def make_hashes() -> Callable[..., Keys]:
    """Return n hashes that depend on the numbers first … first + n - 1 only."""

    def make(n: int, first: int = 0) -> Keys:
        rows = [
            np.random.default_rng(number).integers(0, 256, 32, np.uint8) for number in range(first, first + n)
        ]
        return np.array(rows, np.uint8).reshape(n, 32)

    return make


@pytest.fixture
def make_features() -> Callable[..., NDArray[np.float32]]:
    """Return the features that go with these hashes: every row is told by its hash."""

    def make(hashes: Keys, feature_dim: int = 4) -> NDArray[np.float32]:
        return hashes[:, :feature_dim].astype(np.float32) / 256 + hashes[:, 4:5]

    return make


@pytest.fixture
def store(tmp_path: Any) -> FeatureStore:
    return FeatureStore(tmp_path / "flowers.fstore", create=True)


@pytest.fixture
def fill(make_spec: Any, make_hashes: Any, make_features: Any) -> Callable[..., Any]:
    """Append n_segments * n rows to the store's space of four features, and return the space."""

    def make(store: FeatureStore, n: int = 10, n_segments: int = 1, first: int = 0, **changes: Any) -> Any:
        space = store.create_space(make_spec(**changes), feature_dim=4, provenance={"engine": "fake"})
        for number in range(n_segments):
            hashes = make_hashes(n, first + number * n)
            space.append(make_features(hashes), hashes)
        return space

    return make


@pytest.fixture
def make_catalog(make_hashes: Any) -> Callable[..., Catalog]:
    """Return a catalog of the images number 0 … n - 1, of two classes."""

    def make(n: int = 10, **changes: Any) -> Catalog:
        given = {
            "name": "photos",
            "root": "/data/photos",
            "location": "/data/photos",
            "paths": [f"{'ab'[number % 2]}/{number}.jpg" for number in range(n)],
            "labels": ["ab"[number % 2] for number in range(n)],
            "groups": [None] * n,
            "splits": [None] * n,
            "sizes": np.arange(n),
            "mtimes_ns": np.arange(n) * 10**9,
            "reasons": [None] * n,
        }
        if "content_hash" not in changes:
            given["content_hash"] = make_hashes(n)
        return Catalog(**{**given, **changes})

    return make

"""Fixtures for the examples in docstrings, which run as tests."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featstore import BackboneSpec, FeatureStore, FeatureTable
from featstore.store import Catalog


@pytest.fixture(autouse=True)
def names_in_examples(request: pytest.FixtureRequest) -> None:
    """Provide ``table``, ``several`` of several labels and ``numbers`` to the examples in docstrings."""
    if isinstance(request.node, pytest.DoctestItem):
        namespace = request.getfixturevalue("doctest_namespace")
        namespace["table"] = request.getfixturevalue("example_table")
        namespace["several"] = request.getfixturevalue("several_table")
        namespace["numbers"] = request.getfixturevalue("numbers_table")


@pytest.fixture(scope="session")
def example_table(tmp_path_factory: pytest.TempPathFactory) -> FeatureTable:
    """Return 90 photos of 3 kinds of flowers with synthetic features; the last is a copy of the first."""
    random = np.random.default_rng(0)
    number = np.arange(90) % 3
    number[-1] = 0
    X = random.normal(size=(3, 64))[number] + random.normal(size=(90, 64))
    X[-1] = X[0]
    hashes = [hashlib.sha256(b"photo %d" % (row % 89)).digest() for row in range(90)]
    spec = BackboneSpec(
        architecture="tiny", weights_digest="0" * 64, layer="top", size_px=(8, 8), preprocessing="unit"
    )
    return _table(tmp_path_factory.mktemp("example"), spec, X.astype(np.float32), number, hashes)


@pytest.fixture(scope="session")
def several_table(tmp_path_factory: pytest.TempPathFactory) -> FeatureTable:
    """Return 200 images that may show a bird, a boat, the sea and a tree, with synthetic features."""
    from label_tables import label_arrays, label_table

    table: FeatureTable = label_table(tmp_path_factory.mktemp("several") / "a.fstore", *label_arrays(200))
    return table


@pytest.fixture(scope="session")
def numbers_table(tmp_path_factory: pytest.TempPathFactory) -> FeatureTable:
    """Return 300 images that have an age, with synthetic features."""
    from number_tables import number_arrays, number_table

    table: FeatureTable = number_table(tmp_path_factory.mktemp("numbers") / "a.fstore", *number_arrays())
    return table


def _table(folder: Path, spec: BackboneSpec, X: Any, number: Any, hashes: list[bytes]) -> FeatureTable:
    content_hash = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32)
    labels = np.array(["daisy", "roses", "tulips"])[number].tolist()
    store = FeatureStore(folder / "flowers.fstore", create=True)
    store.create_space(spec, feature_dim=X.shape[1]).append(X[:-1], content_hash[:-1])
    store.write_catalog(
        Catalog(
            name="flowers",
            root="/data/flowers",
            location="/data/flowers",
            paths=[f"{label}/{row:02}.jpg" for row, label in enumerate(labels)],
            labels=labels,
            groups=[None] * len(labels),
            splits=[None] * len(labels),
            content_hash=content_hash,
            sizes=np.zeros(len(labels)),
            mtimes_ns=np.zeros(len(labels)),
            reasons=[None] * len(labels),
        )
    )
    return store.table()

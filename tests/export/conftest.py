"""A tiny network, photos on disk and the store of their features."""

import shutil

import keras
import numpy as np
import pytest
from PIL import Image

import featstore

COLOURS = {"fen": (60, 120, 90), "moor": (150, 90, 120), "wood": (90, 150, 60)}


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory):
    """A model of the user's own: 16 x 20 pixels to 6 features."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((16, 20, 3))
    x = keras.layers.Conv2D(6, 3, strides=2, activation="relu", name="maps")(inputs)
    path = tmp_path_factory.mktemp("own") / "tiny.keras"
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D(name="pooled")(x)).save(path)
    return str(path)


@pytest.fixture(scope="session")
def original(tmp_path_factory, tiny_backbone):
    """90 noisy photos of three colours, PNG and JPEG, and their store."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for number in range(90):
        label = list(COLOURS)[number % 3]
        pixels = np.clip(random.normal(COLOURS[label], 50, (40, 48, 3)), 0, 255).astype(np.uint8)
        path = folder / "land" / label / f"{number:02d}.{'jpg' if number % 2 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    store = folder / "land.fstore"
    featstore.extract(folder / "land", store, backbone=tiny_backbone, preprocessing="unit")
    return folder


@pytest.fixture
def land(original, tmp_path):
    """A table of one's own: the photos may be changed."""
    shutil.copytree(original / "land.fstore", tmp_path / "land.fstore")
    return featstore.FeatureStore(tmp_path / "land.fstore").table()


@pytest.fixture(scope="session")
def shared_table(original):
    return featstore.FeatureStore(original / "land.fstore").table()


@pytest.fixture(scope="session")
def head(shared_table):
    return featstore.fit(shared_table, head="logistic", params={"C": 0.1}, reject=0.4)


@pytest.fixture(scope="session")
def exported(head, shared_table, tmp_path_factory):
    """Export the head in each format once, when it is first asked for."""
    folder = tmp_path_factory.mktemp("exported")
    done = {}

    def get(runtime):
        if runtime not in done:
            done[runtime] = featstore.export_head(head, folder / runtime, format=runtime, table=shared_table)
        return done[runtime]

    return get

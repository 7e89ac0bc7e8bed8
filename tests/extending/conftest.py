"""A small network with a classifier of its own, and photos to show it."""

import keras
import numpy as np
import pytest
from PIL import Image

NAMES = ("moor", "heath", "fen", "bog")


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    """A network of 16 x 16 pixels with four classes, saved whole, and its names."""
    folder = tmp_path_factory.mktemp("network")
    keras.utils.set_random_seed(5)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(6, 3, strides=2, activation="relu", name="maps")(inputs)
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
    x = keras.layers.Dense(4, activation="softmax", bias_initializer="random_normal", name="classes")(x)
    keras.Model(inputs, x).save(folder / "land.keras")
    (folder / "names.txt").write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Forty pictures in a folder for each class."""
    folder = tmp_path_factory.mktemp("photos") / "land"
    random = np.random.default_rng(0)
    for number in range(40):
        path = folder / NAMES[number % 4] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    return folder

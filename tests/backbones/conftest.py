"""Networks small enough for tests, with weights that are random but the same every time."""

import os

import h5py
import numpy as np
import pytest


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("FEATSTORE_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def keras():
    from featstore.backbones.keras import models as keras_models

    return keras_models.keras


@pytest.fixture(scope="session")
def pixels():
    return np.random.default_rng(7).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)


def randomize(network, seed=0):
    """Give a network weights that keep its activations at a sensible size."""
    rng = np.random.default_rng(seed)
    for variable in network.weights:
        shape = tuple(variable.shape)
        if "variance" in variable.path:
            values = rng.uniform(0.5, 1.5, shape)
        elif variable.path.endswith(("gamma", "scale")):
            values = rng.uniform(0.8, 1.2, shape)
        elif len(shape) > 1:
            # What enters a depthwise convolution's output is one channel, not all.
            fan_in = np.prod(shape[:2] if "depthwise" in variable.path or shape[-1] == 1 else shape[:-1])
            values = rng.normal(0, (2 / fan_in) ** 0.5, shape)
        else:
            values = rng.normal(0, 0.1, shape)
        variable.assign(values.astype(variable.dtype))
    return network


def save_legacy(network, path):
    """Write the layout of Keras' published weights: a group for each layer, in order."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in network.layers]
        for layer in network.layers:
            variables = layer.trainable_weights + layer.non_trainable_weights
            names = [f"{layer.name}/{number}:0" for number, _ in enumerate(variables)]
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, variable in zip(names, variables, strict=True):
                group[name] = np.asarray(variable)


@pytest.fixture(scope="session")
def mobilenet_files(tmp_path_factory, keras):
    """One set of weights of MobileNet(alpha=0.25), in each form that a file of them can have."""
    folder = tmp_path_factory.mktemp("mobilenet")
    options = {"alpha": 0.25, "weights": None, "input_shape": (64, 64, 3)}
    with_top = randomize(keras.applications.MobileNet(include_top=True, classes=7, **options))
    no_top = keras.applications.MobileNet(include_top=False, **options)
    no_top.set_weights(with_top.get_weights()[: len(no_top.weights)])
    files = {
        name: os.path.join(folder, name)
        for name in (
            "no_top.h5",
            "top.h5",
            "no_top.weights.h5",
            "top.weights.h5",
            "no_top.keras",
            "top.keras",
        )
    }
    save_legacy(no_top, files["no_top.h5"])
    save_legacy(with_top, files["top.h5"])
    no_top.save_weights(files["no_top.weights.h5"])
    with_top.save_weights(files["top.weights.h5"])
    no_top.save(files["no_top.keras"])
    with_top.save(files["top.keras"])
    return files


@pytest.fixture(scope="session")
def tiny_keras_file(tmp_path_factory, keras):
    """A model of the user's own: 16 x 16 pixels, a convolution of 6 channels, a classifier of 3."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(6, 3, strides=2, activation="relu", name="maps")(inputs)
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
    x = keras.layers.Dense(3, activation="softmax", name="classes")(x)
    path = tmp_path_factory.mktemp("own") / "tiny.keras"
    keras.Model(inputs, x).save(path)
    return str(path)

"""Whole models in HDF5, and what Keras 2 wrote: read where it can be, named with what to do where it cannot."""

import json
import os
import zipfile

import h5py
import numpy as np
import pytest

from featstore.backbones.caches.facts import network_facts
from featstore.backbones.files.keras2 import modern
from featstore.backbones.keras.models import build_network, forward_once
from featstore.backbones.request import request_network
from featstore.errors import BackboneError, WeightsError

from .conftest import randomize

OWN = {"preprocessing": "unit"}


@pytest.fixture
def build(keras, cache):
    return lambda path, **options: build_network(request_network(str(path), **{**OWN, **options}))


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(keras):
    """Layers as Keras 2 had them in other words: a depthwise convolution, batch normalization, a nested network."""
    inner_inputs = keras.Input((32, 32, 3), name="inner_input")
    x = keras.layers.Conv2D(4, 3, strides=2, use_bias=False, name="conv")(inner_inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.DepthwiseConv2D(3, name="depthwise")(keras.layers.ReLU(max_value=6.0, name="relu")(x))
    inner = keras.Model(inner_inputs, x, name="inner")
    inputs = keras.Input((32, 32, 3), name="input")
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(inner(inputs))
    return randomize(keras.Model(inputs, keras.layers.Dense(3, name="classes")(x), name="whole"))


def as_keras2(configuration, *, module=False):
    """Put a configuration into the words of Keras 2.15."""
    if isinstance(configuration, list):
        return [as_keras2(entry, module=module) for entry in configuration]
    if not isinstance(configuration, dict):
        return configuration
    found = {key: as_keras2(value, module=module) for key, value in configuration.items()}
    inner = found.get("config")
    kind = found.get("class_name")
    if kind is not None and isinstance(inner, dict):
        if kind == "InputLayer":
            inner["batch_input_shape"] = inner.pop("batch_shape")
        if kind == "DTypePolicy":
            return inner["name"]
        if kind == "BatchNormalization":
            inner["axis"] = [3]
        if kind == "DepthwiseConv2D":
            inner["groups"] = 1
        if kind == "Functional":
            found["module"] = "keras.src.engine.functional"
            for ends in ("input_layers", "output_layers"):
                inner[ends] = [inner[ends]]
        if "inbound_nodes" in found:
            found["inbound_nodes"] = [
                [[*argument["config"]["keras_history"], {}] for argument in node["args"]]
                for node in found["inbound_nodes"]
            ]
        if not module:
            found.pop("module", None)
            found.pop("registered_name", None)
    return found


def keras2_h5(model, path, change=lambda configuration: None):
    """Write a model as ``model.save("name.h5")`` of Keras 2 did."""
    configuration = as_keras2({"class_name": "Functional", "config": json.loads(model.to_json())["config"]})
    change(configuration)
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"2.11.0"
        file.attrs["model_config"] = json.dumps(configuration)
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            saved = group.create_group(layer.name)
            variables = layer.trainable_weights + layer.non_trainable_weights
            names = [
                variable.path.replace("depthwise/kernel", "depthwise/depthwise_kernel").removeprefix("whole/")
                + ":0"
                for variable in variables
            ]
            saved.attrs["weight_names"] = [name.encode() for name in names]
            for name, variable in zip(names, variables, strict=True):
                saved[name] = np.asarray(variable)
    return str(path)


def keras2_archive(model, path, tmp_path):
    """Write a model as ``model.save("name.keras")`` of Keras 2.15 did."""
    model.save(tmp_path / "modern.keras")
    configuration = as_keras2(json.loads(model.to_json()), module=True)
    with zipfile.ZipFile(tmp_path / "modern.keras") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json":
                data = json.dumps(configuration).encode()
            elif name == "metadata.json":
                data = b'{"keras_version": "2.15.0"}'
            new.writestr(name, data)
    return str(path)


def expected(model, pictures):
    return np.asarray(model(pictures / np.float32(255), training=False))


def test_a_whole_model_of_keras_3_in_hdf5_is_read(build, model, pictures, tmp_path):
    path = str(tmp_path / "whole.h5")
    with pytest.MonkeyPatch.context() as quiet:
        quiet.setattr("absl.logging.warning", lambda *_: None)
        model.save(path)
    network = build(path)
    np.testing.assert_allclose(forward_once(network, pictures), expected(model, pictures), atol=1e-5)
    assert build(path, layer="inner/relu").facts.feature_dim == 4


@pytest.mark.parametrize("form", ["h5", "keras"])
def test_a_model_of_keras_2_is_read(form, build, model, pictures, tmp_path):
    path = tmp_path / f"old.{form}"
    path = keras2_h5(model, path) if form == "h5" else keras2_archive(model, path, tmp_path)
    network = build(path)
    np.testing.assert_allclose(forward_once(network, pictures), expected(model, pictures), atol=1e-5)
    inner = forward_once(build(path, layer="inner/relu"), pictures)
    modern_path = str(tmp_path / "same.keras")
    model.save(modern_path)
    np.testing.assert_allclose(
        inner, forward_once(build(modern_path, layer="inner/relu"), pictures), atol=1e-5
    )


def test_weights_that_do_not_fit_their_layers_are_refused(build, model, tmp_path):
    path = keras2_h5(model, tmp_path / "old.h5")
    with h5py.File(path, "a") as file:
        saved = file["model_weights/inner"]
        saved.attrs["weight_names"] = saved.attrs["weight_names"][::-1]
    with pytest.raises(
        BackboneError, match=r"do not fit its layer inner: found moving_variance .* expected kernel 3x3x3x4"
    ):
        build(path)


def test_weights_alone_are_no_model(build, model, tmp_path):
    path = str(tmp_path / "alone.weights.h5")
    model.save_weights(path)
    with pytest.raises(BackboneError, match=r"weights without the model .* --backbone .* --weights"):
        network_facts(request_network(path, **OWN))


def test_a_lambda_in_hdf5_is_refused(model, tmp_path):
    def change(configuration):
        configuration["config"]["layers"][2].update(class_name="Lambda", config={"function": ["code"]})

    with pytest.raises(BackboneError, match=r"Python code that would run .* --trust-model"):
        network_facts(request_network(keras2_h5(model, tmp_path / "lambda.h5", change), **OWN))


def test_an_operation_of_tensorflow_is_named(build, model, tmp_path):
    def change(configuration):
        configuration["config"]["layers"][2]["class_name"] = "TFOpLambda"

    with pytest.raises(BackboneError, match="TFOpLambda of its layer 'pooled' is an operation of TensorFlow"):
        build(keras2_h5(model, tmp_path / "operation.h5", change))


def test_arithmetic_of_keras_2_becomes_a_layer():
    def layer(function, arguments):
        return {
            "class_name": "TFOpLambda",
            "config": {"name": "op", "function": function},
            "name": "op",
            "inbound_nodes": [["input", 0, 0, arguments]],
        }

    divided = modern(layer("math.truediv", {"y": 127.5, "name": None}))
    assert divided["class_name"] == "Rescaling"
    assert (divided["config"]["scale"], divided["config"]["offset"]) == (1 / 127.5, 0.0)
    assert divided["inbound_nodes"] == [[["input", 0, 0, {}]]]
    less = modern(layer("math.subtract", {"y": 1.0, "name": None}))
    assert (less["config"]["scale"], less["config"]["offset"]) == (1.0, -1.0)
    assert modern(layer("math.pow", {"y": 2.0}))["class_name"] == "TFOpLambda"


def test_the_first_layer_of_a_row_may_name_the_input_and_names_may_have_slashes():
    row = {
        "class_name": "Sequential",
        "config": {
            "name": "row",
            "layers": [
                {"class_name": "Dense", "config": {"name": "a/b", "batch_input_shape": [None, 4], "units": 2}}
            ],
        },
    }
    first, second = modern(row)["config"]["layers"]
    assert first["class_name"] == "InputLayer"
    assert first["config"]["batch_shape"] == [None, 4]
    assert second["config"]["name"] == "a_b"


def test_a_saved_model_as_weights_is_named_with_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BackboneError, match=r"is a SavedModel, .* model\.save\('name\.h5'\)"):
        network_facts(request_network("mobilenet", weights="saved"))


@pytest.mark.parametrize("name", ["ckpt", "ckpt.index", "ckpt.data-00000-of-00001"])
def test_a_checkpoint_is_named_with_what_to_do(name, tmp_path):
    for ending in ("index", "data-00000-of-00001"):
        (tmp_path / f"ckpt.{ending}").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"is a TensorFlow checkpoint; .*save_weights"):
        network_facts(request_network("mobilenet", weights=str(tmp_path / name)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("https://tfhub.dev/google/imagenet/mobilenet_v2/5", "is an address; download"),
        ("./mobilenet_v2", "leave out the folder: --backbone mobilenet_v2"),
        ("nowhere.h5", r"no model file at nowhere\.h5"),
        ("folder", "folder is a folder, not a regular file"),
    ],
)
def test_what_is_no_model_is_named(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("folder")
    with pytest.raises(BackboneError, match=message):
        request_network(name, **OWN)

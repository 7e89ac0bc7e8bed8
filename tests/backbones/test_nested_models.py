"""Models with networks in them, as Keras' guide to transfer learning builds them, cut outside and inside."""

import numpy as np
import pytest

from featstore.backbones import load_backbone
from featstore.backbones.keras.models import build_network, forward_once
from featstore.backbones.request import request_network
from featstore.errors import BackboneError

from .conftest import randomize

OWN = {"preprocessing": "none"}


@pytest.fixture(scope="module")
def application(keras):
    options = {"alpha": 0.25, "weights": None, "include_top": False, "input_shape": (64, 64, 3)}
    return randomize(keras.applications.MobileNet(name="base", **options))


@pytest.fixture(scope="module")
def tutorial(application, tmp_path_factory, keras):
    """Augmentation, scaling, an application called for inference, pooling and a classifier."""
    augment = keras.Sequential(
        [keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.2)], name="augment"
    )
    inputs = keras.Input((64, 64, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1.0, name="scale")(augment(inputs))
    x = application(x, training=False)
    x = keras.layers.GlobalAveragePooling2D(name="gap")(x)
    x = keras.layers.Dense(5, activation="softmax", name="head")(keras.layers.Dropout(0.2)(x))
    path = str(tmp_path_factory.mktemp("nested") / "tutorial.keras")
    keras.Model(inputs, x).save(path)
    return path


@pytest.fixture
def build(keras, cache):
    return lambda path, **options: build_network(request_network(path, **{**OWN, **options}))


def expected(keras, application, layer, pixels):
    part = keras.Model(application.inputs[0], application.get_layer(layer).output)
    return np.asarray(part(pixels / np.float32(127.5) - 1, training=False)).mean((1, 2))


@pytest.mark.parametrize(
    ("layer", "inner"), [("base", "conv_pw_13_relu"), ("base/conv_pw_6_relu", "conv_pw_6_relu")]
)
def test_features_are_those_of_the_nested_network_on_what_the_outer_passes_in(
    layer, inner, build, tutorial, application, pixels, keras
):
    network = build(tutorial, layer=layer)
    assert network.facts.layer == layer
    wanted = expected(keras, application, inner, pixels)
    np.testing.assert_allclose(forward_once(network, pixels), wanted, atol=1e-5)


def test_a_layer_around_the_nested_network_can_be_the_cut(build, tutorial, application, pixels, keras):
    wanted = expected(keras, application, "conv_pw_13_relu", pixels)
    np.testing.assert_allclose(forward_once(build(tutorial, layer="gap"), pixels), wanted, atol=1e-5)


def test_it_is_converted_like_any_other(tutorial, application, pixels, cache, keras):
    backbone = load_backbone(tutorial, layer="base/conv_pw_6_relu", engine="openvino", **OWN)
    wanted = expected(keras, application, "conv_pw_6_relu", pixels)
    np.testing.assert_allclose(backbone.forward(pixels), wanted, atol=1e-4)
    assert backbone.provenance["engine"] == "openvino"


def test_the_same_cut_has_the_same_digest_every_time(build, tutorial, tmp_path, keras):
    again = str(tmp_path / "again.keras")
    keras.models.load_model(tutorial).save(again)
    layer = "base/conv_pw_6_relu"
    facts = build(tutorial, layer=layer).facts
    assert build(again, layer=layer).facts == facts == build(tutorial, layer=layer).facts
    assert build(tutorial, layer="base/conv_pw_7_relu").facts.weights_digest != facts.weights_digest


def test_networks_are_nested_to_any_depth(build, application, tmp_path, pixels, keras):
    middle = keras.Sequential(
        [keras.Input((64, 64, 3)), keras.layers.Rescaling(1 / 127.5, -1.0), application]
    )
    middle.name = "middle"
    inputs = keras.Input((64, 64, 3))
    path = str(tmp_path / "deep.keras")
    keras.Model(inputs, keras.layers.GlobalMaxPooling2D()(middle(inputs))).save(path)
    network = build(path, layer="middle/base/conv_pw_6_relu")
    wanted = expected(keras, application, "conv_pw_6_relu", pixels)
    np.testing.assert_allclose(forward_once(network, pixels), wanted, atol=1e-5)


def test_a_model_that_ends_in_a_nested_network_is_cut_at_its_own_output(
    build, application, tmp_path, pixels, keras
):
    path = str(tmp_path / "bare.keras")
    keras.Sequential([keras.Input((64, 64, 3)), keras.layers.Rescaling(1 / 127.5, -1.0), application]).save(
        path
    )
    network = build(path)
    assert network.facts == build(path, layer=network.facts.layer).facts
    wanted = expected(keras, application, "conv_pw_13_relu", pixels)
    np.testing.assert_allclose(forward_once(network, pixels), wanted, atol=1e-5)


def test_a_layer_of_a_nested_network_is_named_with_its_network(build, tutorial):
    with pytest.raises(BackboneError, match="use --layer base/conv_pw_6_relu"):
        build(tutorial, layer="conv_pw_6_relu")
    with pytest.raises(
        BackboneError, match=r"'base' of .* has no layer 'conv_pw_6_rel'; did you mean conv_pw_6_relu"
    ):
        build(tutorial, layer="base/conv_pw_6_rel")


def test_a_layer_that_is_no_network_has_no_layers_inside(build, tutorial):
    with pytest.raises(BackboneError, match="'gap' is a GlobalAveragePooling2D, not a network"):
        build(tutorial, layer="gap/inner")


def test_a_network_used_twice_cannot_be_cut_at(build, tmp_path, keras):
    inner = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(3, 1, name="conv")], name="inner")
    inputs = keras.Input((16, 16, 3))
    path = str(tmp_path / "twice.keras")
    keras.Model(inputs, inner(inner(inputs))).save(path)
    for layer in ("inner", "inner/conv"):
        with pytest.raises(BackboneError, match="'inner': it is used in more than one place"):
            build(path, layer=layer)


def test_what_keras_cannot_build_or_run_is_our_error(build, tmp_path, keras, monkeypatch):
    from featstore.backbones.keras import models as keras_models

    path = str(tmp_path / "own.keras")
    inputs = keras.Input((16, 16, 3))
    keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs)).save(path)
    network = build(path)

    def fail(*_, **__):
        raise RuntimeError("graph disconnected\nand much more")

    monkeypatch.setattr(keras_models, "_wrap", fail)
    with pytest.raises(BackboneError, match=r"^Keras cannot build own\.keras: graph disconnected$"):
        build(path)
    monkeypatch.setattr(network.model, "call", fail)
    with pytest.raises(BackboneError, match="Keras cannot run the network"):
        forward_once(network, np.zeros((1, 16, 16, 3), np.uint8))

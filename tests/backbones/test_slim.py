"""Checkpoints of TF-slim's networks, written here under slim's names."""

import re

import numpy as np
import pytest
import tensorflow as tf

from featstore import load_backbone
from featstore.backbones import find_backbone
from featstore.backbones.keras.cutting import stable_names
from featstore.backbones.keras.slim import load_checkpoint
from featstore.errors import WeightsError

from .conftest import randomize

SIZE = {"inception_v3": 75}


def slim_names(name):
    """Return the scopes of a network's convolutions and lone normalisations, in the order that slim makes them.

    From the networks in tensorflow/models, research/slim/nets.
    """
    match name:
        case "mobilenet":
            pairs = [
                f"MobilenetV1/Conv2d_{n}_{kind}" for n in range(1, 14) for kind in ("depthwise", "pointwise")
            ]
            return ["MobilenetV1/Conv2d_0", *pairs]
        case "mobilenet_v2":
            first = [
                "MobilenetV2/Conv",
                *(f"MobilenetV2/expanded_conv/{kind}" for kind in ("depthwise", "project")),
            ]
            kinds = ("expand", "depthwise", "project")
            return [
                *first,
                *(f"MobilenetV2/expanded_conv_{n}/{kind}" for n in range(1, 17) for kind in kinds),
                "MobilenetV2/Conv_1",
            ]
        case "vgg16":
            return [
                f"vgg_16/conv{block}/conv{block}_{n}"
                for block, layers in enumerate((2, 2, 3, 3, 3), start=1)
                for n in range(1, layers + 1)
            ]
        case "inception_v3":
            return [f"InceptionV3/{scope}" for scope in _inception_scopes()]
    raise ValueError(name)


def _inception_scopes():
    yield from ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
    for block, five in (("5b", "Conv2d_0b_5x5"), ("5c", "Conv_1_0c_5x5"), ("5d", "Conv2d_0b_5x5")):
        yield f"Mixed_{block}/Branch_0/Conv2d_0a_1x1"
        yield f"Mixed_{block}/Branch_1/Conv2d_0{'b' if block == '5c' else 'a'}_1x1"
        yield f"Mixed_{block}/Branch_1/{five}"
        yield from (f"Mixed_{block}/Branch_2/Conv2d_{one}" for one in ("0a_1x1", "0b_3x3", "0c_3x3"))
        yield f"Mixed_{block}/Branch_3/Conv2d_0b_1x1"
    yield "Mixed_6a/Branch_0/Conv2d_1a_1x1"
    yield from (f"Mixed_6a/Branch_1/Conv2d_{one}" for one in ("0a_1x1", "0b_3x3", "1a_1x1"))
    for block in ("6b", "6c", "6d", "6e"):
        yield f"Mixed_{block}/Branch_0/Conv2d_0a_1x1"
        yield from (f"Mixed_{block}/Branch_1/Conv2d_{one}" for one in ("0a_1x1", "0b_1x7", "0c_7x1"))
        rest = ("0a_1x1", "0b_7x1", "0c_1x7", "0d_7x1", "0e_1x7")
        yield from (f"Mixed_{block}/Branch_2/Conv2d_{one}" for one in rest)
        yield f"Mixed_{block}/Branch_3/Conv2d_0b_1x1"
    yield from (f"Mixed_7a/Branch_0/Conv2d_{one}" for one in ("0a_1x1", "1a_3x3"))
    yield from (f"Mixed_7a/Branch_1/Conv2d_{one}" for one in ("0a_1x1", "0b_1x7", "0c_7x1", "1a_3x3"))
    for block, last in (("7b", "0b_3x1"), ("7c", "0c_3x1")):
        yield f"Mixed_{block}/Branch_0/Conv2d_0a_1x1"
        yield from (f"Mixed_{block}/Branch_1/Conv2d_{one}" for one in ("0a_1x1", "0b_1x3", last))
        yield from (
            f"Mixed_{block}/Branch_2/Conv2d_{one}" for one in ("0a_1x1", "0b_3x3", "0c_1x3", "0d_3x1")
        )
        yield f"Mixed_{block}/Branch_3/Conv2d_0b_1x1"


def slim_variables(network, name):
    """Return a Keras network's values under slim's names, each layer by its place in the order."""
    names = {own: stable for stable, own in stable_names(network).items()}
    weighted = [layer for layer in network.layers if layer.weights]
    if name == "inception_v3":
        weighted.sort(key=lambda layer: int((re.findall(r"_(\d+)$", names[layer.name]) or [0])[0]))
    convolutions = [layer for layer in weighted if "Conv" in type(layer).__name__]
    normalizations = [layer for layer in weighted if "Batch" in type(layer).__name__]
    found = {}
    for layers, ending in ((convolutions, ""), (normalizations, "/BatchNorm")):
        for layer, scope in zip(layers, slim_names(name), strict=bool(layers)):
            depthwise = "depthwise_" if "Depthwise" in type(layer).__name__ else ""
            for variable in layer.weights:
                kind = {"kernel": f"{depthwise}weights", "bias": "biases"}.get(variable.name, variable.name)
                found[f"{scope}{ending}/{kind}"] = np.asarray(variable)
    if name == "vgg16":
        found["vgg_16/conv1/conv1_1/weights"] = found["vgg_16/conv1/conv1_1/weights"][:, :, ::-1]
    return found


def save(path, variables):
    """Write a checkpoint of version 2 as TensorFlow does, with what a training leaves in it."""
    extra = {"global_step": np.int64(7), "MobilenetV1/Conv2d_0/weights/RMSProp": np.zeros(3, np.float32)}
    values = {**variables, **extra}
    tf.raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=[*values],
        shape_and_slices=[""] * len(values),
        tensors=[tf.constant(value) for value in values.values()],
    )
    return str(path)


def build(keras, name, **options):
    side = SIZE.get(name, 32)
    make = getattr(keras.applications, find_backbone(name).keras_name)
    return randomize(make(weights=None, input_shape=(side, side, 3), **options))


SMALL = [("mobilenet", {"alpha": 0.25}), ("mobilenet_v2", {"alpha": 0.35})]


@pytest.mark.parametrize(("name", "options"), SMALL)
def test_a_checkpoint_is_the_network_that_it_was_written_from(keras, tmp_path, name, options):
    network = build(keras, name, include_top=False, **options)
    network.save_weights(tmp_path / "own.weights.h5")
    path = save(tmp_path / f"{name}.ckpt", slim_variables(network, name))
    side = SIZE.get(name, 32)
    shared = {"image_size": side, **options}
    wanted = load_backbone(name, weights=tmp_path / "own.weights.h5", **shared)
    found = load_backbone(name, weights=path, **shared)
    assert found.spec == wanted.spec
    assert load_backbone(name, weights=f"{path}.index", **shared).spec == found.spec


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16", "inception_v3"])
def test_every_variable_of_a_large_network_comes_back_in_its_place(keras, tmp_path, name):
    network = build(keras, name, include_top=False)
    path = save(tmp_path / f"{name}.ckpt", slim_variables(network, name))
    wanted = network.get_weights()
    network.set_weights([np.zeros_like(value) for value in wanted])
    load_checkpoint(network, path, find_backbone(name), top=False)
    for found, value in zip(network.get_weights(), wanted, strict=True):
        np.testing.assert_array_equal(found, value)


@pytest.fixture
def with_top(keras, tmp_path):
    """A MobileNet with a classifier of 1,000 classes, and slim's checkpoint of it, with the background's."""
    network = build(keras, "mobilenet", alpha=0.25)
    variables = slim_variables(
        keras.Model(network.inputs, network.get_layer("conv_pw_13_relu").output), "mobilenet"
    )
    kernel, bias = map(np.asarray, network.get_layer("conv_preds").weights)
    scope = "MobilenetV1/Logits/Conv2d_1c_1x1"
    variables[f"{scope}/weights"] = np.concatenate([np.full_like(kernel[..., :1], 9), kernel], axis=-1)
    variables[f"{scope}/biases"] = np.concatenate([np.float32([9]), bias])
    network.save_weights(tmp_path / "top.weights.h5")
    return tmp_path / "top.weights.h5", variables


def test_the_classifier_has_no_background(tmp_path, with_top):
    own, variables = with_top
    path = save(tmp_path / "mobilenet_v1_0.25_224.ckpt", variables)
    shared = {"layer": "predictions", "alpha": 0.25, "image_size": 32}
    found, wanted = (load_backbone("mobilenet", weights=one, **shared) for one in (path, own))
    assert found.feature_dim == 1000
    assert found.spec == wanted.spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"MobilenetV1/Conv2d_13_pointwise/weights": None},
            "there is no MobilenetV1/Conv2d_13_pointwise/weights",
        ),
        ({"MobilenetV1/Conv2d_14_pointwise/weights": np.zeros(2, np.float32)}, "1 variables more, such as"),
        ({"MobilenetV1/Conv2d_3_pointwise/weights": np.zeros((1, 1, 4, 4), np.float32)}, "another --alpha"),
    ],
)
def test_a_variable_too_many_too_few_or_of_another_shape_is_refused(tmp_path, with_top, change, message):
    variables = {name: value for name, value in {**with_top[1], **change}.items() if value is not None}
    path = save(tmp_path / "mobilenet.ckpt", variables)
    with pytest.raises(WeightsError, match=message):
        load_backbone("mobilenet", weights=path, alpha=0.25, image_size=32)


def test_networks_of_others_are_refused(tmp_path, with_top):
    path = save(tmp_path / "mobilenet.ckpt", with_top[1])
    with pytest.raises(WeightsError, match="there is no resnet_v1_50/conv1/weights"):
        load_backbone("resnet50", weights=path, image_size=32)
    with pytest.raises(WeightsError, match="are read for vgg16"):
        load_backbone("efficientnet_b0", weights=path, image_size=32)


def test_a_damaged_checkpoint_is_named(tmp_path, with_top):
    path = save(tmp_path / "broken.ckpt", with_top[1])
    data = next(tmp_path.glob("broken.ckpt.data-*"))
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(WeightsError, match=r"broken\.ckpt"):
        load_backbone("mobilenet", weights=path, alpha=0.25, image_size=32)

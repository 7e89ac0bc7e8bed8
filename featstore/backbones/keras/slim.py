"""Weights of TF-slim's networks (vgg_19.ckpt, inception_v3.ckpt …), by the names of their variables."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.keras.cutting import stable_names
from featstore.backbones.keras.quiet import quiet_import
from featstore.backbones.known import BackboneInfo
from featstore.errors import WeightsError, first_line

with quiet_import():
    import keras

__all__ = ["classes_in_checkpoint", "load_checkpoint"]

# Of training, and of the branch that only training has.
_OF_TRAINING = re.compile(
    r"(^|/)(global_step|AuxLogits|RMSProp(_\d)?|Momentum|Adam(_\d)?|ExponentialMovingAverage)($|/)"
)
_CLASSIFIER = re.compile(r"/(logits|Logits|fc[678])(/|$)")
_BACKGROUND = 1001

# How Keras' layers are called in slim: patterns of names and what replaces them, by module of Keras.
_SCOPES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "vgg16": (
        (r"block(\d)_conv(\d)", r"vgg_16/conv\1/conv\1_\2"),
        (r"fc1", "vgg_16/fc6"),
        (r"fc2", "vgg_16/fc7"),
        (r"predictions", "vgg_16/fc8"),
    ),
    "mobilenet": (
        (r"conv1", "MobilenetV1/Conv2d_0"),
        (r"conv1_bn", "MobilenetV1/Conv2d_0/BatchNorm"),
        (r"conv_dw_(\d+)", r"MobilenetV1/Conv2d_\1_depthwise"),
        (r"conv_dw_(\d+)_bn", r"MobilenetV1/Conv2d_\1_depthwise/BatchNorm"),
        (r"conv_pw_(\d+)", r"MobilenetV1/Conv2d_\1_pointwise"),
        (r"conv_pw_(\d+)_bn", r"MobilenetV1/Conv2d_\1_pointwise/BatchNorm"),
        (r"conv_preds", "MobilenetV1/Logits/Conv2d_1c_1x1"),
    ),
    "mobilenet_v2": (
        (r"Conv1", "MobilenetV2/Conv"),
        (r"bn_Conv1", "MobilenetV2/Conv/BatchNorm"),
        (r"expanded_conv_(depthwise|project)", r"MobilenetV2/expanded_conv/\1"),
        (r"expanded_conv_(depthwise|project)_BN", r"MobilenetV2/expanded_conv/\1/BatchNorm"),
        (r"block_(\d+)_(expand|depthwise|project)", r"MobilenetV2/expanded_conv_\1/\2"),
        (r"block_(\d+)_(expand|depthwise|project)_BN", r"MobilenetV2/expanded_conv_\1/\2/BatchNorm"),
        (r"Conv_1", "MobilenetV2/Conv_1"),
        (r"Conv_1_bn", "MobilenetV2/Conv_1/BatchNorm"),
        (r"predictions", "MobilenetV2/Logits/Conv2d_1c_1x1"),
    ),
    "resnet": (
        (r"conv1_conv", "NET/conv1"),
        (r"conv1_bn", "NET/conv1/BatchNorm"),
        (r"conv(\d)_block(\d+)_0_conv", r"NET/block\1/unit_\2/bottleneck_v1/shortcut"),
        (r"conv(\d)_block(\d+)_0_bn", r"NET/block\1/unit_\2/bottleneck_v1/shortcut/BatchNorm"),
        (r"conv(\d)_block(\d+)_(\d)_conv", r"NET/block\1/unit_\2/bottleneck_v1/conv\3"),
        (r"conv(\d)_block(\d+)_(\d)_bn", r"NET/block\1/unit_\2/bottleneck_v1/conv\3/BatchNorm"),
        (r"predictions", "NET/logits"),
    ),
    "resnet_v2": (
        (r"conv1_conv", "NET/conv1"),
        (r"conv(\d)_block(\d+)_preact_bn", r"NET/block\1/unit_\2/bottleneck_v2/preact"),
        (r"conv(\d)_block(\d+)_0_conv", r"NET/block\1/unit_\2/bottleneck_v2/shortcut"),
        (r"conv(\d)_block(\d+)_(\d)_conv", r"NET/block\1/unit_\2/bottleneck_v2/conv\3"),
        (r"conv(\d)_block(\d+)_(\d)_bn", r"NET/block\1/unit_\2/bottleneck_v2/conv\3/BatchNorm"),
        (r"post_bn", "NET/postnorm"),
        (r"predictions", "NET/logits"),
    ),
}


def load_checkpoint(network: Any, prefix: str, info: BackboneInfo, *, top: bool) -> None:
    """Load the variables of a checkpoint of TF-slim into a network of Keras, all or none."""
    file, reader = os.path.basename(prefix), _reader(prefix)
    left = {
        name: tuple(shape)
        for name, shape in reader.get_variable_to_shape_map().items()
        if not _OF_TRAINING.search(name) and (top or not _CLASSIFIER.search(name))
    }
    values = []
    for variable, name in _variables(network, info, [*left]):
        if name not in left:
            raise WeightsError(
                f"{file} does not hold the weights of {info.name} as TF-slim names them: there is no {name}"
            )
        value = _fitted(
            _tensor(reader, prefix, name), tuple(variable.shape), is_last=bool(_CLASSIFIER.search(name))
        )
        if value.shape != tuple(variable.shape):
            raise WeightsError(
                f"{file} does not hold the weights of {info.name}: {name} has the shape {left[name]}, "
                f"expected {tuple(variable.shape)}{_alpha_hint(info)}"
            )
        if info.preprocessing == "caffe" and re.fullmatch(r"\w+/conv1/(conv1_1/)?weights", name):
            # Slim's takes red, green, blue; Keras' blue, green, red.
            value = value[:, :, ::-1]
        values.append((variable, value))
        del left[name]
    if left:
        raise WeightsError(
            f"{file} does not hold the weights of {info.name}: it has {len(left)} variables more, such as "
            f"{sorted(left)[0]}"
        )
    for variable, value in values:
        variable.assign(value)


def classes_in_checkpoint(prefix: str) -> int | None:
    """Return the number of classes of a checkpoint's classifier, without the background's, or None."""
    shapes = _reader(prefix).get_variable_to_shape_map()
    found = [
        shape[-1] for name, shape in shapes.items() if re.search(r"/(logits|Logits|fc8)/.*weights$", name)
    ]
    found = [number for number in found if number]
    return None if not found else _BACKGROUND - 1 if found[0] == _BACKGROUND else int(found[0])


def _reader(prefix: str) -> Any:
    with quiet_import():
        import tensorflow as tf
    try:
        return tf.train.load_checkpoint(prefix)
    except Exception as error:  # TensorFlow has errors of its own for each kind of damage
        raise WeightsError(f"TensorFlow cannot read the checkpoint {prefix}: {first_line(error)}") from error


def _tensor(reader: Any, prefix: str, name: str) -> NDArray[Any]:
    try:
        return np.asarray(reader.get_tensor(name))
    except Exception as error:  # as in _reader
        raise WeightsError(f"the checkpoint {prefix} is damaged: {first_line(error)}") from error


def _variables(network: Any, info: BackboneInfo, names: list[str]) -> Iterator[tuple[Any, str]]:
    """Yield each variable of a network with its name in slim's checkpoints."""
    scopes = _scopes(network, info, names)
    for layer in network.layers:
        for variable in layer.weights:
            kind = str(variable.name)
            depthwise = "depthwise_" if isinstance(layer, keras.layers.DepthwiseConv2D) else ""
            called = {"kernel": f"{depthwise}weights", "bias": "biases"}.get(kind, kind)
            yield variable, f"{scopes[layer.name]}/{called}"


def _scopes(network: Any, info: BackboneInfo, names: list[str]) -> dict[str, str]:
    """Return the scope of each layer with weights, by its name."""
    called = {own: stable for stable, own in stable_names(network).items()}
    layers = [called[layer.name] for layer in network.layers if layer.weights]
    if info.module == "inception_v3":
        found = _inception(layers, names)
    elif info.module in ("vgg19", *_SCOPES):
        rules = _SCOPES["vgg16" if info.module == "vgg19" else info.module]
        found = {name: _scope(name, rules, info) for name in layers}
    else:
        known = "vgg16, vgg19, inception_v3, mobilenet, mobilenet_v2 and the resnets"
        raise WeightsError(f"checkpoints of TF-slim are read for {known}; found {info.name}")
    return {own: found[stable] for own, stable in called.items() if stable in found}


def _scope(name: str, rules: tuple[tuple[str, str], ...], info: BackboneInfo) -> str:
    for pattern, scope in rules:
        if (found := re.fullmatch(pattern, name)) is None:
            continue
        expanded = found.expand(scope)
        if info.module.startswith("resnet"):
            # Keras counts the first convolution as a block.
            expanded = re.sub(r"block(\d)", lambda block: f"block{int(block[1]) - 1}", expanded)
        depth, _, version = info.name.removeprefix("resnet").partition("_")
        expanded = expanded.replace("NET", f"resnet_{version or 'v1'}_{depth}")
        return expanded.replace("vgg_16", info.name.replace("vgg", "vgg_"))
    raise WeightsError(f"the layer {name} of {info.name} has no name in TF-slim")


def _inception(layers: list[str], names: list[str]) -> dict[str, str]:
    """Match layers that are only numbered with slim's scopes, whose order is theirs."""
    scopes = sorted({name.rpartition("/")[0] for name in names if name.endswith("/weights")})
    scopes = [scope for scope in scopes if not _CLASSIFIER.search(scope)]
    numbered = sorted((name for name in layers if name.startswith("conv2d")), key=_number)
    normalized = sorted((name for name in layers if name.startswith("batch_norm")), key=_number)
    found = dict(zip(numbered, scopes, strict=False))
    found |= dict(zip(normalized, (f"{scope}/BatchNorm" for scope in scopes), strict=False))
    found |= dict.fromkeys({*layers} - {*found}, "InceptionV3/Logits/Conv2d_1c_1x1")
    return found


def _number(name: str) -> int:
    number = name.rpartition("_")[2]
    return int(number) if number.isdecimal() else 0


def _fitted(value: NDArray[Any], shape: tuple[int, ...], *, is_last: bool) -> NDArray[Any]:
    """Return a classifier's values without the background's class, in the shape that Keras has for them."""
    if is_last and value.shape[-1] == _BACKGROUND and shape[-1] == _BACKGROUND - 1:
        value = value[..., 1:]
    # What are convolutions of 1 x 1, or of all that is left of an image, are dense layers in Keras.
    return value.reshape(shape) if is_last and value.size == np.prod(shape) else value


def _alpha_hint(info: BackboneInfo) -> str:
    return "; is it of another --alpha?" if info.alphas else ""

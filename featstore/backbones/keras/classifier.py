"""Extraction of a network's own classifier, if it is one linear layer on the backbone's features.

The layer is found in the network's graph, and linearity is verified on random images.
"""

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from featstore.backbones.files.weights import weights_kind
from featstore.backbones.keras.models import (
    BuiltNetwork,
    device_names,
    forward_once,
    keras_settings,
    layer_names,
    scale_pixels,
)
from featstore.backbones.keras.quiet import quiet_import
from featstore.backbones.keras.weights import build_application, fit_top, load_weights, open_model
from featstore.backbones.known import BackboneInfo, find_backbone
from featstore.backbones.request import NetworkRequest
from featstore.errors import BackboneError

with quiet_import():
    import keras

__all__ = ["Classifier", "read_classifier"]

_IMAGES = 4
# Of the probabilities, and of the features relative to the largest. Rounding gives 1e-6 of both.
_TOLERANCE = 1e-4

# What changes no number when a network is used.
_IDLE = ("Dropout", "SpatialDropout2D", "GaussianDropout", "GaussianNoise", "Identity")
_SHAPE = ("Flatten", "Reshape")
_POOLING = "GlobalAveragePooling2D"


@dataclass(frozen=True, kw_only=True, eq=False)
class Classifier:
    """The last layer of a network: its probabilities are the softmax of ``features @ kernel + bias``."""

    kernel: NDArray[np.float32]  # (feature_dim, n_classes)
    bias: NDArray[np.float32]  # (n_classes,)
    layer: str
    largest_difference: float  # to the network's probabilities, on random images


@dataclass(frozen=True, kw_only=True)
class _End:
    """A network's classifying layer, and its input."""

    layer: Any
    inputs: Any


def read_classifier(request: NetworkRequest, built: BuiltNetwork) -> Classifier:
    """Read the classifier of the network that a backbone was cut from."""
    if request.weights == "closed-form":
        raise BackboneError(f"{request.name} is a formula and has no classifier; fit a head on its features")
    of = os.path.basename(request.name)
    with keras_settings(), keras.device(device_names("cpu")[0]):
        network = _own(request) if request.is_own else _known(request, find_backbone(request.name))
        end = _end(network, of)
        kernel, bias = _arrays(end.layer)
        whole = _whole(network, end, request, built.facts.size_px)
        pixels = np.random.default_rng(0).integers(0, 256, (_IMAGES, *built.facts.size_px, 3), dtype=np.uint8)
        taken, wanted = (np.asarray(keras.ops.convert_to_numpy(one)) for one in whole(pixels, training=False))
        features = forward_once(built, pixels)
    taken = taken.reshape(_IMAGES, -1)
    largest = np.abs(taken).max()
    if taken.shape != features.shape or np.abs(taken - features).max() > _TOLERANCE * largest:
        raise BackboneError(_between(network, end, request, built, of))
    found = softmax(features.astype(np.float64) @ kernel.astype(np.float64) + bias, axis=1)
    difference = float(np.abs(found - wanted.reshape(_IMAGES, -1)).max())
    if not difference <= _TOLERANCE:
        raise BackboneError(
            f"the softmax of {end.layer.name} of {of} does not give the network's own probabilities: on "
            f"{_IMAGES} random images they differ by {difference:.2g}, expected at most {_TOLERANCE:g}"
        )
    return Classifier(kernel=kernel, bias=bias, layer=str(end.layer.name), largest_difference=difference)


def _own(request: NetworkRequest) -> Any:
    network = open_model(request.name, trust_model=request.trust_model, imports=request.imports)
    if len(network.outputs) != 1:
        raise BackboneError(
            f"{os.path.basename(request.name)} has {len(network.outputs)} outputs; expected one"
        )
    return network


def _known(request: NetworkRequest, info: BackboneInfo) -> Any:
    network = build_application(info, request, top=True)
    network = fit_top(network, info, request)
    if request.file is not None and weights_kind(request.file) == "model":
        # Whose classifier may end otherwise than in the softmax of the network that was built here.
        _end(open_model(request.file), os.path.basename(request.file))
    # Of a part of the classifier that has another shape at other image sizes, the message names the layer.
    load_weights(network, info, replace(request, layer=str(network.layers[-1].name)), top=True)
    return network


def _end(network: Any, of: str) -> _End:
    """Find the classifying layer: the last with weights, followed by nothing but softmax."""
    tensor, is_softmax = network.outputs[0], False
    while True:
        operation, node, _ = tensor._keras_history
        kind = type(operation).__name__
        activation = getattr(getattr(operation, "activation", None), "__name__", "linear")
        if kind in ("Softmax", "Activation", "Dense", "Conv2D"):
            if kind != "Softmax" and activation not in ("linear", "softmax"):
                raise BackboneError(
                    f"{of} ends in {operation.name} ({kind}) with {activation}; the probabilities of a head "
                    "are the softmax of its scores: expected one Dense with softmax"
                )
            is_softmax |= kind == "Softmax" or activation == "softmax"
        elif kind not in (*_IDLE, *_SHAPE):
            raise BackboneError(f"{of} ends in {operation.name} ({kind}); expected one Dense with softmax")
        (tensor,) = operation._inbound_nodes[node].input_tensors
        if kind in ("Dense", "Conv2D"):
            break
    if not is_softmax:
        raise BackboneError(
            f"{of} ends in {operation.name} ({kind}) without softmax, so that its outputs are no "
            "probabilities; if they are scores, add keras.layers.Softmax() and save it again"
        )
    if kind == "Conv2D" and (operation.kernel_size != (1, 1) or operation.groups != 1):
        raise BackboneError(
            f"{of} ends in {operation.name}, a convolution of more than 1x1; expected a Dense"
        )
    return _End(layer=operation, inputs=tensor)


def _arrays(layer: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    kernel = np.asarray(keras.ops.convert_to_numpy(layer.kernel), np.float32)
    kernel = kernel.reshape(-1, kernel.shape[-1])
    if layer.bias is None:
        return kernel, np.zeros(kernel.shape[-1], np.float32)
    return kernel, np.asarray(keras.ops.convert_to_numpy(layer.bias), np.float32)


def _whole(network: Any, end: _End, request: NetworkRequest, size_px: tuple[int, int]) -> Any:
    """Return a model from uint8 pixels to the classifier's input and to the probabilities."""
    inner = keras.Model(network.inputs[0], [end.inputs, network.outputs[0]])
    pixels = keras.Input((*size_px, 3), dtype="uint8")
    scaled = scale_pixels(pixels, request.scaling)
    return keras.Model(pixels, inner(keras.ops.cast(scaled, network.inputs[0].dtype)))


def _between(network: Any, end: _End, request: NetworkRequest, built: BuiltNetwork, of: str) -> str:
    """Describe the layers between features and classifier, and where to cut instead."""
    facts = built.facts
    names = layer_names(network, request)
    called = {own: name for name, own in names.items()}
    passed: list[Any] = []
    operation, inputs = _source(end.inputs)
    nearest = operation
    # Of a cut inside a nested network, the nested network as a whole.
    cut = names.get(facts.layer) or names.get(facts.layer.partition("/")[0])
    while operation.name != cut and len(inputs) == 1:
        passed.append(operation)
        operation, inputs = _source(inputs[0])
    passed_names = [f"{called.get(one.name, one.name)} ({type(one).__name__})" for one in reversed(passed)]
    if not inputs:
        stand = "they are not taken on the way to it"
    elif all(type(one).__name__ == _POOLING for one in passed):
        stand = "they are pooled in another way"
    else:
        others = [] if operation.name == cut and facts.layer in names else ["others"]
        stand = f"between them are {', '.join([*others, *passed_names][-4:])}"
    dims = "x".join(str(side) for side in end.inputs.shape[1:])
    return (
        f"the features of {of} at layer {facts.layer} with pooling {facts.pooling} "
        f"({facts.feature_dim:,} of them) are not what its classifier {end.layer.name} takes ({dims}): "
        f"{stand}; {_advice(nearest, called, request)}"
    )


def _source(tensor: Any) -> tuple[Any, list[Any]]:
    """Return the operation and inputs of a tensor, skipping inference no-ops."""
    while True:
        operation, node, _ = tensor._keras_history
        inputs = operation._inbound_nodes[node].input_tensors
        if type(operation).__name__ not in _IDLE:
            return operation, list(inputs)
        (tensor,) = inputs


def _advice(nearest: Any, called: dict[str, str], request: NetworkRequest) -> str:
    """Return where to cut for the classifier's input."""
    if not request.is_own and type(nearest).__name__ == _POOLING:
        before, _ = _source(nearest._inbound_nodes[0].input_tensors[0])
        if called.get(before.name) == find_backbone(request.name).layer:
            return "leave out --layer and --pooling, here and with featstore extract"
    if nearest.name not in called or type(nearest).__name__ == "InputLayer":
        return "fit a head on the features instead"
    return f"cut at --layer {called[nearest.name]}, here and with featstore extract"

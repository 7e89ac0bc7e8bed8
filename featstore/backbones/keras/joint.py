"""One Keras model with the features of several layers of a network."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from featstore.backbones.keras.cutting import cut_at, stable_names
from featstore.backbones.keras.models import (
    BuiltNetwork,
    CutNetwork,
    building,
    cut_network,
    cut_own,
    input_size,
    layer_names,
    pooled_features,
    scale_pixels,
)
from featstore.backbones.keras.quiet import quiet_import
from featstore.backbones.known import find_backbone
from featstore.backbones.request import NetworkFacts, NetworkRequest

with quiet_import():
    import keras

__all__ = ["build_joint_network", "last_layers"]

# Layers that only move or drop what the one before them gives.
_NO_FEATURES = ("Cropping2D", "Dropout", "InputLayer", "Rescaling", "SpatialDropout2D", "ZeroPadding2D")


def build_joint_network(
    requests: Sequence[NetworkRequest], *, half: bool = False, device: str | None = None
) -> tuple[BuiltNetwork, list[str]]:
    """Build the network of requests that differ in layer and pooling; also return each part's digest."""
    first = requests[0]
    with building(first, half=half, device=device):
        cuts = _cuts(requests)
        whole = keras.Model(cuts[0].model.inputs[0], [cut.model.outputs[0] for cut in cuts])
        size_px = input_size(first, whole)
        pixels = keras.Input((*size_px, 3), dtype="uint8", name="pixels")
        scaled = keras.ops.cast(scale_pixels(pixels, first.scaling), whole.inputs[0].dtype)
        outputs = whole(scaled, training=False)
        rows = [pooled_features(output, request) for output, request in zip(outputs, requests, strict=True)]
        model = keras.Model(pixels, keras.layers.Concatenate(dtype="float32")(rows))
    facts = NetworkFacts(
        weights_digest="",
        layer="",
        pooling="",
        size_px=size_px,
        feature_dim=int(model.output_shape[-1]),
    )
    return BuiltNetwork(model=model, facts=facts), [cut.digest() for cut in cuts]


def last_layers(request: NetworkRequest) -> tuple[str, str | None]:
    """Return the request's layer, and the last one at twice its height and width or None."""
    with building(request):
        cut = cut_network(request)
        network = cut.whole if request.is_own else cut.model
        names = layer_names(network, request)
        called = {own: stable for stable, own in names.items()}
        outputs = {
            layer.name: _output(layer) for layer in network.layers if type(layer).__name__ not in _NO_FEATURES
        }
        outputs = {name: output for name, output in outputs.items() if len(getattr(output, "shape", ())) == 4}
        size_px = input_size(request, cut.model)
        # Also of a network that takes images of any size.
        shapes = keras.Model(network.inputs[0], outputs).compute_output_shape((None, *size_px, 3))
        maps = [(name, tuple(shapes[name][1:3])) for name in outputs]
    if not maps:
        return cut.layer, None
    height, width = maps[-1][1]
    # Convolutions without padding lose a row.
    for slack in (0, 1):
        for name, (rows, columns) in reversed(maps):
            if abs(rows - 2 * height) <= slack and abs(columns - 2 * width) <= slack:
                return cut.layer, called[name]
    return cut.layer, None


def _output(layer: Any) -> Any:
    """Return a layer's output, None of one that is called more than once or has several."""
    with contextlib.suppress(AttributeError, ValueError):
        return layer.output
    return None


def _cuts(requests: Sequence[NetworkRequest]) -> list[CutNetwork]:
    """Cut one network at the layer of each request."""
    whole = _whole(requests)
    network = whole.whole
    if requests[0].is_own:
        return [cut_own(network, request) for request in requests]
    names, info = stable_names(network), find_backbone(requests[0].name)
    cuts = []
    for request in requests:
        if request.layer in (None, info.layer):
            cuts.append(whole)
            continue
        model = cut_at(network, names, str(request.layer), info.name)
        cuts.append(replace(whole, model=model, layer=str(request.layer), pooled=False))
    return cuts


def _whole(requests: Sequence[NetworkRequest]) -> CutNetwork:
    """Build the whole network, its last layer pooled as the request of it says."""
    first = requests[0]
    if first.is_own:
        return cut_network(first)
    default = find_backbone(first.name).layer
    last = [request for request in requests if request.layer in (None, default)]
    return cut_network(last[0] if last else replace(first, layer=default))

"""Networks of keras.applications, and strict loading of their weights."""

import contextlib
import logging
import math
import os
import tempfile
import weakref
from typing import Any

import numpy as np

from featstore.backbones.files.checkpoints import checkpoint_prefix
from featstore.backbones.files.weights import (
    LayerShapes,
    check_layers,
    check_variables,
    read_layers,
    read_variables,
    weights_kind,
)
from featstore.backbones.keras.own_models import open_model, variables_in_order
from featstore.backbones.keras.quiet import quiet_import
from featstore.backbones.keras.slim import classes_in_checkpoint, load_checkpoint
from featstore.backbones.keras.slim_resnet import as_in_slim, is_of_slim
from featstore.backbones.known import BackboneInfo
from featstore.backbones.pixel_scaling import IMAGENET_STD
from featstore.backbones.request import NetworkRequest
from featstore.errors import BackboneError, WeightsError, WeightsUnavailableError, first_line
from featstore.io.hdf5.raw import cannot_read
from featstore.process import warnings_to

with quiet_import():
    import keras

__all__ = ["build_application", "fit_top", "load_weights", "open_model"]

_log = logging.getLogger(__name__)

# Of networks in memory: only saving one tells, which takes as long as building it.
_saved: weakref.WeakKeyDictionary[Any, tuple[dict[str, tuple[int, ...]], set[str]]] = (
    weakref.WeakKeyDictionary()
)


def make_application(
    info: BackboneInfo,
    size_px: tuple[int, int],
    alpha: float | None,
    *,
    pooling: str | None = None,
    top: bool = False,
    classes: int | None = None,
    weights: str | None = None,
) -> Any:
    """Build a keras.applications network on float32 pixels (n, height, width, 3)."""
    options: dict[str, Any] = {"include_top": top, "weights": weights, "input_shape": (*size_px, 3)}
    if not top:
        options["pooling"] = pooling
    elif classes is not None:
        options["classes"] = classes
    if info.alphas and alpha is not None:
        options["alpha"] = alpha
    # Keras notes that MobileNets of other sizes get the weights of 224 px: that is what is wanted.
    with warnings_to(lambda _text: None, matching="`input_shape` is undefined or non-square"):
        network = getattr(keras.applications, info.keras_name)(**options)
    return _rescaled(network) if info.module == "efficientnet" and weights is None else network


def build_application(info: BackboneInfo, request: NetworkRequest, **options: Any) -> Any:
    """Build the network of a request, laid out as its weights need it; options as of the above."""
    network = make_application(info, request.size_px or info.size_px, request.alpha, **options)
    return as_in_slim(network, info) if is_of_slim(info, request) else network


def fit_top(network: Any, info: BackboneInfo, request: NetworkRequest) -> Any:
    """Return a network with a classifier of as many classes as its weights file has."""
    path = request.file
    if path is None:
        return network
    kind = weights_kind(path)
    if kind == "checkpoint":
        n_classes = classes_in_checkpoint(checkpoint_prefix(path) or path)
        return build_application(info, request, top=True, classes=n_classes)
    if kind == "variables":
        (expected, _), (found, _) = _variables_of(network), read_variables(path)
        missing = {name.split("/")[1] for name in expected.keys() - found.keys()}
        is_topless = len(missing) == info.top_layers
        pairs = [(expected[name], found[name]) for name in expected.keys() & found.keys()]
    else:
        layers = _layer_shapes(open_model(path)) if kind == "model" else _saved_shapes(path)
        wanted = _layer_shapes(network)
        is_topless = len(layers) == len(wanted) - info.top_layers
        pairs = list(zip(wanted[-1].shapes, layers[-1].shapes, strict=False)) if layers else []
    if is_topless:
        raise WeightsError(
            f"{path} holds {info.name} without its classifier; expected a file with the top: of those that "
            'Keras publishes, the one without "no_top" in its name'
        )
    counts = {have[-1] for want, have in pairs if len(want) > 1 and want != have and want[:-1] == have[:-1]}
    if len(counts) != 1:
        return network
    return build_application(info, request, top=True, classes=int(counts.pop()))


def _saved_shapes(path: str) -> list[LayerShapes]:
    return [LayerShapes(name=layer.name, shapes=layer.shapes) for layer in read_layers(path)]


def _rescaled(network: Any) -> Any:
    """Add the scaling that Keras gives EfficientNets with its own ImageNet weights, and only with those."""
    # The published weights were trained with pixels divided by the variance rather than the deviation
    # (keras.applications.efficientnet; TensorFlow issue 49930). Without it a weights file would load, and
    # give other features than the download.

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = layer(*args, **kwargs)
        if isinstance(layer, keras.layers.Normalization):
            return keras.layers.Rescaling([1 / math.sqrt(deviation) for deviation in IMAGENET_STD])(outputs)
        return outputs

    return keras.models.clone_model(network, call_function=call)


def load_weights(network: Any, info: BackboneInfo, request: NetworkRequest, *, top: bool) -> None:
    """Load the requested weights into a network."""
    _fill(network, info, request, top=top)
    for layer in network.layers:
        # Normalization keeps what it computes from its weights; EfficientNets begin with one.
        if hasattr(layer, "finalize_state") and layer.weights:
            layer.finalize_state()


def _fill(network: Any, info: BackboneInfo, request: NetworkRequest, *, top: bool) -> None:
    if request.weights == "imagenet":
        values = _imagenet(info, request, top=top).get_weights()
        try:
            network.set_weights(values)
        except ValueError as error:
            height, width = info.size_px
            raise BackboneError(
                f"layer {request.layer!r} of {info.name} is a part of its classifier, which takes images of "
                f"{height}x{width} pixels only"
            ) from error
        return
    path = request.weights
    kind = weights_kind(path)
    top_layers = 0 if top else info.top_layers
    try:
        if kind == "checkpoint":
            load_checkpoint(network, checkpoint_prefix(path) or path, info, top=top)
        elif kind == "variables":
            _load_variables(network, path, info.name, top_layers)
        else:
            _load_layers(network, path, kind, info.name, top_layers)
    except WeightsError as error:
        hint = _alpha_that_fits(path, kind, info, network)
        raise WeightsError(f"{error}{hint}") from error
    for variable in network.weights:
        if not np.isfinite(keras.ops.convert_to_numpy(variable)).all():
            raise WeightsError(f"{path} holds weights that are not finite numbers, in {variable.path}")


def _load_layers(network: Any, path: str, kind: str, name: str, top_layers: int) -> None:
    expected = _layer_shapes(network)
    if kind == "layers":
        saved = read_layers(path)
        check_layers(path, name, expected, saved, top_layers)
        values = [layer.values for layer in saved]
    else:
        model = open_model(path)
        check_layers(path, name, expected, _layer_shapes(model), top_layers)
        _check_kinds(path, name, network, model)
        values = [
            tuple(keras.ops.convert_to_numpy(variable) for variable in variables_in_order(layer))
            for layer in _weighted_layers(model)
        ]
    for layer, arrays in zip(_weighted_layers(network), values, strict=False):
        for variable, array in zip(variables_in_order(layer), arrays, strict=True):
            variable.assign(array)


def _load_variables(network: Any, path: str, name: str, top_layers: int) -> None:
    if not path.endswith(".weights.h5"):
        raise WeightsError(f"{path} is laid out as a .weights.h5 file; rename it accordingly")
    check_variables(path, name, _variables_of(network), top_layers)
    try:
        network.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(
            cannot_read(path, error) or f"{path} does not hold the weights of {name}: {first_line(error)}"
        ) from error


def _variables_of(network: Any) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    """Return the shapes of a network's variables by the paths that Keras saves them under, and its layers."""
    if network not in _saved:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "expected.weights.h5")
            network.save_weights(path)
            _saved[network] = read_variables(path)
    return _saved[network]


def _check_kinds(path: str, name: str, network: Any, model: Any) -> None:
    """Refuse a model whose layers are of other classes, though their weights have the same shapes."""
    expected, found = _layer_kinds(network), _layer_kinds(model)
    for number, (want, have) in enumerate(zip(expected, found, strict=False), start=1):
        if want != have:
            raise WeightsError(
                f"{os.path.basename(path)} is not a {name}: layer {number} is a {have}, expected a {want}. "
                f"A model of another make is given whole: --backbone {path} --preprocess …"
            )


def _imagenet(info: BackboneInfo, request: NetworkRequest, *, top: bool) -> Any:
    alpha = 1.0 if request.alpha is None else request.alpha
    if info.alphas and alpha not in info.alphas:
        raise BackboneError(
            f"there are no ImageNet weights of {info.name} with alpha {alpha:g}; "
            f"expected one of {', '.join(f'{choice:g}' for choice in info.alphas)}, or give --weights"
        )
    # The MobileNets have weights of their own for some sizes; Keras chooses. Others have one file for all.
    own_size = info.module in ("mobilenet", "mobilenet_v2") and request.size_px is not None and not top
    size_px = request.size_px if own_size and request.size_px is not None else info.size_px
    _log.info("loading the ImageNet weights of %s from Keras' folder, or downloading them", info.name)
    try:
        return make_application(info, size_px, request.alpha, top=top, weights="imagenet")
    except Exception as error:
        raise WeightsUnavailableError(
            f"the ImageNet weights of {info.name} cannot be fetched: Keras downloads them from "
            f"storage.googleapis.com into ~/.keras/models ({first_line(error)}). Without a network, give a "
            "file of them with --weights FILE, or use --backbone scattering, which needs none"
        ) from error


def _alpha_that_fits(path: str, kind: str, info: BackboneInfo, network: Any) -> str:
    """Return a hint naming the width multiplier that a file is for, if only that is wrong."""
    if not info.alphas or kind != "layers":
        return ""
    found = read_layers(path)
    if len(found) - len(_weighted_layers(network)) not in (0, info.top_layers):
        return ""
    for alpha in info.alphas:
        other = make_application(info, (info.min_size_px, info.min_size_px), alpha)
        with contextlib.suppress(WeightsError):
            check_layers(path, info.name, _layer_shapes(other), found, info.top_layers)
            return f"; they fit with --alpha {alpha:g}"
    return ""


def _layer_shapes(network: Any) -> list[LayerShapes]:
    return [
        LayerShapes(
            name=layer.name, shapes=tuple(tuple(variable.shape) for variable in variables_in_order(layer))
        )
        for layer in _weighted_layers(network)
    ]


def _weighted_layers(network: Any) -> list[Any]:
    return [layer for layer in network.layers if layer.weights]


def _layer_kinds(network: Any) -> list[str]:
    kinds = [type(layer).__name__ for layer in network.layers]
    return [kind for kind in kinds if kind != "InputLayer" and not kind.startswith("Global")]

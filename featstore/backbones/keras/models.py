"""Networks built with Keras: weights, pixel scaling, cut and pooling.

Written with keras and keras.ops only, so that any back end serves. Import it only to build a network:
importing Keras takes seconds.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.files.foreign_classes import is_hub_network
from featstore.backbones.files.own_code import code_digest
from featstore.backbones.files.presets import PresetFolder
from featstore.backbones.keras import openvino_export
from featstore.backbones.keras.cutting import cut_at, own_names, stable_names
from featstore.backbones.keras.live_models import frozen_model
from featstore.backbones.keras.presets import image_part, open_preset
from featstore.backbones.keras.quiet import quiet_import
from featstore.backbones.keras.slim_resnet import SLIM_SALT, is_of_slim
from featstore.backbones.keras.weights import build_application, fit_top, load_weights, open_model
from featstore.backbones.known import BackboneInfo, find_backbone
from featstore.backbones.pixel_scaling import CAFFE_MEAN_BGR, IMAGENET_MEAN, IMAGENET_STD, PixelScaling
from featstore.backbones.request import NetworkFacts, NetworkRequest
from featstore.backbones.spec import digest_values
from featstore.errors import BackboneError, FeatstoreError, first_line
from featstore.process import Shared, logging_from, root_logger_kept, warnings_to

with quiet_import():
    import keras

__all__ = [
    "BuiltNetwork",
    "CutNetwork",
    "advice_held",
    "build_network",
    "building",
    "cut_network",
    "cut_own",
    "device_names",
    "export_openvino",
    "forward_once",
    "input_size",
    "keras_settings",
    "layer_names",
    "pooled_features",
    "scale_pixels",
]

_POOLING = {"avg": "GlobalAveragePooling2D", "max": "GlobalMaxPooling2D"}


@dataclass(frozen=True, kw_only=True)
class BuiltNetwork:
    """A Keras model from uint8 RGB pixels (n, height, width, 3) to float32 rows, and its facts."""

    model: Any
    facts: NetworkFacts


@dataclass(frozen=True, kw_only=True)
class CutNetwork:
    """A network that ends at the requested layer, and the whole that it was cut from."""

    # pooled: pooling is included. salt: digested with the weights. values: digested instead of them.

    model: Any
    whole: Any
    layer: str
    pooled: bool = False
    salt: bytes = b""
    values: tuple[NDArray[Any], ...] = ()

    def digest(self) -> str:
        """Return the digest of the weights up to the layer, as they are now."""
        values = self.values or [keras.ops.convert_to_numpy(variable) for variable in self.model.weights]
        return digest_values(values, salt=self.salt)


def build_network(request: NetworkRequest, *, half: bool = False, device: str | None = None) -> BuiltNetwork:
    """Build a network: architecture, weights, cut, pooling and pixel scaling."""
    with building(request, half=half, device=device):
        cut = cut_network(request)
        size_px = input_size(request, cut.model)
        model = _wrap(request, cut.model, size_px)
    flat = len(cut.model.output_shape) == 2 and not cut.pooled
    facts = NetworkFacts(
        weights_digest=cut.digest(),
        layer=cut.layer,
        pooling="none" if flat else request.pooling,
        size_px=size_px,
        feature_dim=int(model.output_shape[-1]),
    )
    return BuiltNetwork(model=model, facts=facts)


@contextlib.contextmanager
def building(request: NetworkRequest, *, half: bool = False, device: str | None = None) -> Iterator[None]:
    """Build with fixed settings, and explain what Keras raises."""
    try:
        with keras_settings(half=half), contextlib.nullcontext() if device is None else keras.device(device):
            yield
    except (FeatstoreError, OSError, MemoryError):
        raise
    except Exception as error:
        at = "" if request.layer is None else f" up to layer {request.layer!r}"
        raise BackboneError(
            f"Keras cannot build {os.path.basename(request.name)}{at}: {first_line(error)}"
        ) from error


def cut_network(request: NetworkRequest, *, to_train: bool = False) -> CutNetwork:
    """Build the requested network up to its layer, without pixel scaling; to train it, always anew."""
    if request.weights == "closed-form":
        return _closed_form(request)
    if request.is_own:
        return _own_model(request, to_train=to_train)
    return _known_network(request, find_backbone(request.name))


def export_openvino(network: BuiltNetwork, path: str) -> None:
    """Write a network in OpenVINO's intermediate representation: ``path`` (.xml) and .bin."""
    with keras_settings(), warnings_to(_ignore), root_logger_kept:
        openvino_export.export_openvino(network.model, path)


def forward_once(network: BuiltNetwork, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute the rows of one small batch without compiling."""
    try:
        with keras_settings():
            return np.asarray(keras.ops.convert_to_numpy(network.model(pixels, training=False)), np.float32)
    except MemoryError:
        raise
    except Exception as error:
        raise BackboneError(f"Keras cannot run the network: {first_line(error)}") from error


def device_names(kind: str | None = None) -> tuple[str, ...]:
    """Return the device names of Keras' back end."""
    if keras.backend.backend() == "torch":  # for which Keras lists none
        from torch.cuda import device_count

        gpus = tuple(f"gpu:{number}" for number in range(device_count()))
        return {"cpu": ("cpu:0",), "gpu": gpus, None: gpus or ("cpu:0",)}[kind]
    return tuple(keras.distribution.list_devices(kind))


def _closed_form(request: NetworkRequest) -> CutNetwork:
    from featstore.backbones.scattering import build_scattering, wavelet_kernels

    info = find_backbone(request.name)
    model = build_scattering(request.size_px or info.size_px)
    values = tuple(wavelet_kernels().values())
    return CutNetwork(model=model, whole=model, layer=info.layer, values=values)


def _known_network(request: NetworkRequest, info: BackboneInfo) -> CutNetwork:
    salt = SLIM_SALT if is_of_slim(info, request) else b""
    if request.layer in (None, info.layer):
        # Keras' own pooling, because ConvNeXt normalises after it and not before.
        pooling = None if request.pooling == "none" else request.pooling
        network = build_application(info, request, pooling=pooling)
        load_weights(network, info, request, top=False)
        pooled = pooling is not None
        return CutNetwork(model=network, whole=network, layer=info.layer, pooled=pooled, salt=salt)
    network = build_application(info, request)
    names = stable_names(network)
    top = request.layer not in names
    if top:
        with_top = build_application(info, request, top=True)
        if request.layer in stable_names(with_top):
            with_top = fit_top(with_top, info, request)
        names |= stable_names(with_top)
        network = with_top
    cut = cut_at(network, names, str(request.layer), info.name)
    load_weights(network, info, request, top=top)
    return CutNetwork(model=cut, whole=network, layer=str(request.layer), salt=salt)


def _own_model(request: NetworkRequest, *, to_train: bool) -> CutNetwork:
    # The copy in memory is used by others, too.
    frozen = None if to_train else frozen_model(request.name)
    file = os.path.basename(request.name)
    if request.is_preset:
        model = open_preset(request.name, request.size_px)
    else:
        model = frozen or open_model(request.name, trust_model=request.trust_model, imports=request.imports)
        model = image_part(model, file) if is_hub_network(model) else model
    inputs = getattr(model, "inputs", None)
    if not inputs or len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[-1] != 3:
        shapes = ", ".join(str(tuple(one.shape)) for one in inputs or []) or "none that is known"
        raise BackboneError(
            f"{file} does not take colour images: expected one input of shape (None, height, width, 3), "
            f"found {shapes}"
        )
    return cut_own(model, request)


def cut_own(model: Any, request: NetworkRequest) -> CutNetwork:
    """Cut a model of the user's own at the requested layer."""
    file, names = os.path.basename(request.name), layer_names(model, request)
    if request.layer is None:
        if len(model.outputs) != 1:
            raise BackboneError(f"{file} has {len(model.outputs)} outputs; choose one with --layer")
        # Cut like at any other layer, so that its digest is the same when the layer is named.
        cut = keras.Model(model.inputs[0], model.outputs[0])
        own = str(model.outputs[0]._keras_history.operation.name)
        layer = next(name for name, one in names.items() if one == own)
    else:
        layer = request.layer
        cut = cut_at(model, names, layer, file)
    if request.is_preset:
        return CutNetwork(model=cut, whole=model, layer=layer, salt=PresetFolder(request.name).salt())
    code = f"code {code_digest(request.imports)}".encode() if request.imports else b""
    return CutNetwork(model=cut, whole=model, layer=layer, salt=_configuration(cut) + code)


def layer_names(network: Any, request: NetworkRequest) -> dict[str, str]:
    """Map the names of a network's layers, for people and specifications, to the layers' own."""
    # What a file of the user's own calls its layers stays.
    is_named = request.is_own and not request.is_preset
    return own_names(network) if is_named else stable_names(network)


def input_size(request: NetworkRequest, cut: Any) -> tuple[int, int]:
    """Return height and width of a network's input, checked against the request."""
    height, width = cut.inputs[0].shape[1:3]
    fixed = None if height is None or width is None else (int(height), int(width))
    wanted = request.size_px
    if fixed is None and wanted is None:
        raise BackboneError(
            f"{os.path.basename(request.name)} takes images of any size; choose one with --image-size"
        )
    if fixed is not None and wanted is not None and fixed != wanted:
        raise BackboneError(
            f"{os.path.basename(request.name)} takes images of {fixed[0]}x{fixed[1]} pixels only; "
            f"found --image-size {wanted[0]}x{wanted[1]}"
        )
    return fixed or wanted or (0, 0)


def _wrap(request: NetworkRequest, cut: Any, size_px: tuple[int, int]) -> Any:
    pixels = keras.Input((*size_px, 3), dtype="uint8", name="pixels")
    scaled = scale_pixels(pixels, request.scaling)
    try:
        # Layers that augment images do so by default, also in what is exported.
        features = cut(keras.ops.cast(scaled, cut.inputs[0].dtype), training=False)
    except Exception as error:  # each back end has its own
        raise BackboneError(
            f"{os.path.basename(request.name)} cannot take images of {size_px[0]}x{size_px[1]} pixels: "
            f"{first_line(error)}"
        ) from error
    return keras.Model(pixels, pooled_features(features, request))


def pooled_features(features: Any, request: NetworkRequest) -> Any:
    """Pool or flatten the output of the requested layer to float32 rows."""
    rank = len(features.shape)
    place = "of the network" if request.layer is None else f"at layer {request.layer!r}"
    if rank == 4 and request.pooling in _POOLING:
        features = getattr(keras.layers, _POOLING[request.pooling])(dtype="float32")(features)
    elif rank == 3 and request.pooling == "cls":
        features = features[:, 0]
    elif rank == 3 and request.pooling == "tokens":
        features = keras.ops.mean(keras.ops.cast(features, "float32"), axis=1)
    elif request.pooling == "none" and rank in (3, 4):
        features = keras.layers.Flatten()(features)
    elif rank in (3, 4):
        raise BackboneError(
            f"the output {place} has shape {tuple(features.shape)}: "
            + (
                "set --pooling cls (the first token), tokens (their mean) or none"
                if rank == 3
                else "set --pooling avg, max or none"
            )
        )
    elif rank != 2:
        raise BackboneError(
            f"the output {place} has shape {tuple(features.shape)}; expected "
            "(None, height, width, channels), which is pooled, or (None, features): cut at another --layer"
        )
    if features.shape[-1] is None:
        raise BackboneError(f"the number of features of {request.name} is not fixed; give --image-size")
    return keras.ops.cast(features, "float32")


def scale_pixels(pixels: Any, scaling: PixelScaling) -> Any:
    """Scale RGB pixels in [0, 255] inside a network, as :class:`~featstore.backbones.BackboneSpec` says."""
    scaled = keras.ops.cast(pixels, "float32")
    match scaling.preprocessing:
        case "tf":
            return keras.layers.Rescaling(1 / 127.5, -1.0, dtype="float32")(scaled)
        case "unit":
            return keras.layers.Rescaling(1 / 255, dtype="float32")(scaled)
        case "torch":
            scale = [1 / (255 * deviation) for deviation in IMAGENET_STD]
            offset = [-mean / deviation for mean, deviation in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
            return keras.layers.Rescaling(scale, offset, dtype="float32")(scaled)
        case "custom":
            mean, std = scaling.standardization
            offset = [-one / deviation for one, deviation in zip(mean, std, strict=True)]
            return keras.layers.Rescaling([1 / one for one in std], offset, dtype="float32")(scaled)
        case "caffe":
            offset = [-mean for mean in CAFFE_MEAN_BGR]
            bgr = keras.ops.flip(scaled, axis=-1)
            return keras.layers.Rescaling([1.0, 1.0, 1.0], offset, dtype="float32")(bgr)
    return scaled


def _configuration(model: Any) -> bytes:
    """Return a model's layers and connections, without automatic layer names."""
    order = {layer.name: f"layer {number}" for number, layer in enumerate(model.layers)}

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            kept = {
                key: entry for key, entry in value.items() if key not in ("name", "build_config", "trainable")
            }
            return sorted((str(key), plain(entry)) for key, entry in kept.items())
        if isinstance(value, list | tuple):
            return [plain(entry) for entry in value]
        return order.get(value, value) if isinstance(value, str) else repr(value)

    return repr(plain(model.get_config())).encode()


@contextlib.contextmanager
def keras_settings(*, half: bool = False) -> Iterator[None]:
    """Build with fixed settings: channels last, float32, no output."""
    # The data format is process-wide, so one thread builds at a time; the others are thread-local.
    with _BUILDING, advice_held, warnings_to(_ignore, matching="__array__ implementation"):
        data_format, policy = keras.config.image_data_format(), keras.config.dtype_policy()
        interactive = keras.config.is_interactive_logging_enabled()
        keras.config.set_image_data_format("channels_last")
        keras.config.set_dtype_policy("mixed_bfloat16" if half else "float32")
        keras.config.disable_interactive_logging()
        try:
            yield
        finally:
            keras.config.set_image_data_format(data_format)
            keras.config.set_dtype_policy(policy)
            if interactive:
                keras.config.enable_interactive_logging()


def _ignore(_text: str) -> None:
    """Ignore a warning: nothing can be done about TensorFlow's variables and NumPy 2."""


_BUILDING = threading.RLock()
# TensorFlow's advice on retracing is for those who call their functions more than once.
advice_held = Shared(lambda: logging_from(logging.ERROR, "tensorflow"))

"""Networks built with Keras: weights loaded, pixels scaled, cut at a layer and pooled.

Importing this module imports Keras and its back end, which takes seconds; the rest of the library imports it
only when a network has to be built. It is written with ``keras`` and ``keras.ops`` alone, so that any of
Keras' back ends serves.
"""

import contextlib
import difflib
import logging
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.keras_weights import (
    IMAGENET_STD,
    first_line,
    fit_top,
    load_weights,
    make_application,
    open_model,
)
from featstore.backbones.known import BackboneInfo, find_backbone
from featstore.backbones.quiet import quiet_import
from featstore.backbones.request import NetworkFacts, NetworkRequest
from featstore.backbones.spec import digest_values
from featstore.errors import BackboneError

with quiet_import():
    import keras

__all__ = [
    "BuiltNetwork",
    "build_network",
    "device_names",
    "export_openvino",
    "forward_once",
    "keras_settings",
    "scale_pixels",
    "stable_names",
]

# Mean of ImageNet's channels, R, G, B in [0, 1] and B, G, R in [0, 255]: the constants of
# keras.applications.imagenet_utils.preprocess_input.
_TORCH_MEAN = (0.485, 0.456, 0.406)
_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)

_POOLING = {"avg": "GlobalAveragePooling2D", "max": "GlobalMaxPooling2D"}


@dataclass(frozen=True, kw_only=True)
class BuiltNetwork:
    """A network ready to run, and what is known of it now that it is built.

    Parameters
    ----------
    model : keras.Model
        From uint8 pixels of shape (n, height, width, 3), RGB in [0, 255], to float32 rows (n, feature_dim).
    facts : NetworkFacts
    """

    model: Any
    facts: NetworkFacts


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """A network that ends at the layer asked for.

    ``pooled`` says whether it holds the pooling already. ``salt`` goes into the digest with the weights, and
    ``values`` in their place.
    """

    model: Any
    layer: str
    pooled: bool = False
    salt: bytes = b""
    values: tuple[NDArray[Any], ...] = ()


def build_network(request: NetworkRequest, *, half: bool = False, device: str | None = None) -> BuiltNetwork:
    """Build a network: architecture, weights, cut, pooling and the scaling of pixels.

    Parameters
    ----------
    request : NetworkRequest
    half : bool
        Compute in bfloat16 with float32 weights, on devices that Keras itself drives.
    device : str, optional
        One of :func:`device_names`, where its weights are to lie; by default the back end's own choice.

    Raises
    ------
    WeightsError
        The weights file is unreadable or of another architecture.
    WeightsUnavailableError
        The weights are to be downloaded, and cannot be.
    BackboneError
        The layer, the size or something else is not possible with this network.
    """
    with keras_settings(half=half), contextlib.nullcontext() if device is None else keras.device(device):
        if request.weights == "closed-form":
            cut = _closed_form(request)
        elif request.is_own:
            cut = _own_model(request)
        else:
            cut = _known_network(request, find_backbone(request.name))
        size_px = _input_size(request, cut.model)
        model = _wrap(request, cut.model, size_px)
    flat = len(cut.model.output_shape) == 2 and not cut.pooled
    values = cut.values or [keras.ops.convert_to_numpy(variable) for variable in cut.model.weights]
    facts = NetworkFacts(
        weights_digest=digest_values(values, salt=cut.salt),
        layer=cut.layer,
        pooling="none" if flat else request.pooling,
        size_px=size_px,
        feature_dim=int(model.output_shape[-1]),
    )
    return BuiltNetwork(model=model, facts=facts)


def export_openvino(network: BuiltNetwork, path: str) -> None:
    """Write a network in OpenVINO's intermediate representation: ``path`` (.xml) and the .bin beside it."""
    with keras_settings(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.model.export(path, format="openvino", verbose=False)


def forward_once(network: BuiltNetwork, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute the rows of one small batch without compiling anything for it."""
    with keras_settings():
        return np.asarray(keras.ops.convert_to_numpy(network.model(pixels, training=False)), np.float32)


def device_names(kind: str | None = None) -> tuple[str, ...]:
    """Name what Keras' back end computes on.

    Parameters
    ----------
    kind : {"cpu", "gpu"}, optional
        By default all GPUs, or the processor where there is none.
    """
    if keras.backend.backend() == "torch":  # for which Keras lists none
        from torch.cuda import device_count

        gpus = tuple(f"gpu:{number}" for number in range(device_count()))
        return {"cpu": ("cpu:0",), "gpu": gpus, None: gpus or ("cpu:0",)}[kind]
    return tuple(keras.distribution.list_devices(kind))


def _closed_form(request: NetworkRequest) -> _Cut:
    from featstore.backbones.scattering import build_scattering, wavelet_kernels

    info = find_backbone(request.name)
    model = build_scattering(request.size_px or info.size_px)
    return _Cut(model=model, layer=info.layer, values=tuple(wavelet_kernels().values()))


def _known_network(request: NetworkRequest, info: BackboneInfo) -> _Cut:
    size_px = request.size_px or info.size_px
    if request.layer in (None, info.layer):
        # Keras' own pooling, because ConvNeXt normalises after it and not before.
        pooling = None if request.pooling == "none" else request.pooling
        network = make_application(info, size_px, request.alpha, pooling=pooling)
        load_weights(network, info, request, top=False)
        return _Cut(model=network, layer=info.layer, pooled=pooling is not None)
    network = make_application(info, size_px, request.alpha)
    names = stable_names(network)
    top = request.layer not in names
    if top:
        with_top = make_application(info, size_px, request.alpha, top=True)
        if request.layer in stable_names(with_top):
            with_top = fit_top(with_top, info, request)
        names |= stable_names(with_top)
        network = with_top
    cut = _cut(network, names, str(request.layer), info.name)
    load_weights(network, info, request, top=top)
    return _Cut(model=cut, layer=str(request.layer))


def _own_model(request: NetworkRequest) -> _Cut:
    model = open_model(request.name, trust_model=request.trust_model)
    file = os.path.basename(request.name)
    inputs = getattr(model, "inputs", None)
    if not inputs or len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[-1] != 3:
        shapes = ", ".join(str(tuple(one.shape)) for one in inputs or []) or "none that is known"
        raise BackboneError(
            f"{file} does not take colour images: expected one input of shape (None, height, width, 3), "
            f"found {shapes}"
        )
    names = {layer.name: layer.name for layer in model.layers}
    if request.layer is None:
        if len(model.outputs) != 1:
            raise BackboneError(f"{file} has {len(model.outputs)} outputs; say which with --layer")
        # Cut like at any other layer, so that its digest is the same when the layer is named.
        cut = keras.Model(inputs[0], model.outputs[0])
        layer = str(model.outputs[0]._keras_history.operation.name)
    else:
        layer = request.layer
        cut = _cut(model, names, layer, file)
    return _Cut(model=cut, layer=layer, salt=_configuration(cut))


def _cut(network: Any, names: dict[str, str], layer: str, of: str) -> Any:
    if layer not in names:
        near = difflib.get_close_matches(layer, names, n=4, cutoff=0.4) or list(names)[-4:]
        raise BackboneError(f"{of} has no layer {layer!r}; near are {', '.join(near)}")
    found = network.get_layer(names[layer])
    try:
        output = found.output
    except (AttributeError, ValueError) as error:
        raise BackboneError(f"{of} cannot be cut at {layer!r}: it is used in more than one place") from error
    if not hasattr(output, "shape"):
        raise BackboneError(f"{of} cannot be cut at {layer!r}: it has more than one output")
    return keras.Model(network.inputs[0], output)


def stable_names(network: Any) -> dict[str, str]:
    """Map names that do not depend on what was built before to the layers' own names.

    Keras numbers the layers that have no name of their own through the whole process: the first network's
    ``conv2d`` is the second's ``conv2d_94``. Here each network counts from its own first.
    """
    numbered: dict[str, list[tuple[int, str]]] = {}
    stable = {}
    for layer in network.layers:
        kind = _snake_case(type(layer).__name__)
        if found := re.fullmatch(re.escape(kind) + r"(?:_(\d+))?", layer.name):
            numbered.setdefault(kind, []).append((int(found[1] or 0), layer.name))
        else:
            stable[layer.name] = layer.name
    for kind, found_names in numbered.items():
        for number, (_, name) in enumerate(sorted(found_names)):
            stable[f"{kind}_{number}" if number else kind] = name
    return stable


def _snake_case(name: str) -> str:
    # The rule of keras.src.utils.naming.to_snake_case, by which layers get their names.
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _input_size(request: NetworkRequest, cut: Any) -> tuple[int, int]:
    height, width = cut.inputs[0].shape[1:3]
    fixed = None if height is None or width is None else (int(height), int(width))
    wanted = request.size_px
    if fixed is None and wanted is None:
        raise BackboneError(
            f"{os.path.basename(request.name)} takes images of any size; say which with --image-size"
        )
    if fixed is not None and wanted is not None and fixed != wanted:
        raise BackboneError(
            f"{os.path.basename(request.name)} takes images of {fixed[0]}x{fixed[1]} pixels only; "
            f"found --image-size {wanted[0]}x{wanted[1]}"
        )
    return fixed or wanted or (0, 0)


def _wrap(request: NetworkRequest, cut: Any, size_px: tuple[int, int]) -> Any:
    pixels = keras.Input((*size_px, 3), dtype="uint8", name="pixels")
    scaled = scale_pixels(pixels, request.preprocessing)
    try:
        features = cut(keras.ops.cast(scaled, cut.inputs[0].dtype))
    except ValueError as error:
        raise BackboneError(
            f"{os.path.basename(request.name)} cannot take images of {size_px[0]}x{size_px[1]} pixels: "
            f"{first_line(error)}"
        ) from error
    rank = len(features.shape)
    if rank == 4 and request.pooling in _POOLING:
        features = getattr(keras.layers, _POOLING[request.pooling])(dtype="float32")(features)
    elif rank == 4:
        features = keras.layers.Flatten()(features)
    elif rank != 2:
        raise BackboneError(
            f"the output at layer {request.layer!r} has shape {tuple(features.shape)}; expected "
            "(None, height, width, channels), which is pooled, or (None, features): cut at another --layer"
        )
    if features.shape[-1] is None:
        raise BackboneError(f"the number of features of {request.name} is not fixed; give --image-size")
    return keras.Model(pixels, keras.ops.cast(features, "float32"))


def scale_pixels(pixels: Any, preprocessing: str) -> Any:
    """Scale pixels, as a part of a network, as :class:`~featstore.backbones.BackboneSpec` says.

    Parameters
    ----------
    pixels : tensor of shape (n, height, width, 3)
        RGB in [0, 255].
    preprocessing : str

    Returns
    -------
    tensor of the same shape, float32
    """
    scaled = keras.ops.cast(pixels, "float32")
    match preprocessing:
        case "tf":
            return keras.layers.Rescaling(1 / 127.5, -1.0, dtype="float32")(scaled)
        case "unit":
            return keras.layers.Rescaling(1 / 255, dtype="float32")(scaled)
        case "torch":
            scale = [1 / (255 * deviation) for deviation in IMAGENET_STD]
            offset = [-mean / deviation for mean, deviation in zip(_TORCH_MEAN, IMAGENET_STD, strict=True)]
            return keras.layers.Rescaling(scale, offset, dtype="float32")(scaled)
        case "caffe":
            offset = [-mean for mean in _CAFFE_MEAN_BGR]
            bgr = keras.ops.flip(scaled, axis=-1)
            return keras.layers.Rescaling([1.0, 1.0, 1.0], offset, dtype="float32")(bgr)
    return scaled


def _configuration(model: Any) -> bytes:
    """Describe a model's layers and how they are joined, without the names that Keras counts up."""
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
    """Build with our settings, whatever the user's are: channels last, float32, nothing printed."""
    data_format, policy = keras.config.image_data_format(), keras.config.dtype_policy()
    interactive = keras.config.is_interactive_logging_enabled()
    # TensorFlow's advice on retracing is for those who call their functions more than once.
    advice = logging.getLogger("tensorflow")
    level = advice.level
    advice.setLevel(logging.ERROR)
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("mixed_bfloat16" if half else "float32")
    keras.config.disable_interactive_logging()
    try:
        with warnings.catch_warnings():
            # Between TensorFlow's variables and NumPy 2; nothing that we could do about.
            warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
            yield
    finally:
        advice.setLevel(level)
        keras.config.set_image_data_format(data_format)
        keras.config.set_dtype_policy(policy)
        if interactive:
            keras.config.enable_interactive_logging()

"""Loading of backbones by name, file, Keras model or specification."""

import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from featstore.backbones.caches.facts import network_facts
from featstore.backbones.engines.compiling import check_devices, converted_before
from featstore.backbones.engines.openvino import ENGINES
from featstore.backbones.graphs.preprocessor import StatedPreprocessing, read_preprocessor
from featstore.backbones.keras.live_models import is_keras_model, keep_model
from featstore.backbones.known import known_backbones
from featstore.backbones.pixel_scaling import PixelScaling, settle_scaling
from featstore.backbones.request import NetworkRequest, request_network, weights_mismatch
from featstore.backbones.spec import BackboneSpec
from featstore.errors import BackboneError
from featstore.images.views import ViewRecipe

if TYPE_CHECKING:
    import keras

from featstore.backbones.backbone import Backbone

__all__ = ["backbone_from_spec", "load_backbone"]

_log = logging.getLogger(__name__)


def load_backbone(
    name: "str | os.PathLike[str] | keras.Model" = "mobilenet_v2",
    *,
    weights: str | os.PathLike[str] | None = None,
    layer: str | None = None,
    pooling: str = "avg",
    image_size: int | tuple[int, int] | None = None,
    resize: str | None = None,
    interpolation: str | None = None,
    crop_fraction: float | None = None,
    dtype: str = "float32",
    precision: str = "float32",
    preprocessing: str | None = None,
    preprocess: str | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    scale: float | None = None,
    input_name: str | None = None,
    layout: str | None = None,
    alpha: float | None = None,
    views: ViewRecipe | None = None,
    engine: str = "auto",
    devices: Sequence[str] | None = None,
    threads: int | None = None,
    trust_model: bool = False,
    imports: Sequence[str] = (),
) -> Backbone:
    """Load a backbone by name, or from a Keras model of your own or a network's file of another library.

    Keras is imported only where the weights have never been seen on this machine: their digest is
    remembered, by the bytes of their file.

    Parameters
    ----------
    name : str, path or keras.Model
        One of :func:`~featstore.backbones.known_backbones`, or the path of a ``.keras`` file or of a whole
        model in an ``.h5`` file; or of an ONNX, OpenVINO or TFLite model, a TensorFlow SavedModel or frozen
        graph, which OpenVINO runs, with the preprocessing that a ``preprocessor_config.json`` of Hugging Face
        or timm's ``config.json`` beside it states. Or ``"keras_hub:PRESET"``, or the folder of a preset of
        KerasHub, with its image converter. Or a model that the program holds: it is copied as it is now, and
        kept in the cache folder, where heads on its features find it later.
    weights : str or path, optional
        A file of weights: ``.h5`` as Keras publishes them, with or without the classifier,
        ``.weights.h5``, or a ``.keras`` model of this architecture. By default Keras downloads its own.
        EfficientNet's are taken to be ImageNet's or to descend from them, and the network is the one that
        Keras builds for those.
    layer : str, optional
        Where to cut; by default the last layer before the pooling, or a model's own output. Of a file of
        another library the name of a tensor. A layer of a
        network inside a model of your own is called ``"base/conv_pw_13_relu"``, after both.
        Layers without a name of their own are counted from the network's first: ``conv2d``, ``conv2d_1`` …
    pooling : {"avg", "max", "cls", "tokens", "none"}
        How the layer's height and width are pooled; of tokens (n, n_tokens, d) ``"cls"`` is the first,
        ``"tokens"`` the mean of all. ``"none"`` flattens either.
    image_size : int or (int, int), optional
        Height and width in pixels; by default what the network was trained with.
    resize : {"stretch", "crop", "pad"}, optional
        How images of another shape are brought to that size; by default ``"stretch"``.
    interpolation : {"bilinear", "bicubic"}, optional
        By default bilinear.
    crop_fraction : float, optional
        The centred part, by its sides, of what ``"stretch"`` or ``"crop"`` would show, in (0, 1]: 0.875 for
        224 pixels cut out of 256. By default all of it.
    dtype : {"float32", "float16"}
        How the features are stored.
    precision : {"float32", "bfloat16"}
        The arithmetic of the forward pass.
    preprocessing : {"tf", "torch", "caffe", "unit", "none"}, optional
        How pixels are scaled, see :class:`~featstore.backbones.BackboneSpec`. By default the network's own;
        required for a model of your own.
    preprocess : str, optional
        The same, by the name of the command line's option.
    mean, std : float or sequence of 3 floats, optional
        In place of ``preprocessing``: the pixels times ``scale``, less ``mean``, over ``std``.
    scale : float, optional
        By default 1/255, so that mean and std are of pixels in [0, 1].
    input_name : str, optional
        Of a file of another library: the tensor that takes the pixels, where it is not the network's input.
    layout : {"nchw", "nhwc"}, optional
        Of such a file: the order of that tensor's axes, where its shape does not show it.
    alpha : float, optional
        Width multiplier of MobileNet, MobileNetV2 and MobileNetV3.
    views : ViewRecipe, optional
        How views of an image are drawn, for :func:`featstore.extract` with ``n_views``. Features of different
        recipes are in different spaces.
    engine : {"auto", "openvino", "keras", "onnxruntime"}
        What runs the network. ``"auto"``: Keras' back end on a GPU, else OpenVINO, else Keras' back end.
        ``"onnxruntime"`` runs ONNX models, on a GPU where ``onnxruntime-gpu`` is installed.
    devices : sequence of str, optional
        Where Keras' back end runs it, in Keras' names: ``["gpu:0", "gpu:1"]``. By default on all GPUs,
        batch by batch in turn.
    threads : int, optional
        Processor threads of the forward pass, and of decoding where no other number is given for that. By
        default all cores. The features do not depend on it.
    trust_model : bool
        Let a ``.keras`` model of your own run the code that it holds, such as Lambda layers. Only for
        files of people whom you would let run programs on your machine.
    imports : sequence of str
        Python modules that define the layers of a model of your own: ``["my_layers"]``. They are imported,
        which runs them, and their code is a part of the fingerprint.

    Returns
    -------
    Backbone

    Raises
    ------
    UnknownBackboneError
        There is no such backbone.
    WeightsError
        The weights file is unreadable or of another architecture.
    WeightsUnavailableError
        The weights cannot be downloaded.
    BackboneError
        Something else is not possible with this network.

    Examples
    --------
    >>> backbone = load_backbone("scattering")
    >>> backbone.spec.size_px, backbone.feature_dim
    ((96, 96), 1932)
    """
    if preprocess is not None:
        if preprocessing not in (None, preprocess):
            raise TypeError(
                f"preprocess and preprocessing are one option; found {preprocess!r} and {preprocessing!r}"
            )
        preprocessing = preprocess
    if is_keras_model(name):
        if preprocessing is None:
            raise BackboneError(
                f"the model {name.name!r} does not define how its pixels are scaled; set "
                "preprocess=: 'tf' ([-1, 1]), 'torch', 'caffe', 'unit' ([0, 1]) or 'none' ([0, 255], the "
                "model scales them itself)"
            )
        # A model that the program holds runs already: it needs no trust.
        name, trust_model = keep_model(name), True
    elif not isinstance(name, str | os.PathLike):
        raise TypeError(
            "a backbone is the name of one, the path of a .keras file, a keras.Model or what load_backbone "
            f"returned; found {type(name).__name__}"
        )
    engine = _checked_engine(engine)
    if threads is not None and threads < 1:
        raise BackboneError(f"threads must be at least 1; found {threads}")
    if devices is not None:
        devices = check_devices(devices, engine=engine)
    given = settle_scaling(preprocessing, mean=mean, std=std, scale=scale)
    known = {info.name: PixelScaling(preprocessing=info.preprocessing) for info in known_backbones()}
    is_known = os.fspath(name) in known
    stated = (None if is_known else read_preprocessor(name)) or StatedPreprocessing(file="")
    expected = known.get(os.fspath(name), stated.scaling)
    scaling, interpolation = given or stated.scaling, interpolation or stated.interpolation
    if crop_fraction is None and resize in (None, stated.resize):
        crop_fraction = stated.crop_fraction
    request = request_network(
        os.fspath(name),
        weights=None if weights is None else os.fspath(weights),
        layer=layer,
        pooling=pooling,
        size_px=_height_and_width(image_size) or stated.size_px,
        **({} if scaling is None else asdict(scaling)),
        alpha=alpha,
        input_name=input_name,
        layout=layout,
        trust_model=trust_model,
        imports=imports,
    )
    # Reject invalid options before anything is built; digest and layer are placeholders here.
    draft = BackboneSpec(
        architecture=request.architecture,
        weights_digest="",
        layer="",
        pooling=pooling,
        size_px=request.size_px or (1, 1),
        resize=resize or stated.resize or "stretch",
        interpolation=None if interpolation == "bilinear" else interpolation,
        crop_fraction=None if crop_fraction == 1 else crop_fraction,
        preprocessing=request.preprocessing,
        mean=request.mean,
        std=request.std,
        input_name=request.input_name,
        layout=request.layout,
        alpha=request.alpha,
        precision=precision,
        dtype=dtype,
        views=views,
    )
    if given is not None and expected is not None and given != expected:
        _log.warning(
            "%s expects pixels scaled as %s; scaling them as %s, as requested, suits only weights that were "
            "trained so",
            os.path.basename(os.fspath(name)),
            expected,
            given,
        )
    facts, built = network_facts(request)
    spec = replace(
        draft,
        weights_digest=facts.weights_digest,
        layer=facts.layer,
        pooling=facts.pooling,
        size_px=facts.size_px,
        layout=facts.layout,
    )
    return Backbone(
        spec,
        feature_dim=facts.feature_dim,
        request=request,
        engine=engine,
        devices=devices,
        threads=threads,
        built=built,
    )


def backbone_from_spec(
    spec: BackboneSpec,
    *,
    weights: str | os.PathLike[str] | None = None,
    engine: str = "auto",
    trust_model: bool = False,
    imports: Sequence[str] = (),
) -> Backbone:
    """Load the backbone that gives the features of a specification."""
    engine = _checked_engine(engine)
    path = None if weights is None else os.fspath(weights)
    if path in ("", "imagenet", "closed-form"):
        path = None
    own = spec.architecture not in {info.name for info in known_backbones()}
    without_file = (path is None or not os.path.exists(path)) and engine not in ("keras", "onnxruntime")
    # The converted network is kept under the specification itself, so that it needs no weights.
    if without_file and (feature_dim := converted_before(spec)):
        request = _request_of(spec, weights=path)
        return Backbone(spec, feature_dim=feature_dim, request=request, engine=engine)
    if own and path is None:
        raise BackboneError(
            f"the features are of a model of your own, {spec.architecture!r}; name its file with --weights"
        )
    request = request_network(
        path if own and path is not None else spec.architecture,
        weights=None if own else path,
        **_network_options(spec),
        trust_model=trust_model and own,
        imports=imports if own else (),
    )
    facts, built = network_facts(request)
    if facts.weights_digest != spec.weights_digest:
        raise weights_mismatch(request, facts.weights_digest, spec)
    return Backbone(spec, feature_dim=facts.feature_dim, request=request, engine=engine, built=built)


def _request_of(spec: BackboneSpec, *, weights: str | None) -> NetworkRequest:
    return NetworkRequest(
        name=spec.architecture,
        architecture=spec.architecture,
        weights=weights or ("closed-form" if spec.architecture == "scattering" else "imagenet"),
        **_network_options(spec),
    )


def _network_options(spec: BackboneSpec) -> dict[str, Any]:
    """Return what a specification and the request for its network have in common."""
    names = ("layer", "pooling", "size_px", "preprocessing", "mean", "std", "alpha", "input_name", "layout")
    return {name: getattr(spec, name) for name in names}


def _height_and_width(image_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if image_size is None:
        return None
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if min(height, width) < 1:
        raise BackboneError(f"image_size must be at least 1 pixel; found {height}x{width}")
    return int(height), int(width)


def _checked_engine(engine: str) -> str:
    """Return an engine's name; ``"tensorflow"`` is the old word for ``"keras"``."""
    if engine == "tensorflow":
        message = "the engine 'tensorflow' is called 'keras' now, whatever Keras' back end is"
        warnings.warn(message, DeprecationWarning, stacklevel=3)
        return "keras"
    if engine not in ENGINES:
        raise BackboneError(f"engine must be one of {', '.join(ENGINES)}; found {engine!r}")
    return engine

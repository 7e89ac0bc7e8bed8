"""The Backbone class, and its loading by name, file, model or specification."""

import os
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.compiling import check_devices, compile_engine, converted_before
from featstore.backbones.devices import preferred_batch_size
from featstore.backbones.facts import settle
from featstore.backbones.keras.live_models import is_keras_model, keep_model
from featstore.backbones.known import known_backbones
from featstore.backbones.openvino_engine import ENGINES, Engine
from featstore.backbones.request import NetworkRequest, request_network
from featstore.backbones.spec import BackboneSpec
from featstore.errors import BackboneError, FingerprintMismatchError
from featstore.images.views import ViewRecipe
from featstore.version import __version__

if TYPE_CHECKING:
    import keras

    from featstore.backbones.keras.classifier import Classifier
    from featstore.backbones.keras.models import BuiltNetwork

__all__ = ["Backbone", "backbone_from_spec", "load_backbone"]


class Backbone:
    """A frozen network: images in, one row of features each out.

    Made by :func:`load_backbone` and :func:`backbone_from_spec`. Nothing is compiled before the first image
    passes; where an earlier run has converted the network, neither TensorFlow nor Keras is imported then.
    Several threads may use one backbone at once.

    Attributes
    ----------
    spec : BackboneSpec
        Everything that decides the features.
    feature_dim : int
        Columns of the features.
    weights : str
        ``"imagenet"``, ``"closed-form"`` or the absolute path of a file.

    Examples
    --------
    >>> backbone = load_backbone("scattering")
    >>> backbone.forward(np.zeros((2, 96, 96, 3), np.uint8)).shape
    (2, 1932)
    """

    def __init__(
        self,
        spec: BackboneSpec,
        *,
        feature_dim: int,
        request: NetworkRequest,
        engine: str = "auto",
        devices: Sequence[str] | None = None,
        built: "BuiltNetwork | None" = None,
    ) -> None:
        self.spec = spec
        self.feature_dim = feature_dim
        self.weights = request.weights
        self._request = request
        self._wanted = engine, devices
        self._built = built
        self._engine: Engine | None = None
        self._compiling = threading.Lock()

    def __repr__(self) -> str:
        height, width = self.spec.size_px
        return f"<Backbone {self.spec.name}: {height}x{width} pixels to {self.feature_dim} features>"

    @property
    def batch_size(self) -> int:
        """Images in a batch that keeps the device busy; :meth:`forward` and :meth:`run` take any number."""
        return preferred_batch_size()

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices, once an image has passed; batch ``k`` goes to ``k % len(devices)``."""
        return () if self._engine is None else self._engine.devices

    @property
    def provenance(self) -> dict[str, str]:
        """Versions that make the features, and the source of the weights; the engine's once compiled."""
        engine = {} if self._engine is None else self._engine.provenance
        return {"featstore": __version__, "weights": self.weights, **engine}

    def forward(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the features of some images.

        Parameters
        ----------
        pixels : ndarray of shape (n, height, width, 3), uint8
            RGB in [0, 255], of ``spec.size_px``; any n. Each row depends on its own image alone.

        Returns
        -------
        ndarray of shape (n, feature_dim), float32

        Raises
        ------
        BackboneError
            The network cannot be compiled; only when the first image passes.
        ValueError
            The pixels are of another shape or type.
        """
        self._check(pixels)
        starts = range(0, len(pixels), self.batch_size)
        rows = list(self.run(pixels[start : start + self.batch_size] for start in starts))
        return np.concatenate(rows) if rows else np.empty((0, self.feature_dim), np.float32)

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Compute batches in order, while the caller prepares the next ones.

        Parameters
        ----------
        batches : iterable of ndarray of shape (n, height, width, 3), uint8
            As for :meth:`forward`; best of :attr:`batch_size` images. One or two are taken ahead, and none
            may be changed before its rows are out.

        Yields
        ------
        ndarray of shape (n, feature_dim), float32
        """
        checked = map(self._check, batches)
        # Compiled when the first batch is there, so that a run without images compiles nothing.
        for first in checked:
            yield from self._compiled().run(_chain(first, checked))

    def build(self) -> "BuiltNetwork":
        """Build the network with Keras, in float32.

        Returns
        -------
        BuiltNetwork
            Its ``model`` goes from uint8 pixels to float32 features, scaling and pooling included.

        Raises
        ------
        FingerprintMismatchError
            The weights are not those of the specification.
        BackboneError
            They cannot be had.
        """
        return self._build(False, None)

    def classifier(self) -> "Classifier":
        """Return the network's own classifier, from the weights of this backbone.

        Returns
        -------
        Classifier
            Whose ``kernel`` and ``bias`` take this backbone's features.

        Raises
        ------
        WeightsError
            The weights file holds no classifier.
        BackboneError
            The classifier is not one linear layer with softmax on these features; the message says what
            stands between.
        """
        from featstore.backbones.keras.classifier import read_classifier
        from featstore.backbones.keras.models import device_names

        # GPUs round products to fewer digits than the comparison with the network's own answer allows.
        built = self._build(False, device_names("cpu")[0])
        return read_classifier(replace(self._request, layer=self.spec.layer), built)

    def _check(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (*self.spec.size_px, 3):
            height, width = self.spec.size_px
            raise ValueError(
                f"expected uint8 pixels of shape (n, {height}, {width}, 3); "
                f"found {pixels.dtype} of shape {pixels.shape}"
            )
        return pixels

    def _compiled(self) -> Engine:
        with self._compiling:
            if self._engine is None:
                engine, devices = self._wanted
                self._engine = compile_engine(self.spec, build=self._build, engine=engine, devices=devices)
                self._built = None
            return self._engine

    def _build(self, half: bool, device: str | None) -> "BuiltNetwork":
        from featstore.backbones.keras.models import build_network, device_names

        if self._built is not None and not half and device in (None, device_names()[0]):
            # Where it lies now is where Keras puts what it is not told a place for.
            return self._built
        built = build_network(replace(self._request, layer=self.spec.layer), half=half, device=device)
        if built.facts.weights_digest != self.spec.weights_digest:
            raise _mismatch(self._request, built.facts.weights_digest, self.spec)
        return built


def load_backbone(
    name: "str | os.PathLike[str] | keras.Model" = "mobilenet_v2",
    *,
    weights: str | os.PathLike[str] | None = None,
    layer: str | None = None,
    pooling: str = "avg",
    image_size: int | tuple[int, int] | None = None,
    resize: str = "stretch",
    dtype: str = "float32",
    precision: str = "float32",
    preprocessing: str | None = None,
    preprocess: str | None = None,
    alpha: float | None = None,
    views: ViewRecipe | None = None,
    engine: str = "auto",
    devices: Sequence[str] | None = None,
    trust_model: bool = False,
    imports: Sequence[str] = (),
) -> Backbone:
    """Load a backbone by name, or from a Keras model of your own.

    Keras is imported only where the weights have never been seen on this machine: their digest is
    remembered, by the bytes of their file.

    Parameters
    ----------
    name : str, path or keras.Model
        One of :func:`~featstore.backbones.known_backbones`, or the path of a ``.keras`` file or of a whole
        model in an ``.h5`` file. Or a model that the program holds: it is copied as it is now, and kept in
        the cache folder, where heads on its features find it later.
    weights : str or path, optional
        A file of weights: ``.h5`` as Keras publishes them, with or without the classifier,
        ``.weights.h5``, or a ``.keras`` model of this architecture. By default Keras downloads its own.
        EfficientNet's are taken to be ImageNet's or to descend from them, and the network is the one that
        Keras builds for those.
    layer : str, optional
        Where to cut; by default the last layer before the pooling, or a model's own output. A layer of a
        network inside a model of your own is called ``"base/conv_pw_13_relu"``, after both.
        Layers without a name of their own are counted from the network's first: ``conv2d``, ``conv2d_1`` …
    pooling : {"avg", "max", "none"}
        How the layer's height and width are pooled; ``"none"`` flattens them.
    image_size : int or (int, int), optional
        Height and width in pixels; by default what the network was trained with.
    resize : {"stretch", "crop", "pad"}
        How images of another shape are brought to that size.
    dtype : {"float32", "float16"}
        How the features are stored.
    precision : {"float32", "bfloat16"}
        The arithmetic of the forward pass.
    preprocessing : {"tf", "torch", "caffe", "unit", "none"}, optional
        How pixels are scaled, see :class:`~featstore.backbones.BackboneSpec`. By default the network's own;
        for a model of your own it must be said.
    preprocess : str, optional
        The same, by the name of the command line's option.
    alpha : float, optional
        Width multiplier of MobileNet, MobileNetV2 and MobileNetV3.
    views : ViewRecipe, optional
        How views of an image are drawn, for :func:`featstore.extract` with ``n_views``. Features of different
        recipes are in different spaces.
    engine : {"auto", "openvino", "keras"}
        What runs the network. ``"auto"``: Keras' back end on a GPU, else OpenVINO, else Keras' back end.
    devices : sequence of str, optional
        Where Keras' back end runs it, in Keras' names: ``["gpu:0", "gpu:1"]``. By default on all GPUs,
        batch by batch in turn.
    trust_model : bool
        Let a ``.keras`` model of your own run the code that it holds (Lambda layers and the like). Only for
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
        The weights are to be downloaded and cannot be.
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
                f"the model {name.name!r} does not say how its pixels are to be scaled; say it with "
                "preprocess=: 'tf' ([-1, 1]), 'torch', 'caffe', 'unit' ([0, 1]) or 'none' ([0, 255], the "
                "model scales them itself)"
            )
        # What the program runs already needs no trust.
        name, trust_model = keep_model(name), True
    elif not isinstance(name, str | os.PathLike):
        raise TypeError(
            "a backbone is the name of one, the path of a .keras file, a keras.Model or what load_backbone "
            f"returned; found {type(name).__name__}"
        )
    engine = _checked_engine(engine)
    if devices is not None:
        devices = check_devices(devices, engine=engine)
    request = request_network(
        os.fspath(name),
        weights=None if weights is None else os.fspath(weights),
        layer=layer,
        pooling=pooling,
        size_px=_height_and_width(image_size),
        preprocessing=preprocessing,
        alpha=alpha,
        trust_model=trust_model,
        imports=imports,
    )
    # Wrong choices are refused before anything is built; the digest and the layer are stand-ins here.
    draft = BackboneSpec(
        architecture=request.architecture,
        weights_digest="",
        layer="",
        pooling=pooling,
        size_px=request.size_px or (1, 1),
        resize=resize,
        preprocessing=request.preprocessing,
        alpha=request.alpha,
        precision=precision,
        dtype=dtype,
        views=views,
    )
    facts, built = settle(request)
    spec = replace(
        draft,
        weights_digest=facts.weights_digest,
        layer=facts.layer,
        pooling=facts.pooling,
        size_px=facts.size_px,
    )
    return Backbone(
        spec, feature_dim=facts.feature_dim, request=request, engine=engine, devices=devices, built=built
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
    without_file = (path is None or not os.path.exists(path)) and engine != "keras"
    # The converted network is kept under the specification itself, so that it needs no weights.
    if without_file and (feature_dim := converted_before(spec)):
        request = _request_of(spec, weights=path)
        return Backbone(spec, feature_dim=feature_dim, request=request, engine=engine)
    if own and path is None:
        raise BackboneError(
            f"the features are of a model of your own, {spec.architecture!r}; "
            "say where its file is with --weights"
        )
    request = request_network(
        path if own and path is not None else spec.architecture,
        weights=None if own else path,
        layer=spec.layer,
        pooling=spec.pooling,
        size_px=spec.size_px,
        preprocessing=spec.preprocessing,
        alpha=spec.alpha,
        trust_model=trust_model and own,
        imports=imports if own else (),
    )
    facts, built = settle(request)
    if facts.weights_digest != spec.weights_digest:
        raise _mismatch(request, facts.weights_digest, spec)
    return Backbone(spec, feature_dim=facts.feature_dim, request=request, engine=engine, built=built)


def _request_of(spec: BackboneSpec, *, weights: str | None) -> NetworkRequest:
    return NetworkRequest(
        name=spec.architecture,
        architecture=spec.architecture,
        weights=weights or ("closed-form" if spec.architecture == "scattering" else "imagenet"),
        layer=spec.layer,
        pooling=spec.pooling,
        size_px=spec.size_px,
        preprocessing=spec.preprocessing,
        alpha=spec.alpha,
    )


def _mismatch(request: NetworkRequest, digest: str, spec: BackboneSpec) -> FingerprintMismatchError:
    return FingerprintMismatchError(
        f"the weights of {request.file or request.name} are not those of {spec.name}: "
        f"their digest is {digest[:12]}, expected {spec.weights_digest[:12]}; "
        "give the file that they were in with --weights"
    )


def _chain(first: NDArray[np.uint8], rest: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    yield first
    yield from rest


def _checked_engine(engine: str) -> str:
    """Return an engine's name; ``"tensorflow"`` is the old word for ``"keras"``."""
    if engine == "tensorflow":
        message = "the engine 'tensorflow' is called 'keras' now, whatever Keras' back end is"
        warnings.warn(message, DeprecationWarning, stacklevel=3)
        return "keras"
    if engine not in ENGINES:
        raise BackboneError(f"engine is one of {', '.join(ENGINES)}; found {engine!r}")
    return engine


def _height_and_width(image_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if image_size is None:
        return None
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if min(height, width) < 1:
        raise BackboneError(f"image_size is at least 1 pixel; found {height}x{width}")
    return int(height), int(width)

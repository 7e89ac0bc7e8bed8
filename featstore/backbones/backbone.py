"""The Backbone class: a frozen network with its specification."""

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.engines.compiling import (
    ConversionError,
    compile_engine,
    converted_network,
    runs_on_openvino,
)
from featstore.backbones.engines.devices import preferred_batch_size
from featstore.backbones.engines.openvino import Engine
from featstore.backbones.graphs.formats import GRAPH_WORDS
from featstore.backbones.request import NetworkRequest, weights_mismatch
from featstore.backbones.spec import BackboneSpec
from featstore.errors import BackboneError
from featstore.version import __version__

if TYPE_CHECKING:
    from featstore.backbones.caches.cache import ConvertedNetwork
    from featstore.backbones.keras.classifier import Classifier
    from featstore.backbones.keras.models import BuiltNetwork
    from featstore.backbones.keras.tunable import TunableNetwork

__all__ = ["Backbone"]


class Backbone:
    """A frozen network: images in, one row of features each out.

    Made by :func:`load_backbone` and :func:`backbone_from_spec`. Nothing is compiled before the first image
    passes; where an earlier run has converted the network, neither TensorFlow nor Keras is imported then.
    Several threads may use one backbone at once. A pickled one takes its converted network along, so that
    no other process has to build it.

    Attributes
    ----------
    spec : BackboneSpec
        Everything that decides the features.
    feature_dim : int
        Columns of the features.
    weights : str
        ``"imagenet"``, ``"closed-form"`` or the absolute path of a file.
    request : NetworkRequest
        How the network is built.
    threads : int or None
        Processor threads of the forward pass; None for all.

    Examples
    --------
    >>> from featstore import load_backbone
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
        threads: int | None = None,
        built: "BuiltNetwork | None" = None,
    ) -> None:
        self.spec = spec
        self.feature_dim = feature_dim
        self.weights = request.weights
        self.request = replace(request, layer=spec.layer)
        self.threads = threads
        self._wanted = engine, devices
        self._built = built
        self._converted: ConvertedNetwork | None = None
        self._engine: Engine | None = None
        self._compiling = threading.Lock()

    def __repr__(self) -> str:
        height, width = self.spec.size_px
        return f"<Backbone {self.spec.name}: {height}x{width} pixels to {self.feature_dim} features>"

    def __getstate__(self) -> dict[str, Any]:
        engine, devices = self._wanted
        if self._converted is None and (self._graphs or runs_on_openvino(engine, devices)):
            # What cannot be converted is built where it is used.
            with contextlib.suppress(ConversionError):
                self._converted = converted_network(self.spec, self.build_with, self._graphs)
        kept = ("spec", "feature_dim", "weights", "request", "threads", "_wanted", "_converted")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _built=None, _engine=None, _compiling=threading.Lock())

    @property
    def _graphs(self) -> tuple[NetworkRequest, ...]:
        """The request of a network in a file of another library."""
        return (self.request,) if self.request.is_graph else ()

    @property
    def wanted(self) -> tuple[str, Sequence[str] | None]:
        """Engine and devices as requested."""
        return self._wanted

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
            yield from self._compiled().run(chain([first], checked))

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
            They are not available.
        """
        return self.build_with(False, None)

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
            The classifier is not one linear layer with softmax on these features; the message names what
            is between.
        """
        self._refuse_graph("its own classifier is not read")
        from featstore.backbones.keras.classifier import read_classifier
        from featstore.backbones.keras.models import device_names

        # GPUs round products to fewer digits than the comparison with the network's own answer allows.
        built = self.build_with(False, device_names("cpu")[0])
        return read_classifier(self.request, built)

    def tunable(self) -> "TunableNetwork":
        """Build the network anew with Keras, to train a part of it.

        Returns
        -------
        TunableNetwork
            Lists where it can be cut, and gives the part above a cut.

        Raises
        ------
        FingerprintMismatchError
            The weights are not those of the specification.
        BackboneError
            They are not available, or there is nothing to train.
        """
        self._refuse_graph("it cannot be trained")
        from featstore.backbones.keras.tunable import build_tunable

        network = build_tunable(self.request)
        if network.digest() != self.spec.weights_digest:
            raise weights_mismatch(self.request, network.digest(), self.spec)
        return network

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
                self._engine = compile_engine(
                    self.spec,
                    build=self.build_with,
                    graphs=self._graphs,
                    engine=engine,
                    devices=devices,
                    threads=self.threads,
                    converted=self._converted,
                )
                self._built = None
            return self._engine

    def _refuse_graph(self, reason: str) -> None:
        if self.request.is_graph:
            raise BackboneError(
                f"{self.request.name} is {GRAPH_WORDS[self.request.architecture]}, which OpenVINO runs and "
                f"Keras cannot build: {reason}"
            )

    def build_with(self, half: bool, device: str | None) -> "BuiltNetwork":
        """Build the network in float32 or half precision, on one of Keras' devices; see :meth:`build`."""
        self._refuse_graph("it has no Keras model")
        from featstore.backbones.keras.models import build_network, device_names

        if self._built is not None and not half and device in (None, device_names()[0]):
            # It is already on Keras' default device.
            return self._built
        built = build_network(self.request, half=half, device=device)
        if built.facts.weights_digest != self.spec.weights_digest:
            raise weights_mismatch(self.request, built.facts.weights_digest, self.spec)
        return built

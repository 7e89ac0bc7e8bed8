"""Several layers of one network, computed in one pass."""

import contextlib
import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, chain, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.backbone import Backbone
from featstore.backbones.engines.compiling import (
    ConversionError,
    compile_engine,
    converted_network,
    runs_on_openvino,
)
from featstore.backbones.graphs.networks import OnnxNetwork, onnx_network
from featstore.backbones.request import NetworkRequest, weights_mismatch
from featstore.backbones.spec import BackboneSpec, JoinedSpec
from featstore.errors import BackboneError, first_line

if TYPE_CHECKING:
    from featstore.backbones.caches.cache import ConvertedNetwork
    from featstore.backbones.engines.openvino import Engine
    from featstore.backbones.keras.models import BuiltNetwork

__all__ = ["JointBackbone", "joint_backbones"]

_log = logging.getLogger(__name__)


class JointBackbone:
    """Layers of one network, which see the same pixels; ``columns`` are those of each part in a row."""

    def __init__(self, parts: Sequence[Backbone]) -> None:
        self.parts = tuple(parts)
        ends = accumulate((part.feature_dim for part in parts), initial=0)
        self.columns = tuple(slice(start, end) for start, end in pairwise(ends))
        self.spec = self.parts[0].spec
        self.threads = self.parts[0].threads
        self._engine: Engine | _InTurn | None = None
        self._converted: ConvertedNetwork | None = None  # where it was pickled with it
        self._compiling = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        # One part sends its own network.
        if len(self.parts) > 1 and self._converted is None and self._runs_on_openvino():
            # What cannot be converted is built where it is used.
            with contextlib.suppress(ConversionError, BackboneError):
                self._converted = self.converted()
        return {name: value for name, value in self.__dict__.items() if name not in ("_engine", "_compiling")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _engine=None, _compiling=threading.Lock())

    @property
    def batch_size(self) -> int:
        """Images in a batch that keeps the device busy."""
        return self.parts[0].batch_size

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices, once an image has passed."""
        return self.parts[0].devices if self._engine is None else self._engine.devices

    @property
    def provenance(self) -> dict[str, str]:
        """Versions that make the features, as of a :class:`Backbone`."""
        own = self.parts[0].provenance
        return own if self._engine is None else {**own, **self._engine.provenance}

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Compute batches in order: the features of all layers side by side."""
        if len(self.parts) == 1:
            yield from self.parts[0].run(batches)
            return
        waiting = iter(batches)
        for first in waiting:
            yield from self._compiled().run(chain([first], waiting))

    def build(self) -> "BuiltNetwork":
        """Build the network with Keras; its rows are the features of all layers side by side."""
        return self.parts[0].build() if len(self.parts) == 1 else self._build(False, None)

    def converted(self) -> "ConvertedNetwork":
        """Return the network as OpenVINO reads it: from pixels to the features of all layers side by side."""
        build = self.parts[0].build_with if len(self.parts) == 1 else self._build
        return converted_network(self._joined(), build, self._graphs)

    def as_onnx(self) -> OnnxNetwork:
        """Return networks in ONNX files as one: from pixels to the features of all layers side by side."""
        return onnx_network(self._joined(), self._graphs)

    def _joined(self) -> "BackboneSpec | JoinedSpec":
        specs = tuple(replace(part.spec, views=None) for part in self.parts)
        return specs[0] if len(specs) == 1 else JoinedSpec(specs)

    @property
    def _graphs(self) -> list[NetworkRequest]:
        return [part.request for part in self.parts if part.request.is_graph]

    def _runs_on_openvino(self) -> bool:
        engine, devices = self.parts[0].wanted
        return bool(self._graphs) or runs_on_openvino(engine, devices)

    def _compiled(self) -> "Engine | _InTurn":
        with self._compiling:
            if self._engine is None:
                engine, devices = self.parts[0].wanted
                try:
                    self._engine = compile_engine(
                        self._joined(),
                        build=self._build,
                        graphs=self._graphs,
                        engine=engine,
                        devices=devices,
                        threads=self.threads,
                        converted=self._converted,
                    )
                except BackboneError as error:
                    named = " and ".join(part.spec.layer for part in self.parts)
                    _log.warning("%s are computed in a pass each: %s", named, first_line(error))
                    self._engine = _InTurn(self.parts)
            return self._engine

    def _build(self, half: bool, device: str | None) -> "BuiltNetwork":
        from featstore.backbones.keras.joint import build_joint_network

        built, digests = build_joint_network([part.request for part in self.parts], half=half, device=device)
        for part, digest in zip(self.parts, digests, strict=True):
            if digest != part.spec.weights_digest:
                raise weights_mismatch(part.request, digest, part.spec)
        return built


class _InTurn:
    """Backbones that run one after the other on each batch."""

    name = "in turn"

    def __init__(self, parts: Sequence[Backbone]) -> None:
        self._parts = parts

    @property
    def devices(self) -> tuple[str, ...]:
        return self._parts[0].devices

    @property
    def provenance(self) -> dict[str, str]:
        return self._parts[0].provenance

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.concatenate([part.forward(pixels) for part in self._parts], axis=1)

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        return map(self, batches)


def joint_backbones(backbones: Sequence[Backbone]) -> list[tuple[JointBackbone, list[int]]]:
    """Group backbones that are layers of one network; return the numbers of each group's members too."""
    groups: dict[Any, list[int]] = {}
    for number, backbone in enumerate(backbones):
        groups.setdefault(_network_of(backbone) or number, []).append(number)
    return [(JointBackbone([backbones[at] for at in numbers]), numbers) for numbers in groups.values()]


def _network_of(backbone: Backbone) -> Any:
    """Return what layers of one pass have in common; None for what has no layers."""
    request, spec = getattr(backbone, "request", None), backbone.spec
    if request is None or request.weights == "closed-form":
        return None
    engine, devices = backbone.wanted
    pictures = (*spec.picture.items(), spec.views, spec.precision)
    return replace(request, layer=None), pictures, engine, tuple(devices or ()), backbone.threads

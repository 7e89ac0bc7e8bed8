"""Inference engines: the protocol, and the one on OpenVINO."""

import contextlib
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module, metadata
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.caches.cache import ConvertedNetwork
from featstore.errors import BackboneError, last_line

__all__ = [
    "ENGINES",
    "Engine",
    "OpenVINOEngine",
    "import_openvino",
    "keep_only_output",
    "openvino_core",
    "openvino_version",
]

ENGINES = ("auto", "openvino", "keras", "onnxruntime")

_IMPORTING = threading.RLock()

# Images in one request, which one core computes, unless a network takes one at a time. With bfloat16
# MobileNetV2 two are a few per cent faster than one; elsewhere, up to four, it makes no difference, and
# larger ones fall out of the core's cache.
_REQUEST_IMAGES = 2

# Batches that are computed while the caller prepares the next: the device always has one waiting.
_AHEAD = 2


class Engine(Protocol):
    """Runs a backbone's network; batch ``k`` of a run is computed by device ``k % len(devices)``."""

    name: str
    devices: tuple[str, ...]
    provenance: dict[str, str]

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute float32 rows (n, feature_dim) of uint8 RGB pixels (n, height, width, 3)."""

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Compute batches in order, while the caller prepares the next ones."""


class OpenVINOEngine:
    """Runs a converted network on the processor, in float32 or bfloat16 arithmetic."""

    name = "openvino"

    def __init__(
        self, network: ConvertedNetwork, *, precision: str = "float32", threads: int | None = None
    ) -> None:
        core = openvino_core()
        if precision == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            device = core.get_property("CPU", "FULL_DEVICE_NAME")
            raise BackboneError(
                f"this processor ({device}) has no bfloat16 arithmetic; use --precision float32, which gives "
                "features of their own"
            )
        hint = "bf16" if precision == "bfloat16" else "f32"
        options: dict[str, str | int] = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": hint,
        }
        if threads is not None:
            # It ignores OMP_NUM_THREADS.
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            model = core.read_model(network.xml, network.weights)
            batch, *picture = model.inputs[0].partial_shape
            self._images = batch.get_length() if batch.is_static else _REQUEST_IMAGES
            model.reshape([self._images, *picture])
            self._compiled = core.compile_model(model, "CPU", options)
        except RuntimeError as error:
            raise BackboneError(
                f"OpenVINO cannot compile the network: {last_line(error)}; use --engine keras"
            ) from error
        self._feature_dim = int(self._compiled.output(0).shape[1])
        self._idle: list[Any] = []
        self.devices: tuple[str, ...] = (str(core.get_property("CPU", "FULL_DEVICE_NAME")),)
        self.provenance = {
            "engine": self.name,
            "openvino": openvino_version() or "unknown",
            "device": self.devices[0],
        }

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the rows of one batch; see :class:`Engine`."""
        return self._collect(self._start(pixels))

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Compute batch after batch; see :class:`Engine`."""
        started: deque[_Started] = deque()
        try:
            for pixels in batches:
                started.append(self._start(pixels))
                while len(started) >= _AHEAD:
                    yield self._collect(started.popleft())
            while started:
                yield self._collect(started.popleft())
        finally:
            # The caller stopped in the middle: the requests must not be used while they still run.
            for batch in started:
                for request in batch.requests:
                    request.wait()
                self._idle.extend(batch.requests)

    def _start(self, pixels: NDArray[np.uint8]) -> "_Started":
        pixels = np.ascontiguousarray(pixels)
        started = _Started(n_images=len(pixels))
        for start in range(0, len(pixels), self._images):
            part = pixels[start : start + self._images]
            if len(part) < self._images:
                missing = (self._images - len(part), *part.shape[1:])
                part = np.concatenate([part, np.zeros(missing, np.uint8)])
            try:
                request = self._idle.pop()
            except IndexError:
                request = self._compiled.create_infer_request()
            request.start_async({0: part}, share_inputs=True)
            started.requests.append(request)
            started.parts.append(part)
        return started

    def _collect(self, started: "_Started") -> NDArray[np.float32]:
        rows = np.empty((started.n_images, self._feature_dim), np.float32)
        for number, request in enumerate(started.requests):
            request.wait()
            part = rows[number * self._images : (number + 1) * self._images]
            part[...] = request.get_output_tensor().data[: len(part)]
        self._idle.extend(started.requests)
        return rows


@dataclass(slots=True)
class _Started:
    """A batch in progress; requests read the pixels in place, so these must be kept alive."""

    n_images: int
    requests: list[Any] = field(default_factory=list)
    parts: list[NDArray[np.uint8]] = field(default_factory=list)


def keep_only_output(network: ConvertedNetwork, path: str) -> None:
    """Rewrite a converted network with its one real output."""
    # TensorFlow's converter adds outputs for values that some activations keep for their gradients
    # (swish, in EfficientNets), which would have to be computed and copied.
    openvino = import_openvino()
    model = openvino_core().read_model(network.xml, network.weights)
    results = model.get_results()
    named = [one for one in results if "Identity:0" in one.output(0).get_names()]
    openvino.serialize(openvino.Model([*named, *results][:1], model.get_parameters()), path)


def openvino_version() -> str | None:
    """Return the installed version of OpenVINO, or None, without importing it."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version("openvino")
    return None


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which reports each import over the network."""
    with _IMPORTING:
        if "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules:
            # None in the table of modules makes the import fail, and OpenVINO then goes on without it.
            sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
            try:
                import_module("openvino")
            finally:
                del sys.modules["openvino_telemetry"]
        return import_module("openvino")


@cache
def _core() -> Any:
    return import_openvino().Core()


def openvino_core() -> Any:
    """Return the one ``openvino.Core`` of this process."""
    # Each core's plug-in installs a signal stack and, when unloaded, puts back the one that it found. Of two
    # that end in the order they began, the last puts back one that is gone, and the next signal is a crash.
    with _IMPORTING:
        return _core()

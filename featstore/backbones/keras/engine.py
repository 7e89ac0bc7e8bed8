"""The Keras engine: forward passes on one or several devices of Keras' back end."""

import contextlib
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.engines.devices import gpu_memory_bytes, preferred_batch_size
from featstore.errors import BackboneError, first_line

__all__ = ["KerasEngine", "is_out_of_memory"]

_log = logging.getLogger(__name__)

# A GPU computes one batch while the next one's pixels are copied to it and the last one's rows come back;
# a processor would only divide its cores among them.
_BATCHES_AT_ONCE = {"cpu": 1, "gpu": 2}

# Of a GPU's memory, what one batch's activations may take; and how many of an image's largest activation are
# alive at a time: what goes into a layer, what comes out, and the workspace of its convolution.
_MEMORY_SHARE = 0.5
_ALIVE = 4

# In the exceptions of TensorFlow, JAX and PyTorch.
_OUT_OF_MEMORY = ("resourceexhausted", "resource_exhausted", "outofmemory", "out of memory")


class KerasEngine:
    """Runs a network with Keras on the given devices, such as "gpu:0".

    ``build(device)`` returns a keras.Model there, from uint8 pixels to float32 rows; it is called for the
    first device at once, for another when its first batch comes.
    """

    name = "keras"

    def __init__(self, build: Callable[[str], Any], *, devices: Sequence[str]) -> None:
        self.devices = tuple(devices)
        self._build = build
        self._building = threading.Lock()
        self._models: dict[str, Any] = {}
        kind = self.devices[0].partition(":")[0]
        self._at_once = _BATCHES_AT_ONCE.get(kind, 2)
        model = self._model(self.devices[0])
        self._feature_dim = int(model.output_shape[-1])
        self._batch_size = preferred_batch_size()
        if kind == "gpu" and (memory := gpu_memory_bytes()):
            fitting = int(_MEMORY_SHARE * memory) // max(_ALIVE * _largest_activation(model), 1)
            self._batch_size = max(1, min(self._batch_size, 1 << max(fitting.bit_length() - 1, 0)))
        backend = sys.modules["keras"].backend.backend()
        self.provenance = {
            "engine": backend,
            "keras": metadata.version("keras"),
            backend: _version(backend),
            "device": ", ".join(self.devices),
        }

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the rows of one batch; see :class:`~featstore.backbones.engines.openvino.Engine`."""
        return self._compute(pixels, self.devices[0])

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Compute batch after batch; see :class:`~featstore.backbones.engines.openvino.Engine`."""
        started: deque[Future[NDArray[np.float32]]] = deque()
        ahead = (1 + self._at_once) * len(self.devices)
        with contextlib.ExitStack() as stack:
            workers = [
                stack.enter_context(ThreadPoolExecutor(self._at_once, thread_name_prefix=f"featstore-{name}"))
                for name in self.devices
            ]
            try:
                for number, pixels in enumerate(batches):
                    device = number % len(self.devices)
                    started.append(workers[device].submit(self._compute, pixels, self.devices[device]))
                    while len(started) >= ahead:
                        yield started.popleft().result()
                while started:
                    yield started.popleft().result()
            finally:
                for future in started:
                    future.cancel()

    def _model(self, device: str) -> Any:
        # One at a time: Keras' settings, which the building changes and restores, are the whole process'.
        with self._building:
            if device not in self._models:
                self._models[device] = self._build(device)
            return self._models[device]

    def _compute(self, pixels: NDArray[np.uint8], device: str) -> NDArray[np.float32]:
        model = self._model(device)
        rows = np.empty((len(pixels), self._feature_dim), np.float32)
        start = 0
        with sys.modules["keras"].device(device):
            while start < len(pixels):
                part = pixels[start : start + self._batch_size]
                try:
                    rows[start : start + len(part)] = self._fixed(model, part)
                except Exception as error:
                    # Each back end has an exception of its own for this.
                    if not is_out_of_memory(error):
                        raise BackboneError(
                            f"Keras cannot run the network on {device}: {first_line(error)}"
                        ) from error
                    if len(part) == 1:
                        raise BackboneError(
                            f"{device} does not have enough memory for one image; use a smaller "
                            "--image-size, or the processor with --engine openvino"
                        ) from error
                    self._batch_size = min(self._batch_size, 1 << ((len(part) - 1).bit_length() - 1))
                    _log.info(
                        "%s is out of memory; continuing with batches of %d images", device, self._batch_size
                    )
                    continue
                start += len(part)
        return rows

    def _fixed(self, model: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        # A function compiled for one shape: a smaller batch is filled up to the next power of two.
        n_images = len(pixels)
        size = min(self._batch_size, 1 << (n_images - 1).bit_length())
        if n_images < size:
            pixels = np.concatenate([pixels, np.zeros((size - n_images, *pixels.shape[1:]), np.uint8)])
        return np.asarray(model.predict_on_batch(pixels), np.float32)[:n_images]


def _largest_activation(model: Any) -> int:
    """Return the float32 bytes of the largest layer output for one image."""
    largest = 0
    for layer in model.layers:
        if hasattr(layer, "layers"):
            largest = max(largest, _largest_activation(layer))
            continue
        shape = getattr(getattr(layer, "output", None), "shape", None)
        if shape is not None and None not in shape[1:]:
            largest = max(largest, 4 * int(np.prod(shape[1:])))
    return largest


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception of a back end means that memory ran out."""
    said = f"{type(error).__name__}: {error}".lower()
    return any(sign in said for sign in _OUT_OF_MEMORY)


def _version(package: str) -> str:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return "unknown"

"""Inference by ONNX Runtime: ONNX networks on GPUs, and on processors."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.engines.devices import preferred_batch_size
from featstore.errors import BackboneError, last_line

__all__ = ["OnnxEngine"]

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"

# Images of one run on a processor: more fall out of its cache.
_CPU_IMAGES = 2
_AHEAD = 2
# Of a row's length: how far images of one batch may change each other's features.
_TOLERANCE = 1e-3


class OnnxEngine:
    """Runs an ONNX network from uint8 pixels to float32 rows, on a GPU where ONNX Runtime has one."""

    name = "onnxruntime"

    def __init__(
        self, network: bytes, *, n_images: int | None, size_px: tuple[int, int], threads: int | None
    ) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or 0
        is_gpu = _CUDA in onnxruntime.get_available_providers()
        # With TF32 a GPU rounds products to ten bits.
        providers: list[Any] = [(_CUDA, {"use_tf32": "0"})] if is_gpu else []
        try:
            self._session = onnxruntime.InferenceSession(network, options, providers=[*providers, _CPU])
        except Exception as error:  # each provider has its own
            raise BackboneError(
                f"ONNX Runtime cannot run the network: {last_line(error)}; use --engine openvino"
            ) from error
        # A GPU that cannot be used is left out with a warning only.
        is_gpu = self._session.get_providers()[0] == _CUDA
        self._input = self._session.get_inputs()[0].name
        self._images, self._pads = n_images or 1, True
        pixels = np.random.default_rng(0).integers(0, 256, (2, *size_px, 3), dtype=np.uint8)
        single = np.concatenate([self(pixels[at : at + 1]) for at in (0, 1)])
        if not np.isfinite(single).all():
            raise BackboneError("the network's features of a picture of noise are not finite")
        if n_images is None and self._is_same(pixels, single):
            self._images, self._pads = preferred_batch_size() if is_gpu else _CPU_IMAGES, False
        self.devices: tuple[str, ...] = ("cuda:0" if is_gpu else "cpu",)
        self.provenance = {
            "engine": self.name,
            "onnxruntime": str(onnxruntime.__version__),
            "onnx": metadata.version("onnx"),
            "device": self.devices[0],
        }

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the rows of one batch; see :class:`~featstore.backbones.engines.openvino.Engine`."""
        starts = range(0, len(pixels), self._images)
        return np.concatenate([self._run(pixels[start : start + self._images]) for start in starts])

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Compute batch after batch; see :class:`~featstore.backbones.engines.openvino.Engine`."""
        started: deque[Future[NDArray[np.float32]]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="featstore-onnx") as worker:
            try:
                for pixels in batches:
                    started.append(worker.submit(self, pixels))
                    while len(started) >= _AHEAD:
                        yield started.popleft().result()
                while started:
                    yield started.popleft().result()
            finally:
                for future in started:
                    future.cancel()

    def _run(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        n_images = len(pixels)
        if self._pads and n_images < self._images:
            missing = (self._images - n_images, *pixels.shape[1:])
            pixels = np.concatenate([pixels, np.zeros(missing, np.uint8)])
        try:
            rows = self._session.run(None, {self._input: np.ascontiguousarray(pixels)})[0]
        except Exception as error:  # each provider has its own
            raise BackboneError(f"ONNX Runtime cannot run the network: {last_line(error)}") from error
        return np.asarray(rows, np.float32)[:n_images]

    def _is_same(self, pixels: NDArray[np.uint8], single: NDArray[np.float32]) -> bool:
        """Return whether images in one batch have the features that each has alone."""
        try:
            pair = np.asarray(self._session.run(None, {self._input: pixels})[0])
        except Exception:  # noqa: BLE001 - the network takes one image at a time
            return False
        return pair.shape == single.shape and bool(
            np.linalg.norm(pair - single) <= _TOLERANCE * np.linalg.norm(single)
        )

"""Runtimes of exported models, each importing its library on creation."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.caches.cache import ConvertedNetwork
from featstore.backbones.engines.openvino import OpenVINOEngine
from featstore.backbones.keras.quiet import quiet_import
from featstore.errors import ExportError, FeatstoreError, MissingExtraError, last_line
from featstore.images.reading import default_workers

__all__ = [
    "ENCODED",
    "ENCODED_SIGNATURE",
    "IMAGES_SIGNATURE",
    "INPUT",
    "LABEL",
    "OUTPUT",
    "VALUES",
    "Runtime",
    "open_encoded",
    "open_runtime",
]

INPUT, OUTPUT, VALUES = "images", "probabilities", "values"
"""What the model's input and output, of numbers the last, are called, where the format has names for them."""

ENCODED_SIGNATURE, IMAGES_SIGNATURE = "serving_default", "serving_images"
"""The signatures of a SavedModel: the first takes encoded files, the second pixels."""

ENCODED, LABEL = "image_bytes", "label"
"""A SavedModel's other input and other output."""

_Pixels = NDArray[np.uint8]
_Rows = NDArray[np.float32]


class Runtime(Protocol):
    """Runs one model file."""

    def run(self, batches: Iterable[_Pixels]) -> Iterator[_Rows]:
        """Compute batches in order."""


def open_runtime(
    runtime: str, path: str, *, trust_model: bool = False, imports: Sequence[str] = ()
) -> Runtime:
    """Open a model with the runtime of its format; code in it, or for it, is a matter of Keras alone."""
    try:
        if runtime == "keras":
            return _keras(path, trust_model=trust_model, imports=imports)
        return _RUNTIMES[runtime](path)
    except ImportError as error:
        raise MissingExtraError(
            f"running a model in the format {runtime} needs {error.name}, which is not installed; "
            f'run: pip install "{_PACKAGES[runtime]}"'
        ) from error
    except MemoryError:
        raise
    except FeatstoreError as error:
        # Ours name the file and what to do, and are not shortened.
        raise ExportError(str(error)) from error
    except Exception as error:  # each package has exceptions of its own for a file that it cannot open
        raise ExportError(f"{path} cannot be opened as {runtime}: {last_line(error)}") from error


def open_encoded(folder: str) -> Callable[[bytes], _Rows | None]:
    """Open a SavedModel's signature for encoded files: bytes to probabilities, or None if undecodable."""
    with quiet_import():
        import tensorflow as tf

    model = tf.saved_model.load(folder)

    def forward(data: bytes) -> _Rows | None:
        try:
            outputs = model.signatures[ENCODED_SIGNATURE](**{ENCODED: tf.constant([data])})
        except tf.errors.InvalidArgumentError:
            return None
        return np.asarray(_answer(outputs).numpy()[0], np.float32)

    return forward


class _Each:
    """A runtime that takes one batch at a time, as a function from pixels to rows."""

    def __init__(self, forward: Callable[[_Pixels], Any]) -> None:
        self._forward = forward

    def run(self, batches: Iterable[_Pixels]) -> Iterator[_Rows]:
        for pixels in batches:
            yield np.asarray(self._forward(pixels), np.float32)


def _keras(path: str, *, trust_model: bool, imports: Sequence[str]) -> Runtime:
    from featstore.backbones.keras.own_models import open_model

    return _Each(open_model(path, trust_model=trust_model, imports=imports).predict_on_batch)


def _saved_model(path: str) -> Runtime:
    with quiet_import():
        import tensorflow as tf

    model = tf.saved_model.load(path)

    def forward(pixels: _Pixels) -> Any:
        return _answer(model.signatures[IMAGES_SIGNATURE](**{INPUT: tf.constant(pixels)})).numpy()

    return _Each(forward)


def _answer(outputs: Mapping[str, Any]) -> Any:
    """Return a SavedModel's probabilities or numbers."""
    return outputs[OUTPUT] if OUTPUT in outputs else outputs[VALUES]


def _onnx(path: str) -> Runtime:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    taken = session.get_inputs()[0]
    # Of a network for one image at a time.
    step = taken.shape[0] if isinstance(taken.shape[0], int) else None

    def forward(pixels: _Pixels) -> Any:
        starts = range(0, len(pixels), step or max(len(pixels), 1))
        parts = [pixels[start : start + step] if step else pixels for start in starts]
        return np.concatenate([session.run(None, {taken.name: part})[0] for part in parts])

    return _Each(forward)


def _tflite(path: str) -> Runtime:
    with quiet_import():
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(path, num_threads=default_workers())
        interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    target = interpreter.get_output_details()[0]["index"]
    taken = threading.Lock()

    def forward(pixels: _Pixels) -> Any:
        rows = []
        # One at a time: the interpreter is not faster with more, and needs no other shapes so.
        for number in range(len(pixels)):
            with taken:
                interpreter.set_tensor(source, pixels[number : number + 1])
                interpreter.invoke()
                rows.append(interpreter.get_tensor(target))
        return np.concatenate(rows)

    return _Each(forward)


def _openvino(path: str) -> Runtime:
    with open(path, "rb") as xml, open(os.path.splitext(path)[0] + ".bin", "rb") as weights:
        network = ConvertedNetwork(xml=xml.read(), weights=weights.read(), facts={})
    return OpenVINOEngine(network)


_RUNTIMES: Mapping[str, Callable[[str], Runtime]] = MappingProxyType(
    {"saved_model": _saved_model, "tflite": _tflite, "onnx": _onnx, "openvino": _openvino}
)

_PACKAGES = {
    "keras": "keras",
    "saved_model": "tensorflow",
    "tflite": "featstore[tflite]",
    "onnx": "featstore[onnx]",
    "openvino": "openvino",
}

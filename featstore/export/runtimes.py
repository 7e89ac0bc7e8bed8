"""What runs an exported model: one small class for each format, each importing its own library when made."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.engines import OpenVINOEngine
from featstore.backbones.memory import ConvertedNetwork
from featstore.backbones.quiet import quiet_import
from featstore.backbones.weights_files import check_keras_archive
from featstore.errors import ExportError, FeatstoreError, MissingExtraError
from featstore.images.reading import default_workers

__all__ = [
    "ENCODED",
    "ENCODED_SIGNATURE",
    "IMAGES_SIGNATURE",
    "INPUT",
    "LABEL",
    "OUTPUT",
    "Runtime",
    "open_encoded",
    "open_runtime",
]

INPUT, OUTPUT = "images", "probabilities"
"""What the model's input and output are called, where the format has names for them."""

ENCODED_SIGNATURE, IMAGES_SIGNATURE = "serving_default", "serving_images"
"""The signatures of a SavedModel: the first takes encoded files, the second pixels."""

ENCODED, LABEL = "image_bytes", "label"
"""A SavedModel's other input and other output."""

_Pixels = NDArray[np.uint8]
_Rows = NDArray[np.float32]


class Runtime(Protocol):
    """Runs one model file.

    Attributes
    ----------
    takes, gives : tuple
        The shapes of its input and output; a side that it leaves open is no number, or negative.
    """

    takes: tuple[Any, ...]
    gives: tuple[Any, ...]

    def run(self, batches: Iterable[_Pixels]) -> Iterator[_Rows]:
        """Compute batch after batch, in order."""


def open_runtime(
    runtime: str, path: str, *, size_px: tuple[int, int], n_classes: int, trust_model: bool = False
) -> Runtime:
    """Open a model with what runs its format.

    Parameters
    ----------
    runtime : {"keras", "saved_model", "tflite", "onnx", "openvino"}
    path : str
        The model's file; of a SavedModel its folder.
    size_px : tuple of int
        Height and width of the pictures that it is to take.
    n_classes : int
        How many probabilities it is to give.
    trust_model : bool
        Whether a Keras model may run the code that it holds.

    Returns
    -------
    Runtime

    Raises
    ------
    MissingExtraError
        The package that runs it is not installed.
    ExportError
        The package cannot open the file, the file may harm, or takes or gives something else.
    """
    try:
        opened = _keras(path, trust_model) if runtime == "keras" else _RUNTIMES[runtime](path)
    except ImportError as error:
        raise MissingExtraError(
            f"running a model in the format {runtime} needs {error.name}, which is not installed; "
            f'run: pip install "{_PACKAGES[runtime]}"'
        ) from error
    except MemoryError:
        raise
    except FeatstoreError as error:
        raise ExportError(str(error)) from error
    except Exception as error:  # each package has exceptions of its own for a file that it cannot open
        raise ExportError(f"{path} cannot be opened as {runtime}: {_last_line(error)}") from error
    _check_shapes(opened, path, size_px, n_classes)
    return opened


def _check_shapes(opened: Runtime, path: str, size_px: tuple[int, int], n_classes: int) -> None:
    for what, found, wanted in (
        ("takes", opened.takes, (*size_px, 3)),
        ("gives", opened.gives, (n_classes,)),
    ):
        # What a runtime leaves open is no number.
        fits = len(found) == len(wanted) + 1 and all(
            one == other or not isinstance(one, int) or one < 0
            for one, other in zip(found[1:], wanted, strict=True)
        )
        if not fits:
            told = ", ".join(str(side) if isinstance(side, int) and side >= 0 else "n" for side in found)
            raise ExportError(
                f"{path} {what} values of shape ({told}), and the description beside it says "
                f"(n, {', '.join(map(str, wanted))}): they do not belong together; export the head again"
            )


def open_encoded(folder: str) -> Callable[[bytes], _Rows | None]:
    """Open a SavedModel by its signature for encoded files.

    Parameters
    ----------
    folder : str

    Returns
    -------
    callable
        From one file's bytes to probabilities of shape (n_classes,); None where TensorFlow cannot decode it.
    """
    with quiet_import():
        import tensorflow as tf

    model = tf.saved_model.load(folder)

    def forward(data: bytes) -> _Rows | None:
        try:
            told = model.signatures[ENCODED_SIGNATURE](**{ENCODED: tf.constant([data])})
        except tf.errors.InvalidArgumentError:
            return None
        return np.asarray(told[OUTPUT].numpy()[0], np.float32)

    return forward


class _Each:
    """A runtime that takes one batch at a time, as a function from pixels to rows."""

    def __init__(
        self, path: str, forward: Callable[[_Pixels], Any], *, takes: Sequence[Any], gives: Sequence[Any]
    ) -> None:
        self._path = path
        self._forward = forward
        self.takes, self.gives = tuple(takes), tuple(gives)

    def run(self, batches: Iterable[_Pixels]) -> Iterator[_Rows]:
        for pixels in batches:
            try:
                rows = np.asarray(self._forward(pixels), np.float32)
            except MemoryError:
                raise
            except Exception as error:  # as in opening
                raise ExportError(f"{self._path} cannot be run: {_last_line(error)}") from error
            yield rows


def _keras(path: str, trust_model: bool) -> Runtime:
    check_keras_archive(path, trust_model=trust_model)
    with quiet_import():
        import keras

    model = keras.saving.load_model(path, compile=False, safe_mode=not trust_model)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ExportError(
            f"{path} has {len(model.inputs)} inputs and {len(model.outputs)} outputs; expected one of "
            "each, as featstore export writes it"
        )
    return _Each(path, model.predict_on_batch, takes=model.input.shape, gives=model.output.shape)


def _saved_model(path: str) -> Runtime:
    with quiet_import():
        import tensorflow as tf

    model = tf.saved_model.load(path)
    signature = model.signatures[IMAGES_SIGNATURE]

    def forward(pixels: _Pixels) -> Any:
        return signature(**{INPUT: tf.constant(pixels)})[OUTPUT].numpy()

    takes, gives = (
        signature.structured_input_signature[1][INPUT].shape,
        signature.structured_outputs[OUTPUT].shape,
    )
    return _Each(path, forward, takes=takes.as_list(), gives=gives.as_list())


def _onnx(path: str) -> Runtime:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (source,), (target, *_) = session.get_inputs(), session.get_outputs()
    return _Each(
        path,
        lambda pixels: session.run(None, {source.name: pixels})[0],
        takes=source.shape,
        gives=target.shape,
    )


def _tflite(path: str) -> Runtime:
    with quiet_import():
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(path, num_threads=default_workers())
        interpreter.allocate_tensors()
    (source, *_), (target, *_) = interpreter.get_input_details(), interpreter.get_output_details()
    taken = threading.Lock()

    def forward(pixels: _Pixels) -> Any:
        rows = []
        # One at a time: the interpreter is not faster with more, and needs no other shapes so.
        for number in range(len(pixels)):
            with taken:
                interpreter.set_tensor(source["index"], pixels[number : number + 1])
                interpreter.invoke()
                rows.append(interpreter.get_tensor(target["index"]))
        return np.concatenate(rows)

    return _Each(path, forward, takes=source["shape"].tolist(), gives=target["shape"].tolist())


class _OpenVINO(OpenVINOEngine):
    """A converted network, with the shapes that it is for."""

    def __init__(self, network: ConvertedNetwork) -> None:
        super().__init__(network)
        self.takes, self.gives = self.shapes


def _openvino(path: str) -> Runtime:
    with open(path, "rb") as xml, open(os.path.splitext(path)[0] + ".bin", "rb") as weights:
        network = ConvertedNetwork(xml=xml.read(), weights=weights.read(), facts={})
    return _OpenVINO(network)


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip()[:200]


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

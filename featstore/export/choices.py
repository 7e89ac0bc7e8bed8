"""What a head can be exported as, and the packages that it takes: known before anything is loaded."""

from collections.abc import Mapping
from importlib.util import find_spec

from featstore.errors import ExportError, MissingExtraError

__all__ = ["FORMATS", "QUANTIZATIONS", "RUNTIMES", "WRITERS", "check_choices"]

RUNTIMES: Mapping[str, str] = {
    "saved_model": "saved_model.pb",
    "keras": "model.keras",
    "tflite": "model.tflite",
    "onnx": "model.onnx",
    "openvino": "model.xml",
}
"""The formats that a head is exported in, each with the file that holds the model, or leads to it."""

FORMATS = tuple(RUNTIMES)
QUANTIZATIONS = ("float16", "int8")

WRITERS: Mapping[str, tuple[str, ...]] = {"onnx": ("onnx", "tf2onnx"), "openvino": ("openvino",)}
"""What a format needs to be written, beyond Keras and TensorFlow."""

_RUNNERS = {"onnx": ("onnxruntime",), "tflite": ("ai_edge_litert",)}
_EXTRAS = ("onnx", "tflite")


def check_choices(format: str, quantize: str | None, *, runs: bool) -> None:  # noqa: A002
    """Refuse a format that there is none of, or that needs packages that are not installed.

    Parameters
    ----------
    format, quantize : str
        As for :func:`featstore.export_head`.
    runs : bool
        Whether the model is to be run, too.

    Raises
    ------
    ExportError, MissingExtraError
    """
    if format not in FORMATS:
        raise ExportError(f"a format is one of {', '.join(FORMATS)}; found {format!r}")
    if quantize is not None and quantize not in QUANTIZATIONS:
        raise ExportError(f"weights are quantized to {' or '.join(QUANTIZATIONS)}; found {quantize!r}")
    if quantize is not None and format != "tflite":
        raise ExportError(f"only the format tflite is quantized; found {quantize} with {format}")
    needed = (*WRITERS.get(format, ()), *(_RUNNERS.get(format, ()) if runs else ()))
    if missing := [package for package in needed if find_spec(package) is None]:
        wanted = f"featstore[{format}]" if format in _EXTRAS else " ".join(missing)
        raise MissingExtraError(
            f"the format {format} needs {' and '.join(missing)}, not installed here; "
            f'run: pip install "{wanted}"'
        )

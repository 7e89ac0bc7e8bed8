"""Writers of a fused model in each format, with names and metadata where the format allows."""

import contextlib
import json
import logging
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.keras.quiet import quiet_import
from featstore.errors import ExportError, FeatstoreError, MissingExtraError, first_line
from featstore.export.description import RUNTIMES
from featstore.export.runtimes import INPUT, OUTPUT, VALUES
from featstore.io.archives.safe_zip import allow_any_clock, member_info
from featstore.process import Shared, logging_from, root_logger_kept, warnings_to

with quiet_import():
    import keras

__all__ = ["write_model"]


# How an image is brought to the model's size, as in BackboneSpec.picture.
_PICTURE = ("size_px", "resize", "interpolation", "crop_fraction")


def write_model(
    model: Any,
    folder: str,
    *,
    runtime: str,
    essentials: Mapping[str, Any],
    quantize: str | None = None,
    samples: Sequence[NDArray[np.uint8]] = (),
) -> None:
    """Write a fused model into a folder."""
    if runtime != "keras" and keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"the format {runtime} is written by Keras on TensorFlow, and Keras runs on "
            f"{keras.backend.backend()}; unset KERAS_BACKEND, or choose the format keras"
        )
    path = os.path.join(folder, RUNTIMES[runtime])
    allow_any_clock()
    try:
        with _quiet():
            match runtime:
                case "keras":
                    model.save(path)
                case "saved_model":
                    _write_saved_model(model, folder, essentials)
                case "tflite":
                    _write_tflite(model, path, essentials, quantize, samples)
                case "onnx":
                    _write_onnx(model, path, essentials)
                case "openvino":
                    _write_openvino(model, path, essentials)
    except ImportError as error:
        raise MissingExtraError(
            f"writing the format {runtime} needs {error.name}, which is not installed; "
            f'run: pip install "{"featstore[onnx]" if runtime == "onnx" else error.name}"'
        ) from error
    except (FeatstoreError, OSError, MemoryError):
        raise
    # What a converter raises for a network that it cannot express is no closed set.
    except Exception as error:
        others = ", ".join(sorted({*RUNTIMES} - {runtime}))
        raise ExportError(
            f"the network cannot be written as {runtime}: {first_line(error)}; "
            f"other formats may work: {others}"
        ) from error


def _output(essentials: Mapping[str, Any]) -> str:
    """Return what the output of a model is called."""
    return VALUES if "target" in essentials else OUTPUT


def _write_saved_model(model: Any, folder: str, essentials: Mapping[str, Any]) -> None:
    from featstore.export.saved_model import write_saved_model

    write_saved_model(
        model,
        folder,
        classes=essentials["classes"],
        picture={name: essentials[name] for name in _PICTURE if name in essentials},
        rejects_below=essentials["rejects_below"],
        gives_several="thresholds" in essentials,
        output=_output(essentials),
    )


def _write_tflite(
    model: Any,
    path: str,
    essentials: Mapping[str, Any],
    quantize: str | None,
    samples: Sequence[NDArray[np.uint8]],
) -> None:
    from featstore.export.tflite import write_tflite

    averages = essentials["test_views"] > 1
    write_tflite(
        model, path, quantize=quantize, samples=samples, averages=averages, output=_output(essentials)
    )
    # As TensorFlow Lite's own metadata does: files in a zip behind the model, which its readers pass over.
    with zipfile.ZipFile(path, "a") as archive:
        if labels := "".join(f"{label}\n" for label in essentials["classes"]):
            archive.writestr(member_info("labels.txt"), labels.encode("utf-8", "surrogateescape"))
        archive.writestr(member_info("featstore.json"), json.dumps(essentials))


def _write_onnx(model: Any, path: str, essentials: Mapping[str, Any]) -> None:
    import tf2onnx  # noqa: F401

    from featstore.export.stitching import StitchedModel

    if isinstance(model, StitchedModel):
        from featstore.export.onnx_stitching import network_version, stitch_onnx

        head = _as_onnx(model.head, path, "float32", version=network_version(model))
        written = stitch_onnx(model, head)
        _save_onnx(written, path, essentials)
        return
    model = keras.models.clone_model(model, clone_function=_without_constants, recursive=True)
    written = _as_onnx(model, path, "uint8")
    graph = written.graph
    for value, name in ((graph.input[0], INPUT), (graph.output[0], _output(essentials))):
        old, value.name = value.name, name
        value.type.tensor_type.shape.dim[0].dim_param = "n"
        for node in graph.node:
            for ends in (node.input, node.output):
                ends[:] = [name if end == old else end for end in ends]
    del graph.value_info[:]
    _save_onnx(written, path, essentials)


def _as_onnx(model: Any, path: str, kind: str, *, version: int | None = None) -> Any:
    """Return a Keras model as an ``onnx.ModelProto``, written to a path in between."""
    import onnx
    from tf2onnx.constants import OPSET_TO_IR_VERSION

    # Keras needs a model that was called before, or its input signature.
    signature = keras.InputSpec(kind, shape=model.input.shape, name=INPUT)
    opset = None if version is None else min(version, max(OPSET_TO_IR_VERSION))
    model.export(path, format="onnx", verbose=False, input_signature=[signature], opset_version=opset)
    written = onnx.load(path)
    if len(written.graph.input) > 1:
        raise ValueError("tf2onnx takes constants of its layers, such as Normalization's, for further inputs")
    return written


def _save_onnx(written: Any, path: str, essentials: Mapping[str, Any]) -> None:
    import onnx

    onnx.helper.set_model_props(written, {key: json.dumps(value) for key, value in essentials.items()})
    onnx.checker.check_model(written)
    onnx.save(written, path)


def _without_constants(layer: Any) -> Any:
    """Replace a Normalization, whose mean and variance tf2onnx would turn into inputs."""
    if not isinstance(layer, keras.layers.Normalization) or layer.invert or set(layer.mean.shape[:-1]) - {1}:
        return layer
    mean, variance = (np.asarray(value, np.float64).reshape(-1) for value in (layer.mean, layer.variance))
    scale = 1 / np.maximum(np.sqrt(variance), keras.config.epsilon())
    return keras.layers.Rescaling(scale.tolist(), (-mean * scale).tolist(), name=layer.name)


def _write_openvino(model: Any, path: str, essentials: Mapping[str, Any]) -> None:
    from featstore.backbones.engines.openvino import openvino_core
    from featstore.backbones.keras.openvino_export import export_openvino
    from featstore.export.stitching import StitchedModel, stitch

    if isinstance(model, StitchedModel):
        _serialize(*stitch(model), path, essentials)
        return
    exported = os.path.join(os.path.dirname(path), "exported.xml")
    export_openvino(model, exported)
    read = openvino_core().read_model(exported)
    (parameter,) = read.get_parameters()
    # TensorFlow's converter takes what some activations keep for their gradients for further outputs.
    results = read.get_results()
    result = next((one for one in results if "Identity:0" in one.output(0).get_names()), results[0])
    _serialize(result, parameter, path, essentials)
    del read, result, results, parameter
    for ending in (".xml", ".bin"):
        os.unlink(os.path.splitext(exported)[0] + ending)


def _serialize(result: Any, parameter: Any, path: str, essentials: Mapping[str, Any]) -> None:
    from featstore.backbones.engines.openvino import import_openvino

    openvino = import_openvino()
    parameter.output(0).set_names({INPUT})
    result.output(0).set_names({_output(essentials)})
    described = openvino.Model([result], [parameter], "featstore")
    for key, value in essentials.items():
        described.set_rt_info(json.dumps(value), ["featstore", key])
    openvino.serialize(described, path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the converters' own log output; errors are raised."""
    with _critical, root_logger_kept, quiet_import(), warnings_to(lambda _text: None):
        yield


_critical = Shared(lambda: logging_from(logging.CRITICAL, "tensorflow", "tf2onnx", "absl"))

"""Cutting of a network with OpenVINO: from one tensor of pixels to some of its tensors.

Files of strangers are parsed here: only the child process (``child.py``) calls it.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from featstore.backbones.engines.openvino import import_openvino, openvino_core
from featstore.errors import BackboneError, FeatstoreError, message_lines

__all__ = ["CutGraph", "cut_graph", "find_output", "needed_inputs", "read_graph"]

_FRONT_ENDS = {"onnx": "onnx", "tflite": "tflite", "saved_model": "tf", "frozen_graph": "tf"}

# TensorFlow's operations for files that are not decoded yet.
_DECODERS = ("DecodeJpeg", "DecodePng", "DecodeImage", "DecodeBmp", "DecodeGif")
_LISTED = 8


@dataclass(frozen=True, kw_only=True)
class CutGraph:
    """An ``openvino.Model`` of one input, and the names of its outputs, in their order."""

    model: Any
    outputs: tuple[str, ...]


def cut_graph(path: str, kind: str, *, input_name: str | None, outputs: Sequence[str | None]) -> CutGraph:
    """Read a network from the input to the outputs, None for its only one."""
    try:
        front_end = _input_model(path, kind)
        if front_end is None:
            return _cut_whole(openvino_core().read_model(path), input_name, outputs)
        loader, graph = front_end
        names = [one for name in outputs if name is not None and (one := _tensor(graph, name)) is not None]
        if kind == "onnx" or len(names) < len(outputs):
            # By its own outputs, or names that the file has but its graph has not: those of a signature.
            # OpenVINO cuts ONNX models nowhere else while it reads them.
            return _cut_whole(_converted(loader, graph, input_name), input_name, outputs, is_cut=True)
        graph.override_all_outputs([graph.get_place_by_tensor_name(name) for name in names])
        model = _converted(loader, graph, input_name)
        tensors = [one.node.input_value(0) for one in model.outputs]
        return CutGraph(model=_pruned(tensors, model), outputs=tuple(names))
    except (FeatstoreError, MemoryError):
        raise
    except Exception as error:  # each front end has its own
        raise BackboneError(_explained(error)) from error


def read_graph(path: str, kind: str) -> Any:
    """Read a network as a whole."""
    try:
        front_end = _input_model(path, kind)
        return openvino_core().read_model(path) if front_end is None else _converted(*front_end, None)
    except (FeatstoreError, MemoryError):
        raise
    except Exception as error:  # as above
        raise BackboneError(_explained(error)) from error


def _input_model(path: str, kind: str) -> tuple[Any, Any] | None:
    if kind == "openvino":
        return None
    import_openvino()
    from openvino.frontend import FrontEndManager

    loader = FrontEndManager().load_by_framework(_FRONT_ENDS[kind])
    return loader, loader.load(path)


def _tensor(graph: Any, name: str) -> str | None:
    """Return a tensor's name in a graph; TensorFlow's may lack the number of the output."""
    for candidate in (name, f"{name}:0"):
        try:
            if graph.get_place_by_tensor_name(candidate) is not None:
                return candidate
        except RuntimeError:
            continue
    return None


def _converted(loader: Any, graph: Any, input_name: str | None) -> Any:
    if input_name is not None:
        name = _tensor(graph, input_name)
        if name is None:
            raise BackboneError(f"it has no tensor {input_name!r} to take the pixels")
        graph.override_all_inputs([graph.get_place_by_tensor_name(name)])
    return loader.convert(graph)


def _cut_whole(
    model: Any, input_name: str | None, outputs: Sequence[str | None], *, is_cut: bool = False
) -> CutGraph:
    """Cut a network that OpenVINO has read as a whole."""
    if input_name is not None and not is_cut and input_name not in _names(model.inputs):
        raise BackboneError(f"it has no input {input_name!r}; it has {', '.join(_names(model.inputs))}")
    found = [find_output(model, name) for name in outputs]
    return CutGraph(model=_pruned([one for one, _ in found], model), outputs=tuple(name for _, name in found))


def find_output(model: Any, name: str | None) -> tuple[Any, str]:
    """Return the tensor of a name, None for that of the only output, and its name."""
    shown = ", ".join([f"{_name(one)} {_shape(one)}" for one in model.outputs][:_LISTED])
    if name is None:
        if len(model.outputs) != 1:
            raise BackboneError(f"it has {len(model.outputs)} outputs; choose with --output: {shown}")
        return model.outputs[0].node.input_value(0), _name(model.outputs[0])
    tensors: dict[str, Any] = {}
    for node in model.get_ordered_ops():
        for tensor in () if node.get_type_name() == "Result" else node.outputs():
            tensors |= dict.fromkeys((*tensor.get_names(), node.get_friendly_name()), tensor)
    for one in model.outputs:
        tensors |= dict.fromkeys(one.get_names(), one.node.input_value(0))
    if name not in tensors:
        near = difflib.get_close_matches(name, tensors, n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ";"
        raise BackboneError(f"it has no tensor {name!r}{hint} its outputs are {shown}")
    return tensors[name], name


def needed_inputs(tensors: Sequence[Any], model: Any) -> list[Any]:
    """Return the inputs of a model that some of its tensors depend on."""
    needed, left = set[str](), [tensor.node for tensor in tensors]
    while left:
        node = left.pop()
        if node.get_name() not in needed:
            needed.add(node.get_name())
            left += [value.node for value in (one.get_source_output() for one in node.inputs())]
    return [one for one in model.inputs if one.node.get_name() in needed]


def _pruned(tensors: Sequence[Any], model: Any) -> Any:
    """Return the part of a model that its tensors need; it has one input."""
    inputs = needed_inputs(tensors, model)
    if len(inputs) != 1:
        shown = ", ".join(f"{_name(one)} {_shape(one)}" for one in inputs) or "none"
        raise BackboneError(
            f"it takes {len(inputs)} inputs, expected one of pixels: {shown}; choose an --output that needs "
            "the image alone, or the --input"
        )
    return import_openvino().Model([*tensors], [inputs[0].node], "network")


def _names(tensors: Sequence[Any]) -> list[str]:
    return sorted(name for tensor in tensors for name in tensor.get_names())


def _name(tensor: Any) -> str:
    """Return the one name of a tensor that serves for all."""
    names = sorted(tensor.get_names(), key=lambda name: (len(name), name))
    return str(names[0] if names else tensor.node.get_friendly_name())


def _shape(tensor: Any) -> str:
    return str(tensor.partial_shape).replace("?", "n")


def _explained(error: Exception) -> str:
    text = str(error)
    if any(decoder in text for decoder in _DECODERS):
        return (
            "it decodes its images itself; name the tensor that takes pixels with --input (Mul:0 in the "
            "Inception graph of retrain.py)"
        )
    lines, signs = message_lines(error), ("No conversion rule", "No translator found", "not supported")
    reason = next((line for line in lines if any(sign in line for sign in signs)), lines[-1])
    return f"OpenVINO cannot read it: {reason.strip('- ')[:300]}"

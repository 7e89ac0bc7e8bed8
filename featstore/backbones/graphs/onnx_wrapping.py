"""A cut ONNX network from uint8 pixels to rows of features, still as ONNX.

Files of strangers are parsed here: only the child process (``child.py``) calls it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from featstore.errors import BackboneError

__all__ = ["FEATURES", "PIXELS", "wrap_onnx"]

PIXELS, FEATURES = "featstore/images", "featstore/features"
"""Names of the input and the output."""

# Domains of operations that ONNX Runtime has built in.
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
_PROTOBUF_BYTES = 2**31 - 1

# From this version on the axes of reductions are an input (ONNX operator changelog).
_AXES_AS_INPUT = 18


def wrap_onnx(task: dict[str, Any]) -> dict[str, Any]:
    """Write a network with scaling and pooling to one file; return how many images it takes, None for any."""
    model = onnx.load(task["path"])
    if foreign := sorted({one.domain for one in model.opset_import} - {*_DOMAINS}):
        raise BackboneError(f"it has operations of {', '.join(foreign)}, which ONNX does not have")
    versions = {one.domain: one.version for one in model.opset_import}
    graph = model.graph
    source = task["input_name"] or _pixel_input(graph)
    wrapping = _Wrapping(versions.get("", versions.get("ai.onnx", 13)))
    layout = task["layout"] or _shown_layout(graph, source)
    before = wrapping.scaled(source, _element_type(graph, source), task["scaling"], layout)
    layers = [_tensor(graph, name) for name in task["layers"]]
    poolings = zip(layers, task["poolings"], strict=True)
    after = [wrapping.pooled(name, pooling, layout) for name, pooling in poolings]
    wrapping.add("Concat", after, FEATURES, axis=1)
    n_images = _n_images(graph, source)
    kept = _needed(graph, layers, source)
    height, width = task["size_px"]
    del graph.input[:], graph.output[:], graph.node[:], graph.value_info[:]
    graph.node.extend([*before, *kept, *wrapping.nodes])
    graph.initializer.extend(wrapping.arrays)
    pixels = [n_images or "n", height, width, 3]
    graph.input.append(helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, pixels))
    graph.output.append(helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, [n_images or "n", "d"]))
    if model.ByteSize() > _PROTOBUF_BYTES:
        raise BackboneError("it has more than 2 GB, which one ONNX file cannot hold; use --engine openvino")
    onnx.save(model, task["target"])
    return {"n_images": n_images}


class _Wrapping:
    """Nodes around a network, and their constants."""

    def __init__(self, version: int) -> None:
        self._version = version
        self.nodes: list[Any] = []
        self.arrays: list[Any] = []

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, [*inputs], [output], **attributes))
        return output

    def scaled(self, source: str, kind: int, scaling: dict[str, Any], layout: str) -> list[Any]:
        """Return the nodes from pixels to the tensor that takes them."""
        at = PIXELS
        if scaling["reversed"]:
            at = self.add("Gather", [at, self._array([2, 1, 0], np.int64)], f"{PIXELS}/bgr", axis=3)
        at = self.add("Cast", [at], f"{PIXELS}/float", to=TensorProto.FLOAT)
        at = self.add("Sub", [at, self._array(scaling["mean"], np.float32)], f"{PIXELS}/centred")
        at = self.add("Div", [at, self._array(scaling["std"], np.float32)], f"{PIXELS}/scaled")
        if layout == "nchw":
            at = self.add("Transpose", [at], f"{PIXELS}/nchw", perm=[0, 3, 1, 2])
        self.add("Cast", [at], source, to=kind)
        nodes, self.nodes = self.nodes, []
        return nodes

    def pooled(self, name: str, pooling: str, layout: str) -> str:
        """Return the name of a tensor as float32 rows."""
        at = self.add("Cast", [name], f"{FEATURES}/{name}", to=TensorProto.FLOAT)
        maps = [2, 3] if layout == "nchw" else [1, 2]
        match pooling:
            case "avg" | "max":
                at = self._reduced("ReduceMean" if pooling == "avg" else "ReduceMax", at, maps)
            case "tokens":
                at = self._reduced("ReduceMean", at, [1])
            case "cls":
                at = self.add("Gather", [at, self._array(0, np.int64)], f"{at}/first", axis=1)
        return self.add("Flatten", [at], f"{at}/rows", axis=1)

    def _reduced(self, kind: str, at: str, axes: list[int]) -> str:
        if self._version >= _AXES_AS_INPUT:
            return self.add(kind, [at, self._array(axes, np.int64)], f"{at}/pooled", keepdims=0)
        return self.add(kind, [at], f"{at}/pooled", axes=axes, keepdims=0)

    def _array(self, values: Any, kind: Any) -> str:
        name = f"featstore/constant_{len(self.arrays)}"
        self.arrays.append(numpy_helper.from_array(np.asarray(values, kind), name))
        return name


def _inputs(graph: Any) -> dict[str, Any]:
    """Return the inputs that have no value in the file, by name."""
    known = {one.name for one in graph.initializer}
    return {one.name: one for one in graph.input if one.name not in known}


def _pixel_input(graph: Any) -> str:
    inputs = _inputs(graph)
    found = [name for name, one in inputs.items() if len(one.type.tensor_type.shape.dim) in (0, 4)]
    if len(found) != 1:
        raise BackboneError(f"it takes {', '.join(inputs)}; name the tensor that takes pixels with --input")
    return found[0]


def _shown_layout(graph: Any, source: str) -> str:
    found = _inputs(graph).get(source)
    dims = [] if found is None else [one.dim_value for one in found.type.tensor_type.shape.dim]
    return "nhwc" if len(dims) == 4 and dims[1] != 3 and dims[3] == 3 else "nchw"


def _tensor(graph: Any, name: str) -> str:
    """Return the name of a tensor that OpenVINO may call after its node."""
    outputs = {one for node in graph.node for one in node.output}
    named = {node.name: node.output[0] for node in graph.node if node.name and node.output}
    if name not in outputs and name not in named:
        raise BackboneError(f"ONNX Runtime knows no tensor {name!r} in it; use --engine openvino")
    return name if name in outputs else str(named[name])


def _element_type(graph: Any, source: str) -> int:
    found = _inputs(graph).get(source)
    return TensorProto.FLOAT if found is None else int(found.type.tensor_type.elem_type)


def _n_images(graph: Any, source: str) -> int | None:
    found = _inputs(graph).get(source)
    dims = [] if found is None else found.type.tensor_type.shape.dim
    return int(dims[0].dim_value) if dims and dims[0].dim_value > 0 else None


def _needed(graph: Any, outputs: Iterable[str], source: str) -> list[Any]:
    """Return the nodes between the pixels and some tensors, in their order."""
    makers = {name: at for at, node in enumerate(graph.node) for name in node.output if name}
    needed: set[int] = set()
    left = [*outputs]
    while left:
        name = left.pop()
        at = makers.get(name)
        if name != source and at is not None and at not in needed:
            needed.add(at)
            left += _taken(graph.node[at])
    return [graph.node[at] for at in sorted(needed)]


def _taken(node: Any) -> Iterator[str]:
    """Yield the names that a node reads, in the graphs inside it too."""
    yield from node.input
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            for one in inner.node:
                yield from _taken(one)
            yield from (one.name for one in inner.output)

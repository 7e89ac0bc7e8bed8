"""One ONNX model of ONNX networks, which Keras cannot build, and a head that it can."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper, version_converter

from featstore.errors import ExportError
from featstore.export.runtimes import INPUT, OUTPUT
from featstore.export.stitching import StitchedModel

__all__ = ["network_version", "stitch_onnx"]

# From this version on Split names the number of its outputs (ONNX operator changelog).
_SPLIT_BY_NUMBER = 18


def stitch_onnx(stitched: StitchedModel, head: Any) -> Any:
    """Return the whole as an ``onnx.ModelProto``, given the head as one."""
    networks = [onnx.load_from_string(network.content) for network in stitched.networks]
    version = network_version(stitched)
    if _version(head) != version:
        head = version_converter.convert_version(head, version)
    shape = [_side(one) for one in networks[0].graph.input[0].type.tensor_type.shape.dim]
    fixed = [network.n_images for network in stitched.networks if network.n_images is not None]
    if fixed and stitched.test_views > 1:
        raise ExportError(
            "the network takes one image at a time, and the model would have to look at two views: write the "
            "head for the image itself with --test-views 1"
        )
    parts = [compose.add_prefix(network, f"network_{at}/") for at, network in enumerate(networks)]
    whole = compose.add_prefix(head, "head/")
    whole.ir_version = max(part.ir_version for part in (*parts, whole))
    graph = whole.graph
    inner = [*graph.node]
    source, target = graph.input[0].name, graph.output[0].name
    n_classes = _side(graph.output[0].type.tensor_type.shape.dim[1])
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    seen = _pictures(graph, stitched.test_views, int(shape[2]))
    for part in parts:
        graph.node.append(helper.make_node("Identity", [seen], [part.graph.input[0].name]))
        graph.node.extend(part.graph.node)
        graph.initializer.extend(part.graph.initializer)
        whole.functions.extend(part.functions)
        known = {one.domain for one in whole.opset_import}
        whole.opset_import.extend(one for one in part.opset_import if one.domain not in known)
    features = [part.graph.output[0].name for part in parts]
    graph.node.append(helper.make_node("Concat", features, [source], axis=1))
    graph.node.extend(inner)
    graph.node.extend(_averaged(target, stitched.test_views, version))
    n_images = fixed[0] if fixed else "n"
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [n_images, *shape[1:]]))
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [n_images, n_classes]))
    return whole


def network_version(stitched: StitchedModel) -> int:
    """Return the version of ONNX's operations that all networks are of."""
    versions = {_version(onnx.load_from_string(network.content)) for network in stitched.networks}
    if len(versions) > 1:
        raise ExportError(
            f"the networks are of different versions of ONNX's operations ({', '.join(map(str, versions))}), "
            "which one model cannot hold; write the head as openvino"
        )
    return versions.pop()


def _pictures(graph: Any, test_views: int, width: int) -> str:
    """Add the mirror image to the batch where the model looks at it too; return the name of the batch."""
    if test_views == 1:
        return INPUT
    graph.initializer.append(numpy_helper.from_array(np.arange(width)[::-1].copy(), "mirrored"))
    graph.node.append(helper.make_node("Gather", [INPUT, "mirrored"], ["mirror_image"], axis=2))
    graph.node.append(helper.make_node("Concat", [INPUT, "mirror_image"], ["both_images"], axis=0))
    graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "half"))
    return "both_images"


def _averaged(target: str, test_views: int, version: int) -> Sequence[Any]:
    """Return the nodes from the head's probabilities to the model's."""
    if test_views == 1:
        return [helper.make_node("Identity", [target], [OUTPUT])]
    number = {"num_outputs": 2} if version >= _SPLIT_BY_NUMBER else {}
    return [
        helper.make_node("Split", [target], ["first_view", "second_view"], axis=0, **number),
        helper.make_node("Add", ["first_view", "second_view"], ["both_views"]),
        helper.make_node("Mul", ["both_views", "half"], [OUTPUT]),
    ]


def _version(model: Any) -> int:
    return next(int(one.version) for one in model.opset_import if one.domain in ("", "ai.onnx"))


def _side(dim: Any) -> int | str:
    return int(dim.dim_value) if dim.HasField("dim_value") else str(dim.dim_param or "n")

"""Networks that Keras cannot build and a head that it can, and one OpenVINO model of them."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featstore.backbones.engines.openvino import import_openvino, openvino_core
from featstore.backbones.keras.openvino_export import export_openvino
from featstore.errors import ExportError

__all__ = ["StitchedModel", "stitch"]


@dataclass(frozen=True, kw_only=True)
class StitchedModel:
    """Networks on the same pixels, and a head on their joined features.

    Parameters
    ----------
    networks : sequence of ConvertedNetwork, or of OnnxNetwork for an ONNX model
    head : keras.Model
        From float32 features (n, feature_dim) to probabilities.
    test_views : int
        1, or 2: the mean over the image and its mirror image.
    """

    networks: Sequence[Any]
    head: Any
    test_views: int


def stitch(stitched: StitchedModel) -> tuple[Any, Any]:
    """Return the output and the input of the whole, as OpenVINO's nodes."""
    openvino, core = import_openvino(), openvino_core()
    ops = openvino.opset13
    networks = [core.read_model(network.xml, network.weights) for network in stitched.networks]
    size_px = [one.get_length() for one in [*networks[0].inputs[0].partial_shape][1:3]]
    n_images = min(_most_images(network, size_px) for network in networks)
    if n_images == 1 and stitched.test_views > 1:
        raise ExportError(
            "the network takes one image at a time, and the model would have to look at two views: write the "
            "head for the image itself with --test-views 1"
        )
    parameter = ops.parameter([n_images, *size_px, 3], openvino.Type.u8)
    pixels = parameter.output(0)
    if stitched.test_views > 1:
        mirrored = ops.gather(pixels, np.arange(size_px[1])[::-1].copy(), np.int64(2)).output(0)
        pixels = ops.concat([pixels, mirrored], 0).output(0)
    features = [_applied(network, pixels) for network in networks]
    joined = features[0] if len(features) == 1 else ops.concat(features, 1).output(0)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "head.xml")
        export_openvino(stitched.head, path)
        with open(path, "rb") as xml, open(os.path.join(folder, "head.bin"), "rb") as weights:
            head = core.read_model(xml.read(), weights.read())
    probabilities = _applied(head, joined)
    if stitched.test_views > 1:
        first, second = ops.split(probabilities, np.int64(0), 2).outputs()
        probabilities = ops.multiply(ops.add(first, second), np.float32(0.5)).output(0)
    return ops.result(probabilities), parameter


def _most_images(network: Any, size_px: Sequence[int]) -> int:
    """Return -1 for a network that takes any number of images, set to take them, and 1 for others."""
    if network.inputs[0].partial_shape[0] == 1:
        return 1
    network.reshape([-1, *size_px, 3])
    return -1 if network.outputs[0].partial_shape[0].is_dynamic else 1


def _applied(model: Any, source: Any) -> Any:
    """Return a model's only output on another source than its parameter."""
    (parameter,) = model.get_parameters()
    for target in parameter.output(0).get_target_inputs():
        target.replace_source_output(source)
    return model.get_results()[0].input_value(0)

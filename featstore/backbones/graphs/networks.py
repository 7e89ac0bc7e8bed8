"""Facts and conversion of networks in files of other libraries, by a child process."""

import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from featstore.backbones.caches.cache import recall, remember
from featstore.backbones.engines.openvino import openvino_version
from featstore.backbones.graphs.asking import ask_child
from featstore.backbones.graphs.formats import GraphFile
from featstore.backbones.request import NetworkFacts, NetworkRequest, weights_mismatch
from featstore.backbones.spec import BackboneSpec, JoinedSpec
from featstore.extras import check_extra

__all__ = ["OnnxNetwork", "convert_graph", "graph_facts", "onnx_network"]

_log = logging.getLogger(__name__)

# Raised when a later version reads, from the same request, other facts.
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class OnnxNetwork:
    """An ONNX model from uint8 pixels to float32 rows, and the images that it takes at once, None for any."""

    content: bytes
    n_images: int | None


def graph_facts(request: NetworkRequest) -> NetworkFacts:
    """Return the facts of a network, from the cache or by reading it."""
    digest = _graph(request).digest()
    key = {
        "graphs": _VERSION,
        "openvino": openvino_version(),
        "digest": digest,
        **{name: getattr(request, name) for name in ("layer", "pooling", "input_name", "layout")},
        "size_px": None if request.size_px is None else list(request.size_px),
    }
    if (known := recall("weights", key)) is not None:
        return NetworkFacts(**{**known, "size_px": tuple(known["size_px"])})
    found = _in_child([request], target=None)
    facts = NetworkFacts(
        weights_digest=digest,
        layer=found["layers"][0],
        pooling=found["poolings"][0],
        size_px=(found["size_px"][0], found["size_px"][1]),
        feature_dim=found["feature_dims"][0],
        layout=found["layout"],
    )
    settled = {"layer": facts.layer, "pooling": facts.pooling, "layout": facts.layout}
    for one in (key, {**key, **settled, "size_px": list(facts.size_px)}):
        remember("weights", one, {**asdict(facts), "size_px": list(facts.size_px)})
    return facts


def convert_graph(
    spec: BackboneSpec | JoinedSpec, requests: Sequence[NetworkRequest], path: str
) -> Mapping[str, Any]:
    """Write a network to ``path`` in OpenVINO's format, from pixels to the features of all requests."""
    digest = _graph(requests[0]).digest()
    if digest != spec.parts[0].weights_digest:
        raise weights_mismatch(requests[0], digest, spec.parts[0])
    _log.info("converting %s for OpenVINO (once)", spec.name)
    found = _in_child(requests, target=path)
    return {"feature_dim": sum(found["feature_dims"]), "openvino": openvino_version()}


def onnx_network(spec: BackboneSpec | JoinedSpec, requests: Sequence[NetworkRequest]) -> OnnxNetwork:
    """Return a network as ONNX, from pixels to the features of all requests."""
    first = requests[0]
    check_extra("onnx", f"running {first.name} by ONNX Runtime", "onnx", "onnxruntime")
    digest = _graph(first).digest()
    if digest != spec.parts[0].weights_digest:
        raise weights_mismatch(first, digest, spec.parts[0])
    with tempfile.TemporaryDirectory(prefix="featstore-") as folder:
        target = os.path.join(folder, "network.onnx")
        # Of the request some is open, that the specification has settled.
        settled = {
            "work": "onnx",
            "layers": [part.layer for part in spec.parts],
            "poolings": [part.pooling for part in spec.parts],
            "size_px": spec.parts[0].size_px,
        }
        found = ask_child({**_task(requests, target=target), **settled}, _graph(first))
        with open(target, "rb") as file:
            return OnnxNetwork(content=file.read(), n_images=found["n_images"])


def _graph(request: NetworkRequest) -> GraphFile:
    return GraphFile(path=request.name, kind=request.architecture)


def _in_child(requests: Sequence[NetworkRequest], *, target: str | None) -> dict[str, Any]:
    """Let a child process read a network."""
    return ask_child(_task(requests, target=target), _graph(requests[0]))


def _task(requests: Sequence[NetworkRequest], *, target: str | None) -> dict[str, Any]:
    first, graph = requests[0], _graph(requests[0])
    mean, std = first.scaling.standardization
    return {
        "work": "network",
        "path": graph.path,
        "kind": graph.kind,
        "input_name": first.input_name,
        "layers": [request.layer for request in requests],
        "poolings": [request.pooling for request in requests],
        "layout": first.layout,
        "size_px": first.size_px,
        "scaling": {"mean": mean, "std": std, "reversed": first.preprocessing == "caffe"},
        "target": target,
    }

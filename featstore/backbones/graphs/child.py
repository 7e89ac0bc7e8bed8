"""The program of the child process that reads files of strangers: a task on stdin, its result on stdout."""

import contextlib
import json
import os
import sys
from typing import Any

import numpy as np

from featstore.backbones.caches.cache import ConvertedNetwork
from featstore.backbones.engines.openvino import OpenVINOEngine, import_openvino
from featstore.backbones.graphs.cutting import cut_graph
from featstore.backbones.graphs.texts import embed_texts
from featstore.backbones.graphs.wrapping import settle_input, wrap_graph
from featstore.errors import BackboneError, FeatstoreError, last_line

__all__ = ["main"]

# Of a row's length: how far images of one batch may change each other's features.
_TOLERANCE = 1e-3


def main() -> None:
    """Do one task."""
    task = json.load(sys.stdin)
    # What OpenVINO prints is no answer.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _limit(task["memory_bytes"], task["file_bytes"])
    try:
        result = _WORK[task["work"]](task)
    except MemoryError:
        result = {"error": _too_large(task)}
    except FeatstoreError as error:
        result = {"error": str(error)}
    except Exception as error:  # noqa: BLE001 - a library raises anything for a file that it cannot read
        text = last_line(error)
        result = {"error": _too_large(task) if "alloc" in text else f"OpenVINO cannot use it: {text}"}
    json.dump(result, answer)
    answer.flush()
    # Libraries that were given a broken file need not be trusted to clear up.
    os._exit(0)


def _wrap_onnx(task: dict[str, Any]) -> dict[str, Any]:
    from featstore.backbones.graphs.onnx_wrapping import wrap_onnx

    return wrap_onnx(task)


def _done(task: dict[str, Any]) -> dict[str, Any]:
    graph = cut_graph(task["path"], task["kind"], input_name=task["input_name"], outputs=task["layers"])
    size_px = task["size_px"] and tuple(task["size_px"])
    layout, is_shown, size_px = settle_input(graph.model, layout=task["layout"], size_px=size_px)
    model, facts = wrap_graph(
        graph.model,
        layout=layout,
        scaling=task["scaling"],
        poolings=task["poolings"],
        names=graph.outputs,
    )
    described = {
        "layers": list(graph.outputs),
        "poolings": [pooling for pooling, _ in facts],
        "feature_dims": [width for _, width in facts],
        "size_px": list(size_px),
        "layout": None if is_shown else layout,
    }
    if task["target"] is not None:
        _write(model, task["target"], size_px)
    return described


def _write(model: Any, target: str, size_px: tuple[int, int]) -> None:
    """Write the network in OpenVINO's format, for two images at once where it takes them."""
    # Networks exported for one image may have that number in the middle, and take no other.
    pixels = np.random.default_rng(0).integers(0, 256, (2, *size_px, 3), dtype=np.uint8)
    model.reshape([1, *size_px, 3])
    single = np.concatenate([_engine(model, target)(pixels[at : at + 1]) for at in (0, 1)])
    if not np.isfinite(single).all():
        raise BackboneError("its features of a picture of noise are not finite")
    with contextlib.suppress(RuntimeError, BackboneError):
        model.reshape([2, *size_px, 3])
        if list(model.outputs[0].shape) == [2, single.shape[1]]:
            pair = _engine(model, target)(pixels)
            if np.linalg.norm(pair - single) <= _TOLERANCE * np.linalg.norm(single):
                return
    model.reshape([1, *size_px, 3])
    import_openvino().serialize(model, target)


def _engine(model: Any, target: str) -> OpenVINOEngine:
    import_openvino().serialize(model, target)
    with open(target, "rb") as xml, open(os.path.splitext(target)[0] + ".bin", "rb") as weights:
        return OpenVINOEngine(ConvertedNetwork(xml=xml.read(), weights=weights.read(), facts={}))


def _limit(memory_bytes: int | None, file_bytes: int) -> None:
    """Bound what this process may take, where the system can."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
        if memory_bytes is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


def _too_large(task: dict[str, Any]) -> str:
    return f"it needs more memory than there is ({(task['memory_bytes'] or 0) / 1e9:.1f} GB)"


_WORK = {"network": _done, "onnx": _wrap_onnx, "texts": embed_texts}


if __name__ == "__main__":
    main()

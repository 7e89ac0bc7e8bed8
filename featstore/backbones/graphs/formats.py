"""Files of networks that OpenVINO reads: how to distinguish them, what belongs to one, and its digest."""

import hashlib
import mmap
import os
from dataclasses import dataclass

from featstore.backbones.caches.cache import file_digest
from featstore.backbones.files.paths import check_model_path
from featstore.backbones.graphs.onnx_files import external_files
from featstore.errors import BackboneError
from featstore.io.hdf5.raw import cannot_read

__all__ = ["GRAPH_KINDS", "GRAPH_WORDS", "GraphFile", "find_graph"]

# The kind of a network by its file's ending.
_ENDINGS = {".onnx": "onnx", ".xml": "openvino", ".tflite": "tflite", ".pb": "frozen_graph"}
_SAVED_MODEL = "saved_model.pb"

GRAPH_WORDS = {
    "onnx": "an ONNX model",
    "openvino": "an OpenVINO model",
    "tflite": "a TFLite model",
    "saved_model": "a TensorFlow SavedModel",
    "frozen_graph": "a frozen graph of TensorFlow",
}
"""What each kind is called."""

GRAPH_KINDS = tuple(GRAPH_WORDS)
"""The architectures of such networks in specifications."""

_LARGEST = 2**36


@dataclass(frozen=True, kw_only=True)
class GraphFile:
    """A network's file, or the folder of a SavedModel, and its kind."""

    path: str
    kind: str

    def files(self) -> dict[str, str]:
        """Return the paths of all files that the network is in, by what they are called in it."""
        check_model_path(os.path.join(self.path, _SAVED_MODEL) if self.kind == "saved_model" else self.path)
        found = self._files()
        for path in found.values():
            if not os.path.isfile(path):
                raise BackboneError(f"{self.path} is incomplete: there is no file {path}")
        n_bytes = sum(os.path.getsize(path) for path in found.values())
        if n_bytes > _LARGEST:
            most = f"at most {_LARGEST / 1e9:,.0f} GB are read"
            raise BackboneError(f"{self.path} has {n_bytes / 1e9:,.0f} GB; {most}")
        return found

    def digest(self) -> str:
        """Return the SHA-256 over the content of all files; it does not depend on where they are."""
        digest = hashlib.sha256(self.kind.encode())
        try:
            for name, path in sorted(self.files().items()):
                digest.update(f"{name}\0{file_digest(path)}\0".encode("utf-8", "surrogatepass"))
        except OSError as error:
            raise BackboneError(f"cannot read {self.path}: {error.strerror or error}") from error
        return digest.hexdigest()

    def _files(self) -> dict[str, str]:
        match self.kind:
            case "saved_model":
                folder = os.path.join(self.path, "variables")
                names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
                variables = [name for name in names if name.startswith("variables.")]
                shown = [_SAVED_MODEL, *(f"variables/{name}" for name in variables)]
                return {name: os.path.join(self.path, *name.split("/")) for name in shown}
            case "openvino":
                return {"xml": self.path, "bin": os.path.splitext(self.path)[0] + ".bin"}
            case "onnx":
                folder = os.path.dirname(self.path)
                return {"": self.path, **{name: os.path.join(folder, name) for name in self._external()}}
        return {"": self.path}

    def _external(self) -> list[str]:
        try:
            with open(self.path, "rb") as file:
                if not os.fstat(file.fileno()).st_size:
                    raise BackboneError(f"{self.path} is empty; expected an ONNX model")
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    names = external_files(content)
        except (IndexError, ValueError) as error:
            raise BackboneError(f"{self.path} is no ONNX model, or is damaged: {error}") from error
        except OSError as error:
            raise BackboneError(cannot_read(self.path, error)) from error
        for name in names:
            if os.path.isabs(name) or ".." in name.replace("\\", "/").split("/") or not name:
                raise BackboneError(
                    f"{self.path} is refused: its weights are in {name[:80]!r}, outside of its own folder"
                )
        return names


def find_graph(path: str) -> GraphFile | None:
    """Return the network at a path, which may be a folder with one; None if it is of no such kind."""
    if os.path.basename(path) == _SAVED_MODEL:
        path = os.path.dirname(path) or os.curdir
    ending = os.path.splitext(path)[1].lower()
    if not os.path.isdir(path):
        return GraphFile(path=os.path.abspath(path), kind=_ENDINGS[ending]) if ending in _ENDINGS else None
    if os.path.exists(os.path.join(path, _SAVED_MODEL)):
        return GraphFile(path=os.path.abspath(path), kind="saved_model")
    # Repositories of Hugging Face have ONNX models in a folder of their own.
    for folder in (path, os.path.join(path, "onnx")):
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        found = [name for name in names if os.path.splitext(name)[1].lower() in _ENDINGS]
        if len(found) > 1:
            raise BackboneError(f"{folder} holds {len(found)} networks; name one: {', '.join(found[:6])}")
        if found:
            return find_graph(os.path.join(folder, found[0]))
    return None

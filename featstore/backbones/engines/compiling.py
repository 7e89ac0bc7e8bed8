"""Choice of an engine for a network, and its one-time conversion."""

import contextlib
import errno
import io
import json
import logging
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.backbones.caches.cache import (
    ConvertedNetwork,
    has_room,
    recall,
    recall_network,
    remember,
    remember_network,
)
from featstore.backbones.engines.devices import gpu_in_sight
from featstore.backbones.engines.openvino import Engine, OpenVINOEngine, keep_only_output, openvino_version
from featstore.backbones.graphs.networks import convert_graph, onnx_network
from featstore.backbones.keras.engine import KerasEngine
from featstore.errors import BackboneError, first_line, message_lines
from featstore.hashing import fingerprint

if TYPE_CHECKING:
    from featstore.backbones.keras.models import BuiltNetwork
    from featstore.backbones.request import NetworkRequest
    from featstore.backbones.spec import BackboneSpec, JoinedSpec

__all__ = [
    "ConversionError",
    "check_devices",
    "compile_engine",
    "converted_before",
    "converted_network",
    "runs_on_openvino",
]

_log = logging.getLogger(__name__)

# Raised when a later version converts networks in another way.
_CONVERSION_VERSION = 1

_SYSTEM_ERRORS = (
    *("EACCES", "EDQUOT", "EFBIG", "EIO", "EMFILE", "ENFILE", "ENOMEM", "ENOSPC", "EPERM", "EROFS"),
    "ESTALE",
)
# In messages of libraries that do not raise an OSError where the system refuses something.
_SYSTEM_SIGNS = (
    *(
        os.strerror(number).lower()
        for number in map(errno.__dict__.get, _SYSTEM_ERRORS)
        if number is not None
    ),
    *("resourceexhausted", "resource_exhausted", "bad_alloc", "quota"),
)

PACKAGED = "scattering.zip"
"""A converted network beside this module."""

# Of the converted network's features, relative to Keras': OpenVINO's are within 1e-5 where all is well.
_TOLERANCE = 1e-3


class ConversionError(Exception):
    """OpenVINO cannot run a network as Keras does."""


def compile_engine(
    spec: "BackboneSpec | JoinedSpec",
    *,
    build: "Callable[[bool, str | None], BuiltNetwork]",
    graphs: "Sequence[NetworkRequest]" = (),
    engine: str,
    devices: Sequence[str] | None = None,
    threads: int | None = None,
    converted: ConvertedNetwork | None = None,
) -> Engine:
    """Return the engine that runs a network on this machine."""
    if engine == "onnxruntime":
        return _onnx_engine(spec, graphs, threads)
    if graphs and (engine == "keras" or devices is not None):
        raise BackboneError(
            f"{spec.name} is run by OpenVINO, on the processor; leave --engine and --devices out"
        )
    if graphs:
        network = converted or converted_network(spec, build, graphs)
        return OpenVINOEngine(network, precision=spec.parts[0].precision, threads=threads)
    if runs_on_openvino(engine, devices):
        try:
            network = converted or converted_network(spec, build)
            return OpenVINOEngine(network, precision=spec.parts[0].precision, threads=threads)
        except ConversionError as error:
            if engine == "openvino":
                raise BackboneError(f"{error}; use --engine keras") from error
            _log.warning("%s; falling back to Keras, which takes about twice as long", error)
    from featstore.backbones.keras.models import device_names

    names = device_names() if devices is None else tuple(devices)
    half = spec.parts[0].precision == "bfloat16"
    if half and not all(name.startswith("gpu") for name in names):
        raise BackboneError("bfloat16 needs OpenVINO or a GPU; use --precision float32 or --engine openvino")
    if threads is not None and not all(name.startswith("gpu") for name in names):
        _log.warning(
            "Keras takes as many threads as it likes for the forward pass, not %d: its back end is told "
            "through the environment, TensorFlow by TF_NUM_INTRAOP_THREADS",
            threads,
        )
    return KerasEngine(lambda device: build(half, device).model, devices=names)


def _onnx_engine(
    spec: "BackboneSpec | JoinedSpec", graphs: "Sequence[NetworkRequest]", threads: int | None
) -> Engine:
    if not graphs or any(request.architecture != "onnx" for request in graphs):
        raise BackboneError(f"ONNX Runtime runs ONNX models only; found {spec.name}: leave --engine out")
    if spec.parts[0].precision != "float32":
        raise BackboneError("ONNX Runtime computes in float32; leave --precision out, or --engine")
    from featstore.backbones.engines.onnx import OnnxEngine

    network = onnx_network(spec, graphs)
    size_px = spec.parts[0].size_px
    return OnnxEngine(network.content, n_images=network.n_images, size_px=size_px, threads=threads)


def check_devices(devices: Sequence[str], *, engine: str) -> tuple[str, ...]:
    """Return the requested devices, in order, under Keras' names."""
    if engine == "onnxruntime":
        raise BackboneError("ONNX Runtime takes the first GPU, or the processor; leave --devices out")
    if engine == "openvino":
        raise BackboneError("OpenVINO runs on the processor; leave --devices out, or use --engine keras")
    named = tuple(device.strip().lower() for device in devices)
    from featstore.backbones.keras.models import device_names

    known = dict.fromkeys((*device_names(), *device_names("cpu")))
    if unknown := [device for device in named if device not in known]:
        raise BackboneError(
            f"Keras has no device {', '.join(map(repr, unknown))} on this machine; it has {', '.join(known)}"
        )
    if not named or len(set(named)) < len(named):
        raise BackboneError(f"devices must be distinct and at least one; found {', '.join(named) or 'none'}")
    return named


def converted_before(spec: "BackboneSpec") -> int | None:
    """Return the feature dimension of a cached converted network, or None."""
    network = recall_network(_network_key(spec))
    return None if network is None else int(network.facts["feature_dim"])


def runs_on_openvino(engine: str, devices: Sequence[str] | None) -> bool:
    """Return whether OpenVINO is the engine to try here."""
    return engine == "openvino" or (engine == "auto" and devices is None and not _keras_has_gpu())


def converted_network(
    spec: "BackboneSpec | JoinedSpec",
    build: "Callable[[bool, str | None], BuiltNetwork]",
    graphs: "Sequence[NetworkRequest]" = (),
) -> ConvertedNetwork:
    """Return the network as OpenVINO reads it, converted where no earlier run has done so."""
    if openvino_version() is None:
        raise ConversionError("OpenVINO is not installed")
    key = _network_key(spec)
    if network := recall_network(key) or _packaged(key):
        return network
    if graphs:
        return remember_network(key, lambda path: convert_graph(spec, graphs, path))
    # Version 0.4 remembered full disks too; what it wrote is not found under this key.
    failures = {**key, "failures": 2}
    if failure := recall("unconvertible", failures):
        raise ConversionError(str(failure["reason"]))
    try:
        return remember_network(key, lambda path: _convert(spec, build(False, None), path))
    except ConversionError as error:
        remember("unconvertible", failures, {"reason": str(error)})
        raise
    except OSError as error:
        raise ConversionError(f"{spec.name} cannot be converted for OpenVINO now: {error}") from error


def _packaged(key: Mapping[str, Any]) -> ConvertedNetwork | None:
    """Return the packaged conversion of scattering at its default size, or None."""
    # Made by tests/backbones/make_packaged_network.py; a test compares it with Keras.
    if key["architecture"] != "scattering":
        return None
    with contextlib.suppress(OSError, KeyError, ValueError, zipfile.BadZipFile):
        packaged = files("featstore.backbones").joinpath(PACKAGED).read_bytes()
        with zipfile.ZipFile(io.BytesIO(packaged)) as archive:
            manifest = json.loads(archive.read("manifest.json"))
            if manifest["network"] == fingerprint(_without_version(key)):
                return ConvertedNetwork(
                    xml=archive.read("network.xml"),
                    weights=archive.read("network.bin"),
                    facts=dict(manifest["facts"]),
                )
    return None


def _without_version(key: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in key.items() if name != "openvino"}


def _convert(spec: "BackboneSpec | JoinedSpec", built: "BuiltNetwork", path: str) -> dict[str, Any]:
    """Write the network to ``path`` in OpenVINO's format, and compare it with Keras on two images."""
    from featstore.backbones.keras.models import export_openvino, forward_once

    _log.info("converting %s for OpenVINO (once)", spec.name)
    facts = {
        "feature_dim": built.facts.feature_dim,
        "keras": metadata.version("keras"),
        "openvino": openvino_version(),
    }
    try:
        export_openvino(built, path)
        keep_only_output(_read_network(path, facts), path)
        engine = OpenVINOEngine(_read_network(path, facts))
    except (OSError, MemoryError):
        raise
    except Exception as error:
        lines = message_lines(error)
        if refused := _refused_by_system(error, built, path):
            raise OSError(f"{refused} ({first_line(error)})") from error
        # OpenVINO's own summary says which operations it does not know.
        reason = next((line for line in lines if "operations:" in line), lines[-1])
        raise ConversionError(f"OpenVINO cannot convert {spec.name}: {reason.strip('- ')[:200]}") from error
    pixels = np.random.default_rng(0).integers(0, 256, (2, *spec.parts[0].size_px, 3), dtype=np.uint8)
    wanted, found = forward_once(built, pixels), engine(pixels)
    difference = float(np.linalg.norm(found - wanted) / max(float(np.linalg.norm(wanted)), 1e-30))
    if np.isfinite(wanted).all() and not difference <= _TOLERANCE:
        if refused := _refused_by_system(None, built, path):
            raise OSError(refused)
        raise ConversionError(
            f"OpenVINO's features of {spec.name} differ from Keras' by {difference:.1e} of their length"
        )
    return facts


def _refused_by_system(error: BaseException | None, built: "BuiltNetwork", path: str) -> str:
    """Return why files could not be written, if that stopped a conversion; else ``""``."""
    # TensorFlow and OpenVINO raise errors of their own for a full disk, or none.
    while error is not None:
        message = f"{type(error).__name__} {error}".lower()
        if isinstance(error, OSError) or any(sign in message for sign in _SYSTEM_SIGNS):
            return "files could not be written or read"
        error = error.__cause__ or error.__context__
    needed = 2 * 4 * int(built.model.count_params()) + 2**23
    for name in ("network.bin", "network.xml"):
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(os.path.dirname(path), name))
    for folder in (os.path.dirname(path), tempfile.gettempdir()):
        if not has_room(folder, needed):
            return f"{folder} does not take {needed / 1e6:,.0f} MB"
    return ""


def _read_network(path: str, facts: dict[str, Any]) -> ConvertedNetwork:
    with open(path, "rb") as xml, open(f"{os.path.splitext(path)[0]}.bin", "rb") as weights:
        return ConvertedNetwork(xml=xml.read(), weights=weights.read(), facts=facts)


def _network_key(spec: "BackboneSpec | JoinedSpec") -> Mapping[str, Any]:
    """Return what determines the converted network: the specification without external parts."""
    outside = ("crop_fraction", "dtype", "interpolation", "precision", "resize", "views")
    networks = [
        {name: value for name, value in part.to_dict().items() if name not in outside} for part in spec.parts
    ]
    network = networks[0] if len(networks) == 1 else {"architecture": spec.name, "parts": networks}
    return {"version": _CONVERSION_VERSION, "openvino": openvino_version(), **network}


def _keras_has_gpu() -> bool:
    # Keras is asked only where the machine shows a GPU: asking imports it.
    if not gpu_in_sight():
        return False
    from featstore.backbones.keras.models import device_names

    return device_names()[0].startswith("gpu")

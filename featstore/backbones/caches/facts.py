"""Facts that only a built network has (digest, feature dimension), cached between runs."""

import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib import metadata
from typing import TYPE_CHECKING, Any

from featstore.backbones.caches.cache import file_digest, recall, remember
from featstore.backbones.files.checkpoints import checkpoint_digest, checkpoint_prefix
from featstore.backbones.files.keras2 import describe_checkpoint, describe_folder
from featstore.backbones.files.own_code import code_digest
from featstore.backbones.files.presets import PresetFolder
from featstore.backbones.graphs.networks import graph_facts
from featstore.backbones.known import find_backbone
from featstore.backbones.request import NetworkFacts, NetworkRequest
from featstore.backbones.spec import digest_values
from featstore.errors import BackboneError, WeightsError

if TYPE_CHECKING:
    from featstore.backbones.keras.models import BuiltNetwork

__all__ = ["network_facts", "rich_layer"]

_log = logging.getLogger(__name__)

# Raised when a later version builds, from the same request, a network with another digest.
_MEMORY_VERSION = 1


def network_facts(request: NetworkRequest) -> "tuple[NetworkFacts, BuiltNetwork | None]":
    """Return a network's facts from the cache, or by building it."""
    if request.weights == "closed-form":
        return _settle_scattering(request), None
    if request.is_graph:
        return graph_facts(request), None
    key = _memory_key(request)
    if (known := recall("weights", key)) is not None:
        try:
            return NetworkFacts(**{**known, "size_px": tuple(known["size_px"])}), None
        except (KeyError, TypeError):
            _log.debug("ignoring the cached facts of %s: they are of another version", request.weights)
    if request.file is not None:
        # Before Keras is imported, which takes seconds: what is no such file is refused at once.
        from featstore.backbones.files.sizing import check_size
        from featstore.backbones.files.weights import check_model_file

        if request.is_preset:
            PresetFolder(request.name).check()
        elif request.is_own:
            # What the modules define is known once they are imported, which needs Keras.
            check_model_file(request.file, trust_model=request.trust_model or bool(request.imports))
        else:
            check_size(request.file, find_backbone(request.name), request.alpha)
    from featstore.backbones.keras.models import build_network

    built = build_network(request)
    facts = built.facts
    # The same network is asked for by its specification later, with all that was left open filled in.
    settled = replace(request, layer=facts.layer, pooling=facts.pooling, size_px=facts.size_px)
    # A file that was replaced meanwhile may not be the one that was built.
    if _memory_key(request) == key:
        for known_key in (key, _memory_key(settled)):
            remember("weights", known_key, {**asdict(facts), "size_px": list(facts.size_px)})
    return facts, built


def rich_layer(request: NetworkRequest) -> str:
    """Return the last layer at twice the height and width of the default one."""
    if request.is_graph:
        raise BackboneError("--features rich is of Keras' networks; name tensors with --output")
    key = {"rich": _MEMORY_VERSION, **_memory_key(request)} if request.weights != "closed-form" else {}
    known = recall("layers", key) if key else {"layer": None}
    if known is None:
        from featstore.backbones.keras.joint import last_layers

        known = {"layer": last_layers(request)[1]}
        remember("layers", key, known)
    if known["layer"] is None:
        raise BackboneError(
            f"{request.name} has no layer at twice the height and width of its last one; name layers with "
            "--layer"
        )
    return str(known["layer"])


def _settle_scattering(request: NetworkRequest) -> NetworkFacts:
    from featstore.backbones.scattering import wavelet_kernels

    info = find_backbone(request.name)
    if request.layer not in (None, info.layer):
        raise BackboneError(f"{info.name} has no layer but {info.layer!r}; found {request.layer!r}")
    return NetworkFacts(
        weights_digest=digest_values(wavelet_kernels().values()),
        layer=info.layer,
        pooling="none",
        size_px=request.size_px or info.size_px,
        feature_dim=info.feature_dim,
    )


def _memory_key(request: NetworkRequest) -> Mapping[str, Any]:
    if request.file is None:
        weights = f"imagenet of keras {metadata.version('keras')}"
    elif request.is_preset:
        weights = PresetFolder(request.name).digest()
    else:
        prefix = checkpoint_prefix(request.file)
        if prefix is None and (problem := describe_checkpoint(request.file)):
            raise WeightsError(problem)
        if os.path.isdir(request.file):
            raise WeightsError(f"{describe_folder(request.file)}; expected a file of weights")
        try:
            weights = file_digest(request.file) if prefix is None else checkpoint_digest(prefix)
        except FileNotFoundError as error:
            raise WeightsError(f"there is no weights file at {request.file}") from error
        except OSError as error:
            raise WeightsError(f"cannot read {request.file}: {error.strerror}") from error
    code = {"code": code_digest(request.imports)} if request.imports else {}
    return {
        **code,
        "version": _MEMORY_VERSION,
        "architecture": request.architecture,
        "weights": weights,
        "layer": request.layer,
        "pooling": request.pooling,
        "size_px": None if request.size_px is None else list(request.size_px),
        "alpha": request.alpha,
    }

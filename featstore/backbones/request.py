"""Requests for a network (what to build) and facts (what was built)."""

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from featstore.backbones.keras2 import HDF5_ENDINGS, describe_folder
from featstore.backbones.known import find_backbone, known_backbones
from featstore.backbones.model_paths import check_model_path
from featstore.backbones.spec import BackboneSpec
from featstore.errors import BackboneError, FingerprintMismatchError

__all__ = ["OWN_ENDINGS", "NetworkFacts", "NetworkRequest", "request_network", "weights_mismatch"]

_log = logging.getLogger(__name__)

OWN_ENDINGS = (".keras", *HDF5_ENDINGS)
"""Of models of the user's own."""


@dataclass(frozen=True, kw_only=True)
class NetworkRequest:
    """A validated request for a network; created by :func:`request_network`."""

    name: str  # of the table of known backbones, or the absolute path of the user's own model
    architecture: str
    weights: str  # "imagenet" for Keras' own download, "closed-form", or the absolute path of a file
    layer: str | None = None  # None: the default cut
    pooling: str = "avg"
    size_px: tuple[int, int] | None = None  # None: that of the user's own model
    preprocessing: str
    alpha: float | None = None  # None: 1
    trust_model: bool = False  # whether code in the user's own model may run
    imports: tuple[str, ...] = ()  # modules with the classes of its layers

    @property
    def is_own(self) -> bool:
        """Whether it is a model of the user's own."""
        return self.name.endswith(OWN_ENDINGS)

    @property
    def file(self) -> str | None:
        """The file that holds the weights, if any."""
        return None if self.weights in ("imagenet", "closed-form") else self.weights


@dataclass(frozen=True, kw_only=True)
class NetworkFacts:
    """What is known of a network only once it has been built."""

    # SHA-256 over the values of the weights up to the cut; for the user's own model also over its layers'
    # configuration, for there is no other record of its architecture.
    weights_digest: str
    layer: str
    pooling: str  # as requested, or "none" where the layer's output has no height and width
    size_px: tuple[int, int]
    feature_dim: int


def request_network(
    name: str,
    *,
    weights: str | None = None,
    layer: str | None = None,
    pooling: str = "avg",
    size_px: tuple[int, int] | None = None,
    preprocessing: str | None = None,
    alpha: float | None = None,
    trust_model: bool = False,
    imports: Sequence[str] = (),
) -> NetworkRequest:
    """Validate options without building anything, and fill in the table's defaults."""
    if isinstance(imports, str):
        raise BackboneError(
            f"imports is a list of modules' names; found the text {imports!r}: write [{imports!r}]"
        )
    is_known = name in {info.name for info in known_backbones()}
    if name.endswith(OWN_ENDINGS) or os.sep in name or (os.path.exists(name) and not is_known):
        own = _request_own(name, weights, layer, pooling, size_px, preprocessing, alpha)
        return replace(own, trust_model=trust_model, imports=tuple(imports))
    if imports:
        raise BackboneError(f"{name} has only layers of Keras; --import is for a model of your own")
    if trust_model:
        raise BackboneError(f"{name} runs no code of others; --trust-model is for a .keras model of your own")
    info = find_backbone(name)
    if size_px is not None and min(size_px) < info.min_size_px:
        raise BackboneError(
            f"{name} takes images of at least {info.min_size_px}x{info.min_size_px} pixels; "
            f"found {size_px[0]}x{size_px[1]}"
        )
    if info.weights == "closed-form" and weights not in (None, info.weights):
        raise BackboneError(f"{name} is a formula and takes no weights; leave --weights out")
    if info.weights == "closed-form" and preprocessing not in (None, info.preprocessing):
        raise BackboneError(f"{name} scales its pixels itself; leave --preprocess out")
    if alpha is not None and not info.alphas:
        widths = ", ".join(one.name for one in known_backbones() if one.alphas)
        raise BackboneError(f"{name} has no width multiplier; --alpha is for {widths}")
    if alpha is not None and not alpha > 0:
        raise BackboneError(f"alpha is greater than 0; found {alpha:g}")
    return NetworkRequest(
        name=name,
        architecture=name,
        weights=info.weights if weights in (None, info.weights) else os.path.abspath(str(weights)),
        layer=layer,
        pooling=pooling,
        size_px=size_px or info.size_px,
        preprocessing=preprocessing or info.preprocessing,
        alpha=None if alpha == 1 else alpha,
    )


def _request_own(
    path: str,
    weights: str | None,
    layer: str | None,
    pooling: str,
    size_px: tuple[int, int] | None,
    preprocessing: str | None,
    alpha: float | None,
) -> NetworkRequest:
    if "://" in path:
        raise BackboneError(
            f"{path} is an address; download the model, and give its file, a .keras or a whole .h5"
        )
    if os.path.isdir(path):
        raise BackboneError(describe_folder(path))
    if not path.endswith(OWN_ENDINGS):
        raise BackboneError(
            "a model of your own is a .keras file, as model.save('name.keras') writes it, or a whole model "
            f"in an .h5 file; found {path}{_nearby(path)}"
        )
    check_model_path(path)
    if preprocessing is None:
        raise BackboneError(
            f"{path} does not define how its pixels are scaled; set --preprocess: "
            "tf ([-1, 1]), torch, caffe, unit ([0, 1]) or none ([0, 255], the model scales them itself)"
        )
    for option, given in (("weights", weights), ("alpha", alpha)):
        if given is not None:
            raise BackboneError(f"{path} is a whole model; leave --{option} out")
    stem = re.sub(r"[^A-Za-z0-9_.]+", "_", os.path.splitext(os.path.basename(path))[0]).strip("._")
    # A name of the table would be taken for that network when the features' backbone is looked for again.
    taken = stem in {info.name for info in known_backbones()}
    return NetworkRequest(
        name=os.path.abspath(path),
        architecture=f"own_{stem}" if taken or not stem else stem,
        weights=os.path.abspath(path),
        layer=layer,
        pooling=pooling,
        size_px=size_px,
        preprocessing=preprocessing,
    )


def _nearby(path: str) -> str:
    """Suggest the backbone that a path to a missing file ends with."""
    name = os.path.basename(path)
    is_known = name in {info.name for info in known_backbones()}
    return f"; for the network of that name, leave out the folder: --backbone {name}" if is_known else ""


def weights_mismatch(request: NetworkRequest, digest: str, spec: BackboneSpec) -> FingerprintMismatchError:
    """Return the error for weights that are not those of a specification."""
    return FingerprintMismatchError(
        f"the weights of {request.file or request.name} are not those of {spec.name}: "
        f"their digest is {digest[:12]}, expected {spec.weights_digest[:12]}; "
        "give the file that they were in with --weights"
    )

"""Requests for a network (what to build) and facts (what was built)."""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from featstore.backbones.files.foreign_classes import HUB_PREFIX
from featstore.backbones.files.keras2 import HDF5_ENDINGS, describe_folder
from featstore.backbones.files.paths import check_model_path
from featstore.backbones.files.presets import PresetFolder, find_preset
from featstore.backbones.graphs.formats import GRAPH_KINDS, GRAPH_WORDS, GraphFile, find_graph
from featstore.backbones.known import find_backbone, known_backbones
from featstore.backbones.pixel_scaling import PixelScaling
from featstore.backbones.spec import BackboneSpec
from featstore.errors import BackboneError, FingerprintMismatchError

__all__ = ["OWN_ENDINGS", "NetworkFacts", "NetworkRequest", "request_network", "weights_mismatch"]

_log = logging.getLogger(__name__)

OWN_ENDINGS = (".keras", *HDF5_ENDINGS)
"""Of models of the user's own."""


@dataclass(frozen=True, kw_only=True)
class NetworkRequest:
    """A validated request for a network; created by :func:`request_network`."""

    name: str  # of the table of known backbones, or the absolute path of the user's own model or preset
    architecture: str
    weights: str  # "imagenet" for Keras' own download, "closed-form", or the absolute path of a file
    layer: str | None = None  # None: the default cut
    pooling: str = "avg"
    size_px: tuple[int, int] | None = None  # None: that of the user's own model
    preprocessing: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    alpha: float | None = None  # None: 1
    input_name: str | None = None
    layout: str | None = None
    trust_model: bool = False  # whether code in the user's own model may run
    imports: tuple[str, ...] = ()  # modules with the classes of its layers
    is_preset: bool = False  # whether it is a folder of KerasHub

    @property
    def is_own(self) -> bool:
        """Whether it is a model of the user's own, or a preset of KerasHub."""
        return self.is_preset or self.name.endswith(OWN_ENDINGS)

    @property
    def is_graph(self) -> bool:
        """Whether it is a network in a file of another library, which OpenVINO runs."""
        return self.architecture in GRAPH_KINDS

    @property
    def scaling(self) -> PixelScaling:
        """How pixels are scaled."""
        return PixelScaling(preprocessing=self.preprocessing, mean=self.mean, std=self.std)

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
    layout: str | None = None  # where the shape of the input does not show it


def request_network(
    name: str,
    *,
    weights: str | None = None,
    layer: str | None = None,
    pooling: str = "avg",
    size_px: tuple[int, int] | None = None,
    preprocessing: str | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    alpha: float | None = None,
    input_name: str | None = None,
    layout: str | None = None,
    trust_model: bool = False,
    imports: Sequence[str] = (),
) -> NetworkRequest:
    """Validate options without building anything, and fill in the table's defaults."""
    # mean and std are in [0, 255], as in BackboneSpec.
    if isinstance(imports, str):
        raise BackboneError(
            f"imports is a list of modules' names; found the text {imports!r}: write [{imports!r}]"
        )
    is_known = name in {info.name for info in known_backbones()}
    preset = None if is_known else find_preset(name)
    if preset is not None:
        _refuse(name, {"weights": weights, "alpha": alpha}, "is a whole network with its weights")
        _refuse(name, {"trust-model": trust_model, "import": imports}, "runs no code of others")
        request = _request_preset(preset, layer, pooling, size_px, preprocessing)
        return replace(request, mean=mean, std=std)
    if name.startswith(HUB_PREFIX):
        raise BackboneError(f"{name} is no preset of a Keras network, but of another kind")
    graph = None if is_known else find_graph(name)
    if graph is not None:
        _refuse(name, {"weights": weights, "alpha": alpha}, "is a whole network with its weights")
        _refuse(name, {"trust-model": trust_model, "import": imports}, "runs no code of others")
        request = _request_graph(graph, layer, pooling, size_px, preprocessing)
        return replace(request, mean=mean, std=std, input_name=input_name, layout=layout)
    _refuse(name, {"input": input_name, "layout": layout}, "is no network in a file of another library")
    if name.endswith(OWN_ENDINGS) or os.sep in name or (os.path.exists(name) and not is_known):
        own = _request_own(name, weights, layer, pooling, size_px, preprocessing, alpha)
        return replace(own, mean=mean, std=std, trust_model=trust_model, imports=tuple(imports))
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
        mean=mean,
        std=std,
        alpha=None if alpha == 1 else alpha,
    )


def _refuse(name: str, options: Mapping[str, object], reason: str) -> None:
    """Raise BackboneError if an option is given that a network does not have."""
    for option, given in options.items():
        if given:
            raise BackboneError(f"{name} {reason}; leave --{option} out")


def _request_preset(
    preset: PresetFolder,
    layer: str | None,
    pooling: str,
    size_px: tuple[int, int] | None,
    preprocessing: str | None,
) -> NetworkRequest:
    preset.weights_files()
    if preprocessing is None:
        raise BackboneError(
            f"{preset.path} has no image_converter.json to define how its pixels are scaled; set "
            "--preprocess: tf ([-1, 1]), torch, caffe, unit ([0, 1]) or none ([0, 255], the network scales "
            "them itself)"
        )
    return NetworkRequest(
        name=preset.path,
        architecture=preset.architecture,
        weights=preset.path,
        layer=layer,
        pooling=pooling,
        size_px=size_px,
        preprocessing=preprocessing,
        is_preset=True,
    )


def _request_graph(
    graph: GraphFile,
    layer: str | None,
    pooling: str,
    size_px: tuple[int, int] | None,
    preprocessing: str | None,
) -> NetworkRequest:
    graph.files()
    if preprocessing is None:
        raise BackboneError(
            f"{graph.path} does not define how its pixels are scaled, and no preprocessor_config.json or "
            "timm's config.json beside it does; set --mean and --std (of pixels in [0, 1]), or --preprocess: "
            "tf ([-1, 1]), torch, caffe, unit ([0, 1]) or none ([0, 255], the network scales them itself)"
        )
    return NetworkRequest(
        name=graph.path,
        architecture=graph.kind,
        weights=graph.path,
        layer=layer,
        pooling=pooling,
        size_px=size_px,
        preprocessing=preprocessing,
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
            "a model of your own is a .keras file, as model.save('name.keras') writes it, a whole model in "
            f"an .h5 file, or {', '.join(GRAPH_WORDS.values())}; found {path}{_nearby(path)}"
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
    taken = stem in {*GRAPH_KINDS, *(info.name for info in known_backbones())}
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
        f"the weights of {request.file or request.name} are not those of {spec.name}: their digest is "
        f"{digest[:12]}, expected {spec.weights_digest[:12]}; give the file that they were in with --weights"
    )

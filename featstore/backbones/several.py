"""Loading of several backbones: layers of one network, at one or several image sizes."""

from collections.abc import Mapping, Sequence
from typing import Any

from featstore.backbones.backbone import Backbone
from featstore.backbones.caches.facts import rich_layer
from featstore.backbones.loading import load_backbone
from featstore.errors import BackboneError

__all__ = ["FEATURES", "load_backbones", "refuse_options"]

FEATURES = ("last", "rich")
"""Names of choices of layers."""


def load_backbones(
    name: Any = "mobilenet_v2",
    *,
    layer: str | Sequence[str] | None = None,
    image_size: int | tuple[int, int] | list[int | tuple[int, int]] | None = None,
    features: str | None = None,
    **options: Any,
) -> list[Backbone]:
    """Load a backbone for each layer at each size, by the options of :func:`load_backbone`."""
    # `features`: "last" is the last layer; "rich" also the last one at twice its height and width.
    if features is not None and features not in FEATURES:
        raise BackboneError(f"features must be one of {', '.join(FEATURES)}; found {features!r}")
    if features is not None and layer is not None:
        raise BackboneError("features and layer both choose layers; give one of them")
    layers: list[str | None] = [layer] if layer is None or isinstance(layer, str) else [*layer]
    sizes: list[Any] = [*image_size] if isinstance(image_size, list) else [image_size]
    for what, given in (("layer", layers), ("image size", sizes)):
        if not given or len({*given}) < len(given):
            raise BackboneError(f"give each {what} once, and at least one; found {given}")
    loaded = []
    for size in sizes:
        found = [load_backbone(name, layer=one, image_size=size, **options) for one in layers]
        if features == "rich":
            above = rich_layer(found[0].request)
            found.append(load_backbone(name, layer=above, image_size=size, **options))
        loaded += found
    if len({one.spec.fingerprint for one in loaded}) < len(loaded):
        raise BackboneError(
            f"two of the layers or sizes are the same: {', '.join(one.spec.name for one in loaded)}"
        )
    return loaded


def refuse_options(options: Mapping[str, Any]) -> None:
    """Raise TypeError if a backbone that is loaded already is given options."""
    if options:
        raise TypeError(f"a loaded backbone takes no further options: {', '.join(sorted(options))}")

"""How fast known networks have been on this machine."""

import os
import platform
from typing import Any

from featstore.backbones.caches.cache import recall, remember
from featstore.backbones.known import BackboneInfo, known_backbones
from featstore.backbones.spec import BackboneSpec, JoinedSpec

__all__ = ["measured_speeds", "remember_speed"]

_KIND = "speeds"


def measured_speeds() -> dict[str, float]:
    """Return how fast known backbones were here when :func:`featstore.suggest_backbones` tried them.

    Returns
    -------
    dict of str to float
        Milliseconds of the forward pass for one image, in float32 at the default layer and size, of those
        that were tried. They are kept in the cache folder.

    Examples
    --------
    >>> import featstore
    >>> featstore.measured_speeds().keys() <= {info.name for info in featstore.known_backbones()}
    True
    """
    found = ((info.name, recall(_KIND, _key(info))) for info in known_backbones())
    return {name: float(entry["ms_per_image"]) for name, entry in found if entry is not None}


def remember_speed(spec: BackboneSpec | JoinedSpec, ms_per_image: float) -> None:
    """Keep how fast a backbone was, if it is a known one as :func:`measured_speeds` lists them."""
    if isinstance(spec, JoinedSpec) or spec.precision != "float32" or spec.alpha is not None:
        return
    for info in known_backbones():
        if (info.name, info.layer, info.size_px) == (spec.architecture, spec.layer, spec.size_px):
            remember(_KIND, _key(info), {"ms_per_image": ms_per_image})


def _key(info: BackboneInfo) -> dict[str, Any]:
    # A cache folder may be that of many machines.
    return {"backbone": info.name, "machine": platform.node(), "cores": os.cpu_count()}

"""From pixels to features: which backbones there are, and the one that you load.

Importing this loads no network library; that happens when a network is built or run.
"""

from typing import TYPE_CHECKING

from featstore.backbones.known import BackboneInfo, find_backbone, known_backbones
from featstore.backbones.spec import BackboneSpec, JoinedSpec, spec_from_dict
from featstore.lazy import lazy_names

if TYPE_CHECKING:
    from featstore.backbones.backbone import Backbone, backbone_from_spec, load_backbone

__all__ = [
    "Backbone",
    "BackboneInfo",
    "BackboneSpec",
    "JoinedSpec",
    "backbone_from_spec",
    "find_backbone",
    "known_backbones",
    "load_backbone",
    "spec_from_dict",
]

__getattr__, __dir__ = lazy_names(
    __name__, {"Backbone": "backbone", "backbone_from_spec": "backbone", "load_backbone": "backbone"}
)

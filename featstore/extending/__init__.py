"""Heads made from other heads, and from a network's own classifier."""

from typing import TYPE_CHECKING

from featstore.lazy import lazy_names

if TYPE_CHECKING:
    from featstore.extending.class_editing import edit_classes
    from featstore.extending.extension import METHODS, extend
    from featstore.extending.imagenet import imagenet_classes
    from featstore.extending.importing import import_head

__all__ = ["METHODS", "edit_classes", "extend", "imagenet_classes", "import_head"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "METHODS": "extension",
        "edit_classes": "class_editing",
        "extend": "extension",
        "imagenet_classes": "imagenet",
        "import_head": "importing",
    },
)

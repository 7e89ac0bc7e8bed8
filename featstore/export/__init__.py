"""A head leaves the house: one model file, from image to probabilities, that other programs can run.

Importing this loads no network library; that happens when a model is written or run.
"""

from typing import TYPE_CHECKING

from featstore.lazy import lazy_names

if TYPE_CHECKING:
    from featstore.export.exported import ExportedModel

__all__ = ["ExportedModel"]

__getattr__, __dir__ = lazy_names(__name__, {"ExportedModel": "exported"})

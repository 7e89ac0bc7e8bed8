"""A head leaves the house: one model file, from image to probabilities, that other programs can run.

Importing this loads no network library; that happens when a model is written or run.
"""

from typing import TYPE_CHECKING

from featstore.lazy import lazy_names

if TYPE_CHECKING:
    from featstore.export.exported import ExportedModel
    from featstore.export.exporting import FORMATS, QUANTIZATIONS, export_head

__all__ = ["FORMATS", "QUANTIZATIONS", "ExportedModel", "export_head"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "FORMATS": "exporting",
        "QUANTIZATIONS": "exporting",
        "ExportedModel": "exported",
        "export_head": "exporting",
    },
)

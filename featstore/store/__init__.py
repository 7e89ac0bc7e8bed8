"""Features at rest: sealed segments, catalogs, and the tables that notebooks hold."""

from typing import TYPE_CHECKING

from featstore.lazy import lazy_names

if TYPE_CHECKING:
    from featstore.store.atomic import replacing
    from featstore.store.catalog import Catalog
    from featstore.store.compaction import CompactReport
    from featstore.store.merging import MergeReport
    from featstore.store.projector import export_projector
    from featstore.store.repairing import MissingImages, RepairReport
    from featstore.store.segment import Segment
    from featstore.store.space import Space
    from featstore.store.store import FeatureStore
    from featstore.store.table import FeatureTable
    from featstore.store.verification import Damage, VerifyReport

__all__ = [
    "Catalog",
    "CompactReport",
    "Damage",
    "FeatureStore",
    "FeatureTable",
    "MergeReport",
    "MissingImages",
    "RepairReport",
    "Segment",
    "Space",
    "VerifyReport",
    "export_projector",
    "replacing",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Catalog": "catalog",
        "CompactReport": "compaction",
        "Damage": "verification",
        "FeatureStore": "store",
        "FeatureTable": "table",
        "MergeReport": "merging",
        "MissingImages": "repairing",
        "RepairReport": "repairing",
        "Segment": "segment",
        "Space": "space",
        "VerifyReport": "verification",
        "export_projector": "projector",
        "replacing": "atomic",
    },
)

"""Push every image through a frozen network once, keep the features, train any head on them in seconds.

The public names are imported when they are first used, so that opening a store loads neither TensorFlow
nor scikit-learn.

Examples
--------
>>> import featstore
>>> store = featstore.FeatureStore("flowers.fstore")  # doctest: +SKIP
>>> table = store.table()  # doctest: +SKIP
>>> head = featstore.fit(table, head="svm")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING

from featstore.lazy import lazy_names
from featstore.version import __version__

if TYPE_CHECKING:
    from featstore.backbones import Backbone, BackboneSpec, known_backbones, load_backbone
    from featstore.errors import FeatstoreError
    from featstore.extraction import ExtractionReport, extract
    from featstore.hashing import content_hash
    from featstore.heads import Evaluation, Head, HeadInfo, evaluate, fit, import_head, known_heads
    from featstore.prediction import Prediction, predict
    from featstore.splits import HashHoldout, HashKFold, SplitRule, assign_splits
    from featstore.store import FeatureStore, FeatureTable

__all__ = [
    "Backbone",
    "BackboneSpec",
    "Evaluation",
    "ExtractionReport",
    "FeatstoreError",
    "FeatureStore",
    "FeatureTable",
    "HashHoldout",
    "HashKFold",
    "Head",
    "HeadInfo",
    "Prediction",
    "SplitRule",
    "__version__",
    "assign_splits",
    "content_hash",
    "evaluate",
    "extract",
    "fit",
    "import_head",
    "known_backbones",
    "known_heads",
    "load_backbone",
    "predict",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Backbone": "backbones",
        "BackboneSpec": "backbones",
        "Evaluation": "heads",
        "ExtractionReport": "extraction",
        "FeatstoreError": "errors",
        "FeatureStore": "store",
        "FeatureTable": "store",
        "HashHoldout": "splits",
        "HashKFold": "splits",
        "Head": "heads",
        "HeadInfo": "heads",
        "Prediction": "prediction",
        "SplitRule": "splits",
        "assign_splits": "splits",
        "content_hash": "hashing",
        "evaluate": "heads",
        "extract": "extraction",
        "fit": "heads",
        "import_head": "heads",
        "known_backbones": "backbones",
        "known_heads": "heads",
        "load_backbone": "backbones",
        "predict": "prediction",
    },
)

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
    from featstore.backbones import Backbone, BackboneSpec, JoinedSpec, known_backbones, load_backbone
    from featstore.duplicates import (
        DuplicateGroup,
        DuplicateImage,
        DuplicatePair,
        Duplicates,
        find_duplicates,
    )
    from featstore.errors import FeatstoreError
    from featstore.export import ExportedModel, export_head
    from featstore.extending import edit_classes, extend, imagenet_classes, import_head
    from featstore.extraction import ExtractionReport, extract
    from featstore.hashing import content_hash
    from featstore.heads import Head, HeadInfo, fit, known_heads, load_head_factory
    from featstore.images import ViewRecipe, view_sheet
    from featstore.prediction import Prediction, Predictor, predict
    from featstore.scoring import (
        Comparison,
        Evaluation,
        LearningCurve,
        Suspect,
        Suspects,
        compare,
        cross_evaluate,
        evaluate,
        find_suspects,
        learning_curve,
        plot,
        save_plot,
        write_scalars,
        write_sweep,
    )
    from featstore.splits import HashHoldout, HashKFold, SplitRule, assign_splits
    from featstore.store import FeatureStore, FeatureTable, export_projector
    from featstore.transformer import BackboneFeatures

__all__ = [
    "Backbone",
    "BackboneFeatures",
    "BackboneSpec",
    "Comparison",
    "DuplicateGroup",
    "DuplicateImage",
    "DuplicatePair",
    "Duplicates",
    "Evaluation",
    "ExportedModel",
    "ExtractionReport",
    "FeatstoreError",
    "FeatureStore",
    "FeatureTable",
    "HashHoldout",
    "HashKFold",
    "Head",
    "HeadInfo",
    "JoinedSpec",
    "LearningCurve",
    "Prediction",
    "Predictor",
    "SplitRule",
    "Suspect",
    "Suspects",
    "ViewRecipe",
    "__version__",
    "assign_splits",
    "compare",
    "content_hash",
    "cross_evaluate",
    "edit_classes",
    "evaluate",
    "export_head",
    "export_projector",
    "extend",
    "extract",
    "find_duplicates",
    "find_suspects",
    "fit",
    "imagenet_classes",
    "import_head",
    "known_backbones",
    "known_heads",
    "learning_curve",
    "load_backbone",
    "load_head_factory",
    "plot",
    "predict",
    "save_plot",
    "view_sheet",
    "write_scalars",
    "write_sweep",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Backbone": "backbones",
        "BackboneFeatures": "transformer",
        "BackboneSpec": "backbones",
        "Comparison": "scoring",
        "DuplicateGroup": "duplicates",
        "DuplicateImage": "duplicates",
        "DuplicatePair": "duplicates",
        "Duplicates": "duplicates",
        "Evaluation": "scoring",
        "ExportedModel": "export",
        "ExtractionReport": "extraction",
        "FeatstoreError": "errors",
        "FeatureStore": "store",
        "FeatureTable": "store",
        "HashHoldout": "splits",
        "HashKFold": "splits",
        "Head": "heads",
        "HeadInfo": "heads",
        "JoinedSpec": "backbones",
        "LearningCurve": "scoring",
        "Prediction": "prediction",
        "Predictor": "prediction",
        "SplitRule": "splits",
        "Suspect": "scoring",
        "Suspects": "scoring",
        "ViewRecipe": "images",
        "assign_splits": "splits",
        "compare": "scoring",
        "content_hash": "hashing",
        "cross_evaluate": "scoring",
        "edit_classes": "extending",
        "evaluate": "scoring",
        "export_head": "export",
        "export_projector": "store",
        "extend": "extending",
        "extract": "extraction",
        "find_duplicates": "duplicates",
        "find_suspects": "scoring",
        "fit": "heads",
        "imagenet_classes": "extending",
        "import_head": "extending",
        "known_backbones": "backbones",
        "known_heads": "heads",
        "learning_curve": "scoring",
        "load_backbone": "backbones",
        "load_head_factory": "heads",
        "plot": "scoring",
        "predict": "prediction",
        "save_plot": "scoring",
        "view_sheet": "images",
        "write_scalars": "scoring",
        "write_sweep": "scoring",
    },
)

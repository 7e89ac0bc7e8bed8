"""Classifiers on stored features: which there are, how they are fitted, scored, saved and loaded."""

from typing import TYPE_CHECKING

from featstore.lazy import lazy_names

if TYPE_CHECKING:
    from featstore.heads.evaluation import Evaluation, evaluate, wilson_interval
    from featstore.heads.head import Head
    from featstore.heads.plugins import import_head
    from featstore.heads.registry import HeadInfo, find_head, known_heads
    from featstore.heads.rejection import checked_reject, rejection_score
    from featstore.heads.training import fit

__all__ = [
    "Evaluation",
    "Head",
    "HeadInfo",
    "checked_reject",
    "evaluate",
    "find_head",
    "fit",
    "import_head",
    "known_heads",
    "rejection_score",
    "wilson_interval",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Evaluation": "evaluation",
        "Head": "head",
        "HeadInfo": "registry",
        "checked_reject": "rejection",
        "evaluate": "evaluation",
        "find_head": "registry",
        "fit": "training",
        "import_head": "plugins",
        "known_heads": "registry",
        "rejection_score": "rejection",
        "wilson_interval": "evaluation",
    },
)

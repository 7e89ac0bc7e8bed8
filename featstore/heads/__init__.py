"""Classifiers on stored features: which there are, how they are fitted, scored, saved and loaded."""

from typing import TYPE_CHECKING

from featstore.lazy import lazy_names

if TYPE_CHECKING:
    from featstore.heads.evaluation import Evaluation, evaluate, wilson_interval
    from featstore.heads.head import Head
    from featstore.heads.registry import HeadInfo, find_head, known_heads
    from featstore.heads.training import fit

__all__ = [
    "Evaluation",
    "Head",
    "HeadInfo",
    "evaluate",
    "find_head",
    "fit",
    "known_heads",
    "wilson_interval",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Evaluation": "evaluation",
        "Head": "head",
        "HeadInfo": "registry",
        "evaluate": "evaluation",
        "find_head": "registry",
        "fit": "training",
        "known_heads": "registry",
        "wilson_interval": "evaluation",
    },
)

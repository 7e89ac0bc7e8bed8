"""Classifiers on stored features: which there are, how they are fitted, scored, saved and loaded."""

from typing import TYPE_CHECKING

from featstore.lazy import lazy_names

if TYPE_CHECKING:
    from featstore.heads.evaluation import Evaluation, evaluate, wilson_interval
    from featstore.heads.head import Head
    from featstore.heads.registry import HeadInfo, find_head, known_heads
    from featstore.heads.suspects import Suspect, Suspects, find_suspects
    from featstore.heads.training import fit

__all__ = [
    "Evaluation",
    "Head",
    "HeadInfo",
    "Suspect",
    "Suspects",
    "evaluate",
    "find_head",
    "find_suspects",
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
        "Suspect": "suspects",
        "Suspects": "suspects",
        "evaluate": "evaluation",
        "find_head": "registry",
        "find_suspects": "suspects",
        "fit": "training",
        "known_heads": "registry",
        "wilson_interval": "evaluation",
    },
)

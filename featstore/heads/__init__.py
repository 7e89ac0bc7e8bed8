"""Classifiers on stored features: which there are, how they are fitted, saved and loaded."""

from typing import TYPE_CHECKING

from featstore.lazy import lazy_names

if TYPE_CHECKING:
    from featstore.heads.head import Head
    from featstore.heads.intervals import wilson_interval
    from featstore.heads.plugins import load_head_factory
    from featstore.heads.registry import HeadInfo, find_head, known_heads
    from featstore.heads.rejection import checked_reject, rejected_word, rejection_score
    from featstore.heads.training import fit

__all__ = [
    "Head",
    "HeadInfo",
    "checked_reject",
    "find_head",
    "fit",
    "known_heads",
    "load_head_factory",
    "rejected_word",
    "rejection_score",
    "wilson_interval",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Head": "head",
        "HeadInfo": "registry",
        "checked_reject": "rejection",
        "find_head": "registry",
        "fit": "training",
        "load_head_factory": "plugins",
        "known_heads": "registry",
        "wilson_interval": "intervals",
        "rejected_word": "rejection",
        "rejection_score": "rejection",
    },
)

"""Classifiers on stored features: which there are, how they are fitted, scored, saved and loaded."""

from typing import TYPE_CHECKING

from featstore.lazy import lazy_names

if TYPE_CHECKING:
    from featstore.heads.comparison import Comparison, compare
    from featstore.heads.curves import LearningCurve, learning_curve
    from featstore.heads.evaluation import Evaluation, evaluate
    from featstore.heads.head import Head
    from featstore.heads.intervals import wilson_interval
    from featstore.heads.plots import plot, save_plot
    from featstore.heads.plugins import import_head
    from featstore.heads.registry import HeadInfo, find_head, known_heads
    from featstore.heads.rejection import checked_reject, rejection_score
    from featstore.heads.suspects import Suspect, Suspects, find_suspects
    from featstore.heads.tensorboard import write_scalars, write_sweep
    from featstore.heads.training import fit

__all__ = [
    "Comparison",
    "Evaluation",
    "Head",
    "HeadInfo",
    "LearningCurve",
    "Suspect",
    "Suspects",
    "checked_reject",
    "compare",
    "evaluate",
    "find_head",
    "find_suspects",
    "fit",
    "import_head",
    "known_heads",
    "learning_curve",
    "plot",
    "rejection_score",
    "save_plot",
    "wilson_interval",
    "write_scalars",
    "write_sweep",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Comparison": "comparison",
        "Evaluation": "evaluation",
        "Head": "head",
        "HeadInfo": "registry",
        "LearningCurve": "curves",
        "Suspect": "suspects",
        "Suspects": "suspects",
        "compare": "comparison",
        "checked_reject": "rejection",
        "evaluate": "evaluation",
        "find_head": "registry",
        "find_suspects": "suspects",
        "fit": "training",
        "import_head": "plugins",
        "known_heads": "registry",
        "learning_curve": "curves",
        "plot": "plots",
        "save_plot": "plots",
        "wilson_interval": "intervals",
        "write_scalars": "tensorboard",
        "write_sweep": "tensorboard",
        "rejection_score": "rejection",
    },
)

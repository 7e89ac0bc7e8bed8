"""What a head is worth: scores with intervals, comparisons, learning curves, suspect labels and plots."""

from typing import TYPE_CHECKING

from featstore.lazy import lazy_names

if TYPE_CHECKING:
    from featstore.scoring.comparison import Comparison, compare
    from featstore.scoring.cross_evaluation import cross_evaluate
    from featstore.scoring.curves import LearningCurve, learning_curve
    from featstore.scoring.evaluation import Evaluation, evaluate
    from featstore.scoring.plots import plot, save_plot
    from featstore.scoring.suspects import Suspect, Suspects, find_suspects
    from featstore.scoring.tensorboard import write_scalars, write_sweep

__all__ = [
    "Comparison",
    "Evaluation",
    "LearningCurve",
    "Suspect",
    "Suspects",
    "compare",
    "cross_evaluate",
    "evaluate",
    "find_suspects",
    "learning_curve",
    "plot",
    "save_plot",
    "write_scalars",
    "write_sweep",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Comparison": "comparison",
        "Evaluation": "evaluation",
        "LearningCurve": "curves",
        "Suspect": "suspects",
        "Suspects": "suspects",
        "compare": "comparison",
        "cross_evaluate": "cross_evaluation",
        "evaluate": "evaluation",
        "find_suspects": "suspects",
        "learning_curve": "curves",
        "plot": "plots",
        "save_plot": "plots",
        "write_scalars": "tensorboard",
        "write_sweep": "tensorboard",
    },
)

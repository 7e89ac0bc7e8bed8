"""A plot of predicted against true numbers."""

from typing import Any

import numpy as np

from featstore.scoring.plotting.figures import BLUE, GRAY, ORANGE, new_figure
from featstore.scoring.regression.evaluation import RegressionEvaluation

__all__ = ["plot_numbers"]


def plot_numbers(evaluation: RegressionEvaluation) -> Any:
    """Return a figure of predicted over true numbers, and of the errors."""
    true, predicted = (
        np.array([one[name] for one in evaluation.predictions]) for name in ("true", "predicted")
    )
    figure = new_figure(10, 5)
    left, right = figure.subplots(1, 2)
    low, high = min(true.min(), predicted.min()), max(true.max(), predicted.max())
    margin = 0.03 * (high - low) or 1.0
    ends = np.array([low - margin, high + margin])
    left.plot(ends, ends, color=GRAY, linestyle="--", linewidth=1, label="no error")
    if evaluation.intervals:
        half = evaluation.intervals["half_width"]
        named = f"within {half:.3g}: {evaluation.intervals['covered']:.1%} of the images"
        left.fill_between(ends, ends - half, ends + half, color=ORANGE, alpha=0.15, label=named)
    opacity = float(np.clip(300 / len(true), 0.1, 0.7))
    left.scatter(true, predicted, s=14, color=BLUE, alpha=opacity, linewidths=0, rasterized=True)
    left.set(xlim=ends, ylim=ends, aspect="equal")
    left.set_xlabel(f"true {evaluation.target}", parse_math=False)
    left.set_ylabel(f"predicted {evaluation.target}", parse_math=False)
    left.legend(loc="upper left", fontsize=8)
    right.hist(predicted - true, bins="auto", color=BLUE, alpha=0.7)
    right.axvline(0, color=GRAY, linestyle="--", linewidth=1)
    right.set(xlabel="predicted - true", ylabel="images")
    (low_mae, high_mae), r2 = evaluation.mae_ci, evaluation.r2
    figure.suptitle(
        f"{evaluation.split}: mean absolute error {evaluation.mae:.3g} (95% interval {low_mae:.3g} to "
        f"{high_mae:.3g}, n = {evaluation.n:,})" + ("" if r2 is None else f", R² {r2:.3f}"),
        fontsize=10,
    )
    return figure

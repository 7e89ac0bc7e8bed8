"""Precision-recall curves of the labels of an evaluation."""

from typing import Any

from featstore.errors import PlotError
from featstore.scoring.multilabel.evaluation import LabelEvaluation
from featstore.scoring.plotting.figures import BLUE, GRAY, ORANGE, new_figure, short_label

__all__ = ["plot_precision_recall"]

_COLUMNS = 4
_MOST_PANELS = 60
_PANEL_INCHES = 2.4


def plot_precision_recall(evaluation: LabelEvaluation) -> Any:
    """Return a figure of a panel for each label that images have; of many, those of the most images."""
    met = [
        (one, curve)
        for one, curve in zip(evaluation.classes, evaluation.curves, strict=True)
        if curve["recall"]
    ]
    if not met:
        raise PlotError(f"no image of {evaluation.split} has a label: there is nothing to plot")
    least = sorted((one["n"] for one, _ in met), reverse=True)[:_MOST_PANELS][-1]
    shown = [pair for pair in met if pair[0]["n"] >= least][:_MOST_PANELS]
    columns = min(_COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(max(5.0, columns * _PANEL_INCHES), rows * _PANEL_INCHES + 1)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[len(shown) :]:
        axes.set_visible(False)
    for axes, (one, curve) in zip(panels.flat, shown, strict=False):
        _draw(axes, one, curve, share=one["n"] / evaluation.n)
    for axes in panels[:, 0]:
        axes.set_ylabel("precision")
    for column in range(columns):
        panels[(len(shown) - 1 - column) // columns, column].set_xlabel("recall")
        panels[(len(shown) - 1 - column) // columns, column].tick_params(labelbottom=True)
    low, high = evaluation.map_ci
    left_out = f"; the {len(shown)} most frequent of {len(met):,} labels" if len(shown) < len(met) else ""
    figure.suptitle(
        f"{evaluation.split}: mean average precision {evaluation.map:.1%} (95% interval {low:.1%} to "
        f"{high:.1%}, n = {evaluation.n:,}){left_out}",
        fontsize=10,
    )
    figure.legend(
        *panels.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8
    )
    return figure


def _draw(axes: Any, one: dict[str, Any], curve: dict[str, Any], *, share: float) -> None:
    # Precision from each probability on, without interpolation: what average precision is the area of.
    recall, precision = [0.0, *curve["recall"]], [curve["precision"][0], *curve["precision"]]
    axes.plot(recall, precision, drawstyle="steps", color=BLUE, label="precision at each recall")
    axes.axhline(share, color=GRAY, linestyle="--", linewidth=1, label="share of images with the label")
    if one["precision"] is not None:
        axes.plot([one["recall"]], [one["precision"]], "o", color=ORANGE, label="at the threshold")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set_title(
        f"{short_label(one['label'])} (n = {one['n']:,})\nAP {one['average_precision']:.1%}",
        fontsize=9,
        parse_math=False,
    )

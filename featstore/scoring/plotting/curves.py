"""Plots of learning curves and of the trade-off of extended heads."""

import textwrap
from typing import Any

import numpy as np

from featstore.errors import PlotError
from featstore.heads.head import Head
from featstore.scoring.curves import LearningCurve
from featstore.scoring.multilabel.curves import LabelCurve
from featstore.scoring.plotting.figures import BLUE, GRAY, ORANGE, error_lengths, new_figure

__all__ = ["plot_curve", "plot_trade_off"]


def plot_curve(curve: LearningCurve | LabelCurve) -> Any:
    """Return a figure of a learning curve and its forecast."""
    score, named = ("map", "mAP") if isinstance(curve, LabelCurve) else ("top1", "accuracy")
    figure = new_figure(7.2, 5.0)
    axes = figure.subplots()
    sizes = np.array([point["n_train"] for point in curve.points])
    top1 = np.array([point[score] for point in curve.points])
    ends = np.array([point[f"{score}_ci"] for point in curve.points])
    for point in curve.points:
        if len(point["fits"]) > 1:
            n_train, each = zip(*((one["n_train"], one[score]) for one in point["fits"]), strict=True)
            axes.plot(n_train, each, ".", color=BLUE, alpha=0.35, zorder=1)
    axes.errorbar(
        sizes,
        top1,
        yerr=error_lengths(top1, ends),
        fmt="o",
        color=BLUE,
        capsize=3,
        label="measured, 95% interval",
    )
    ticks = sizes.tolist()
    if curve.law is not None and curve.forecast is not None:
        n_twice = curve.forecast["n_train"]
        ticks.append(n_twice)
        line = np.geomspace(sizes[0], n_twice, 100)
        law = curve.law
        axes.plot(
            line,
            1 - law["floor"] - law["slope"] * (line / sizes[-1]) ** -law["exponent"],
            color=GRAY,
            linewidth=1,
            label="power law",
        )
        forecast = np.array([curve.forecast[score]])
        axes.errorbar(
            [n_twice],
            forecast,
            yerr=error_lengths(forecast, np.array([curve.forecast[f"{score}_ci"]])),
            fmt="D",
            color=ORANGE,
            capsize=3,
            label="forecast for twice as many",
        )
    axes.set_xscale("log")
    axes.set_xticks(ticks, labels=[f"{tick:,.0f}" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel="training images", ylabel=f"{curve.split} {named} (n = {curve.n:,})")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=9)
    axes.set_title(f"{curve.head} on {curve.space}", parse_math=False)
    figure.supxlabel("\n".join(textwrap.wrap(curve.verdict, 95)), fontsize=8)
    return figure


def plot_trade_off(head: Head) -> Any:
    """Return a figure of new images recognised against old images lost."""
    report = head.extension
    scores, points = report["scores"], report["curve"]
    if not points or not scores:
        raise PlotError(
            f"the head {head.name} was extended without images of old classes, or has lost classes since: "
            "there is no trade-off to plot"
        )
    new = scores["new"] if scores["new"]["n"] else scores["held_out"]
    figure = new_figure(7.2, 5.0)
    axes = figure.subplots()
    axes.plot(
        [100 * one["lost"] for one in points],
        [100 * one["new_top1"] for one in points],
        ".-",
        color=BLUE,
        label="by offset of the new classes",
    )
    if scores["alone"]["n"]:
        axes.axhline(100 * scores["alone"]["top1"], color=GRAY, linestyle="--", label="new classes alone")
    lost, top1 = 100 * np.array([scores["old"]["lost"]]), 100 * np.array([new["top1"]])
    axes.errorbar(
        lost,
        top1,
        xerr=error_lengths(lost, 100 * np.array([scores["old"]["lost_ci"]])),
        yerr=error_lengths(top1, 100 * np.array([new["top1_ci"]])),
        fmt="o",
        color=ORANGE,
        capsize=3,
        label=f"chosen for at most {report['max_loss']:.1%} lost, measured, 95% intervals",
    )
    axes.set(
        xlabel=f"old images that lose their right label, % (n = {scores['old']['n']:,})",
        ylabel=f"accuracy on new images, % (n = {new['n']:,})",
    )
    # Not up to offsets that lose most old images.
    axes.set_xlim(-0.5, max(10.0, 3 * float(lost[0]), 150 * report["max_loss"]))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=9)
    axes.set_title(f"{head.name} on {head.space or head.spec.name}", parse_math=False)
    return figure

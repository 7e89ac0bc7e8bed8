"""Plots of evaluations, sweeps and learning curves, with matplotlib but without pyplot or global state."""

import logging
import os
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from featstore.errors import PlotError
from featstore.extras import check_extra
from featstore.heads.head import Head
from featstore.heads.multilabel.head import MultiLabelHead
from featstore.io.atomic import replacing
from featstore.io.outputs import check_output
from featstore.process import warnings_to
from featstore.scoring.backbone_trials import BackboneTrials, plot_trials
from featstore.scoring.curves import LearningCurve
from featstore.scoring.evaluation import Evaluation
from featstore.scoring.multilabel.curves import LabelCurve
from featstore.scoring.multilabel.evaluation import LabelEvaluation
from featstore.scoring.multilabel.plots import plot_precision_recall
from featstore.scoring.plotting.curves import plot_curve, plot_trade_off
from featstore.scoring.plotting.figures import BLUE, GRAY, ORANGE, error_lengths, new_figure, short_label
from featstore.scoring.regression.evaluation import RegressionEvaluation
from featstore.scoring.regression.plots import plot_numbers
from featstore.stats.intervals import wilson_interval

__all__ = ["check_plot_path", "plot", "save_plot"]

_ENDINGS = (".pdf", ".png", ".svg")
_DOTS_PER_INCH = 150
_MANY_IN_BIN = 20

Plotted: TypeAlias = (
    BackboneTrials
    | Evaluation
    | Head
    | LabelCurve
    | LabelEvaluation
    | LearningCurve
    | MultiLabelHead
    | RegressionEvaluation
)

_logger = logging.getLogger(__name__)


def plot(result: Plotted) -> Any:
    """Plot a result.

    Parameters
    ----------
    result : BackboneTrials, Head, MultiLabelHead, LearningCurve, LabelCurve, or an evaluation of any kind
        Confusion matrix and reliability diagram of an evaluation (Niculescu-Mizil & Caruana, ICML 2005), or
        precision-recall curves of one of several labels, or predicted against true numbers; the sweep of a
        head, or the trade-off of an extended head; a learning curve with its power law; backbones' accuracy
        against their cost.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    PlotError
        The head has no sweep, or was extended without images of old classes, or ``result`` is of another
        type.

    Examples
    --------
    >>> import featstore
    >>> figure = featstore.plot(featstore.fit(table, head="ridge"))
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['accuracy', 'cross entropy on validation, nats']
    """
    check_extra("plot", "plotting", "matplotlib")
    if isinstance(result, Evaluation):
        return _plot_evaluation(result)
    if isinstance(result, LabelEvaluation):
        return plot_precision_recall(result)
    if isinstance(result, RegressionEvaluation):
        return plot_numbers(result)
    if isinstance(result, LearningCurve | LabelCurve):
        return plot_curve(result)
    if isinstance(result, BackboneTrials):
        return plot_trials(result)
    if isinstance(result, MultiLabelHead):
        return _plot_sweep(result)
    if isinstance(result, Head):
        return plot_trade_off(result) if result.extension else _plot_sweep(result)
    raise PlotError(
        "expected BackboneTrials, an Evaluation, a Head, a LabelEvaluation, a LearningCurve or a "
        f"RegressionEvaluation to plot; found {type(result).__name__}"
    )


def save_plot(
    result: Plotted,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
) -> None:
    """Plot a result to a file, written atomically.

    Parameters
    ----------
    result : BackboneTrials, Head, LearningCurve, LabelCurve, or an evaluation of any kind
    path : path_like
        Ends in ``.png``, ``.svg`` or ``.pdf``.
    overwrite : bool
        Whether to replace an existing file.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    PlotError
        The path has another ending; or as for :func:`plot`.
    OutputError
        The file exists or lies in a store, or its folder does not exist.
    StoreError
        The file cannot be written.

    Examples
    --------
    >>> import os
    >>> import tempfile
    >>> import featstore
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     featstore.save_plot(featstore.fit(table, head="ridge"), os.path.join(folder, "sweep.svg"))
    ...     os.listdir(folder)
    ['sweep.svg']
    """
    target = check_plot_path(path, overwrite=overwrite)
    ending = os.path.splitext(target)[1].lower()
    figure = plot(result)
    # Without dates, the same result gives the same bytes.
    undated: dict[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(ending, {})
    texts: set[str] = set()
    with warnings_to(texts.add), replacing(target) as temporary:
        figure.savefig(temporary, format=ending[1:], dpi=_DOTS_PER_INCH, metadata=undated)
    for text in sorted({text.splitlines()[0] for text in texts}):
        _logger.warning("%s: %s", path, text)


def check_plot_path(
    path: str | os.PathLike[str], *, overwrite: bool = False, inputs: Iterable[str] = ()
) -> str:
    """Return the absolute path of a plot; raise before plotting if it cannot be written."""
    if os.path.splitext(os.fspath(path))[1].lower() not in _ENDINGS:
        found = os.path.basename(os.fspath(path))
        raise PlotError(f"the path of a plot must end in {', '.join(_ENDINGS)}; found {found}")
    target = check_output(path, overwrite=overwrite, inputs=inputs)
    check_extra("plot", "plotting", "matplotlib")
    return target


def _plot_evaluation(evaluation: Evaluation) -> Any:
    labels = [short_label(one["label"]) for one in evaluation.classes]
    # Inches: of a cell, of the square of cells, and of the labels beside and below it. Above some 120 classes
    # there is no room for every name.
    every = -(-len(labels) // 120)
    n_shown = -(-len(labels) // every)
    cell = 0.55 if n_shown <= 10 else 0.36 if n_shown <= 20 else 0.15
    size_pt = min(10.0, 72 * 0.75 * cell)
    square = max(3.0, cell * n_shown)
    margin = max(map(len, labels)) * 0.6 * size_pt / 72 + 0.6
    height = max(5.4, square + margin + 1.6)
    figure = new_figure(square + margin + 4.8, height)
    left, right = figure.subfigures(1, 2, width_ratios=[square + margin, 4.8])
    _draw_confusion(left.subplots(), evaluation, labels, every, size_pt)
    if height > 6.5:
        right = right.subfigures(2, 1, height_ratios=[5.4, height - 5.4])[0]
    diagram, histogram = right.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    _draw_reliability(diagram, evaluation)
    _draw_histogram(histogram, evaluation)
    right.legend(*diagram.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    low, high = evaluation.top1_ci
    figure.suptitle(
        f"{evaluation.split} accuracy {evaluation.top1:.1%} (95% interval {low:.1%} to {high:.1%}, "
        f"n = {evaluation.n:,})"
    )
    return figure


def _draw_confusion(axes: Any, evaluation: Evaluation, labels: list[str], every: int, size_pt: float) -> None:
    confusion = np.array(evaluation.confusion)
    n_classes = len(labels)
    totals = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, totals, out=np.zeros(confusion.shape), where=totals > 0)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    for set_ticks, more in ((axes.set_xticks, {"rotation": 90}), (axes.set_yticks, {})):
        set_ticks(
            range(0, n_classes, every), labels=labels[::every], fontsize=size_pt, parse_math=False, **more
        )
    if n_classes <= 20:
        for row, column in np.argwhere(confusion > 0):
            axes.text(
                column,
                row,
                f"{confusion[row, column]:,}",
                ha="center",
                va="center",
                fontsize=10 if n_classes <= 10 else 7,
                color="white" if shares[row, column] > 0.5 else "black",
            )
    axes.set(xlabel="predicted", ylabel="true")
    bar = axes.figure.colorbar(image, ax=axes, location="bottom", shrink=0.6, aspect=30)
    bar.set_label("share of the true class")


def _draw_reliability(axes: Any, evaluation: Evaluation) -> None:
    bins = [one for one in evaluation.calibration if one["n"]]
    width = evaluation.calibration[0]["high"] - evaluation.calibration[0]["low"]
    middle = np.array([(one["low"] + one["high"]) / 2 for one in bins])
    accuracy = np.array([one["accuracy"] for one in bins])
    ends = np.array(
        [wilson_interval(round(one["n"] * part), one["n"]) for one, part in zip(bins, accuracy, strict=True)]
    )
    lengths = error_lengths(accuracy, ends)
    for at, one in enumerate(bins):
        # Fade bins of few images, whose distance from the line is chance.
        weight = 1.0 if one["n"] >= _MANY_IN_BIN else 0.25 + 0.5 * one["n"] / _MANY_IN_BIN
        axes.bar(middle[at], accuracy[at], width=0.92 * width, color=BLUE, alpha=0.45 * weight)
        axes.errorbar(
            one["confidence"],
            accuracy[at],
            yerr=lengths[:, at : at + 1],
            fmt="o",
            markersize=4,
            color=BLUE,
            alpha=weight,
            elinewidth=1,
            label="accuracy, 95% interval" if at == len(bins) - 1 else None,
        )
    if any(one["n"] < _MANY_IN_BIN for one in bins):
        axes.bar([], [], color=BLUE, alpha=0.2, label=f"fainter: fewer than {_MANY_IN_BIN} images")
    axes.plot([0, 1], [0, 1], color=GRAY, linestyle="--", linewidth=1, label="perfectly calibrated")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    axes.set_title(
        f"calibration error {evaluation.calibration_error:.1%}\n"
        f"log loss {evaluation.log_loss:.3f}, Brier score {evaluation.brier_score:.3f}",
        fontsize=10,
    )
    axes.tick_params(labelbottom=False)


def _draw_histogram(axes: Any, evaluation: Evaluation) -> None:
    bins = evaluation.calibration
    width = bins[0]["high"] - bins[0]["low"]
    axes.bar(
        [(one["low"] + one["high"]) / 2 for one in bins],
        [one["n"] for one in bins],
        width=0.92 * width,
        color=GRAY,
    )
    axes.set(xlabel="probability of the prediction", ylabel="images")


def _plot_sweep(head: Head | MultiLabelHead) -> Any:
    if not head.sweep:
        raise PlotError(f"the head {head.name} has no sweep: there is nothing to plot")
    names = list(head.sweep[0]["params"])
    values = [step["params"][names[0]] for step in head.sweep]
    is_scale = len(names) == 1 and all(
        isinstance(value, int | float) and not isinstance(value, bool) and value > 0 for value in values
    )
    x = np.array(values, dtype=np.float64) if is_scale else np.arange(len(values), dtype=np.float64)
    has_loss = all("cross_entropy" in step for step in head.sweep)
    figure = new_figure(max(6.4, 0.2 * len(values)), 6.4 if has_loss else 4.0)
    panels = figure.subplots(2 if has_loss else 1, 1, sharex=True, squeeze=False)[:, 0]
    accuracy, lowest = panels[0], panels[-1]
    if isinstance(head, MultiLabelHead):
        folds = head.folds
        of_settings = [np.nan if step["map"] is None else step["map"] for step in head.sweep]
        label = f"validation (n = {head.validation['n']:,})"
        accuracy.plot(x, of_settings, "o-", color=BLUE, label=label)
    else:
        folds = head.choice.get("folds")
        _draw_validation(accuracy, head, x)
    if all("train_top1" in step for step in head.sweep):
        accuracy.plot(x, [step["train_top1"] for step in head.sweep], "s--", color=ORANGE, label="train")
    chosen = next(
        (at for at, step in enumerate(head.sweep) if step["params"].items() <= head.params.items()), None
    )
    for panel in panels:
        if chosen is not None:
            panel.axvline(x[chosen], color=GRAY, linewidth=1, linestyle=":", label="chosen")
        panel.grid(alpha=0.3)
    accuracy.set_ylabel("mean average precision" if isinstance(head, MultiLabelHead) else "accuracy")
    accuracy.legend(fontsize=9)
    if has_loss:
        lowest.plot(x, [step["cross_entropy"] for step in head.sweep], "o-", color=BLUE)
        where = f"in {folds} folds" if folds else "on validation"
        lowest.set_ylabel(f"cross entropy {where}, nats")
    if is_scale:
        lowest.set_xscale("log")
        lowest.set_xlabel(names[0], parse_math=False)
    else:
        names_of_settings = [
            ", ".join(_setting(value) for value in step["params"].values()) for step in head.sweep
        ]
        every = -(-len(names_of_settings) // 40)
        lowest.set_xticks(
            x[::every], labels=names_of_settings[::every], rotation=90, fontsize=8, parse_math=False
        )
        lowest.set_xlabel(", ".join(names), parse_math=False)
    figure.suptitle(f"{head.name} on {head.spec.name}", parse_math=False)
    return figure


def _draw_validation(axes: Any, head: Head, x: NDArray[np.float64]) -> None:
    top1 = np.array([step["top1"] for step in head.sweep])
    axes.plot(x, top1, "o-", color=BLUE, label=f"validation, 95% interval (n = {head.validation['n']:,})")
    if n_images := head.validation["n"]:
        ends = np.array([wilson_interval(round(value * n_images), n_images) for value in top1])
        axes.fill_between(x, ends[:, 0], ends[:, 1], color=BLUE, alpha=0.15, linewidth=0)


def _setting(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else short_label(str(value))

"""Charts of a report, as coordinates for its template to draw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featstore.heads.head import Head
from featstore.heads.multilabel.head import MultiLabelHead
from featstore.scoring.curves import LearningCurve
from featstore.scoring.evaluation import Evaluation
from featstore.scoring.multilabel.curves import LabelCurve
from featstore.stats.intervals import wilson_interval

__all__ = [
    "Chart",
    "calibration_chart",
    "curve_chart",
    "label_curve",
    "loss_chart",
    "map_chart",
    "sweep_chart",
]

_WIDTH, _HEIGHT = 400.0, 240.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 50.0, 14.0, 12.0, 46.0
_MOST_TICKS = 7


@dataclass(frozen=True, kw_only=True, eq=False)
class Chart:
    """A line of points over an axis; everything is in the units of the drawing."""

    title: str
    summary: str
    x_title: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    header: tuple[str, ...]
    table: Sequence[tuple[str, ...]]
    dots: list[tuple[float, float, float, str, str]]  # x, y, radius, kind and what it says
    line: str = ""
    band: str = ""
    bars: Sequence[tuple[float, float, float]] = ()  # x, and the ends of an interval
    diagonal: str = ""
    chosen: float | None = None
    width: float = _WIDTH
    height: float = _HEIGHT
    left: float = _LEFT
    right: float = _WIDTH - _RIGHT
    top: float = _TOP
    bottom: float = _HEIGHT - _BOTTOM


def sweep_chart(head: Head) -> Chart | None:
    """Return accuracy by setting; None if none were tried."""
    if len(head.sweep) < 2:
        return None
    n_images = head.validation["n"]
    top1 = [step["top1"] for step in head.sweep]
    ends = [wilson_interval(round(one * n_images), n_images) if n_images else (one, one) for one in top1]
    chosen = _chosen(head)
    names = [_setting(step["params"]) for step in head.sweep]
    where = f"in {head.choice['folds']} folds" if head.choice.get("folds") else "on validation"
    return _lines(
        title=f"Accuracy {where} by setting",
        x_title=_axis(head),
        names=names,
        ticks=_setting_ticks(head),
        values=top1,
        ends=ends,
        chosen=chosen,
        header=("setting", "accuracy", "95% interval"),
        is_share=True,
    )


def loss_chart(head: Head | MultiLabelHead) -> Chart | None:
    """Return the cross entropy by setting, by which the setting was chosen."""
    if len(head.sweep) < 2 or any(step.get("cross_entropy") is None for step in head.sweep):
        return None
    return _lines(
        title="Cross entropy: lower is better",
        x_title=_axis(head),
        names=[_setting(step["params"]) for step in head.sweep],
        ticks=_setting_ticks(head),
        values=[step["cross_entropy"] for step in head.sweep],
        chosen=_chosen(head),
        header=("setting", "cross entropy"),
        is_share=False,
    )


def map_chart(head: MultiLabelHead) -> Chart | None:
    """Return mean average precision by setting; None if none were tried."""
    values = [step["map"] for step in head.sweep if step["map"] is not None]
    if len(head.sweep) < 2 or len(values) < len(head.sweep):
        return None
    where = f"in {head.folds} folds" if head.folds else "on validation"
    return _lines(
        title=f"Mean average precision {where} by setting",
        x_title=_axis(head),
        names=[_setting(step["params"]) for step in head.sweep],
        ticks=_setting_ticks(head),
        values=values,
        chosen=_chosen(head),
        header=("setting", "mAP"),
        is_share=True,
    )


def label_curve(one: Mapping[str, Any], curve: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a label's precision over recall in a drawing of 100 x 60, and the point at its threshold."""
    if not curve["recall"]:
        return None
    recall, precision = [0.0, *curve["recall"]], [curve["precision"][0], *curve["precision"]]
    # Steps: the precision of a point holds from the recall of the one before.
    x = np.repeat(np.multiply(recall, 100), 2)[1:-1]
    y = 60 - 60 * np.repeat(precision[1:], 2)
    dot = None
    if one["precision"] is not None:
        dot = (round(100 * one["recall"], 1), round(60 - 60 * one["precision"], 1))
    return {"line": _points(np.round(x, 1).tolist(), np.round(y, 1).tolist()), "dot": dot}


def curve_chart(curve: LearningCurve | LabelCurve) -> Chart:
    """Return the score by the number of training images, on a logarithmic axis, with the forecast."""
    score, named = ("map", "mAP") if isinstance(curve, LabelCurve) else ("top1", "accuracy")
    points = [*curve.points, *([curve.forecast] if curve.forecast else [])]
    sizes = [float(point["n_train"]) for point in points]
    return _lines(
        title="Learning curve",
        x_title="training images",
        names=[
            f"{size:,.0f} images" + (" (forecast)" if point is curve.forecast else "")
            for size, point in zip(sizes, points, strict=True)
        ],
        ticks=[f"{size:,.0f}" for size in sizes],
        at=np.log2(np.maximum(sizes, 1)).tolist(),
        values=[point[score] for point in points],
        ends=[tuple(point[f"{score}_ci"]) for point in points],
        kinds=["forecast" if point is curve.forecast else "" for point in points],
        header=("training images", named, "95% interval"),
        is_share=True,
    )


def calibration_chart(evaluation: Evaluation) -> Chart:
    """Return the accuracy by the probability of the prediction; the larger a dot, the more images."""
    bins = [one for one in evaluation.calibration if one["n"]]
    most = max(one["n"] for one in bins)
    x = [_x(one["confidence"] or 0.0) for one in bins]
    y = [_y(one["accuracy"] or 0.0, 0, 1) for one in bins]
    ends = [wilson_interval(round((one["accuracy"] or 0.0) * one["n"]), one["n"]) for one in bins]
    rows = [
        (
            f"{100 * one['low']:.0f}% to {100 * one['high']:.0f}%",
            _share(one["confidence"] or 0.0),
            _share(one["accuracy"] or 0.0),
            f"{_share(low)} to {_share(high)}",
            f"{one['n']:,}",
        )
        for one, (low, high) in zip(bins, ends, strict=True)
    ]
    says = [
        f"{row[4]} images, {row[1]} sure on average: {row[2]} right (95% interval {row[3]})" for row in rows
    ]
    return Chart(
        title="Calibration: probability and accuracy",
        summary=f"expected calibration error {_share(evaluation.calibration_error)}",
        x_title="probability of the prediction",
        x_ticks=[(_x(value), _share(value, 0)) for value in (0, 0.25, 0.5, 0.75, 1)],
        y_ticks=[(_y(value, 0, 1), _share(value, 0)) for value in (0, 0.25, 0.5, 0.75, 1)],
        header=("probability", "mean", "accuracy", "95% interval", "images"),
        table=rows,
        dots=[
            (across, up, 3 + 7 * (one["n"] / most) ** 0.5, "", said)
            for across, up, one, said in zip(x, y, bins, says, strict=True)
        ],
        bars=[(across, _y(low, 0, 1), _y(high, 0, 1)) for across, (low, high) in zip(x, ends, strict=True)],
        diagonal=_points([_x(0), _x(1)], [_y(0, 0, 1), _y(1, 0, 1)]),
    )


def _lines(
    *,
    title: str,
    x_title: str,
    names: list[str],
    ticks: list[str],
    values: list[float],
    header: tuple[str, ...],
    is_share: bool,
    ends: Sequence[tuple[float, float]] = (),
    at: Sequence[float] = (),
    kinds: Sequence[str] = (),
    chosen: int | None = None,
) -> Chart:
    places = np.asarray(at or range(len(values)), np.float64)
    spread = np.ptp(places) or 1.0
    margin = 0.04
    x = [_x(margin + (1 - 2 * margin) * (place - places.min()) / spread) for place in places.tolist()]
    low, high, y_ticks = _axis_range([*values, *(end for pair in ends for end in pair)], is_share=is_share)
    y = [_y(value, low, high) for value in values]
    band = ""
    if ends:
        up = [_y(end[1], low, high) for end in ends]
        down = [_y(end[0], low, high) for end in ends]
        band = _points([*x, *x[::-1]], [*up, *down[::-1]])
    shown = [_share(value) if is_share else f"{value:.3f}" for value in values]
    intervals = [f"{_share(end[0])} to {_share(end[1])}" for end in ends]
    rows = [
        (name, value, *interval)
        for name, value, *interval in zip(names, shown, *([intervals] if ends else []), strict=True)
    ]
    every = -(-len(ticks) // _MOST_TICKS)
    marks = ["chosen" if number == chosen else "" for number in range(len(values))]
    kind_of = kinds or marks
    return Chart(
        title=title,
        summary=f"{shown[0]} at {names[0]} to {shown[-1]} at {names[-1]}"
        + (f"; chosen {names[chosen]} with {shown[chosen]}" if chosen is not None else ""),
        x_title=x_title,
        x_ticks=[(place, tick) for place, tick in list(zip(x, ticks, strict=True))[::every]],
        y_ticks=[(_y(value, low, high), text) for value, text in y_ticks],
        header=header,
        table=rows,
        dots=[
            (across, upward, 5.0 if kind == "chosen" else 3.5, kind, f"{name}: {', '.join(row[1:])}")
            for across, upward, kind, name, row in zip(x, y, kind_of, names, rows, strict=True)
        ],
        line=_points(x, y),
        band=band,
        chosen=None if chosen is None else x[chosen],
    )


def _axis_range(values: Sequence[float], *, is_share: bool) -> tuple[float, float, list[tuple[float, str]]]:
    """Return the ends of the vertical axis, and some four round values on it."""
    low, high = min(values), max(values)
    raw = max(high - low, 0.02 if is_share else 1e-3) / 4
    step = 10.0 ** np.floor(np.log10(raw))
    step *= next(factor for factor in (1, 2, 5, 10) if factor * step >= raw)
    first, last = np.floor(low / step), np.ceil(high / step)
    if is_share:
        last = min(last, np.floor(1 / step + 1e-9))
    marks = [float(number * step) for number in np.arange(first, last + 1)]
    digits = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    texts = [_share(mark, max(0, digits - 2)) if is_share else f"{mark:.{digits}f}" for mark in marks]
    return min(low, marks[0]), max(high, marks[-1]), list(zip(marks, texts, strict=True))


def _chosen(head: Head | MultiLabelHead) -> int | None:
    return next(
        (at for at, step in enumerate(head.sweep) if step["params"].items() <= head.params.items()), None
    )


def _varied(head: Head | MultiLabelHead) -> list[str]:
    first = head.sweep[0]["params"]
    return [name for name in first if any(step["params"].get(name) != first[name] for step in head.sweep)]


def _axis(head: Head | MultiLabelHead) -> str:
    return ", ".join(_varied(head)) or "setting"


def _setting_ticks(head: Head | MultiLabelHead) -> list[str]:
    names = _varied(head)
    return [" / ".join(_number(step["params"].get(name)) for name in names) for step in head.sweep]


def _setting(params: dict[str, Any]) -> str:
    return ", ".join(f"{name}={_number(value)}" for name, value in params.items()) or "default"


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _share(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f}%"


def _x(share: float) -> float:
    return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)


def _y(value: float, low: float, high: float) -> float:
    share = (value - low) / ((high - low) or 1.0)
    return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP), 1)


def _points(x: Sequence[float], y: Sequence[float]) -> str:
    return " ".join(f"{across},{up}" for across, up in zip(x, y, strict=True))

"""The report of a fine-tuning, as text and as curves."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["curve_scalars", "report_text"]


def report_text(report: Mapping[str, Any]) -> str:
    """Return a report of :func:`featstore.finetune`, or the JSON written of it, as lines of text."""
    cut, maps, chosen = report["cut"], report["maps"], report["epochs"][report["chosen"]]
    images = report["images"]
    lines = []
    if cut["layer"] == "all":
        lines.append(f"tuned    {report['backbone']}, all of it, from pixels")
    else:
        lines.append(
            f"tuned    {report['backbone']} above {cut['layer']}: {cut['parameters']:,} weights, "
            f"{_percent(cut['share'])} of its cost"
        )
    if maps:
        lines.append(
            f"maps     {maps['space']}: {maps['bytes_a_view']:,} bytes a view, {maps['computed']:,} computed"
        )
    again = " fitted again on train alone" if report["fitted_again"] else ""
    lines += [
        f"from     {report['head']}{again}",
        f"images   {images['train']:,} in train, {images['validation']:,} in validation",
        "",
        *_epochs(report["epochs"], report["chosen"]),
        "",
    ]
    if report["stopped"]:
        lines.append(f"stopped: {report['stopped']}")
    if not report["tuned"]:
        lines += ["no epoch was better on validation than the head that it started from, which is kept", ""]
    else:
        lines.append(f"epoch {chosen['epoch']} has the least cross entropy on validation")
    lines += _comparison(report["comparison"])
    lines += [
        f"weights  {report['weights']}",
        f"space    {report['space']}",
        f"head     {report['saved_head']}",
    ]
    return "\n".join(lines)


def curve_scalars(history: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, float]]:
    """Return the curves as tag, epoch and value, for :func:`featstore.write_scalars`."""
    tags = {
        "loss": "train/loss",
        "learning_rate": "train/learning_rate",
        "top1": "validation/accuracy",
        "cross_entropy": "validation/cross_entropy",
    }
    return [
        (tag, int(entry["epoch"]), float(entry[name]))
        for entry in history
        for name, tag in tags.items()
        if name in entry
    ]


def _epochs(history: Sequence[Mapping[str, Any]], chosen: int) -> list[str]:
    lines = ["epoch  train loss  validation accuracy  cross entropy  processor s"]
    for entry in history:
        loss = f"{entry['loss']:.3f}" if "loss" in entry else ""
        used = f"{entry['processor_seconds']:,.1f}" if "processor_seconds" in entry else ""
        mark = "  chosen" if entry["epoch"] == chosen else ""
        lines.append(
            f"{entry['epoch']:>5}  {loss:>10}  {_percent(entry['top1']):>19}  "
            f"{entry['cross_entropy']:>13.3f}  {used:>11}{mark}".rstrip()
        )
    return lines


def _comparison(comparison: Mapping[str, Any] | None) -> list[str]:
    if comparison is None:
        return []
    (pair,) = comparison["pairs"]
    low, high = (f"{100 * value:+.1f}" for value in pair["difference_ci"])
    lines = [
        f"{name:<8} {_percent(one['top1'])} of {comparison['n']:,} test images right "
        f"(95% interval {_percent(one['top1_ci'][0])} to {_percent(one['top1_ci'][1])})"
        for name, one in zip(("probe", "tuned"), comparison["heads"], strict=True)
    ]
    return [
        *lines,
        f"{pair['only_b']:,} gained, {pair['only_a']:,} lost: {100 * pair['difference']:+.1f} points "
        f"(95% interval {low} to {high}), p = {pair['p']:.2g}",
        "",
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"

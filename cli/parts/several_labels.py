"""Heads that give several labels, in `featstore fit` and `evaluate`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from featstore.messages import count

from ..folds import print_folds
from ..options.shared import refuse_given
from ..options.view import views_text
from ..plotting import save_plot
from ..printing import (
    bar,
    echo,
    interval_text,
    marked_path,
    note,
    print_json,
    print_more,
    print_table,
    setting_text,
    share,
    with_existing,
)

if TYPE_CHECKING:
    from featstore import FeatureTable, LabelEvaluation, MultiLabelHead

__all__ = ["fit_labels", "print_labels_fit", "refuse_of_one_label", "score_labels"]

_LISTED_MISTAKES = 20
_NAMES = {
    "map": "mean average precision",
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "subset_accuracy": "all labels right",
}


def fit_labels(
    table: "FeatureTable", *, head: str, params: Mapping[str, Any] | None, quiet: bool, **options: Any
) -> "MultiLabelHead":
    """Fit a head to images with several labels; refuse options that are for heads with one."""
    import featstore

    names = ("rule", "seed", "refit", "folds", "views", "class_weight")
    taken = {name: options.pop(name) for name in names}
    jobs = options.pop("jobs")
    refuse_of_one_label(table, jobs=jobs > 1, **options)
    with bar(None, quiet=quiet, unit="fit") as progress:
        return featstore.fit_labels(table, head=head, params=params, progress=progress, **taken)


def refuse_of_one_label(table: "FeatureTable", **options: Any) -> None:
    """Refuse options that are for heads with one label an image."""
    refuse_given(
        options, f"images of the catalog {table.catalog_name} may have several labels", "one label an image"
    )


def print_labels_fit(head: "MultiLabelHead") -> None:
    """Print what a fit of several labels chose, and how good it is."""
    labels = head.classes.tolist()
    rows = [
        (label, *(of_split[label] for of_split in head.counts.values()), f"{threshold:.3f}")
        for label, threshold in zip(labels, head.thresholds.tolist(), strict=True)
    ]
    print_table(("label", *head.counts, "threshold"), [*rows, ("images", *head.n_images.values(), "")])
    if head.sweep:
        click.echo()
        steps = [
            (setting_text(step["params"]), _share(step["map"]), f"{step['cross_entropy']:.4f}")
            for step in head.sweep
        ]
        tried = f"mAP in {head.folds} folds" if head.folds else "validation mAP"
        print_table(("tried", tried, "cross entropy"), steps)
    click.echo()
    chosen = setting_text(head.params)
    click.echo(f"{head.name} for each label on {head.spec.name}" + (f", {chosen}" if chosen else ""))
    if head.weighted:
        click.echo("images weighted as the catalog says; scores count all alike")
    if views := views_text(head):
        click.echo(views)
    by = f"from cross-validation in {head.folds} folds" if head.folds else "of the fit on train alone"
    if head.folds or "validation" in head.fitted_on:
        click.echo(f"fitted on {' and '.join(head.fitted_on)}; thresholds and validation scores are {by}")
    for split, scores in (("validation", head.validation), ("test", head.test)):
        if scores["n"]:
            values = ", ".join(f"{name} {_share(scores[key])}" for key, name in _NAMES.items())
            click.echo(f"{split}: {values} (n = {scores['n']:,})")


def score_labels(
    head: "MultiLabelHead",
    table: "FeatureTable",
    *,
    split: str | None,
    folds: int | None,
    plot: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Score a head that gives several labels, and print it."""
    import featstore

    if folds is None:
        evaluation = featstore.evaluate_labels(head, table, split=split or "test")
    else:
        with bar(None, quiet=quiet, unit="fold") as progress:
            evaluation = featstore.cross_evaluate_labels(
                table, head=head, folds=folds, seed=head.seed, progress=progress
            )
    if plot is not None:
        save_plot(evaluation, plot, force=force)
    values = evaluation.to_dict()
    if as_json:
        print_json(with_existing(values, "mistakes"))
        return
    _print_scores(evaluation)
    click.echo()
    _print_classes(values["classes"])
    if evaluation.mistakes:
        click.echo()
        rows = [
            (", ".join(one["labels"]) or "none", ", ".join(one["given"]) or "none", marked_path(one["path"]))
            for one in evaluation.mistakes[:_LISTED_MISTAKES]
        ]
        print_table(("true", "predicted", "image"), rows, left=3)
        print_more(len(evaluation.mistakes) - _LISTED_MISTAKES, "--json lists them")


def _print_scores(evaluation: "LabelEvaluation") -> None:
    if evaluation.n_fitted:
        note(f"{count(evaluation.n_fitted, 'image')} that the head was fitted on are left out")
    if evaluation.folds:
        print_folds(evaluation, "map")
        click.echo()
    rows = [
        (name, share(getattr(evaluation, key)), interval_text(getattr(evaluation, f"{key}_ci")))
        for key, name in _NAMES.items()
    ]
    rows.append(("log loss", f"{evaluation.log_loss:.3f}", ""))
    where = "by cross-validation" if evaluation.folds else f"of {evaluation.split}"
    print_table((f"on {count(evaluation.n, 'image')} {where}", "score", "95% interval"), rows)
    if evaluation.test_views > 1:
        click.echo(f"predictions are averaged over {evaluation.test_views} views of each image")
    per_image = evaluation.labels_per_image
    echo(f"labels an image: {per_image['true']:.2f}, predicted {per_image['given']:.2f}")


def _print_classes(classes: list[dict[str, Any]]) -> None:
    rows = [
        (
            one["label"],
            one["n"],
            _share(one["average_precision"]),
            _interval(one["average_precision_ci"]),
            f"{one['threshold']:.3f}",
            _share(one["precision"]),
            _interval(one["precision_ci"]),
            _share(one["recall"]),
            _interval(one["recall_ci"]),
            _share(one["f1"]),
        )
        for one in classes
    ]
    header = (
        "label",
        "n",
        "AP",
        "95% interval",
        "from",
        "precision",
        "95% interval",
        "recall",
        "95% interval",
        "F1",
    )
    print_table(header, rows)


def _share(value: float | None) -> str:
    return "" if value is None else share(value)


def _interval(ends: list[float] | None) -> str:
    return "" if ends is None else interval_text(ends)

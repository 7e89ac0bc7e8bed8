"""`featstore evaluate`."""

from typing import TYPE_CHECKING, Any

import click

from .console import (
    count,
    example,
    force_option,
    json_option,
    mark_existing,
    marked_path,
    print_json,
    print_table,
    share,
    verify_reads_option,
)
from .finding import find_head, find_table
from .plotting import checked_plot_path, plot_option, save_plot

if TYPE_CHECKING:
    from featstore import Evaluation

__all__ = ["evaluate"]

_LISTED_MISTAKES = 20
_LISTED_CLASSES = 20


@click.command(
    epilog=example("featstore evaluate logistic --store digits.fstore"),
    short_help="Score a head on stored features.",
)
@click.argument("head", metavar="HEAD")
@click.option(
    "--store", type=click.Path(), help="Where the features are.  [default: the head's, or the only one here]"
)
@click.option(
    "--catalog", metavar="NAME", multiple=True, help="Labels to score on.  [default: the head's own]"
)
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test", "all"]),
    help="Which images to score on.  [default: test, or all for a head that was fitted on none]",
)
@plot_option("the confusion matrix and the calibration")
@force_option
@verify_reads_option
@json_option
def evaluate(
    head: str,
    store: str | None,
    catalog: tuple[str, ...],
    split: str | None,
    plot: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Score HEAD on images that it was not trained on.

    HEAD is the name of a head in the store, or a .head file. The images are divided by the head's own rule.
    Intervals are 95% ones: Wilson's for fractions of images, the bootstrap's for the others. precision@1 and
    recall@5 are other names of the accuracy and the top-5 accuracy.
    """
    import featstore

    path, home = find_head(head, store)
    fitted = featstore.Head.load(path)
    table = find_table(fitted, home, catalog)
    plot = checked_plot_path(plot, table, force=force)
    if split is None:
        split = "test" if fitted.choice["fitted_on"] else "all"
    evaluation = featstore.evaluate(fitted, table, split=split)
    if plot is not None:
        save_plot(evaluation, plot, force=force)
    if as_json:
        told = evaluation.to_dict()
        mark_existing(told["misclassified"])
        print_json(told)
        return
    _print_scores(evaluation)
    click.echo()
    told = evaluation.to_dict()
    met = [one for one in told["classes"] if one["f1"] is not None]
    _print_classes(met)
    if n_more := len(told["classes"]) - len(met):
        click.echo(f"{n_more:,} more that no image has and none was taken for")
    if len(told["classes"]) <= _LISTED_CLASSES:
        click.echo()
        labels = [str(one["label"]) for one in told["classes"]]
        rows = [(label, *counts) for label, counts in zip(labels, told["confusion"], strict=True)]
        print_table(("true \\ predicted", *labels), rows)
    if told["misclassified"]:
        click.echo()
        _print_mistakes(told["misclassified"])


def _print_scores(evaluation: "Evaluation") -> None:
    low, high = evaluation.top1_ci
    click.echo(
        f"{evaluation.split} accuracy {share(evaluation.top1)} "
        f"(95% interval {share(low)} to {share(high)}, n = {evaluation.n:,})"
    )
    if evaluation.resampling["unit"] != "image":
        click.echo(
            f"resampled by {evaluation.resampling['unit']}: {_interval(evaluation.top1_bootstrap_ci)} "
            f"(n = {evaluation.resampling['n']:,})"
        )
    if evaluation.test_views > 1:
        click.echo(f"each image is judged by the mean over {evaluation.test_views} views")
    click.echo()
    rows: list[tuple[str, str, str]] = [
        ("precision@1 (accuracy)", share(evaluation.top1), _interval(evaluation.top1_ci))
    ]
    if evaluation.top5 is not None and evaluation.top5_ci is not None:
        rows.append(("recall@5 (top-5 accuracy)", share(evaluation.top5), _interval(evaluation.top5_ci)))
    baseline = evaluation.baseline
    rows += [
        ("macro F1", share(evaluation.macro_f1), _interval(evaluation.macro_f1_ci)),
        (
            "balanced accuracy",
            share(evaluation.balanced_accuracy),
            _interval(evaluation.balanced_accuracy_ci),
        ),
        (f"always {baseline['label']}", share(baseline["top1"]), _interval(baseline["top1_ci"])),
        ("log loss", f"{evaluation.log_loss:.3f}", ""),
        ("Brier score", f"{evaluation.brier_score:.3f}", ""),
        ("calibration error", share(evaluation.calibration_error), ""),
    ]
    print_table((f"on {count(evaluation.n, 'image')}", "score", "95% interval"), rows)


def _print_classes(classes: list[dict[str, Any]]) -> None:
    rows = [
        (
            one["label"],
            one["n"],
            *("" if one[name] is None else share(one[name]) for name in ("precision", "recall")),
            "" if one["recall_ci"] is None else _interval(one["recall_ci"]),
            "" if one["f1"] is None else share(one["f1"]),
        )
        for one in classes
    ]
    print_table(("class", "n", "precision", "recall", "95% interval", "F1"), rows)


def _print_mistakes(misclassified: list[dict[str, Any]]) -> None:
    rows = [
        (wrong["label"], wrong["predicted"], share(wrong["probability"]), marked_path(wrong["path"]))
        for wrong in misclassified[:_LISTED_MISTAKES]
    ]
    print_table(("true", "predicted", "probability", "image"), rows, left=4)
    if (more := len(misclassified) - _LISTED_MISTAKES) > 0:
        click.echo(f"… and {more:,} more: --json lists them")


def _interval(ends: tuple[float, float] | list[float]) -> str:
    low, high = ends
    return f"{share(low)} to {share(high)}"

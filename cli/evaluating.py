"""`featstore evaluate`."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from .console import (
    accuracy_told,
    bar,
    count,
    example,
    force_option,
    json_option,
    mark_existing,
    marked_path,
    note,
    print_json,
    print_table,
    quiet_option,
    say,
    share,
    verify_reads_option,
)
from .finding import find_head, find_table
from .plotting import checked_plot_path, plot_option, save_plot

if TYPE_CHECKING:
    from featstore import Evaluation, FeatureTable, Head

__all__ = ["evaluate"]

_LISTED_MISTAKES = 20
_LISTED_CLASSES = 20

_PARTS = {
    "held_out": "held out",
    "chosen_on": "its parameters were chosen on",
    "fitted_on": "it was fitted on",
}


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
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    metavar="K",
    help="Judge all labelled images instead: in K folds, each by a head of HEAD's kind that is fitted on the "
    "others, its parameters chosen anew.",
)
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Fits that run at once."
)
@plot_option("the confusion matrix and the calibration")
@force_option
@verify_reads_option
@quiet_option
@json_option
def evaluate(
    head: str,
    store: str | None,
    catalog: tuple[str, ...],
    split: str | None,
    folds: int | None,
    jobs: int,
    plot: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Score HEAD on images that it was not trained on.

    HEAD is the name of a head in the store, or a .head file. The images are divided by the head's own rule,
    and those that it was trained on are known by their content and left out, whatever catalog they are in.
    Only --split train, and validation where it was trained on that, too, score them.

    Intervals are 95% ones: Wilson's for fractions of images, the bootstrap's for the others. precision@1 and
    recall@5 are other names of the accuracy and the top-5 accuracy.
    """
    import featstore

    path, home = find_head(head, store)
    fitted = featstore.Head.load(path)
    table = find_table(fitted, home, catalog)
    plot = checked_plot_path(plot, table, force=force)
    if folds is not None and split is not None:
        raise click.UsageError("--folds judges all labelled images, and --split some: give one of them")
    if split is None:
        split = "test" if fitted.choice["fitted_on"] else "all"
    if folds is None:
        evaluation = featstore.evaluate(fitted, table, split=split)
    else:
        with bar(None, quiet=quiet, unit="fold") as progress:
            evaluation = featstore.cross_evaluate(
                table, head=fitted, folds=folds, jobs=jobs, seed=fitted.seed, progress=progress
            )
    if plot is not None:
        save_plot(evaluation, plot, force=force)
    if as_json:
        told = evaluation.to_dict()
        mark_existing(told["misclassified"])
        print_json(told)
        return
    if folds is None:
        _note_what_is_not_known(evaluation, fitted, table)
    _print_scores(evaluation, fitted)
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


def _print_scores(evaluation: "Evaluation", head: "Head") -> None:
    if "fitted_on" in evaluation.scored and head.test["n"]:
        click.echo(f"test accuracy when it was fitted {accuracy_told(head.test, head.test['n'])}")
    named = "cross-validated" if evaluation.folds else evaluation.split
    told = {"top1": evaluation.top1, "top1_ci": evaluation.top1_ci}
    click.echo(f"{named} accuracy {accuracy_told(told, evaluation.n)}")
    if evaluation.folds:
        _print_folds(evaluation)
    else:
        _print_parts(evaluation)
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


def _print_folds(evaluation: "Evaluation") -> None:
    """Say how the folds were dealt, and what was chosen in them."""
    folds, together = evaluation.folds, evaluation.together
    least, most = (share(of(fold["top1"] for fold in folds)) for of in (min, max))
    click.echo(f"  {len(folds)} folds, each judged by a head that was fitted without it: {least} to {most}")
    kept = []
    if together["by"] != "image":
        kept.append(f"one {together['by']} ({evaluation.resampling['n']:,} in all)")
    if together["n_near"]:
        kept.append(f"one scene ({together['n_near']:,} have near-duplicates)")
    if kept:
        click.echo(f"  images of {' or '.join(kept)} are in one fold")
    if together["skipped"]:
        click.echo(f"  near-duplicates are not kept together: {together['skipped']}")
    settings = Counter(
        ", ".join(f"{name}={_shown(value)}" for name, value in fold["params"].items()) for fold in folds
    )
    if chosen := ", ".join(f"{told} ({times}x)" for told, times in settings.most_common() if told):
        click.echo(f"  parameters: {chosen}")
    for label, n_images in evaluation.unjudged.items():
        say(f"  {label} is not judged: its {count(n_images, 'image')} cannot be held out and known")


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _note_what_is_not_known(evaluation: "Evaluation", head: "Head", table: "FeatureTable") -> None:
    if evaluation.seen_by == "unknown":
        note("which images the network's own classifier was trained on is not known: none is left out")
    elif evaluation.seen_by == "part":
        note("which images the head was made of that this one extends is not known: none of them is left out")
    elif evaluation.seen_by == "catalog" and table.catalog_name != head.catalog:
        note(
            f"the head is of an earlier version, and knows what it was fitted on in the catalog "
            f"{head.catalog} alone: fit it again to have such images left out of {table.catalog_name}"
        )


def _print_parts(evaluation: "Evaluation") -> None:
    """Say how the head has seen the images, where it has seen any of them."""
    is_mixed = len(evaluation.parts) > 1
    for part in evaluation.parts:
        told = f"{accuracy_told(part, part['n'])}" if is_mixed else count(part["n"], "image")
        if part["part"] != "held_out" or is_mixed:
            click.echo(f"  {_PARTS[part['part']]}: {told}")
    if "fitted_on" in evaluation.scored:
        click.echo("  images that a head was fitted on say little of how good it is on others")
    elif any(part["part"] == "fitted_on" for part in evaluation.parts):
        click.echo("  those that it was fitted on are left out of all other figures")


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

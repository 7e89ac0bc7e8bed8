"""`featstore evaluate`."""

from typing import TYPE_CHECKING, Any

import click

from featstore.messages import count

from ..finding import find_head, find_table, load_any_head
from ..folds import print_folds
from ..options.groups import command, option_group
from ..options.shared import check_coverage, coverage_options, jobs_option, result_options
from ..options.table import head_table_options, scored_split_option
from ..parts.numbers import refuse_of_labels, score_numbers
from ..parts.several_labels import refuse_of_one_label, score_labels
from ..plotting import checked_plot_path, plot_option, save_plot
from ..printing import (
    accuracy_text,
    bar,
    example,
    interval_text,
    marked_path,
    note,
    print_json,
    print_more,
    print_table,
    share,
    with_existing,
)

if TYPE_CHECKING:
    from featstore import Evaluation, FeatureTable, Head

__all__ = ["evaluate"]

_LISTED_MISTAKES = 20
_LISTED_CLASSES = 20

_PARTS = {"held_out": "held out", "chosen_on": "used to tune its parameters", "fitted_on": "used to fit it"}


@command(
    epilog=example("featstore evaluate logistic --store digits.fstore"),
    short_help="Score a head: accuracy, confusion matrix, calibration.",
)
@click.argument("head", metavar="HEAD")
@head_table_options("Catalog of labels to score on")
@option_group(
    "Images to score on",
    scored_split_option,
    click.option(
        "--folds",
        type=click.IntRange(min=2),
        metavar="K",
        help="Cross-validate instead: predict every labelled image by a head of the same kind, tuned and "
        "fitted on the other folds.",
    ),
    *coverage_options("Also score the smallest sets of classes that hold the right one"),
    jobs_option,
)
@result_options(
    plot_option(
        "confusion matrix and calibration (several labels: precision-recall curves; numbers: true against "
        "predicted)"
    )
)
def evaluate(
    head: str,
    store: str | None,
    catalog: tuple[str, ...],
    split: str | None,
    folds: int | None,
    coverage: float | None,
    by_class: bool,
    jobs: int,
    plot: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Score HEAD on images that it was not trained on.

    HEAD is the name of a head in the store, or a .head file. Images are split by the head's own split rule.
    Those that it was trained on are recognised by content and excluded, whatever catalog they are in, except
    with --split train, and --split validation if it was trained on all of validation.

    A head that gives several labels is scored by mean average precision (mAP), micro and macro F1 and the
    share of images whose labels are all right; with --folds, thresholds are chosen inside each fit too.

    A head that predicts a number is scored by mean absolute error, root mean squared error and R²; with
    --coverage by how often its prediction intervals hold the number.

    Intervals are at the 95% level: Wilson intervals for accuracy and recall, bootstrap intervals for the
    other scores. precision@1 and recall@5 are other names of accuracy and top-5 accuracy.
    """
    import featstore

    path, home = find_head(head, store)
    fitted = load_any_head(path)
    table = find_table(fitted, home, catalog)
    plot = checked_plot_path(plot, table, force=force)
    if folds is not None and split is not None:
        raise click.UsageError("--folds predicts all labelled images, --split only some: give one of them")
    if isinstance(fitted, featstore.MultiLabelHead):
        refuse_of_one_label(table, coverage=coverage, by_class=by_class, jobs=jobs > 1)
        shown: dict[str, Any] = {"plot": plot, "force": force, "quiet": quiet, "as_json": as_json}
        score_labels(fitted, table, split=split, folds=folds, **shown)
        return
    check_coverage(coverage, by_class=by_class)
    if folds is not None and coverage is not None:
        raise click.UsageError(
            "--coverage scores the sets of one head, --folds several heads: give one of them"
        )
    if isinstance(fitted, featstore.RegressionHead):
        refuse_of_labels(table, by_class=by_class, jobs=jobs > 1)
        shown = {"plot": plot, "force": force, "quiet": quiet, "as_json": as_json}
        score_numbers(fitted, table, split=split, folds=folds, coverage=coverage, **shown)
        return
    if split is None:
        split = "test" if fitted.choice["fitted_on"] else "all"
    if folds is None:
        evaluation = featstore.evaluate(fitted, table, split=split, coverage=coverage, by_class=by_class)
    else:
        with bar(None, quiet=quiet, unit="fold") as progress:
            evaluation = featstore.cross_evaluate(
                table, head=fitted, folds=folds, jobs=jobs, seed=fitted.seed, progress=progress
            )
    if plot is not None:
        save_plot(evaluation, plot, force=force)
    if as_json:
        print_json(with_existing(evaluation.to_dict(), "misclassified"))
        return
    if folds is None:
        _note_unknown_images(evaluation, fitted, table)
    _print_scores(evaluation, fitted)
    click.echo()
    values = evaluation.to_dict()
    met = [one for one in values["classes"] if one["f1"] is not None]
    _print_classes(met)
    if n_more := len(values["classes"]) - len(met):
        click.echo(f"{n_more:,} more classes without images or predictions")
    if len(values["classes"]) <= _LISTED_CLASSES:
        click.echo()
        labels = [str(one["label"]) for one in values["classes"]]
        rows = [(label, *counts) for label, counts in zip(labels, values["confusion"], strict=True)]
        print_table(("true \\ predicted", *labels), rows)
    if values["misclassified"]:
        click.echo()
        _print_mistakes(values["misclassified"])


def _print_scores(evaluation: "Evaluation", head: "Head") -> None:
    if "fitted_on" in evaluation.scored and head.test["n"]:
        click.echo(f"test accuracy when fitted {accuracy_text(head.test, head.test['n'])}")
    named = "cross-validated" if evaluation.folds else evaluation.split
    values = {"top1": evaluation.top1, "top1_ci": evaluation.top1_ci}
    click.echo(f"{named} accuracy {accuracy_text(values, evaluation.n)}")
    if evaluation.folds:
        print_folds(evaluation, "top1")
    else:
        _print_parts(evaluation)
    if evaluation.resampling["unit"] != "image":
        click.echo(
            f"resampled by {evaluation.resampling['unit']}: {interval_text(evaluation.top1_bootstrap_ci)} "
            f"(n = {evaluation.resampling['n']:,})"
        )
    if evaluation.test_views > 1:
        click.echo(f"predictions are averaged over {evaluation.test_views} views of each image")
    click.echo()
    rows: list[tuple[str, str, str]] = [
        ("precision@1 (accuracy)", share(evaluation.top1), interval_text(evaluation.top1_ci))
    ]
    if evaluation.top5 is not None and evaluation.top5_ci is not None:
        rows.append(("recall@5 (top-5 accuracy)", share(evaluation.top5), interval_text(evaluation.top5_ci)))
    baseline = evaluation.baseline
    rows += [
        ("macro F1", share(evaluation.macro_f1), interval_text(evaluation.macro_f1_ci)),
        (
            "balanced accuracy",
            share(evaluation.balanced_accuracy),
            interval_text(evaluation.balanced_accuracy_ci),
        ),
        (f"always {baseline['label']}", share(baseline["top1"]), interval_text(baseline["top1_ci"])),
        ("log loss", f"{evaluation.log_loss:.3f}", ""),
        ("Brier score", f"{evaluation.brier_score:.3f}", ""),
        ("calibration error", share(evaluation.calibration_error), ""),
    ]
    print_table((f"on {count(evaluation.n, 'image')}", "score", "95% interval"), rows)
    if evaluation.levels:
        click.echo()
        levels = [
            (one["level"], one["classes"], share(one["top1"]), interval_text(one["top1_ci"]))
            for one in evaluation.levels
        ]
        print_table(("level", "classes", "accuracy", "95% interval"), levels)
    if evaluation.sets:
        click.echo()
        _print_sets(evaluation.sets)


def _print_sets(sets: dict[str, Any]) -> None:
    """Print how often prediction sets hold the label, by their size and by class."""
    by = "for each class, " if sets["by_class"] else ""
    click.echo(
        f"sets for a coverage of {share(sets['coverage'])} {by}calibrated on "
        f"{count(sets['n_calibrating'], 'held-out image')}: {sets['mean_size']:.2f} labels on average"
    )
    parts = [("all", sets), *((count(one["size"], "label"), one) for one in sets["sizes"])]
    if len(sets["classes"]) <= _LISTED_CLASSES:
        parts += [(one["label"], one) for one in sets["classes"] if one["n"]]
    rows = [(name, one["n"], share(one["covered"]), interval_text(one["covered_ci"])) for name, one in parts]
    print_table(("sets of", "n", "hold the label", "95% interval"), rows)


def _note_unknown_images(evaluation: "Evaluation", head: "Head", table: "FeatureTable") -> None:
    if evaluation.seen_by == "unknown":
        note("the training images of the network's own classifier are unknown: no image is excluded")
    elif evaluation.seen_by == "part" and not head.extension:
        note("images that the head was fitted on were forgotten since: those that are back count as unseen")
    elif evaluation.seen_by == "part":
        note("the training images of the head that this one extends are unknown: none of them is excluded")
    elif evaluation.seen_by == "catalog" and table.catalog_name != head.catalog:
        note(
            "the head is of an earlier version, and knows its training images only in the catalog "
            f"{head.catalog}: refit it to exclude them in {table.catalog_name}"
        )


def _print_parts(evaluation: "Evaluation") -> None:
    """Print the accuracy by how the head has used the images, where it has used any."""
    is_mixed = len(evaluation.parts) > 1
    for part in evaluation.parts:
        values = accuracy_text(part, part["n"]) if is_mixed else count(part["n"], "image")
        if part["part"] != "held_out" or is_mixed:
            click.echo(f"  {_PARTS[part['part']]}: {values}")
    if "fitted_on" in evaluation.scored:
        click.echo("  accuracy on images that a head was fitted on is optimistic")
    elif any(part["part"] == "fitted_on" for part in evaluation.parts):
        click.echo("  those used to fit it are excluded from all other scores")


def _print_classes(classes: list[dict[str, Any]]) -> None:
    rows = [
        (
            one["label"],
            one["n"],
            *("" if one[name] is None else share(one[name]) for name in ("precision", "recall")),
            "" if one["recall_ci"] is None else interval_text(one["recall_ci"]),
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
    print_more(len(misclassified) - _LISTED_MISTAKES, "--json lists them")

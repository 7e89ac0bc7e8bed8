"""`featstore fit` and `featstore heads`."""

import importlib.util
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import click

from .finding import output_path, save_head
from .option_groups import command, option_group
from .options import (
    class_weight_option,
    jobs_option,
    json_option,
    output_option,
    reject_type,
    result_options,
    seed_option,
)
from .plotting import check_tensorboard_folder, checked_plot_path, plot_option, show_sweep
from .printing import (
    accuracy_text,
    bar,
    class_counts,
    echo,
    example,
    note,
    print_json,
    print_table,
    setting_text,
    share,
    short_path,
)
from .split_options import split_options
from .table_options import table_options
from .view_options import note_unused_views, view_options, views_text

if TYPE_CHECKING:
    from featstore import FeatureStore, FeatureTable, Head, HeadInfo

__all__ = ["fit", "heads"]


class _Parameter(click.ParamType[tuple[str, str | int | float | bool | None]]):
    """``C=0.3``: a hyper-parameter's name and value, which may be a number, true, false or none."""

    name = "NAME=VALUE"
    words: ClassVar[dict[str, bool | None]] = {"true": True, "false": False, "none": None}

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str | int | float | bool | None]:
        name, equals, text = str(value).partition("=")
        if not name or not equals or not text:
            self.fail(f"{value!r} is not of the form NAME=VALUE, for example C=0.3", param, ctx)
        if text.lower() in self.words:
            return name, self.words[text.lower()]
        for kind in (int, float):
            try:
                return name, kind(text)
            except ValueError:
                continue
        return name, text


@command(
    epilog=example("featstore fit digits.fstore --head svm"),
    short_help="Train a classifier (head) on stored features.",
)
@option_group(
    "Classifier",
    click.option(
        "--head",
        default="logistic",
        show_default=True,
        metavar="NAME|MODULE:FACTORY",
        help="Classifier: one of `featstore heads`, or your own function that returns a scikit-learn "
        "classifier. The latter runs the module's code; modules in the current folder are found.",
    ),
    click.option(
        "--param",
        "params",
        type=_Parameter(),
        multiple=True,
        help="Fix a hyper-parameter instead of tuning it.",
    ),
    class_weight_option,
    click.option(
        "--folds",
        type=click.IntRange(min=2),
        metavar="K",
        help="Tune by K-fold cross-validation on train and validation.  [default: tune on validation]",
    ),
    click.option(
        "--refit/--no-refit",
        default=True,
        show_default=True,
        help="Refit on train and validation with the best parameters. With --no-refit, --folds uses train "
        "alone.",
    ),
    click.option(
        "--min-images",
        type=click.IntRange(min=1),
        metavar="N",
        help="Leave out classes with fewer than N images.",
    ),
    click.option(
        "--reject",
        type=reject_type,
        metavar="BELOW",
        help='Predict "unknown" where the highest class probability is below this.',
    ),
    seed_option,
    jobs_option,
)
@view_options
@split_options
@option_group(
    "Splits",
    click.option(
        "--leakage/--no-leakage",
        "look_for_leakage",
        default=True,
        show_default=True,
        help="Look for test images with a near-duplicate in train (data leakage), and report the accuracy "
        "without them.",
    ),
)
@result_options(
    output_option("Where to save the head.  [default: in the store, as --head]"),
    plot_option("accuracy and loss of each setting tried"),
    click.option(
        "--tensorboard", metavar="FOLDER", type=click.Path(), help="Write the same as TensorBoard logs."
    ),
)
@table_options("Features to train on", "Labels to train on")
def fit(
    store: "FeatureStore",
    table: "FeatureTable",
    head: str,
    params: tuple[tuple[str, Any], ...],
    look_for_leakage: bool,
    output: str | None,
    plot: str | None,
    tensorboard: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a classifier (head) on the features in STORE and save it: transfer learning with a linear probe.

    Images are split into train, validation and test by a hash of their content, so the split is the same on
    every machine and stable when images are added. Splits given by the source take precedence: lists
    (`featstore extract --test-list`), folders called train and test, or the column "split" of a CSV. If they
    leave validation empty, the hash takes validation images from train. A class that the hash leaves without
    an image in train, test or validation, in this order, gets one if it has enough images.

    Hyper-parameters are tuned by cross entropy on validation (or by cross-validation, with --folds), and the
    head is then refitted on train and validation.

    If the store has several views of each image, --test-views averages predictions over them, now and
    whenever the head is used; --views trains on them as well. Views of one image are never split up.

    STORE may be omitted if the current folder has only one.
    """
    import featstore

    check_tensorboard_folder(tensorboard)
    plot = checked_plot_path(plot, table, force=force)
    output = head.rpartition(":")[2] if output is None else output
    path = output_path(output, store.path, force=force, inputs=table.paths.tolist())
    with bar(None, quiet=quiet, unit="fit") as progress:
        fitted = featstore.fit(
            table,
            head=_own_head(head) if ":" in head else head,
            params=dict(params) or None,
            progress=progress,
            **options,
        )
    if look_for_leakage:
        fitted = replace(fitted, near_duplicates=featstore.leakage(fitted, table))
    save_head(fitted, path, force=force)
    note_unused_views(table, options["views"])
    show_sweep(fitted, plot, tensorboard, force=force)
    if as_json:
        print_json({**fitted.to_dict(), "path": path})
        return
    _print_fit(fitted)
    echo(f"saved to {short_path(path)}")


def _own_head(text: str) -> "HeadInfo":
    import featstore

    package = text.partition(":")[0].partition(".")[0]
    # A file of the current folder never shadows an installed package.
    if package.isidentifier() and importlib.util.find_spec(package) is None:
        sys.path.append(os.getcwd())
    return featstore.load_head_factory(text)


def _print_fit(head: "Head") -> None:
    counts = head.counts
    rows = class_counts(counts, head.classes.tolist())
    if len(rows) > 50:
        rows = [*rows[:50], (f"… {len(rows) - 50:,} more classes", "", "", "")]
    totals = [sum(of_split.values()) for of_split in counts.values()]
    print_table(("class", *counts), [*rows, ("all", *totals)])
    choice = head.choice
    if head.sweep:
        click.echo()
        steps = [
            (setting_text(step["params"]), share(step["top1"]), f"{step['cross_entropy']:.3f}")
            for step in head.sweep
        ]
        print_table(
            (
                "tried",
                f"accuracy in {choice['folds']} folds" if choice["folds"] else "validation accuracy",
                "cross entropy",
            ),
            steps,
        )
    chosen = setting_text(head.params)
    click.echo()
    click.echo(f"{head.name} on {head.spec.name}" + (f", {chosen}" if chosen else ""))
    if views := views_text(head):
        click.echo(views)
    if "validation" in choice["fitted_on"]:
        by = "from cross-validation" if choice["folds"] else "that of the fit on train alone"
        click.echo(f"fitted on train and validation; the validation accuracy is {by}")
    for split, scores in (("validation", head.validation), ("test", head.test)):
        if scores["n"]:
            click.echo(f"{split} accuracy {accuracy_text(scores, scores['n'])}")
        if head.reject is not None and (answered := head.reject[split])["n"]:
            line = f"{share(answered['coverage'])} of these answered, unknown below {head.reject['below']:g}"
            if answered["n_answered"]:
                line += f": accuracy {accuracy_text(answered, answered['n_answered'])}"
            click.echo(f"  {line}")
    _print_leakage(head.near_duplicates)


def _print_leakage(found: dict[str, Any]) -> None:
    if found.get("n_test"):
        verb = "image has a near-duplicate" if found["n_test"] == 1 else "images have near-duplicates"
        without = ""
        if found["n_without"]:
            scores = {"top1": found["top1_without"], "top1_ci": found["top1_ci_without"]}
            without = f"; accuracy excluding such images: {accuracy_text(scores, found['n_without'])}"
        click.echo(f"leakage: {found['n_test']:,} test {verb} in train{without}")
        note(
            "to keep such images in one split: `featstore duplicates --write-groups`, then "
            "`featstore fit --split-by group`"
        )
    elif found.get("skipped") and found["n_test"] is None:
        click.echo(f"leakage: near-duplicates of test images in train not searched for, {found['skipped']}")


@click.command(epilog=example("featstore heads"), short_help="List the available classifiers (heads).")
@json_option
def heads(as_json: bool) -> None:
    """List the classifiers that `featstore fit --head` accepts, including those of installed packages.

    Packages register heads in the entry point group featstore.heads. To use your own scikit-learn classifier,
    run `featstore fit --head MODULE:FACTORY`.
    """
    import featstore

    known = featstore.known_heads()
    if as_json:
        print_json([{"name": one.name, "summary": one.summary, "grid": dict(one.grid)} for one in known])
        return
    for head in known:
        grid = "; ".join(
            f"{name} from {_number(values[0])} to {_number(values[-1])}" for name, values in head.grid.items()
        )
        click.echo(f"{head.name:10} {head.summary}")
        click.echo(f"{'':10} tunes {grid or 'nothing'}")


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

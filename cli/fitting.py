"""`featstore fit` and `heads`."""

import importlib.util
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import click

from .console import (
    accuracy_told,
    bar,
    example,
    force_option,
    json_option,
    open_store,
    print_json,
    print_table,
    quiet_option,
    say,
    share,
    short_path,
    verify_reads_option,
)
from .finding import note_replaced, output_path, table_options
from .plotting import check_tensorboard_folder, checked_plot_path, plot_option, show_sweep
from .quality import print_near_duplicates
from .splitting import split_options
from .view_options import note_unused_views, told_views, view_options

if TYPE_CHECKING:
    from featstore import Head, HeadInfo, SplitRule

__all__ = ["fit", "heads"]


class _Parameter(click.ParamType[tuple[str, str | int | float | bool | None]]):
    """``C=0.3``: a hyper-parameter's name and value; a number, a truth value or nothing where it is one."""

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


@click.command(
    epilog=example("featstore fit digits.fstore --head svm"), short_help="Train a head on stored features."
)
@click.argument("store", required=False, type=click.Path())
@click.option(
    "--head",
    default="logistic",
    show_default=True,
    metavar="NAME|MODULE:FACTORY",
    help="One that `featstore heads` lists, or a function of your own that returns a scikit-learn "
    "classifier: this runs the module's code. Modules in the current folder are found.",
)
@table_options("Features to train on", "Labels to train on")
@view_options
@click.option(
    "--param", type=_Parameter(), multiple=True, help="Fix a hyper-parameter instead of choosing it."
)
@click.option(
    "--class-weight",
    type=click.Choice(["balanced"]),
    help="Let all classes count alike, however many images they have.",
)
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    metavar="K",
    help="Choose by K folds of train and validation.  [default: choose on validation]",
)
@click.option(
    "--refit/--no-refit",
    default=True,
    show_default=True,
    help="Whether to fit on validation too once parameters are chosen. Without, folds are in train alone.",
)
@click.option(
    "--min-images",
    type=click.IntRange(min=1),
    metavar="N",
    help="Leave out classes with fewer than N images.",
)
@click.option(
    "--reject",
    type=click.FloatRange(min=0, max=1, max_open=True),
    metavar="BELOW",
    help="Answer unknown where the most probable class is less probable than this.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="For what is drawn."
)
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Fits that run at once."
)
@split_options
@click.option(
    "--leakage/--no-leakage",
    "look_for_leakage",
    default=True,
    show_default=True,
    help="Whether to look for test images with a near-duplicate among the training images, and report the "
    "accuracy without them.",
)
@click.option(
    "--output",
    "-o",
    metavar="NAME|FILE.head",
    help="Where to save the head.  [default: in the store, as --head]",
)
@plot_option("what was measured of each setting tried")
@click.option(
    "--tensorboard", metavar="FOLDER", type=click.Path(), help="Write the same there for TensorBoard."
)
@force_option
@verify_reads_option
@quiet_option
@json_option
def fit(
    store: str | None,
    head: str,
    space: tuple[str, ...],
    catalog: tuple[str, ...],
    views: dict[str, int] | None,
    param: tuple[tuple[str, Any], ...],
    class_weight: str | None,
    folds: int | None,
    refit: bool,
    min_images: int | None,
    reject: float | None,
    seed: int,
    jobs: int,
    look_for_leakage: bool,
    rule: "SplitRule",
    output: str | None,
    plot: str | None,
    tensorboard: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train a classifier on the features in STORE and save it.

    Images are divided into training, validation and test by a hash of their content, so that the division is
    the same everywhere and stays the same when images are added. Splits that the source gives win, by lists
    (`featstore extract --test-list`), by folders called train and test, or by the column "split" of a CSV.
    Where they leave validation empty, images for it are taken out of train by the hash. A class that the hash
    leaves without an image in a part is given one, where it has enough: in train, in test, in validation.

    The parameters with the least cross entropy on validation (or in the folds) are kept, and the head is then
    fitted on train and validation.

    Where the store has several views of each image, --test-views judges images by the mean over these, now
    and whenever the head is used; --views trains on them, too. Views of one image are never divided.

    STORE may be left out where the current folder has only one.
    """
    import featstore

    check_tensorboard_folder(tensorboard)
    opened = open_store(store)
    table = opened.table(space=space, catalog=catalog or None)
    plot = checked_plot_path(plot, table, force=force)
    output = head.rpartition(":")[2] if output is None else output
    path = output_path(output, opened.path, force=force, inputs=table.paths.tolist())
    with bar(None, quiet=quiet, unit="fit") as progress:
        fitted = featstore.fit(
            table,
            head=_own_head(head) if ":" in head else head,
            params=dict(param) or None,
            rule=rule,
            views=views,
            class_weight=class_weight,
            seed=seed,
            folds=folds,
            refit=refit,
            min_images=min_images,
            reject=reject,
            jobs=jobs,
            progress=lambda done, total, _step: progress(done, total),
        )
    if look_for_leakage:
        fitted = replace(fitted, near_duplicates=featstore.leakage(fitted, table))
    note_replaced(path)
    fitted.save(path, overwrite=force)
    note_unused_views(table, views)
    show_sweep(fitted, plot, tensorboard, force=force)
    if as_json:
        print_json({**fitted.to_dict(), "path": path})
        return
    _print_fit(fitted)
    say(f"saved to {short_path(path)}")


def _own_head(text: str) -> "HeadInfo":
    import featstore

    package = text.partition(":")[0].partition(".")[0]
    # Whatever lies in the current folder, it never stands for something that is installed.
    if package.isidentifier() and importlib.util.find_spec(package) is None:
        sys.path.append(os.getcwd())
    return featstore.load_head_factory(text)


def _print_fit(head: "Head") -> None:
    counts = head.counts
    rows: list[tuple[object, ...]] = [
        (label, *(counts[split].get(label, 0) for split in ("train", "validation", "test")))
        for label in head.classes.tolist()
    ]
    if len(rows) > 50:
        rows = [*rows[:50], (f"… {len(rows) - 50:,} more classes", "", "", "")]
    totals = [sum(counts[split].values()) for split in ("train", "validation", "test")]
    print_table(("class", "train", "validation", "test"), [*rows, ("all", *totals)])
    choice = head.choice
    if head.sweep:
        click.echo()
        steps = [
            (
                ", ".join(f"{name}={_shown(value)}" for name, value in step["params"].items()),
                share(step["top1"]),
                f"{step['cross_entropy']:.3f}",
            )
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
    chosen = ", ".join(f"{name}={_shown(value)}" for name, value in head.params.items())
    click.echo()
    click.echo(f"{head.name} on {head.spec.name}" + (f", {chosen}" if chosen else ""))
    if told := told_views(head):
        click.echo(told)
    if "validation" in choice["fitted_on"]:
        of = "in the folds" if choice["folds"] else "by the fit on train alone"
        click.echo(f"fitted on train and validation; the validation accuracy is what was right {of}")
    for split, scores in (("validation", head.validation), ("test", head.test)):
        if scores["n"]:
            click.echo(f"{split} accuracy {accuracy_told(scores, scores['n'])}")
        if head.reject is not None and (answered := head.reject[split])["n"]:
            told = f"{share(answered['coverage'])} of these answered, unknown below {head.reject['below']:g}"
            if answered["n_answered"]:
                told += f": accuracy {accuracy_told(answered, answered['n_answered'])}"
            click.echo(f"  {told}")
    print_near_duplicates(head.near_duplicates)


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@click.command(epilog=example("featstore heads"), short_help="List the heads that fit knows.")
@json_option
def heads(as_json: bool) -> None:
    """List the heads that `featstore fit --head` knows, those of installed packages included.

    Packages add heads under the entry point group featstore.heads. A scikit-learn classifier of your own goes
    by `featstore fit --head MODULE:FACTORY`.
    """
    import featstore

    known = featstore.known_heads()
    if as_json:
        print_json([{"name": one.name, "summary": one.summary, "grid": dict(one.grid)} for one in known])
        return
    for head in known:
        grid = "; ".join(
            f"{name} from {_shown(values[0])} to {_shown(values[-1])}" for name, values in head.grid.items()
        )
        click.echo(f"{head.name:10} {head.summary}")
        click.echo(f"{'':10} chooses {grid or 'nothing'}")

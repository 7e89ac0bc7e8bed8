"""`featstore fit` and `featstore heads`."""

import importlib.util
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import click

from ..finding import check_head_kind, output_path, save_head
from ..options.groups import command, option_group
from ..options.ray import on_ray, ray_option
from ..options.shared import (
    class_weight_option,
    jobs_option,
    json_option,
    output_option,
    reject_type,
    result_options,
    seed_option,
)
from ..options.split import split_options
from ..options.table import several_spaces_options
from ..options.view import note_unused_views, view_options, views_text
from ..parts.choosing_heads import AUTO, budget_option, choose_head, print_choice
from ..parts.choosing_spaces import choose_spaces, print_spaces
from ..parts.numbers import fit_number, print_number_fit, refuse_of_labels
from ..parts.several_labels import fit_labels, print_labels_fit, refuse_of_one_label
from ..plotting import check_tensorboard_folder, checked_plot_path, plot_option, show_sweep
from ..printing import (
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
        metavar="NAME|auto|MODULE:FACTORY",
        help="Classifier: one of `featstore heads`; auto, which compares them; or your own function that "
        "returns a scikit-learn classifier. The latter runs the module's code; modules in the current folder "
        "are found.",
    ),
    budget_option,
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
    click.option(
        "--hierarchy",
        metavar="FILE|TEXT",
        help="Parents of the classes: a .csv with the columns class and parent, or what stands between "
        "levels in their names, such as / in animal/dog.",
    ),
    click.option(
        "--ignore-weights",
        is_flag=True,
        help="Count all images alike, whatever weights the catalog has (`extract --weight-column`).",
    ),
    seed_option,
    jobs_option,
    ray_option("Fit ridge, lda, logistic or softmax"),
)
@view_options
@split_options
@option_group(
    "Splits",
    click.option(
        "--leakage/--no-leakage",
        "look_for_leakage",
        default=True,
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
@several_spaces_options("Features to train on", "Labels to train on")
def fit(
    store: "FeatureStore",
    table: "FeatureTable",
    spaces: str | None,
    head: str,
    budget_s: float | None,
    params: tuple[tuple[str, Any], ...],
    hierarchy: str | None,
    ignore_weights: bool,
    look_for_leakage: bool,
    output: str | None,
    plot: str | None,
    tensorboard: str | None,
    ray: str | None,
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

    --head auto compares heads by nested cross-validation on train and validation, as far as the time allows.
    It fits the cheapest head that is as good as the most accurate one: not significantly worse, and by one
    point at most.

    --spaces auto chooses spaces by forward selection, in cross-validation on train and validation: it adds
    spaces as long as the cross entropy falls by 1% and by more than its standard error.

    --ray reads the features on a cluster, whose nodes see STORE under the same path, for more of them than
    one machine holds. softmax is then fitted to its optimum by L-BFGS, as logistic is. Scores are those of
    all images. Near-duplicates are searched for on this machine; --no-leakage leaves that out.

    If images have several labels (`extract --label-separator` or --label-columns), logistic, ridge, svm and
    rbf fit a classifier for each label against all images without it, and choose the threshold
    of each label on validation. Near-duplicates in other splits are not looked for then.

    If images have a number (`extract --target`), ridge (the default then), rbf and knn predict it, with
    parameters chosen by squared error on validation.

    STORE may be omitted if the current folder has only one.
    """
    import featstore

    if spaces is not None and head == AUTO:
        raise click.UsageError("--spaces compares spaces by one head; name it with --head instead of auto")
    if budget_s is not None and head != AUTO:
        raise click.UsageError("--budget is the time in which --head auto compares heads; add --head auto")
    if ray is not None and (spaces is not None or head == AUTO):
        given = "--spaces" if spaces is not None else "--head auto"
        raise click.UsageError(f"{given} compares many fits on this machine; --ray fits one head")
    if table.label_separator or table.target_name:
        refuse = refuse_of_labels if table.target_name else refuse_of_one_label
        of_labels = plot if table.target_name else None
        shown = {"plot": of_labels, "tensorboard": tensorboard, "hierarchy": hierarchy}
        refuse(table, auto=head == AUTO, spaces=spaces, ray=ray is not None, **shown)
    if head != AUTO:
        check_head_kind(head, store)
    check_tensorboard_folder(tensorboard)
    plot = checked_plot_path(plot, table, force=force)
    if ignore_weights:
        table = table.without_weights()
    source = click.get_current_context().get_parameter_source("head")
    if table.target_name and source is click.core.ParameterSource.DEFAULT:
        head = "ridge"
    output = head.rpartition(":")[2] if output is None else output
    path = output_path(output, store.path, force=force, inputs=table.paths.tolist())
    if table.target_name:
        number_head = fit_number(table, head=head, params=dict(params) or None, quiet=quiet, **options)
        save_head(number_head, path, force=force)
        if as_json:
            print_json({**number_head.to_dict(), "path": path})
            return
        print_number_fit(number_head)
        echo(f"saved to {short_path(path)}")
        return
    if table.label_separator:
        labels_head = fit_labels(table, head=head, params=dict(params) or None, quiet=quiet, **options)
        save_head(labels_head, path, force=force)
        note_unused_views(table, options["views"])
        show_sweep(labels_head, plot, None, force=force)
        if as_json:
            print_json({**labels_head.to_dict(), "path": path})
            return
        print_labels_fit(labels_head)
        echo(f"saved to {short_path(path)}")
        return
    parents = {} if hierarchy is None else featstore.class_parents(hierarchy, table.classes.tolist())
    choice = None
    if head == AUTO:
        choice = choose_head(table, params=params, budget_s=budget_s, quiet=quiet, **options)
        head = choice.head
    own: dict[str, Any] = {"head": _own_head(head) if ":" in head else head, "params": dict(params) or None}
    brought = None
    if spaces is not None:
        brought = choose_spaces(table, **own, quiet=quiet, **options)
        table = brought.select(table) if spaces == "auto" else table
    with bar(None, quiet=quiet, unit="fit") as progress, on_ray(ray) as on:
        fitted = featstore.fit(table, **own, progress=progress, ray=on, **options)
    fitted = replace(fitted, parents=parents)
    if look_for_leakage:
        fitted = replace(fitted, near_duplicates=featstore.leakage(fitted, table))
    save_head(fitted, path, force=force)
    note_unused_views(table, options["views"])
    show_sweep(fitted, plot, tensorboard, force=force)
    if as_json:
        compared = {"auto": choice and choice.to_dict(), "spaces": brought and brought.to_dict()}
        print_json({**fitted.to_dict(), **compared, "path": path})
        return
    if brought is not None:
        print_spaces(brought, joins_all=spaces == "all")
    if choice is not None:
        print_choice(choice)
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
    _print_steps(head)
    chosen = setting_text(head.params)
    click.echo()
    click.echo(f"{head.name} on {head.spec.name}" + (f", {chosen}" if chosen else ""))
    if head.weighted:
        click.echo("images weighted as the catalog says; scores count all alike")
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


def _print_steps(head: "Head") -> None:
    """Print how training with the chosen setting went on: at most a dozen evaluations, evenly spaced."""
    if not head.steps:
        return
    n_steps = len(head.steps)
    n_shown = min(n_steps, 12)
    shown = [head.steps[(number + 1) * n_steps // n_shown - 1] for number in range(n_shown)]
    rows = [
        (
            f"{step['step']:,}",
            share(step["train_top1"]),
            share(step["top1"]),
            f"{step['cross_entropy']:.3f}",
        )
        for step in shown
    ]
    click.echo()
    header = ("train accuracy", "validation accuracy", "cross entropy")
    print_table(("pass" if head.name == "sgd" else "step", *header), rows)


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

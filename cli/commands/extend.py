"""`featstore extend`."""

import sys
from typing import TYPE_CHECKING, Any

import click

from featstore.class_names import matching_name, normalised_name
from featstore.messages import count

from ..finding import corrected, find_head, load_head, open_store, output_path, save_head
from ..options.groups import DATA, command, option_group
from ..options.shared import jobs_option, output_option, result_options, seed_option, trust_option
from ..options.split import split_options
from ..options.table import new_table_options
from ..plotting import checked_plot_path, plot_option, save_plot
from ..printing import (
    accuracy_text,
    bar,
    echo,
    interval_text,
    note,
    print_json,
    print_table,
    share,
    short_path,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from featstore import FeatureStore, FeatureTable, Head

__all__ = ["extend"]

_LISTED_POINTS = 12
_MOST_ASKED = 10


class _Same(click.ParamType[tuple[str, str]]):
    """``daisy=daisy``: a new label and the old class it stands for."""

    name = "NEW=OLD"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        new, equals, old = str(value).partition("=")
        if not new or not equals or not old:
            self.fail(f"{value!r} is not of the form NEW=OLD, for example daisy=daisy", param, ctx)
        return new, old


@command(
    epilog="\b\nExample, beside flowers.fstore, with Keras' own weights, which the first line downloads:\n"
    "  featstore import-head --backbone mobilenet_v2 -o imagenet.head\n"
    "  featstore extend imagenet.head --store flowers.fstore",
    short_help="Add new classes to a head and keep the old ones.",
)
@click.argument("old_head", metavar="OLD_HEAD")
@new_table_options(
    "The new images' features",
    "The new images and their labels",
    default="the head's, or the only store here",
)
@option_group(DATA, trust_option)
@option_group(
    "Old and new classes",
    click.option(
        "--old-catalog",
        metavar="NAME",
        multiple=True,
        help="Images of old classes, to limit and measure the loss of old accuracy; repeat for several.  "
        "[default: those that OLD_HEAD was trained on, if the store has them]",
    ),
    click.option(
        "--method",
        type=click.Choice(["gate", "columns", "imprinting"]),
        default="gate",
        help="How to decide between old and new classes: a gate on the nearest training images, or new "
        "columns of a linear head, either trained or imprinted (class means).",
    ),
    click.option(
        "--same",
        type=_Same(),
        multiple=True,
        help="A new label that is the same as an old class, such as daisy=daisy; repeat for several.  "
        "[default: ask on a terminal; elsewhere equal names stay separate classes]",
    ),
    click.option(
        "--max-loss",
        type=click.FloatRange(min=0, max=1, max_open=True),
        default=0.02,
        help="Maximum fraction of old images that may become misclassified.",
    ),
    click.option(
        "--head",
        default="logistic",
        show_default=True,
        help="Head of the new classes, with --method gate: a linear one, rbf or mlp.",
    ),
    seed_option,
    jobs_option,
)
@split_options
@result_options(
    output_option("Where to save the head.  [default: in the store, as OLD_HEAD-CATALOG]"),
    plot_option("trade-off between old and new accuracy"),
)
def extend(
    old_head: str,
    store: str | None,
    space: tuple[str, ...],
    catalog: tuple[str, ...],
    old_catalog: tuple[str, ...],
    same: tuple[tuple[str, str], ...],
    output: str | None,
    plot: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train one head on all classes of OLD_HEAD plus the classes of new images (class-incremental learning).

    Images of old classes are useful but not required: with them, at most --max-loss of them become
    misclassified, and the cost of the new classes is measured; without them, 95% of the new images are
    recognised as new. Give further spaces beside OLD_HEAD's with --space, such as those of --features rich,
    and the new classes see all of them. The head is fitted on new images in train and validation, and scored
    on those in test; all choices are made on held-out images.
    """
    import featstore

    path, home = find_head(old_head, store)
    old = load_head(path)
    opened = open_store(home)
    table = _new_table(opened, old, space, catalog)
    old_tables = _old_tables(opened, old, table, old_catalog)
    joined = dict(same) | _ask_for_same(old, table, dict(same), can_ask=not as_json)
    if output is None:
        stem = old_head.rpartition("/")[2].removesuffix(".head")
        output = f"{stem}-{table.catalog_name.replace('+', '-')}"
    photos = [photo for one in (table, *old_tables) for photo in one.paths.tolist()]
    target = output_path(output, opened.path, force=force, inputs=[path, *photos])
    plot = checked_plot_path(plot, table, force=force)
    with bar(None, quiet=quiet, unit="fit") as progress:
        head = featstore.extend(old, table, old_table=old_tables, same=joined, progress=progress, **options)
    save_head(head, target, force=force)
    if plot is not None and head.extension["curve"]:
        save_plot(head, plot, force=force)
    elif plot is not None:
        note("there are no images of old classes, so there is no trade-off to plot")
    if as_json:
        print_json({**head.to_dict(), "path": target})
        return
    _print_extension(head)
    echo(f"saved to {short_path(target)}")


def _new_table(
    opened: "FeatureStore", old: "Head", space: tuple[str, ...], catalog: tuple[str, ...]
) -> "FeatureTable":
    own = [part.name for part in old.spec.parts]
    if not space and (missing := [name for name in own if name not in opened.space_names]):
        spaces = ", ".join(opened.feature_space_names) or "none"
        raise click.UsageError(
            f"the head was trained on features of {', '.join(missing)}; {opened.path} has {spaces}. Extract "
            "the new images with the head's own backbone and weights, or give their store with --store"
        )
    table = opened.table(space=space or own, catalog=catalog or None)
    if not {part.fingerprint for part in old.spec.parts} <= {part.fingerprint for part in table.spec.parts}:
        old.check_fingerprint(table.fingerprint, spec=table.spec)
    return corrected(table)


def _old_tables(
    opened: "FeatureStore", old: "Head", table: "FeatureTable", named: "Sequence[str]"
) -> "list[FeatureTable]":
    new = table.catalog_name.split("+")
    if not named:
        known = [*old.catalog.split("+"), *old.extension.get("old_catalogs", ())]
        named = [name for name in dict.fromkeys(known) if name in opened.catalog_names and name not in new]
        if named:
            note(f"images of old classes: {', '.join(named)}, which the old head was trained on")
    spaces = [part.name for part in table.spec.parts]
    return [opened.table(space=spaces, catalog=name) for name in named]


def _ask_for_same(
    old: "Head", table: "FeatureTable", same: "Mapping[str, str]", *, can_ask: bool
) -> dict[str, str]:
    """Ask whether labels shared with the old head are the same classes; off a terminal, print how to."""
    known = {*old.classes.tolist()}
    given = set(map(normalised_name, same))
    labels = table.classes.tolist()
    twins = [label for label in labels if matching_name(label, known) in known and label not in given]
    if can_ask and _at_terminal():
        if len(twins) > _MOST_ASKED:
            named = ", ".join(twins[:_MOST_ASKED])
            question = f"{len(twins)} labels are also old classes ({named} …). Are they all the same?"
            return (
                {label: label for label in twins} if click.confirm(question, default=True, err=True) else {}
            )
        return {
            label: label
            for label in twins
            if click.confirm(f"{label} is also an old class. Is it the same?", default=True, err=True)
        }
    for label in twins[:_MOST_ASKED]:
        note(f"{label} is also an old class, and stays separate: --same {label}={label} joins them")
    if (more := len(twins) - _MOST_ASKED) > 0:
        note(f"the same holds for {count(more, 'more label')}")
    return {}


def _at_terminal() -> bool:
    return sys.stdin.isatty()


def _print_extension(head: "Head") -> None:
    report = head.extension
    scores, chosen = report["scores"], report["chosen"]
    click.echo(
        f"{report['method']} on {head.spec.name}: {len(head.classes):,} classes, "
        f"{report['old']['n_classes']:,} old and {len(report['new']):,} new"
    )
    for label, called in report["labels"].items():
        if label != called:
            echo(f"  {label} is called {called}")
    if scores["new"]["n"]:
        click.echo(f"new accuracy {accuracy_text(scores['new'], scores['new']['n'])}")
        if scores["alone"]["n"]:
            click.echo(f"  with the new classes alone {accuracy_text(scores['alone'], scores['alone']['n'])}")
    else:
        click.echo(
            f"new accuracy, cross-validated {accuracy_text(scores['held_out'], scores['held_out']['n'])}"
        )
    if (old := scores["old"]) is not None:
        click.echo(
            f"old accuracy {share(old['top1_before'])} before, {share(old['top1_after'])} after: "
            f"{share(old['lost'])} lost (95% interval {interval_text(old['lost_ci'])}, n = {old['n']:,})"
        )
    for one in report["confused"]:
        of_old = f", and {one['n_old_as_new']} of {one['n_old']:,} the other way" if one["n_old"] else ""
        echo(f"{one['n_new_as_old']} of {one['n_new']:,} {one['new']} are predicted as {one['old']}{of_old}")
    calibration = scores["calibration"]
    click.echo(
        f"probabilities: calibration error {share(calibration['calibration_error'])}, log loss "
        f"{calibration['log_loss']:.3f} (n = {calibration['n']:,} held out)"
    )
    if chosen["by"] == "kept":
        note(
            "there are no images of old classes: 95% of the new images are recognised as new, at an unknown "
            "cost for old classes; give images of old classes with --old-catalog to measure it"
        )
        return
    click.echo()
    _print_curve(report)


def _print_curve(report: "Mapping[str, Any]") -> None:
    points = report["curve"]
    at = next(n for n, point in enumerate(points) if point["offset"] == report["chosen"]["offset"])
    first = max(0, min(at - _LISTED_POINTS // 2, len(points) - _LISTED_POINTS))
    rows = [
        (share(point["lost"]), share(point["new_top1"]), "chosen" if number == at else "")
        for number, point in enumerate(points)
        if first <= number < first + _LISTED_POINTS
    ]
    print_table(("old lost", "new accuracy", f"for at most {share(report['max_loss'])} lost"), rows, left=0)
    click.echo()

"""`featstore curve`."""

from typing import TYPE_CHECKING, Any

import click

from featstore.messages import listed

from ..finding import check_head_kind
from ..options.groups import command, option_group
from ..options.shared import head_name_option, result_options
from ..options.split import split_options
from ..options.table import table_options
from ..options.view import note_unused_views, view_options
from ..plotting import checked_plot_path, plot_option, save_plot
from ..printing import bar, example, interval_text, note, print_json, print_table, share

if TYPE_CHECKING:
    from featstore import FeatureStore, FeatureTable, LabelCurve, LearningCurve

__all__ = ["curve"]


class _Fractions(click.ParamType[tuple[float, ...]]):
    """``1/8,0.5,1``: fractions separated by commas."""

    name = "FRACTION,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        from fractions import Fraction

        if isinstance(value, tuple):
            return value
        try:
            shares = tuple(float(Fraction(part.strip())) for part in str(value).split(","))
        except (ValueError, ZeroDivisionError):
            shares = ()
        if not shares or not all(0 < one <= 1 for one in shares):
            self.fail(
                f"{value!r} is not a list of fractions above 0 and up to 1, such as 1/8,1/4,1/2", param, ctx
            )
        return shares


class _Shots(click.ParamType[tuple[int, ...]]):
    """``1,2,4``: numbers of images separated by commas."""

    name = "N,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if not all(part.isdecimal() and int(part) > 0 for part in parts):
            self.fail(f"{value!r} is not a list of numbers of images, such as 1,2,4,8", param, ctx)
        return tuple(map(int, parts))


@command(
    epilog=example(
        "featstore curve digits.fstore --fractions 1/8,1/4,1/2 --repeats 1",
        "featstore curve digits.fstore --shots 1,2,4 --repeats 2",
    ),
    short_help="Draw a learning curve: would more images help?",
)
@option_group(
    "Learning curve",
    head_name_option,
    click.option(
        "--fractions",
        type=_Fractions(),
        help="Fractions of the training images to train on; all of them are always included.  [default: "
        "1/16,1/8,1/4,1/2, or none with --shots]",
    ),
    click.option(
        "--shots",
        type=_Shots(),
        default=(),
        help="Numbers of images of each class to train on (few-shot), such as 1,2,4,8.",
    ),
    click.option(
        "--repeats",
        type=click.IntRange(min=1),
        default=5,
        help="Number of random subsets per size.",
    ),
    click.option(
        "--split",
        type=click.Choice(["validation", "test"]),
        default="test",
        help="Split to score on.",
    ),
)
@view_options
@split_options
@result_options(plot_option("learning curve"))
@table_options("Features to train on", "Labels to train on")
def curve(
    store: "FeatureStore",
    table: "FeatureTable",
    plot: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train on growing subsets of the images in STORE, and extrapolate the accuracy to twice as many.

    Subsets of the training images are drawn by a hash, and are nested; with --shots they have that many
    images of each class. Parameters are chosen on all validation images. The extrapolation fits a power law
    to the accuracies; its nominal 95% interval covers less than that where the error approaches 0. Of images
    with several labels, the score is the mean average precision (mAP).

    STORE may be omitted if the current folder has only one.
    """
    check_head_kind(options["head"], store)
    plot = checked_plot_path(plot, table, force=force)
    with bar(None, quiet=quiet, unit="fit") as progress:
        found = _drawn(table, {**options, "progress": progress})
    note_unused_views(table, options["views"])
    if plot is not None:
        save_plot(found, plot, force=force)
    if as_json:
        print_json(found.to_dict())
        return
    _print_curve(found)


def _drawn(table: "FeatureTable", options: dict[str, Any]) -> "LearningCurve | LabelCurve":
    import featstore

    given = {name: value for name, value in options.items() if value is not None}
    if not table.label_separator:
        return featstore.learning_curve(table, **given)
    if given.pop("shots"):
        raise click.UsageError("--shots counts images of one class, and these have several labels each")
    return featstore.learning_curve_of_labels(table, **given)


def _size(point: dict[str, Any]) -> str:
    if "shots" in point:
        return f"{point['shots']} a class"
    return share(point["fraction"], digits=2 if point["fraction"] < 0.1 else 1)


def _print_curve(found: "LearningCurve | LabelCurve") -> None:
    values = found.to_dict()
    score, named = ("map", "mAP") if "map" in values["points"][0] else ("top1", "accuracy")
    for one in values["left_out"]:
        size = (
            f"{one['shots']} a class" if "shots" in one else f"{one['fraction']:.3g} of the training images"
        )
        note(f"{size} is skipped: no image of {listed(one['classes'], most=5)}")
    click.echo(f"{values['head']} on {values['space']}, {values['split']} {named} (n = {values['n']:,})")
    click.echo()
    rows: list[tuple[str, str, int | str, str, str]] = [
        (
            _size(point),
            f"{point['n_train']:,.0f}",
            len(point["fits"]),
            share(point[score]),
            interval_text(point[f"{score}_ci"]),
        )
        for point in values["points"]
    ]
    if forecast := values["forecast"]:
        interval = interval_text(forecast[f"{score}_ci"])
        rows.append(("forecast", f"{forecast['n_train']:,}", "", share(forecast[score]), interval))
    print_table(("of train", "images", "fits", named, "95% interval"), rows)
    click.echo()
    click.echo(values["verdict"])

"""`featstore curve`."""

from typing import TYPE_CHECKING, Any

import click

from .console import (
    bar,
    example,
    force_option,
    json_option,
    note,
    open_store,
    print_json,
    print_table,
    quiet_option,
    share,
    verify_reads_option,
)
from .finding import table_options
from .plotting import checked_plot_path, plot_option, save_plot
from .splitting import split_options
from .view_options import note_unused_views, view_options

if TYPE_CHECKING:
    from featstore import LearningCurve, SplitRule

__all__ = ["curve"]


class _Fractions(click.ParamType[tuple[float, ...]]):
    """``1/8,0.5,1``: shares with commas between them."""

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
                f"{value!r} is not a list of shares above 0 and up to 1, such as 1/8,1/4,1/2", param, ctx
            )
        return shares


@click.command(
    epilog=example("featstore curve digits.fstore --fractions 1/8,1/4,1/2 --repeats 1"),
    short_help="Say whether more images would help.",
)
@click.argument("store", required=False, type=click.Path())
@click.option(
    "--head", default="logistic", show_default=True, metavar="NAME", help="One that `featstore heads` lists."
)
@table_options("Features to train on", "Labels to train on")
@click.option(
    "--fractions",
    type=_Fractions(),
    default="1/16,1/8,1/4,1/2,1",
    show_default=True,
    help="Shares of the training images to train on; all of them are always tried.",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="How many sets to draw for each share.",
)
@click.option(
    "--split",
    type=click.Choice(["validation", "test"]),
    default="test",
    show_default=True,
    help="Which images to score on.",
)
@view_options
@split_options
@plot_option("the curve")
@force_option
@verify_reads_option
@quiet_option
@json_option
def curve(
    store: str | None,
    head: str,
    space: tuple[str, ...],
    catalog: tuple[str, ...],
    fractions: tuple[float, ...],
    repeats: int,
    split: str,
    views: dict[str, int] | None,
    rule: "SplitRule",
    plot: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train on ever more of the images in STORE, and forecast what twice as many would bring.

    The sets are drawn from the training images by a hash, smaller ones within larger ones. A power law
    through the accuracies gives the forecast; its interval, nominally of 95%, holds less
    often than that where errors fall towards 0.

    STORE may be left out where the current folder has only one.
    """
    import featstore

    table = open_store(store).table(space=space, catalog=catalog or None)
    plot = checked_plot_path(plot, table, force=force)
    with bar(None, quiet=quiet, unit="fit") as progress:
        found = featstore.learning_curve(
            table,
            head=head,
            rule=rule,
            views=views,
            fractions=fractions,
            repeats=repeats,
            split=split,
            progress=progress,
        )
    note_unused_views(table, views)
    if plot is not None:
        save_plot(found, plot, force=force)
    if as_json:
        print_json(found.to_dict())
        return
    _print_curve(found)


def _print_curve(found: "LearningCurve") -> None:
    told = found.to_dict()
    for one in told["left_out"]:
        note(
            f"{one['fraction']:.3g} of the training images is left out: "
            f"no image of {', '.join(one['classes'][:5])}{' …' if len(one['classes']) > 5 else ''}"
        )
    click.echo(f"{told['head']} on {told['space']}, {told['split']} accuracy (n = {told['n']:,})")
    click.echo()
    rows: list[tuple[str, str, int | str, str, str]] = [
        (
            share(point["fraction"], digits=2 if point["fraction"] < 0.1 else 1),
            f"{point['n_train']:,.0f}",
            len(point["fits"]),
            share(point["top1"]),
            " to ".join(map(share, point["top1_ci"])),
        )
        for point in told["points"]
    ]
    if forecast := told["forecast"]:
        interval = " to ".join(map(share, forecast["top1_ci"]))
        rows.append(("forecast", f"{forecast['n_train']:,}", "", share(forecast["top1"]), interval))
    print_table(("of train", "images", "fits", "accuracy", "95% interval"), rows)
    click.echo()
    click.echo(told["verdict"])

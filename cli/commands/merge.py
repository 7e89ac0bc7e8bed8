"""`featstore merge`: stores of several machines in one."""

import click

from featstore.messages import count

from ..options.shared import json_option
from ..printing import echo, example, print_json

__all__ = ["merge"]


@click.command(
    epilog=example("featstore merge all.fstore digits.fstore"),
    short_help="Merge stores made on several machines.",
)
@click.argument("into", type=click.Path())
@click.argument("stores", nargs=-1, required=True, type=click.Path())
@click.option(
    "--on-conflict",
    type=click.Choice(["error", "keep", "replace"]),
    default="error",
    help="What to do with a catalog or head that differs between the stores.",
)
@json_option
def merge(into: str, stores: tuple[str, ...], on_conflict: str, as_json: bool) -> None:
    """Copy what is missing in the store INTO from the other STORES; INTO is created if necessary.

    Every row is verified against its checksum.
    """
    from featstore import FeatureStore

    others = [FeatureStore(store) for store in stores]
    target = FeatureStore(into, create="later")
    target.check_merge(others, on_conflict=on_conflict)
    reports = [target.merge(other, on_conflict=on_conflict).to_dict() for other in others]
    if as_json:
        print_json([{"store": store, **report} for store, report in zip(stores, reports, strict=True)])
        return
    for store, report in zip(stores, reports, strict=True):
        echo(
            f"{store}: {count(report['segments'], 'segment')} with {count(report['rows'], 'row')}, "
            f"{count(len(report['catalogs']), 'catalog')} and {count(len(report['heads']), 'head')} copied"
        )

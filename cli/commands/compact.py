"""`featstore compact`: large segments in place of small ones."""

import click

from featstore.messages import count

from ..finding import open_store
from ..options.shared import json_option, single_name_option, store_argument
from ..printing import example, print_json

__all__ = ["compact"]


@click.command(
    epilog=example("featstore compact digits.fstore"),
    short_help="Merge small segments of a store into large ones.",
)
@store_argument
@single_name_option("--space", "Only this space.  [default: all]")
@json_option
def compact(store: str | None, space: str | None, as_json: bool) -> None:
    """Merge the small segments of STORE into large ones, and drop duplicate rows."""
    report = open_store(store).compact(space, full=True).to_dict()
    if as_json:
        print_json(report)
        return
    click.echo(
        f"{count(report['segments_before'], 'segment')} became {report['segments_after']:,}; "
        f"{count(report['duplicates'], 'duplicate row')} dropped"
    )

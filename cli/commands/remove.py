"""`featstore remove`."""

import click

from featstore.messages import count, listed

from ..finding import open_store
from ..options.shared import json_option, store_argument
from ..printing import echo, example, note, print_json

__all__ = ["remove"]


@click.command(
    epilog=example("featstore remove digits.fstore --head logistic"),
    short_help="Remove spaces, catalogs or heads from a store.",
)
@store_argument
@click.option("--space", "spaces", metavar="NAME", multiple=True, help="Space to remove; may be repeated.")
@click.option(
    "--catalog", "catalogs", metavar="NAME", multiple=True, help="Catalog to remove; may be repeated."
)
@click.option("--head", "heads", metavar="NAME", multiple=True, help="Head to remove; may be repeated.")
@click.option("--yes", is_flag=True, help="Remove them; without it, only show what would be removed.")
@json_option
def remove(
    store: str | None,
    spaces: tuple[str, ...],
    catalogs: tuple[str, ...],
    heads: tuple[str, ...],
    yes: bool,
    as_json: bool,
) -> None:
    """Remove spaces, catalogs or heads from STORE for good, after showing what no longer works without them.

    Nothing is removed without --yes. Images are never touched: the features of a removed space can be
    extracted again. The features of a removed catalog stay, and are found again by content when its source is
    extracted. After an interruption, `featstore info` shows what is left. Do not remove a space while an
    extraction writes into it.
    """
    if not (spaces or catalogs or heads):
        raise click.UsageError("nothing to remove: give --space, --catalog or --head")
    report = open_store(store).remove(spaces=spaces, catalogs=catalogs, heads=heads, dry_run=not yes)
    if as_json:
        print_json(report.to_dict())
        return
    named = {"space": report.spaces, "catalog": report.catalogs, "head": report.heads}
    what = "; ".join(f"{kind} {listed(names)}" for kind, names in named.items() if names)
    echo(
        f"{'removed' if report.removed else 'to remove'}: {what} ({count(report.files, 'file')}, "
        f"{report.bytes / 1e6:,.1f} MB)"
    )
    for sentence in report.consequences:
        echo(f"  {sentence}")
    if not report.removed:
        note("nothing is removed yet: run this again with --yes")

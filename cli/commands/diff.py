"""`featstore diff`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from featstore.messages import count, listed

from ..finding import open_store
from ..options.groups import DATA, command, option_group
from ..options.shared import json_option, quiet_option, store_option
from ..options.source import CORRECTIONS, LABEL_OPTIONS, PATH_OPTIONS
from ..printing import bar, echo, example, print_json
from .extract import one_source

if TYPE_CHECKING:
    from featstore import SourceDiff

__all__ = ["diff"]

_LISTED = 5


@command(
    epilog=example("featstore diff digits digits --store digits.fstore"),
    short_help="Show what has changed in a source since it was extracted.",
)
@click.argument("catalog", metavar="CATALOG")
@click.argument("sources", type=click.Path(), nargs=-1, required=True, metavar="SOURCE")
@option_group(
    DATA,
    store_option("Store of CATALOG.", default="the only store here"),
    CORRECTIONS,
    click.option(
        "--rehash", is_flag=True, help="Read every file, including those unchanged since the extraction."
    ),
)
@option_group("Lists", *PATH_OPTIONS, *LABEL_OPTIONS)
@quiet_option
@json_option
def diff(
    catalog: str,
    sources: tuple[str, ...],
    store: str | None,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Show which images of SOURCE were added, removed, renamed, changed or relabelled since its extraction.

    SOURCE is what `featstore extract` takes, with the same options: a folder, a list, archives, shards, or a
    prefix of an object store. Nothing is written. Files with the size, times and inode that CATALOG has are
    not opened; the others are read and recognised by their content.

    An image that was moved to another class folder is both renamed and relabelled.
    """
    import featstore

    opened = open_store(store)
    with bar(None, quiet=quiet) as progress:
        found = featstore.diff(opened, catalog, one_source(sources), progress=progress, **options)
    if as_json:
        print_json(found.to_dict())
        return
    click.echo(
        f"{count(found.images_before, 'image')} in the catalog, {found.images:,} in the source, "
        f"{found.unchanged:,} unchanged; {count(found.read, 'file')} read in {found.seconds:.1f} s"
    )
    for what, images in _changes(found).items():
        if images:
            echo(f"{what.ljust(10)}  {count(len(images), 'image')}: {listed(images, most=_LISTED)}")
    if found.is_empty:
        click.echo("nothing was added, removed, renamed, changed or relabelled")


def _changes(found: "SourceDiff") -> dict[str, Sequence[str]]:
    return {
        "added": found.added,
        "removed": found.removed,
        "renamed": [f"{before} to {path}" for path, before in found.renamed],
        "changed": found.changed,
        "relabelled": [
            f"{path} ({_label(before)} to {_label(label)})" for path, before, label in found.relabelled
        ],
        "unusable": [f"{path} ({reason})" for path, reason in found.failures],
    }


def _label(label: str | None) -> str:
    return "no label" if label is None else label

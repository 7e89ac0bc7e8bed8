"""`featstore projector`."""

import os

import click

from featstore.messages import count

from ..finding import open_store
from ..options.shared import force_option, json_option, single_name_option, verify_reads_option
from ..printing import echo, example, print_json, short_path

__all__ = ["projector"]


@click.command(
    epilog=example("featstore projector digits.fstore projector"),
    short_help="Write features for the TensorBoard embedding projector.",
)
@click.argument("store", type=click.Path())
@click.argument("folder", type=click.Path())
@single_name_option("--space", "Space to write.  [default: the only space]")
@click.option(
    "--catalog",
    metavar="NAME",
    multiple=True,
    help="Catalog of the labels to write; repeat for several.  [default: the only catalog]",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=10_000,
    help="Maximum number of images to write; those with the smallest content hashes are kept.",
)
@force_option
@verify_reads_option
@json_option
def projector(
    store: str,
    folder: str,
    space: str | None,
    catalog: tuple[str, ...],
    limit: int,
    force: bool,
    as_json: bool,
) -> None:
    """Write the features of STORE and their labels to FOLDER, for the TensorBoard embedding projector.

    View them with `tensorboard --logdir FOLDER`, under Projector.
    """
    import featstore

    table = open_store(store).table(space=space, catalog=catalog or None)
    written = featstore.export_projector(table, folder, limit=limit, overwrite=force)
    if as_json:
        print_json({"path": os.path.abspath(folder), "images": written, "of": len(table)})
        return
    of = "" if written == len(table) else f" of {len(table):,}"
    echo(f"{count(written, 'image')}{of} in {short_path(os.path.abspath(folder))}")

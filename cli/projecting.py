"""`featstore projector`."""

import os

import click

from .console import (
    count,
    example,
    force_option,
    json_option,
    open_store,
    print_json,
    say,
    short_path,
    verify_reads_option,
)

__all__ = ["projector"]


@click.command(
    epilog=example("featstore projector digits.fstore projector"),
    short_help="Write features for TensorBoard's projector.",
)
@click.argument("store", type=click.Path())
@click.argument("folder", type=click.Path())
@click.option("--space", metavar="NAME", help="Features to write.  [default: the only ones]")
@click.option(
    "--catalog",
    metavar="NAME",
    multiple=True,
    help="Labels to write; repeat for several.  [default: the only ones]",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="The most images to write; those with the smallest content hashes.",
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
    """Write the features of STORE with their labels into FOLDER, as TensorBoard's projector reads them.

    Look at them with `tensorboard --logdir FOLDER`, under Projector.
    """
    import featstore

    table = open_store(store).table(space=space, catalog=catalog or None)
    written = featstore.export_projector(table, folder, limit=limit, overwrite=force)
    if as_json:
        print_json({"path": os.path.abspath(folder), "images": written, "of": len(table)})
        return
    of = "" if written == len(table) else f" of {len(table):,}"
    say(f"{count(written, 'image')}{of} in {short_path(os.path.abspath(folder))}")

"""`featstore pack`: features for other programs."""

import os

import click

from featstore import FeatstoreError
from featstore.messages import count

from ..finding import open_store
from ..options.shared import json_option, quiet_option, single_name_option, verify_reads_option
from ..printing import bar, echo, example, print_json

__all__ = ["pack"]


@click.command(
    epilog=example("featstore pack digits.fstore digits.h5"),
    short_help="Write features for other programs: HDF5, Parquet, NumPy, TFRecord.",
)
@click.argument("store", type=click.Path())
@click.argument("output", type=click.Path())
@single_name_option("--space", "Space to write.  [default: the only space]")
@single_name_option("--catalog", "Catalog to write.  [default: the only catalog]")
@click.option(
    "--format",
    "form",
    type=click.Choice(["h5", "parquet", "npz", "tfrecord"]),
    help="One HDF5, Parquet or NumPy file, or a folder of TFRecord shards with images, labels and "
    "features.  [default: by the ending of OUTPUT, .h5, .hdf5, .parquet or .npz]",
)
@click.option(
    "--shards",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of TFRecord shards of the largest split; the other splits' shards have the same size.  "
    "[default: 1]",
)
@click.option("--force", is_flag=True, help="Overwrite OUTPUT.")
@quiet_option
@verify_reads_option
@json_option
def pack(
    store: str,
    output: str,
    space: str | None,
    catalog: str | None,
    form: str | None,
    shards: int | None,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Write one space and one catalog of STORE to OUTPUT, for other programs.

    An HDF5, Parquet or NumPy file has one row per image: features (of view 0), content_hash, path, label,
    group and split. Parquet is for DuckDB, Polars, pandas and the like (pip install "featstore[parquet]").

    TFRecord output is a folder of shards with the names that Inception's build_image_data.py gives, such as
    train-00000-of-00008, with the image files, their labels (0 is the background class) and the features.
    """
    from featstore.store import pack_format

    try:
        pack_format(output, form)
    except FeatstoreError as error:
        raise click.UsageError(str(error)) from error
    if shards is not None and form != "tfrecord":
        raise click.UsageError("--shards is for --format tfrecord")
    with bar(None, quiet=quiet) as progress:
        rows = open_store(store).pack(
            output,
            space=space,
            catalog=catalog,
            format=form,
            shards=shards or 1,
            overwrite=force,
            progress=progress,
        )
    if as_json:
        print_json({"path": os.path.abspath(output), "rows": rows})
        return
    echo(f"{count(rows, 'row')} in {output}")

"""`featstore export`."""

import os
from typing import TYPE_CHECKING, Any

import click

from .console import (
    bar,
    count,
    example,
    import_option,
    json_option,
    note,
    print_json,
    quiet_option,
    share,
    short_path,
    trust_model_option,
    weights_option,
)
from .finding import find_head, find_table

if TYPE_CHECKING:
    from featstore import FeatureTable, Head

__all__ = ["export"]

_FORMATS = ("saved_model", "keras", "tflite", "onnx", "openvino")


@click.command(
    epilog=example("featstore export logistic digits-model --store digits.fstore --format keras"),
    short_help="Write a head as one model file for other programs.",
)
@click.argument("head", metavar="HEAD")
@click.argument("out", metavar="OUT", type=click.Path())
@click.option(
    "--format",
    "runtime",
    type=click.Choice(_FORMATS),
    default=_FORMATS[0],
    show_default=True,
    help="What the model is to be run by: TensorFlow, Keras, LiteRT, ONNX Runtime or OpenVINO.",
)
@click.option(
    "--quantize",
    type=click.Choice(["float16", "int8"]),
    help="Round the weights of a tflite model; int8 rounds activations too, by training photos.",
)
@click.option(
    "--verify/--no-verify",
    default=True,
    show_default=True,
    help="Run the model on test photos, and write it only if it gives the head's probabilities.",
)
@click.option(
    "--store", type=click.Path(), help="Where the features are.  [default: the head's, or the only one here]"
)
@click.option(
    "--catalog", metavar="NAME", multiple=True, help="Where the photos are.  [default: the head's own]"
)
@weights_option
@click.option(
    "--test-views",
    type=click.IntRange(min=1),
    metavar="K",
    help="Views of an image that the model averages over: 1, or 2 for it and its mirror image.  "
    "[default: as the head does]",
)
@click.option("--force", is_flag=True, help="Replace OUT if it is an exported model.")
@trust_model_option
@import_option
@quiet_option
@json_option
def export(
    head: str,
    out: str,
    runtime: str,
    quantize: str | None,
    verify: bool,
    store: str | None,
    catalog: tuple[str, ...],
    weights: tuple[str, ...],
    test_views: int | None,
    force: bool,
    trust_model: bool,
    imports: tuple[str, ...],
    quiet: bool,
    as_json: bool,
) -> None:
    """Write HEAD and its backbone as one model into the folder OUT.

    HEAD is the name of a head in the store, or a .head file. The model takes images as uint8 and gives
    probabilities; it needs no featstore. Beside it are labels.txt, model.json, photo.py, which reads photos
    as featstore does, and model_card.md, which holds a program that labels one. Before OUT appears, the model
    is run on the test photos that are there.
    """
    import featstore

    path, home = find_head(head, store)
    fitted = featstore.Head.load(path)
    table = None
    if verify or quantize == "int8":
        table = _table(fitted, home, catalog, asked=store is not None or bool(catalog))
    with bar(None, quiet=quiet) as progress:
        model = featstore.export_head(
            fitted,
            out,
            format=runtime,
            table=table,
            weights=weights or None,
            test_views=test_views,
            quantize=quantize,
            verify=verify,
            overwrite=force,
            trust_model=trust_model,
            imports=imports,
            progress=progress,
        )
    described = model.description
    n_bytes = sum(os.path.getsize(os.path.join(model.path, *name.split("/"))) for name in described.files)
    if as_json:
        print_json({"path": model.path, "bytes": n_bytes, **described.to_dict()})
        return
    height, width = model.size_px
    file = short_path(os.path.join(model.path, described.file))
    click.echo(f"model     {file}, {n_bytes / 1e6:.1f} MB in {count(len(described.files), 'file')}")
    click.echo(
        f"input     images: uint8 (n, {height}, {width}, 3), RGB; images of other shapes: {model.resize}"
    )
    if described.test_views > 1:
        click.echo("views     2: the image and its mirror image, whose probabilities are averaged")
    elif (of_head := described.head["test_views"]) > 1:
        click.echo(f"views     1: the image itself, where the head averages over {of_head}")
    click.echo(f"output    probabilities: float32 (n, {len(model.classes):,})")
    if model.rejects_below:
        click.echo(f"unknown   where no probability reaches {model.rejects_below:g}")
    _print_verification(described.verification)


def _table(head: "Head", home: str | None, catalog: tuple[str, ...], *, asked: bool) -> "FeatureTable | None":
    """Open the features that the head was fitted on; an export goes on without, unless they were named."""
    from featstore import FeatstoreError

    try:
        return find_table(head, home, catalog)
    except (FeatstoreError, click.UsageError) as error:
        if asked:
            raise
        note(error.message if isinstance(error, click.UsageError) else str(error))
        return None


def _print_verification(told: dict[str, Any]) -> None:
    if "skipped" in told:
        click.echo(f"verified  no: {told['skipped']}")
        return
    lost = f" ({told['n_lost']:,} more are gone or changed)" if told["n_lost"] else ""
    click.echo(f"verified  on {count(told['n'], 'test photo')}{lost}: {_difference(told)}")
    if encoded := told.get("encoded"):
        undecoded = f" ({encoded['n_undecoded']:,} more not decoded)" if encoded["n_undecoded"] else ""
        difference = f": {_difference(encoded)}" if encoded["n"] else ""
        click.echo(f"encoded   on {count(encoded['n'], 'file')}{undecoded}{difference}")


def _difference(told: dict[str, Any]) -> str:
    return (
        f"probabilities differ by at most {told['largest_difference']:.2g}, on average by "
        f"{told['mean_difference']:.2g}; {share(told['top1_agreement'])} have the same label; accuracy "
        f"{share(told['top1_model'])}, of the head {share(told['top1_head'])}"
    )

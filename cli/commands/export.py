"""`featstore export`."""

import os
from typing import TYPE_CHECKING, Any

import click

from featstore.messages import count

from ..finding import find_head, find_table, load_any_head
from ..options.groups import DATA, command, option_group
from ..options.shared import (
    import_option,
    json_option,
    quiet_option,
    store_option,
    trust_model_option,
    trust_option,
    weights_option,
)
from ..printing import bar, example, note, print_json, share, short_path

if TYPE_CHECKING:
    from featstore import FeatureTable, Head, MultiLabelHead, RegressionHead

__all__ = ["export"]

_FORMATS = ("saved_model", "keras", "tflite", "onnx", "openvino")


@command(
    epilog=example("featstore export logistic digits-model --store digits.fstore --format keras"),
    short_help="Export a head and its backbone as one deployable model.",
)
@click.argument("head", metavar="HEAD")
@click.argument("out", metavar="OUT", type=click.Path())
@option_group(
    "Model",
    click.option(
        "--format",
        type=click.Choice(_FORMATS),
        default=_FORMATS[0],
        help="Model format, for TensorFlow, Keras, LiteRT (TensorFlow Lite), ONNX Runtime or OpenVINO.",
    ),
    click.option(
        "--quantize",
        type=click.Choice(["float16", "int8"]),
        help="Quantize the weights of a tflite model; int8 also quantizes activations, calibrated on "
        "training photos.",
    ),
    click.option(
        "--test-views",
        type=click.IntRange(min=1),
        metavar="K",
        help="Number of views that the model averages over: 1, or 2 for the image and its mirror image.  "
        "[default: as the head]",
    ),
    click.option(
        "--verify/--no-verify",
        default=True,
        help="Run the model on test photos, and write it only if its probabilities are the head's.",
    ),
    click.option("--force", is_flag=True, help="Overwrite OUT if it is an exported model."),
)
@option_group(
    DATA,
    store_option("Store of the features.", default="the head's, or the only store here"),
    click.option(
        "--catalog", metavar="NAME", multiple=True, help="Catalog of the test photos.  [default: the head's]"
    ),
)
@option_group("Backbone", weights_option, trust_model_option, trust_option, import_option)
@quiet_option
@json_option
def export(
    head: str,
    out: str,
    store: str | None,
    catalog: tuple[str, ...],
    force: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Export HEAD and its backbone as one model into the folder OUT.

    HEAD is the name of a head in the store, or a .head file. The model maps uint8 images to class
    probabilities and does not need featstore. The folder also holds labels.txt, model.json, photo.py, which
    decodes photos as featstore does, and model_card.md with a program that labels a photo. The model is
    verified on the available test photos before OUT is created.
    """
    import featstore

    path, home = find_head(head, store)
    fitted = load_any_head(path)
    table = None
    if options["verify"] or options["quantize"] == "int8":
        table = _table(fitted, home, catalog, asked=store is not None or bool(catalog))
    with bar(None, quiet=quiet) as progress:
        model = featstore.export_head(fitted, out, table=table, overwrite=force, progress=progress, **options)
    described = model.description
    n_bytes = sum(os.path.getsize(os.path.join(model.path, *name.split("/"))) for name in described.files)
    if as_json:
        print_json({"path": model.path, "bytes": n_bytes, **described.to_dict()})
        return
    height, width = model.size_px
    file = short_path(os.path.join(model.path, described.file))
    click.echo(f"model     {file}, {n_bytes / 1e6:.1f} MB in {count(len(described.files), 'file')}")
    rule = described.spec.parts[0].picture
    shown = ", ".join([rule["resize"], *(f"{rule[name]}" for name in ("interpolation",) if name in rule)])
    if "crop_fraction" in rule:
        shown += f", the central {rule['crop_fraction']:.4g} of the sides"
    click.echo(f"input     images: uint8 (n, {height}, {width}, 3), RGB; images of other shapes: {shown}")
    if described.test_views > 1:
        click.echo("views     2: probabilities are averaged over the image and its mirror image")
    elif (of_head := described.head.get("test_views", 1)) > 1:
        click.echo(f"views     1: the image itself, while the head averages over {of_head}")
    if model.target is not None:
        click.echo(f"output    values: float32 (n, 1), {model.target}")
    else:
        click.echo(f"output    probabilities: float32 (n, {len(model.classes):,})")
    if model.thresholds is not None:
        click.echo("labels    several an image, each from its own probability on, as in model.json")
    if model.rejects_below:
        click.echo(f"unknown   where no probability reaches {model.rejects_below:g}")
    _print_verification(described.verification)


def _table(
    head: "Head | MultiLabelHead | RegressionHead", home: str | None, catalog: tuple[str, ...], *, asked: bool
) -> "FeatureTable | None":
    """Open the features that the head was fitted on; None if not found, unless the user named them."""
    from featstore import FeatstoreError

    try:
        return find_table(head, home, catalog)
    except (FeatstoreError, click.UsageError) as error:
        if asked:
            raise
        note(error.message if isinstance(error, click.UsageError) else str(error))
        return None


def _print_verification(result: dict[str, Any]) -> None:
    if "skipped" in result:
        click.echo(f"verified  no: {result['skipped']}")
        return
    lost = f" ({result['n_lost']:,} more are missing or changed)" if result["n_lost"] else ""
    click.echo(f"verified  on {count(result['n'], 'test photo')}{lost}: {_difference(result)}")
    if encoded := result.get("encoded"):
        undecoded = f" ({encoded['n_undecoded']:,} more cannot be decoded)" if encoded["n_undecoded"] else ""
        difference = f": {_difference(encoded)}" if encoded["n"] else ""
        click.echo(f"encoded   on {count(encoded['n'], 'file')}{undecoded}{difference}")


def _difference(result: dict[str, Any]) -> str:
    if "mae_model" in result:
        return (
            f"values differ by at most {result['largest_difference']:.2g}, on average by "
            f"{result['mean_difference']:.2g}; mean absolute error {result['mae_model']:.4g}, of the head "
            f"{result['mae_head']:.4g}"
        )
    if "label_agreement" in result:
        return (
            f"probabilities differ by at most {result['largest_difference']:.2g}, on average by "
            f"{result['mean_difference']:.2g}; {share(result['label_agreement'])} of the labels are decided "
            f"alike; mAP {share(result['map_model'])}, of the head {share(result['map_head'])}"
        )
    return (
        f"probabilities differ by at most {result['largest_difference']:.2g}, on average by "
        f"{result['mean_difference']:.2g}; {share(result['top1_agreement'])} have the same label; accuracy "
        f"{share(result['top1_model'])}, of the head {share(result['top1_head'])}"
    )

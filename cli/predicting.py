"""`featstore predict`."""

import sys
from typing import Any

import click

from .finding import find_model
from .image_paths import STDIN, ImagePaths
from .option_groups import DATA, command, option_group
from .options import (
    engine_option,
    import_option,
    json_option,
    quiet_option,
    reject_type,
    store_option,
    trust_model_option,
    trust_option,
    weights_option,
)
from .prediction_writers import WRITERS, Tally
from .printing import bar, example, note

__all__ = ["predict"]


@command(
    epilog=example("featstore predict digits.fstore/heads/logistic.head digits/7/0007.png"),
    short_help="Classify images with a head or an exported model.",
)
@click.argument("model", metavar="HEAD|MODEL")
@click.argument("images", metavar="IMAGE|FOLDER|-...", nargs=-1, required=True, type=click.Path())
@option_group(
    DATA,
    store_option(
        "Store of HEAD, if given by name; features that it has are reused.",
        default="the only store here, for a name",
    ),
    click.option(
        "--null", "-0", "is_null", is_flag=True, help="Paths on standard input are separated by NUL."
    ),
)
@option_group(
    "Labels",
    click.option(
        "--top", type=click.IntRange(min=1), default=1, show_default=True, help="Number of classes per image."
    ),
    click.option(
        "--reject",
        type=reject_type,
        metavar="BELOW",
        help='Predict "unknown" where the highest class probability is below this; 0 never does.  '
        "[default: as the head was fitted]",
    ),
)
@option_group(
    "Output",
    click.option(
        "--format",
        "form",
        type=click.Choice(["table", "csv", "jsonl"]),
        help="Output format; results are printed as soon as they are available.  [default: table]",
    ),
    click.option("--labels-only", is_flag=True, help="Print only the label of each image, one per line."),
    json_option,
)
@option_group("Backbone", weights_option, engine_option, trust_model_option, trust_option, import_option)
@quiet_option
def predict(
    model: str,
    images: tuple[str, ...],
    store: str | None,
    is_null: bool,
    top: int,
    reject: float | None,
    form: str | None,
    labels_only: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Classify images with HEAD, the name of a head in the store or a .head file, or with an exported MODEL.

    An IMAGE is a file, a folder, a pattern such as 'photos/**/*.jpg', or - for paths on standard input, one
    per line. Each prediction is printed as soon as it is available.

    An image that cannot be decoded is reported on stderr with the reason, and the others continue; if all
    fail, the exit status is 1. In csv, jsonl and JSON, the image is listed with its reason; with
    --labels-only its line is empty.

    An image whose class probabilities are all too low is rejected: "unknown (rejected; …)" in the table,
    neither label nor reason in csv, "rejected": true in jsonl and JSON. With --labels-only it is "unknown",
    or "unknown (rejected)" if a class is called unknown.

    A head trained for several views averages over them, and a head on several spaces runs all of their
    networks. A backbone or weights other than those that the head was trained on are refused.
    """
    import featstore
    from featstore.heads import rejected_word

    if sum((form is not None, labels_only, as_json)) > 1:
        raise click.UsageError("choose one of --format, --labels-only and --json")
    if is_null and STDIN not in images:
        raise click.UsageError("--null is for paths on standard input: give - as an IMAGE")
    predictor = featstore.Predictor(find_model(model, store, images), store=store, **options)
    found = ImagePaths(images, is_null=is_null)
    kind = "labels" if labels_only else "json" if as_json else form or "table"
    word = rejected_word(predictor.classes.tolist())
    writer = WRITERS[kind](min(top, len(predictor.classes)), word)
    tally = Tally()
    # On a terminal the results themselves show the progress.
    with bar(found.total, quiet=quiet or sys.stdout.isatty()) as progress:
        for group in found.groups:
            for prediction in predictor.stream(group, top=top, reject=reject):
                if prediction.reason is not None:
                    note(f"{prediction.path}: {prediction.reason}")
                writer.write_prediction(prediction)
                tally.count(prediction)
                progress(tally.images)
    writer.end()
    if not quiet and (tally.images != 1 or store is not None or found.n_ignored):
        note(tally.summary(n_ignored=found.n_ignored, has_store=store is not None))
    if tally.failed and tally.failed == tally.images:
        raise click.ClickException("none of the images could be labelled")

"""`featstore predict`."""

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from featstore.extras import check_extra

from ..finding import find_model
from ..image_paths import STDIN, ImagePaths
from ..options.groups import DATA, command, option_group
from ..options.shared import (
    Duration,
    check_coverage,
    coverage_options,
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
from ..parts.sorting import Sorter
from ..parts.writers import WRITERS, Tally
from ..printing import bar, example, note

if TYPE_CHECKING:
    from featstore import Prediction, Predictor

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
    click.option("--top", type=click.IntRange(min=1), default=1, help="Number of classes per image."),
    *coverage_options("List, instead of --top, the smallest set of classes that holds the right one"),
    click.option(
        "--back-off",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        metavar="P",
        help="Answer with the deepest class or ancestor that has at least this probability, of a head fitted "
        "with --hierarchy.",
    ),
    click.option(
        "--reject",
        type=reject_type,
        metavar="BELOW",
        help='Predict "unknown" where the highest class probability is below this; 0 never rejects.  '
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
@option_group(
    "Videos",
    click.option(
        "--every",
        "every_s",
        type=Duration(),
        help="Read each IMAGE as a video: classify its first frame, and then one each time this much has "
        "passed, such as 1s, 500ms or 1m.",
    ),
)
@option_group(
    "Sort the images",
    click.option(
        "--sort-into",
        metavar="FOLDER",
        type=click.Path(),
        help="Also copy each image into FOLDER/LABEL; no image is moved or overwritten.",
    ),
    click.option("--link", is_flag=True, help="With --sort-into, make symbolic links instead of copies."),
    click.option(
        "--overlay",
        metavar="FOLDER",
        type=click.Path(),
        help="Also draw contact sheets of the images by label into a new FOLDER, the most probable first.",
    ),
)
@option_group("Backbone", weights_option, engine_option, trust_model_option, trust_option, import_option)
@quiet_option
def predict(
    model: str,
    images: tuple[str, ...],
    store: str | None,
    is_null: bool,
    top: int,
    back_off: float | None,
    reject: float | None,
    coverage: float | None,
    by_class: bool,
    form: str | None,
    labels_only: bool,
    every_s: float | None,
    sort_into: str | None,
    link: bool,
    overlay: str | None,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Classify images with HEAD, the name of a head in the store or a .head file, or with an exported MODEL.

    An IMAGE is a file, a folder, an archive such as photos.zip or an image in one (photos.zip::cat/1.jpg), a
    pattern such as 'photos/**/*.jpg', the URL of an image or of a prefix of an object store, or - for paths
    on standard input, one per line. Each prediction is printed as soon as it is available.

    An image that cannot be decoded is reported on stderr with the reason, and the others continue; if all
    fail, the exit status is 1. In csv, jsonl and JSON, the image is listed with its reason; with
    --labels-only its line is empty.

    An image whose class probabilities are all too low is rejected: "unknown (rejected; …)" in the table,
    neither label nor reason in csv, "rejected": true in jsonl and JSON. With --labels-only it is "unknown",
    or "unknown (rejected)" if a class is called unknown.

    A head that gives several labels (`featstore fit` of a catalog with several an image) lists each label
    whose probability reaches its threshold, possibly none; with --labels-only as JSON.

    --back-off 0.9 answers, where no class of a hierarchy (`featstore fit --hierarchy`) is so probable, with
    its deepest ancestor that is: the probabilities of all classes below it are added.

    A head that predicts a number (`featstore fit` of a catalog with one) gives that, with --coverage 0.95 and
    an interval that holds the true one in 95% of images that are drawn as the held-out ones were.

    --coverage 0.95 lists for each image the labels that the right one is among in 95% of images that are
    drawn as the held-out ones were: few where the head is sure, more where it is not, never none.

    A head trained for several views averages over them, and a head on several spaces runs all of their
    networks. A backbone or weights other than those that the head was trained on are refused.

    --every 1s classifies videos, frame by frame: csv, jsonl and JSON have the seconds under time_s. A video
    that is broken is labelled up to there, and then listed with its reason.

    --sort-into and --overlay put rejected images under "unknown", and leave out those that cannot be decoded.
    """
    import featstore
    from featstore.heads import rejected_word

    if sum((form is not None, labels_only, as_json)) > 1:
        raise click.UsageError("choose one of --format, --labels-only and --json")
    check_coverage(coverage, by_class=by_class)
    if coverage is not None and (top > 1 or labels_only):
        raise click.UsageError(
            "--coverage lists as many labels as it takes: leave out --top and --labels-only"
        )
    if is_null and STDIN not in images:
        raise click.UsageError("--null is for paths on standard input: give - as an IMAGE")
    if every_s is not None:
        if STDIN in images or sort_into is not None or overlay is not None:
            raise click.UsageError("--every is for videos given as files; their frames are not sorted")
        check_extra("video", "--every", "av")
    if link and sort_into is None:
        raise click.UsageError("--link is for --sort-into")
    if back_off is not None and (top > 1 or reject is not None or coverage is not None):
        raise click.UsageError("--back-off chooses the answer: leave out --top, --reject and --coverage")
    sorter = Sorter(sort_into, overlay, images, link=link)
    predictor = featstore.Predictor(find_model(model, store, images), store=store, **options)
    gives_several = predictor.gives_several_labels
    if gives_several and (top > 1 or reject is not None or coverage is not None or sort_into or overlay):
        raise click.UsageError(
            f"{model} gives several labels an image, each from its own probability on; --top, --reject, "
            "--coverage, --sort-into and --overlay are for heads that give one: leave them out"
        )
    if predictor.target is not None and (top > 1 or reject is not None or by_class or sort_into or overlay):
        raise click.UsageError(
            f"{model} predicts a number, {predictor.target}; --top, --reject, --by-class, --sort-into and "
            "--overlay are for labels: leave them out"
        )
    found = ImagePaths(images, is_null=is_null) if every_s is None else None
    kind = "labels" if labels_only else "json" if as_json else form or "table"
    if predictor.target is not None and kind == "csv":
        kind = "numbers"
    word = rejected_word(predictor.classes.tolist())
    lists = "labels" if gives_several else "set" if coverage is not None else ""
    writer = WRITERS[kind](min(top, len(predictor.classes)), word, lists=lists)
    writer.lists_times = every_s is not None
    tally = Tally()
    asked: dict[str, Any] = {"top": top, "reject": reject, "coverage": coverage, "by_class": by_class}
    asked["back_off"] = back_off
    # On a terminal the results themselves show the progress.
    with bar(found.total if found else None, quiet=quiet or sys.stdout.isatty()) as progress:
        for group in found.groups if found else images:
            for prediction in _predictions(predictor, group, every_s, asked):
                if prediction.reason is not None:
                    note(f"{prediction.path}: {prediction.reason}")
                writer.write_prediction(prediction)
                sorter.add(prediction, word)
                tally.count(prediction)
                progress(tally.images)
    writer.end()
    sorter.end(quiet=quiet)
    n_ignored = found.n_ignored if found else 0
    if not quiet and (tally.images != 1 or store is not None or n_ignored):
        note(tally.summary(n_ignored=n_ignored, has_store=store is not None))
    if tally.failed and tally.failed == tally.images:
        raise click.ClickException("none of the images could be labelled")


def _predictions(
    predictor: "Predictor", group: Iterable[str], every_s: float | None, asked: dict[str, Any]
) -> "Iterator[Prediction]":
    """Predict a group of images, or the frames of a video."""
    if every_s is None:
        return predictor.stream(group, **asked)
    return predictor.stream_video(str(group), every_s=every_s, **asked)

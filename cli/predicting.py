"""`featstore predict`."""

import glob
import os
import shlex
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import click

from featstore import FeatstoreError

from .finding import find_head, load_head, open_store
from .options import (
    engine_option,
    import_option,
    json_option,
    quiet_option,
    reject_type,
    store_option,
    trust_model_option,
    trust_option,
    trusted_types,
    weights_option,
)
from .prediction_writers import WRITERS
from .printing import bar, count, example, left_out, note, printable
from .stdin_paths import paths_on_stdin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from featstore import Head, Prediction

__all__ = ["predict"]

_STDIN = "-"


@click.command(
    epilog=example("featstore predict digits.fstore/heads/logistic.head digits/7/0007.png"),
    short_help="Classify images with a head or an exported model.",
)
@click.argument("model", metavar="HEAD|MODEL")
@click.argument("images", metavar="IMAGE|FOLDER|-...", nargs=-1, required=True, type=click.Path())
@store_option(
    "Store of HEAD, if given by name; features that it has are reused.",
    default="the only store here, for a name",
)
@click.option(
    "--top", type=click.IntRange(min=1), default=1, show_default=True, help="Number of classes per image."
)
@click.option(
    "--reject",
    type=reject_type,
    metavar="BELOW",
    help='Predict "unknown" where the highest class probability is below this; 0 never does.  '
    "[default: as the head was fitted]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "jsonl"]),
    help="Output format; results are printed as soon as they are available.  [default: table]",
)
@click.option("--labels-only", is_flag=True, help="Print only the label of each image, one per line.")
@click.option("--null", "-0", "is_null", is_flag=True, help="Paths on standard input are separated by NUL.")
@weights_option
@engine_option
@trust_model_option
@trust_option
@import_option
@quiet_option
@json_option
def predict(
    model: str,
    images: tuple[str, ...],
    store: str | None,
    top: int,
    reject: float | None,
    form: str | None,
    labels_only: bool,
    is_null: bool,
    weights: tuple[str, ...],
    engine: str,
    trust_model: bool,
    imports: tuple[str, ...],
    quiet: bool,
    as_json: bool,
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
    if is_null and _STDIN not in images:
        raise click.UsageError("--null is for paths on standard input: give - as an IMAGE")
    _refuse_swapped(model, images, store)
    predictor = featstore.Predictor(
        _model(model, store),
        store=store,
        weights=weights or None,
        engine=engine,
        trust_model=trust_model,
        imports=imports,
    )
    tally = _Tally(has_store=store is not None)
    groups, total = _image_groups(images, tally, is_null=is_null)
    kind = "labels" if labels_only else "json" if as_json else form or "table"
    word = rejected_word(predictor.classes.tolist())
    writer = WRITERS[kind](min(top, len(predictor.classes)), word)
    # On a terminal the results themselves show the progress.
    with bar(total, quiet=quiet or sys.stdout.isatty()) as progress:
        for group in groups:
            for prediction in predictor.stream(group, top=top, reject=reject):
                if prediction.reason is not None:
                    note(f"{prediction.path}: {prediction.reason}")
                writer.write_prediction(prediction)
                tally.count(prediction)
                progress(tally.images, None)
    writer.end()
    if not quiet and (tally.images != 1 or tally.has_store or tally.ignored):
        note(tally.summary())
    if tally.failed and tally.failed == tally.images:
        raise click.ClickException("none of the images could be labelled")


def _model(model: str, store: str | None) -> "str | Head":
    """Return a head, or the path of an exported model."""
    from featstore.prediction import is_exported

    if not is_exported(model):
        return load_head(find_head(model, store)[0])
    if trusted_types():
        raise click.UsageError("--trust is for heads; an exported model holds no types to trust")
    return model


def _refuse_swapped(model: str, images: tuple[str, ...], store: str | None) -> None:
    """Refuse images given before the head."""
    from featstore.prediction import is_exported

    is_there = os.path.lexists(model) or glob.has_magic(model)
    if not is_there or model.endswith(".head") or is_exported(model):
        return
    names: tuple[str, ...] = ()
    if not all(map(os.path.lexists, images)):
        with suppress(click.UsageError, FeatstoreError, OSError):
            names = open_store(store).head_names
    if model in names:
        return
    for image in images:
        is_file = os.path.isfile(image) and image.endswith(".head")
        if is_file or image in names or (image != _STDIN and is_exported(image)):
            rest = [model, *(one for one in images if one != image)]
            raise click.UsageError(
                f"the head comes first: {printable(shlex.join(['featstore', 'predict', image, *rest]))}"
            )


def _image_groups(
    images: tuple[str, ...], tally: "_Tally", *, is_null: bool
) -> "tuple[Iterator[Iterable[str]], int | None]":
    """Return the paths to classify, group by group, and their number if known in advance."""
    if _STDIN not in images:
        paths = [path for image in images for path in _paths(image, tally)]
        return iter([paths]), len(paths)
    parts = (paths_on_stdin(is_null) if image == _STDIN else iter([_paths(image, tally)]) for image in images)
    return chain.from_iterable(parts), None


def _paths(image: str, tally: "_Tally") -> list[str]:
    from featstore.images import find_images

    found = find_images(image)
    tally.ignored += found.ignored
    for line in left_out(found.ignored_endings, found.skipped):
        note(f"{image}: {line}")
    return found.paths


@dataclass
class _Tally:
    """Counts of images by outcome."""

    has_store: bool
    images: int = 0
    rejected: int = 0
    reused: int = 0
    failed: int = 0
    ignored: int = 0
    started: float = field(default_factory=time.monotonic)

    def count(self, prediction: "Prediction") -> None:
        self.images += 1
        self.rejected += prediction.is_rejected
        self.reused += prediction.is_reused
        self.failed += prediction.reason is not None

    def summary(self) -> str:
        seconds = max(time.monotonic() - self.started, 1e-9)
        parts = [f"{self.images - self.rejected - self.failed:,} labelled"]
        if self.rejected:
            parts.append(f"{self.rejected:,} unknown (rejected)")
        parts.append(f"{self.failed:,} failed")
        if self.ignored:
            parts.append(f"{count(self.ignored, 'file')} ignored")
        if self.has_store:
            parts.append(f"the features of {self.reused:,} reused")
        rate = f"{self.images / seconds:,.0f} images/s"
        return f"{count(self.images, 'image')} in {seconds:.1f} s: {', '.join(parts)} ({rate})"

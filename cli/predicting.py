"""`featstore predict`."""

import csv
import glob
import os
import queue
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import click

from featstore import FeatstoreError

from .console import (
    bar,
    count,
    engine_option,
    example,
    import_option,
    json_option,
    json_text,
    left_out,
    note,
    open_store,
    printable,
    quiet_option,
    trust_model_option,
    weights_option,
)
from .finding import find_head

if TYPE_CHECKING:
    from featstore import Prediction

__all__ = ["predict"]

_STDIN = "-"
_READ_BYTES = 2**16
# Paths that wait to be labelled: a list without end is not held in memory.
_PATHS_AHEAD = 1000
# Where no further path comes for this long, the answers to those that have come are given.
_PAUSE_SECONDS = 0.2

_Paths: TypeAlias = "queue.Queue[str | OSError | None]"


@click.command(
    epilog=example("featstore predict digits.fstore/heads/logistic.head digits/7/0007.png"),
    short_help="Label images.",
)
@click.argument("model", metavar="HEAD|MODEL")
@click.argument("images", metavar="IMAGE|FOLDER|-...", nargs=-1, required=True, type=click.Path())
@click.option(
    "--store",
    type=click.Path(),
    help="Where HEAD is, if it is a name, and where the images' features may be already.  "
    "[default for the name: the only store here]",
)
@click.option(
    "--top", type=click.IntRange(min=1), default=1, show_default=True, help="Classes to list per image."
)
@click.option(
    "--reject",
    type=click.FloatRange(min=0, max=1, max_open=True),
    metavar="BELOW",
    help="Answer unknown where the most probable class is less probable than this; 0 always answers.  "
    "[default: as the head was fitted]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "jsonl"]),
    help="How each image's result is printed, as soon as it is there.  [default: table]",
)
@click.option("--labels-only", is_flag=True, help="Print nothing but each image's label, one a line.")
@click.option("--null", "-0", "is_null", is_flag=True, help="Paths on standard input end in NUL.")
@weights_option
@engine_option
@trust_model_option
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
    """Label images with HEAD, the name of a head in the store or a .head file, or with an exported MODEL.

    Images are files, all those in folders, patterns such as 'photos/**/*.jpg', and with - the paths that come
    on standard input, one a line. Each result is printed as soon as it is there.

    An image that cannot be used is named on stderr with the reason, and the others go on; where all are so,
    the exit status is 1. In csv, jsonl and JSON it has its place and its reason; with --labels-only, an empty
    line.

    An image that is rejected, since no class is probable enough, is unknown (rejected; …) in the table. In
    csv it has neither label nor reason, and in jsonl and JSON "rejected": true. With --labels-only it is
    "unknown", or "unknown (rejected)" where a class is called unknown.

    A head that was made to look at several views of each image does so, and one that was trained on several
    spaces looks through all of their networks. A backbone or weights other than those that the head was
    trained on are refused.
    """
    import featstore
    from featstore.heads import rejected_word

    if sum((form is not None, labels_only, as_json)) > 1:
        raise click.UsageError("choose one of --format, --labels-only and --json")
    if is_null and _STDIN not in images:
        raise click.UsageError("--null is for paths on standard input: give - for an image")
    _refuse_swapped(model, images, store)
    predictor = featstore.Predictor(
        _model_path(model, store),
        store=store,
        weights=weights or None,
        engine=engine,
        trust_model=trust_model,
        imports=imports,
    )
    tally = _Tally(has_store=store is not None)
    groups, total = _given(images, tally, is_null=is_null)
    kind = "labels" if labels_only else "json" if as_json else form or "table"
    word = rejected_word(predictor.classes.tolist())
    writer = _WRITERS[kind](min(top, len(predictor.classes)), word)
    # Where the results themselves are seen coming, a bar would only be in their way.
    with bar(total, quiet=quiet or sys.stdout.isatty()) as progress:
        for group in groups:
            for prediction in predictor.stream(group, top=top, reject=reject):
                if prediction.reason is not None:
                    note(f"{prediction.path}: {prediction.reason}")
                writer.one(prediction)
                tally.count(prediction)
                progress(tally.images, None)
    writer.end()
    if not quiet and (tally.images != 1 or tally.has_store or tally.left_alone):
        note(tally.summary())
    if tally.failed and tally.failed == tally.images:
        raise click.ClickException("none of the images could be labelled")


def _model_path(model: str, store: str | None) -> str:
    from featstore.prediction import is_exported

    return model if is_exported(model) else find_head(model, store)[0]


def _refuse_swapped(model: str, images: tuple[str, ...], store: str | None) -> None:
    """Refuse images in a head's place where the head is in theirs."""
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


def _given(
    images: tuple[str, ...], tally: "_Tally", *, is_null: bool
) -> "tuple[Iterator[Iterable[str]], int | None]":
    """Return what is to be labelled, part by part, and how many images that are if it can be told."""
    if _STDIN not in images:
        paths = [path for image in images for path in _paths(image, tally)]
        return iter([paths]), len(paths)
    parts = (
        _paths_on_stdin(is_null) if image == _STDIN else iter([_paths(image, tally)]) for image in images
    )
    return chain.from_iterable(parts), None


def _paths(image: str, tally: "_Tally") -> list[str]:
    """Return the images under a folder, the files that a pattern fits, or else the path itself."""
    from featstore.images import open_source

    if os.path.isdir(image):
        source = open_source(image)
        tally.left_alone += source.ignored
        for line in left_out(source.ignored_endings, source.skipped):
            note(f"{image}: {line}")
        records = [record.path for record in source.records]
        return [os.path.join(image, path) for path in (*records, *(path for path, _ in source.failures))]
    if glob.has_magic(image) and not os.path.lexists(image):
        fitting = sorted(path for path in glob.glob(image, recursive=True) if not os.path.isdir(path))
        return fitting or [image]
    return [image]


def _paths_on_stdin(is_null: bool) -> Iterator[Iterator[str]]:
    """Yield the paths on standard input in runs, each ending where no more come for a while.

    They are read on a thread of their own, so that a program that writes some and waits for the answers gets
    these.
    """
    if sys.stdin is None:
        raise click.UsageError("standard input is closed; paths are read from there where an image is -")
    # A thread that waits inside of a buffered reader would keep the interpreter from shutting down.
    stream: BinaryIO = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    end = b"\0" if is_null else b"\n"
    paths: _Paths = queue.Queue(_PATHS_AHEAD)
    threading.Thread(target=_read_paths, args=(stream, end, paths), daemon=True).start()
    while (first := paths.get()) is not None:
        yield _until_pause(first, paths)


def _until_pause(first: str | OSError, paths: "_Paths") -> Iterator[str]:
    path: str | OSError | None = first
    while path is not None:
        if isinstance(path, OSError):
            raise path
        yield path
        try:
            path = paths.get(timeout=_PAUSE_SECONDS)
        except queue.Empty:
            return
    paths.put(None)


def _read_paths(stream: BinaryIO, end: bytes, paths: "_Paths") -> None:
    """Put each path that comes, or what went wrong, and None at the end."""
    rest = b""
    try:
        while data := stream.read(_READ_BYTES):
            *whole, rest = (rest + data).split(end)
            for path in whole:
                _put_path(path, end, paths)
        _put_path(rest, end, paths)
    except OSError as error:
        paths.put(error)
    finally:
        paths.put(None)


def _put_path(path: bytes, end: bytes, paths: "_Paths") -> None:
    if end == b"\n":
        path = path.removesuffix(b"\r")
    if path:
        paths.put(os.fsdecode(path))


@dataclass
class _Tally:
    """How many images there were, and what became of them."""

    has_store: bool
    images: int = 0
    rejected: int = 0
    reused: int = 0
    failed: int = 0
    left_alone: int = 0
    started: float = field(default_factory=time.monotonic)

    def count(self, prediction: "Prediction") -> None:
        self.images += 1
        self.rejected += prediction.is_rejected
        self.reused += prediction.is_reused
        self.failed += prediction.reason is not None

    def summary(self) -> str:
        seconds = max(time.monotonic() - self.started, 1e-9)
        told = [f"{self.images - self.rejected - self.failed:,} labelled"]
        if self.rejected:
            told.append(f"{self.rejected:,} unknown (rejected)")
        told.append(f"{self.failed:,} failed")
        if self.left_alone:
            told.append(f"{count(self.left_alone, 'file')} left alone")
        if self.has_store:
            told.append(f"the features of {self.reused:,} reused")
        rate = f"{self.images / seconds:,.0f} images/s"
        return f"{count(self.images, 'image')} in {seconds:.1f} s: {', '.join(told)} ({rate})"


class _Writer:
    """Prints each result as soon as it is there.

    Parameters
    ----------
    top : int
        How many classes are listed of each image.
    rejected : str
        The word for an image that is rejected.
    """

    def __init__(self, top: int, rejected: str) -> None:
        self.top = top
        self.rejected = rejected

    def one(self, prediction: "Prediction") -> None:
        raise NotImplementedError

    def end(self) -> None:
        """Print what belongs after the last result."""


class _Table(_Writer):
    def one(self, prediction: "Prediction") -> None:
        if prediction.reason is None:
            ranked = "  ".join(
                f"{printable(label)} {probability:.4f}" for label, probability in prediction.top
            )
            told = f"unknown (rejected; {ranked})" if prediction.is_rejected else ranked
            click.echo(f"{printable(prediction.path)}\t{told}")


class _Labels(_Writer):
    def one(self, prediction: "Prediction") -> None:
        click.echo(self.rejected if prediction.is_rejected else printable(prediction.label or ""))


class _Csv(_Writer):
    def __init__(self, top: int, rejected: str) -> None:
        super().__init__(top, rejected)
        self._rows = csv.writer(self)
        self._has_header = False

    def one(self, prediction: "Prediction") -> None:
        self._header()
        ranked = [*chain.from_iterable(prediction.top or [(None, None)] * self.top)] if self.top > 1 else []
        self._rows.writerow(
            [prediction.path, prediction.label, prediction.probability, prediction.reason, *ranked]
        )

    def end(self) -> None:
        self._header()

    def write(self, line: str) -> None:
        # What is no UTF-8 in a file's name comes out as it went in. The writer quotes every line end that a
        # name holds only where its own is this one.
        click.echo(line.removesuffix("\r\n").encode("utf-8", "surrogateescape"))

    def _header(self) -> None:
        if not self._has_header:
            ranks = range(1, self.top + 1) if self.top > 1 else ()
            ranked = [name for rank in ranks for name in (f"label_{rank}", f"probability_{rank}")]
            self._rows.writerow(["path", "label", "probability", "reason", *ranked])
            self._has_header = True


class _JsonLines(_Writer):
    def one(self, prediction: "Prediction") -> None:
        click.echo(json_text(prediction.to_dict()))


class _Json(_Writer):
    """A list, indented as :func:`print_json` does, and never held as a whole."""

    def __init__(self, top: int, rejected: str) -> None:
        super().__init__(top, rejected)
        self._before = "["

    def one(self, prediction: "Prediction") -> None:
        text = json_text(prediction.to_dict(), indent=2).replace("\n", "\n  ")
        click.echo(f"{self._before}\n  {text}", nl=False)
        self._before = ","

    def end(self) -> None:
        click.echo("[]" if self._before == "[" else "\n]")


_WRITERS: dict[str, Callable[[int, str], _Writer]] = {
    "table": _Table,
    "labels": _Labels,
    "csv": _Csv,
    "jsonl": _JsonLines,
    "json": _Json,
}

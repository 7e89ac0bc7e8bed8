"""What the commands print, and how: results on stdout, everything else on stderr."""

import glob
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from featstore import FeatureStore

__all__ = [
    "accuracy_told",
    "bar",
    "count",
    "engine_option",
    "example",
    "force_option",
    "import_option",
    "json_option",
    "json_text",
    "left_out",
    "listed",
    "mark_existing",
    "marked_path",
    "note",
    "open_store",
    "print_json",
    "print_table",
    "printable",
    "quiet_option",
    "say",
    "share",
    "short_path",
    "show_warnings",
    "trust_model_option",
    "verify_reads_option",
    "weights_option",
]

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Show no progress.")


trust_model_option = click.option(
    "--trust-model",
    is_flag=True,
    help="Let a Keras model of your own run the code that it holds, such as Lambda layers.",
)


class _Engine(click.Choice[str]):
    """What runs a network; ``tensorflow`` is the old word for ``keras``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value == "tensorflow":
            note("--engine tensorflow is called --engine keras now")
            value = "keras"
        return super().convert(value, param, ctx)


engine_option = click.option(
    "--engine",
    type=_Engine(["auto", "openvino", "keras"]),
    default="auto",
    show_default=True,
    help="Runtime of the forward pass; auto is Keras on a GPU, else OpenVINO.",
)


def _import_from_here(
    _ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    # After all that is installed: a file of the current folder never takes the place of that.
    if value and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return value


import_option = click.option(
    "--import",
    "imports",
    metavar="MODULE",
    multiple=True,
    callback=_import_from_here,
    help="Import this Python module, which runs it: it defines layers of a Keras model of your own.",
)

# Of a head that is there already; the library takes one for several backbones of it.
weights_option = click.option(
    "--weights",
    type=click.Path(),
    multiple=True,
    help="The backbone's weights file, if it has moved. Of a head on several spaces, repeat it for each in "
    "order; one serves for all that have the same weights.",
)

# Of what a command writes outside of a store.
force_option = click.option("--force", is_flag=True, help="Replace files that are there.")
_LISTED_NAMES = 8

_VERIFY_READS = "featstore.verify_reads"


def _keep_verify_reads(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    ctx.meta[_VERIFY_READS] = value


# For every command that reads features; open_store finds it in the context.
verify_reads_option = click.option(
    "--verify-reads",
    is_flag=True,
    expose_value=False,
    callback=_keep_verify_reads,
    help="Compare every row with its checksum before it is used.",
)


def example(*lines: str) -> str:
    """Return the closing lines of a command's help."""
    return "\b\nExample, in the folder that `featstore demo` makes:\n" + "\n".join(
        f"  {line}" for line in lines
    )


def print_json(value: Any) -> None:
    """Print a result for programs."""
    click.echo(json_text(value, indent=2))


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Write a result as JSON, which knows neither NaN nor infinity: null stands for them."""
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_with_nulls(value), indent=indent, allow_nan=False)


def _with_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_nulls(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_with_nulls(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def say(message: str) -> None:
    """Print a line of the result in which names of files or classes stand."""
    click.echo(printable(message))


def note(message: str) -> None:
    """Tell the user something that is not the result."""
    click.echo(printable(message), err=True)


def show_warnings() -> None:
    """Have what the library warns of shown on stderr, each in one line."""
    # What Pillow has to say of an image is among the failures, with the image's name.
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def count(number: int, noun: str) -> str:
    """Write a number of things: ``1 image``, ``1,250 images``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed(names: Sequence[str]) -> str:
    """Write the first names of several."""
    more = f" and {len(names) - _LISTED_NAMES:,} more" if len(names) > _LISTED_NAMES else ""
    return ", ".join(names[:_LISTED_NAMES]) + more


def left_out(endings: Mapping[str, int], skipped: Mapping[str, int]) -> Iterator[str]:
    """Yield a line on the files of a folder that are no images, and one on what was not looked into."""
    if endings:
        kinds = [f"{number:,} {ending or 'without ending'}" for ending, number in endings.items()]
        number = count(sum(endings.values()), "file")
        yield f"{number} left alone, not images by name or content: {listed(kinds)}"
    if skipped:
        kinds = [f"{number:,} {name}" for name, number in skipped.items()]
        yield f"skipped as hidden or of other programs: {listed(kinds)}"


def short_path(path: str) -> str:
    """Write a path as seen from the current folder where that is shorter."""
    return min(path, os.path.relpath(path), key=len)


def marked_path(path: str) -> str:
    """Write the path of an image that a catalog names, and whether it is not where it was."""
    from featstore.io.stamps import is_there

    return short_path(path) if is_there(path) else f"{short_path(path)} (no longer there)"


def mark_existing(images: Iterable[dict[str, Any]]) -> None:
    """Add to what JSON tells of images that a catalog names whether they are where they were."""
    from featstore.io.stamps import is_there

    for image in images:
        image["exists"] = is_there(image["path"])


def share(part: float, *, digits: int = 1) -> str:
    """Write a share of 1 in percent."""
    return f"{100 * part:.{digits}f}%"


def accuracy_told(scores: Mapping[str, Any], n: int) -> str:
    """Write an accuracy with its interval and how many images it is of."""
    low, high = scores["top1_ci"]
    return f"{share(scores['top1'])} (95% interval {share(low)} to {share(high)}, n = {n:,})"


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[object]], *, left: int = 1, indent: str = ""
) -> None:
    """Print aligned columns: the first ``left`` to the left, the others, numbers, to the right."""
    cells = [[_cell(value) for value in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        aligned = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo((indent + "  ".join(aligned)).rstrip())


def _cell(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return printable(value)


def printable(value: object) -> str:
    """Write what may hold anything, such as a file's name, as one line that does nothing on a terminal."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in str(value))


@contextmanager
def bar(
    total: int | None, *, quiet: bool, unit: str = "image"
) -> Iterator[Callable[[int, int | None], None]]:
    """Show progress on stderr with rate and time left; silent when quiet or not on a terminal.

    The block is given a function of (done, total).
    """
    from tqdm import tqdm

    with tqdm(
        total=total,
        unit=f" {unit}s",
        disable=quiet or not sys.stderr.isatty(),
        dynamic_ncols=True,
        leave=False,
    ) as progress:

        def update(done: int, of: int | None = None) -> None:
            if of is not None and progress.total != of:
                progress.total = of
                # What was there before counts as done but not towards the rate.
                progress.initial = done
                progress.n = done
            progress.update(done - progress.n)

        yield update


def open_store(path: str | None, *, repair: bool = False) -> "FeatureStore":
    """Open the store at a path or, without one, the only store in the current folder."""
    from featstore import FeatureStore

    context = click.get_current_context(silent=True)
    verify_reads = context is not None and context.meta.get(_VERIFY_READS, False)
    return FeatureStore(_store_path(path), repair=repair, verify_reads=verify_reads)


def _store_path(path: str | None) -> str:
    if path is not None:
        return path
    found = sorted(glob.glob("*.fstore"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise click.UsageError(
            f"no store was named and there is none (*.fstore) in {printable(os.getcwd())}; name one, or make "
            "one with `featstore extract FOLDER`"
        )
    raise click.UsageError(f"several stores are here, name the one you mean: {printable(', '.join(found))}")

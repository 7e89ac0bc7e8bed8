"""Printing: results on stdout, everything else on stderr."""

import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from featstore.messages import count, listed, printable

__all__ = [
    "accuracy_text",
    "bar",
    "class_counts",
    "corrections_text",
    "echo",
    "example",
    "interval_text",
    "json_text",
    "left_out",
    "marked_path",
    "note",
    "print_json",
    "print_more",
    "print_table",
    "setting_text",
    "share",
    "short_path",
    "show_warnings",
    "with_existing",
]


def example(*lines: str) -> str:
    """Return the epilog of a command's help."""
    return "\b\nExample, in the folder that `featstore demo` makes:\n" + "\n".join(
        f"  {line}" for line in lines
    )


def print_json(value: Any) -> None:
    """Print a result as indented JSON."""
    click.echo(json_text(value, indent=2))


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return a result as JSON; NaN and infinity, which JSON lacks, become null."""
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


def echo(message: str) -> None:
    """Print a line of the result that may contain names of files or classes."""
    click.echo(printable(message))


def note(message: str) -> None:
    """Print a line that is not part of the result, on stderr."""
    click.echo(printable(message), err=True)


def show_warnings() -> None:
    """Show the library's warnings on stderr, one line each."""
    # Pillow's complaints about an image are reported among the failures, with the image's name.
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def corrections_text(effect: Mapping[str, Any]) -> str:
    """Return what corrections have done, in a few words."""
    relabelled, left_out = count(effect["relabelled"], "label"), count(effect["left_out"], "image")
    return f"{relabelled} corrected, {effect['confirmed']:,} confirmed, {left_out} left out"


def rate_text(number: float, unit: str) -> str:
    """Return a number of images (or the like) a second; slow ones with a decimal."""
    return f"{number:,.{0 if number >= 10 else 1}f} {unit}/s"


def print_more(n_more: int, where: str, *, indent: str = "") -> None:
    """Print how many entries of a list were left out, if any, and where to find them."""
    if n_more > 0:
        click.echo(f"{indent}… and {n_more:,} more: {where}")


def left_out(endings: Mapping[str, int], skipped: Mapping[str, int]) -> Iterator[str]:
    """Yield a line about a folder's files that are not images, and one about what was skipped."""
    if endings:
        kinds = [f"{number:,} {ending or 'without ending'}" for ending, number in endings.items()]
        number = count(sum(endings.values()), "file")
        yield f"{number} ignored, not images by name or content: {listed(kinds)}"
    if skipped:
        kinds = [f"{name} ({number:,})" for name, number in skipped.items()]
        yield f"skipped, hidden or owned by other programs: {listed(kinds)}"


def short_path(path: str) -> str:
    """Return a path relative to the current folder where that is shorter; a URL as it is."""
    from featstore.io import is_url

    if is_url(path):
        return path
    return min(path, os.path.relpath(path), key=len)


def marked_path(path: str) -> str:
    """Return the path of a catalog's image, marked where the file no longer exists."""
    from featstore.io import is_there

    return short_path(path) if is_there(path) else f"{short_path(path)} (no longer there)"


def with_existing(values: dict[str, Any], key: str) -> dict[str, Any]:
    """Return JSON values with ``exists`` added to the catalog's images under a key."""
    from featstore.io import is_there

    images = [{**image, "exists": is_there(image["path"])} for image in values[key]]
    return {**values, key: images}


def share(part: float, *, digits: int = 1) -> str:
    """Return a fraction as a percentage."""
    return f"{100 * part:.{digits}f}%"


def interval_text(ends: Sequence[float]) -> str:
    """Return the two ends of an interval of fractions as percentages."""
    low, high = ends
    return f"{share(low)} to {share(high)}"


def accuracy_text(scores: Mapping[str, Any], n: int) -> str:
    """Return an accuracy with its interval and number of images."""
    return f"{share(scores['top1'])} (95% interval {interval_text(scores['top1_ci'])}, n = {n:,})"


def setting_text(params: Mapping[str, object]) -> str:
    """Return hyper-parameters as ``C=0.3, gamma=scale``."""
    return ", ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in params.items()
    )


def class_counts(counts: Mapping[str, Mapping[str, int]], labels: Iterable[str]) -> list[tuple[Any, ...]]:
    """Return rows of a table: each label with its number of images in each split."""
    return [(label, *(of_split.get(label, 0) for of_split in counts.values())) for label in labels]


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[object]], *, left: int = 1, indent: str = ""
) -> None:
    """Print aligned columns: the first ``left`` of them to the left, the others to the right."""
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


@contextmanager
def bar(total: int | None, *, quiet: bool, unit: str = "image") -> Iterator[Callable[..., None]]:
    """Show a progress bar on stderr, unless quiet or not on a terminal.

    Yields a function of (done, total), which ignores further arguments.
    """
    from tqdm import tqdm

    with tqdm(
        total=total,
        unit=f" {unit}s",
        disable=quiet or not sys.stderr.isatty(),
        dynamic_ncols=True,
        leave=False,
    ) as progress:

        def update(done: int, of: int | None = None, *_: object) -> None:
            if of is not None and progress.total != of:
                progress.total = of
                # Images that were there before count as done but not towards the rate.
                progress.initial = done
                progress.n = done
            progress.update(done - progress.n)

        yield update

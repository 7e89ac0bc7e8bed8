"""`featstore forget`."""

import csv
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from featstore.messages import count

from ..finding import open_store
from ..options.shared import json_option
from ..printing import echo, example, note, print_json, short_path

if TYPE_CHECKING:
    from featstore.store import ForgetReport

__all__ = ["forget", "named_images"]

_LISTS = (".csv", ".txt")
_HASH = re.compile(r"[0-9a-fA-F]{64}")
# Where `featstore review` writes to.
_CORRECTIONS = "corrections.csv"


@click.command(
    epilog=example("featstore forget digits.fstore digits/3/0003.png"),
    short_help="Remove images, and all that tells of them, from a store.",
)
@click.argument("store", type=click.Path())
@click.argument("images", nargs=-1, required=True, metavar="IMAGE|HASH|LIST...")
@click.option("--yes", is_flag=True, help="Remove them; without it, only show what would be removed.")
@json_option
def forget(store: str, images: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Remove images from STORE for good: features, labels, and what heads know of them.

    An image is named by its file, or by its content hash of 64 hexadecimal digits. A file that is gone can be
    named if a catalog still has its path. LIST is a .txt file with one of them on each line, or a .csv file
    with a column content_hash or path; its paths are relative to its folder.

    The rows of all spaces and views go, and the images in catalogs and in what heads know of their training.
    Heads that hold features of the images (knn, rbf, extended ones) are removed. Nothing is removed without
    --yes. After an interruption, run it again. `featstore verify STORE --absent HASH` proves it.

    Photos are never touched, nor is anything else outside of STORE: delete the photos first, or the next
    extraction takes them in again.
    """
    from featstore import read_corrections

    corrections = read_corrections(_CORRECTIONS).lines if os.path.isfile(_CORRECTIONS) else ()
    report = open_store(store).forget(named_images(images), dry_run=not yes)
    if as_json:
        print_json(report.to_dict())
        return
    for path in report.unknown:
        note(f"{short_path(path)}: not found, neither as a file nor in a catalog")
    for line in _lines(report):
        echo(line)
    contents = {*report.content_hashes}
    if n_lines := sum(not contents.isdisjoint((line.content_hash, line.new)) for line in corrections):
        echo(f"  {_CORRECTIONS} names them on {count(n_lines, 'line')}: remove these yourself")
    if report.removed and len(report.content_hashes) == 1:
        echo(f"prove it with: featstore verify {shlex.quote(store)} --absent {report.content_hashes[0]}")
    if not report.removed and not report.is_empty:
        note("nothing is removed yet: run this again with --yes")


def named_images(words: Sequence[str]) -> list[str]:
    """Return the images that words of a command line name, with those of lists in place of the lists."""
    return [name for word in words for name in (_listed(word) if word.lower().endswith(_LISTS) else [word])]


def _listed(path: str) -> Iterator[str]:
    """Yield the images in a list, with paths relative to its folder."""
    from featstore.io import is_url

    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = list(csv.reader(file)) if path.lower().endswith(".csv") else [[line] for line in file]
    except (OSError, csv.Error) as error:
        raise click.UsageError(f"cannot read the list {path}: {error}") from error
    column = 0
    if path.lower().endswith(".csv"):
        names = [name.strip() for name in rows[0]] if rows else []
        found = [names.index(name) for name in ("content_hash", "path") if name in names]
        if not found:
            raise click.UsageError(
                f"{path} has neither a column content_hash nor path; its first line is "
                f"{', '.join(names[:8]) or 'empty'}"
            )
        column, rows = found[0], rows[1:]
    for row in rows:
        if name := row[column].strip("\r\n") if column < len(row) else "":
            is_whole = _HASH.fullmatch(name) or is_url(name)
            yield name if is_whole else os.path.join(os.path.dirname(path), name)


def _lines(report: "ForgetReport") -> Iterator[str]:
    what = count(len(report.content_hashes), "image")
    if report.is_empty:
        yield f"the store holds nothing of {what}"
    else:
        yield f"{'forgotten' if report.removed else 'to forget'}: {what}"
    for space, n_rows in report.spaces.items():
        yield f"  space {space}: {count(n_rows, 'row')}"
    if report.bytes:
        yield f"  segments of {report.bytes / 1e6:,.1f} MB {'were' if report.removed else 'are'} rewritten"
    for catalog, n_images in report.catalogs.items():
        yield f"  catalog {catalog}: {count(n_images, 'image')}"
    if report.reports:
        yield f"  {count(report.reports, 'report')} of shards"
    for path in report.files:
        yield f"  {short_path(path)}: removed whole"
    for sentence in report.consequences:
        yield f"  {sentence}"

"""`featstore verify`: checksums, and repair."""

import sys
from typing import TYPE_CHECKING

import click

from featstore.messages import count

from ..finding import open_store
from ..options.shared import json_option, quiet_option, store_argument
from ..printing import bar, echo, example, print_json, short_path
from .forget import named_images

if TYPE_CHECKING:
    from featstore import FeatureStore
    from featstore.store import Damage, TraceReport

__all__ = ["verify"]


@click.command(
    epilog=example("featstore verify digits.fstore"),
    short_help="Verify the checksums of a store, and repair it.",
)
@store_argument
@click.option(
    "--repair", is_flag=True, help="Set damaged files aside, keep their intact rows and list what to redo."
)
@click.option(
    "--absent",
    metavar="HASH|IMAGE|LIST",
    multiple=True,
    help="Also search every byte for what tells of an image, named as for `featstore forget`; the exit "
    "status is 1 if anything is found. May be repeated.",
)
@quiet_option
@json_option
def verify(store: str | None, repair: bool, absent: tuple[str, ...], quiet: bool, as_json: bool) -> None:
    """Verify every byte of STORE against its checksums; the exit status is 1 if anything is damaged.

    --repair moves damaged files into the folder "damaged" of STORE, keeps their intact rows, deletes nothing
    and lists what to extract again; the exit status is 0 if STORE is intact afterwards. Files that cannot be
    read, because of a disk error or missing permissions, are left in place, and the exit status is 1.
    """
    if repair:
        if absent:
            raise click.UsageError("--absent goes without --repair: repair the store first")
        _repair(store, quiet=quiet, as_json=as_json)
        return
    opened = open_store(store)
    with bar(None, quiet=quiet, unit="row") as progress:
        report = opened.verify(progress=progress)
    # What is damaged may not be searched.
    found = _search(opened, absent, quiet=quiet) if absent and report.ok else None
    if as_json:
        print_json(report.to_dict() | ({"absent": found and found.to_dict()} if absent else {}))
    else:
        click.echo(
            f"{count(report.segments, 'segment')}, {count(report.rows, 'row')}: "
            + ("all right" if report.ok else _what_is_wrong(report.damaged))
        )
        for damage in report.to_dict()["damaged"]:
            echo(f"  {damage['path']}: {damage['reason']}")
        for leftover in report.leftovers:
            echo(f"  left over from an interrupted write, or being written now: {leftover}")
        if report.set_aside:
            echo(f"  {count(len(report.set_aside), 'damaged file')} set aside by earlier repairs")
        if any(damage.repairable for damage in report.damaged):
            echo("featstore verify --repair sets damaged files aside and lists what to extract again")
        if found is not None:
            _print_search(found)
    if not report.ok or (found is not None and found.traces):
        sys.exit(1)


def _search(store: "FeatureStore", absent: tuple[str, ...], *, quiet: bool) -> "TraceReport":
    with bar(None, quiet=quiet, unit="byte") as progress:
        return store.find_traces(named_images(absent), progress=progress)


def _print_search(found: "TraceReport") -> None:
    where = f"{count(found.files, 'file')}, {found.bytes / 1e6:,.1f} MB"
    click.echo(f"{where}: " + (f"FOUND in {count(len(found.traces), 'file')}" if found.traces else "absent"))
    for trace in found.traces:
        echo(f"  {short_path(trace.path)}: {trace.reason}")
    if found.traces:
        echo("featstore forget removes it")


def _what_is_wrong(damaged: "tuple[Damage, ...]") -> str:
    return "DAMAGED" if any(damage.repairable for damage in damaged) else "NOT ALL OF IT CAN BE READ"


def _repair(store: str | None, *, quiet: bool, as_json: bool) -> None:
    opened = open_store(store, repair=True)
    with bar(None, quiet=quiet, unit="row") as progress:
        report = opened.repair(progress=progress)
    if as_json:
        print_json(report.to_dict())
    else:
        for source, target in report.set_aside:
            echo(f"{short_path(source)} set aside as {short_path(target)}")
        if report.rescued or report.lost:
            echo(f"{count(report.rescued, 'row')} of these kept, {count(report.lost, 'row')} damaged")
        for one in report.missing:
            what = f"{count(one.images, 'image')} of {one.location or 'a list'}"
            if one.views is None:
                what = f"with as many --views as before, {one.location or 'a list'}"
            elif one.views > 1:
                what = f"with --views {one.views}, {what}"
            echo(f"extract again: {what} (catalog {one.catalog}) for {one.space}")
        for name, location in report.catalogs:
            source = location or "its source"
            echo(f"extract again: {source}, for the catalog {name}")
        for name in report.heads:
            echo(f"fit again: the head {name}")
        for damage in report.remaining:
            echo(f"left as it is: {damage.path}: {damage.reason}")
        if report.ok:
            echo("the store is intact")
        elif any(damage.repairable for damage in report.remaining):
            echo("the store is NOT intact")
        else:
            echo("unreadable files were not set aside: run this again once they can be read")
    if not report.ok:
        sys.exit(1)

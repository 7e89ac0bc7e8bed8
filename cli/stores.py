"""`featstore info`, `verify`, `merge`, `compact` and `pack`."""

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from .console import (
    bar,
    count,
    example,
    json_option,
    open_store,
    print_json,
    print_table,
    quiet_option,
    say,
    short_path,
    verify_reads_option,
)

if TYPE_CHECKING:
    from featstore.store.maintenance.verify import Damage

__all__ = ["compact", "info", "merge", "pack", "verify"]

_LISTED = 10


@click.command(epilog=example("featstore info digits.fstore"), short_help="Show what a store holds.")
@click.argument("store", required=False, type=click.Path())
@json_option
def info(store: str | None, as_json: bool) -> None:
    """Show the spaces, catalogs, classes and heads of STORE, its duplicates and its label conflicts.

    STORE may be left out where the current folder has only one.
    """
    from featstore import ViewRecipe

    told = open_store(store).info()
    if as_json:
        print_json(told)
        return
    say(short_path(told["path"]))
    click.echo()
    print_table(
        ("space", "images", "views", "features", "dtype", "segments", "MB"),
        [
            (
                space["name"],
                space["images"],
                space["views"],
                space["feature_dim"],
                space["dtype"],
                space["segments"],
                _mb(space["bytes"]),
            )
            for space in told["spaces"]
        ],
    )
    for space in told["spaces"]:
        if recipe := space["spec"].get("views"):
            click.echo(f"views of {space['name']}: {ViewRecipe.from_dict(recipe)}")
    n_views = {space["name"]: space["views"] for space in told["spaces"]}
    for catalog in told["catalogs"]:
        click.echo()
        _print_catalog(catalog, n_views)
    if told["heads"]:
        click.echo()
        print_table(("head", "MB"), [(head["name"], _mb(head["bytes"])) for head in told["heads"]])


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f}"


def _print_catalog(catalog: dict[str, Any], n_views: dict[str, int]) -> None:
    say(
        f"catalog {catalog['name']}: {count(catalog['images'], 'image')} of {catalog['location'] or 'a list'}"
    )
    classes = catalog["classes"]
    splits = ("train", "validation", "test")
    rows = [(one["label"], one["images"], *(one[split] for split in splits)) for one in classes[:50]]
    if len(classes) > 50:
        rows.append((f"… {len(classes) - 50:,} more", "", "", "", ""))
    if classes:
        rows.append(("all", catalog["labeled"], *(catalog["splits"][split] for split in splits)))
        print_table(("class", "images", *splits), rows, indent="  ")
    given = catalog["given_splits"]
    if told := [f"{given[split]:,} {split}" for split in splits if given[split]]:
        rest = f"; {count(given['rule'], 'image')} left to the rule" if given["rule"] else ""
        click.echo(f"  given splits: {', '.join(told)}{rest}")
    if unlabelled := catalog["images"] - catalog["failed"] - catalog["labeled"]:
        click.echo(f"  {count(unlabelled, 'image')} without a label")
    if catalog["failed"]:
        click.echo(f"  {count(catalog['failed'], 'image')} could not be decoded")
    for space, present in catalog["spaces"].items():
        if missing := catalog["images"] - catalog["failed"] - present:
            click.echo(
                f"  {count(missing, 'image')} without features in {space}: run extract with that backbone"
            )
        if partial := present - catalog["complete"][space]:
            click.echo(
                f"  {count(partial, 'image')} with fewer than {n_views[space]} views in {space}: "
                f"run extract with --views {n_views[space]}"
            )
    if catalog["duplicates"]:
        click.echo(f"  {count(len(catalog['duplicates']), 'image')} under several paths:")
        for duplicate in catalog["duplicates"][:_LISTED]:
            say("    " + _names(duplicate["paths"]))
        _more(catalog["duplicates"])
    if catalog["label_conflicts"]:
        click.echo(f"  {count(len(catalog['label_conflicts']), 'image')} with several labels:")
        for conflict in catalog["label_conflicts"][:_LISTED]:
            say(
                "    " + "; ".join(f"{label}: {_names(paths)}" for label, paths in conflict["labels"].items())
            )
        _more(catalog["label_conflicts"])


def _names(paths: list[str]) -> str:
    return ", ".join(paths)


def _more(entries: list[Any]) -> None:
    if (more := len(entries) - _LISTED) > 0:
        click.echo(f"    … and {more:,} more: --json lists them")


@click.command(epilog=example("featstore verify digits.fstore"), short_help="Check every byte of a store.")
@click.argument("store", required=False, type=click.Path())
@click.option(
    "--repair", is_flag=True, help="Set damaged files aside, keep their good rows and say what to do again."
)
@quiet_option
@json_option
def verify(store: str | None, repair: bool, quiet: bool, as_json: bool) -> None:
    """Read all of STORE and compare it with its checksums; exit with 1 if anything is damaged.

    --repair moves damaged files into the folder "damaged" of STORE, deletes nothing, seals those of their
    rows that are good once more, and says what to extract again; exit is 0 if STORE is sound then. What
    cannot be read, for a disk's error or a lack of rights, is not damaged: it stays, and exit is 1.
    """
    if repair:
        _repair(store, quiet=quiet, as_json=as_json)
        return
    with bar(None, quiet=quiet, unit="row") as progress:
        report = open_store(store).verify(progress=progress)
    if as_json:
        print_json(report.to_dict())
    else:
        click.echo(
            f"{count(report.segments, 'segment')}, {count(report.rows, 'row')}: "
            + ("all right" if report.ok else _what_is_wrong(report.damaged))
        )
        for damage in report.to_dict()["damaged"]:
            say(f"  {damage['path']}: {damage['reason']}")
        for leftover in report.leftovers:
            say(f"  left over from an interrupted write, or being written now: {leftover}")
        if report.set_aside:
            say(f"  {count(len(report.set_aside), 'damaged file')} set aside by earlier repairs")
        if any(damage.repairable for damage in report.damaged):
            say("featstore verify --repair sets damaged files aside and says what to extract again")
    if not report.ok:
        sys.exit(1)


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
            say(f"{short_path(source)} set aside as {short_path(target)}")
        if report.rescued or report.lost:
            say(f"{count(report.rescued, 'row')} of these kept, {count(report.lost, 'row')} damaged")
        for one in report.missing:
            what = f"{count(one.images, 'image')} of {one.location or 'a list'}"
            if one.views is None:
                what = f"with as many --views as before, {one.location or 'a list'}"
            elif one.views > 1:
                what = f"with --views {one.views}, {what}"
            say(f"extract again: {what} (catalog {one.catalog}) for {one.space}")
        for name, location in report.catalogs:
            source = location or "its source"
            say(f"extract again: {source}, for the catalog {name}")
        for name in report.heads:
            say(f"fit again: the head {name}")
        for damage in report.remaining:
            say(f"left as it is: {damage.path}: {damage.reason}")
        if report.ok:
            say("the store is sound")
        elif any(damage.repairable for damage in report.remaining):
            say("the store is NOT sound")
        else:
            say("what could not be read was not set aside: run this again once it can be")
    if not report.ok:
        sys.exit(1)


@click.command(
    epilog=example("featstore merge all.fstore digits.fstore"),
    short_help="Unite stores made on several machines.",
)
@click.argument("into", type=click.Path())
@click.argument("stores", nargs=-1, required=True, type=click.Path())
@click.option(
    "--on-conflict",
    type=click.Choice(["error", "keep", "replace"]),
    default="error",
    show_default=True,
    help="What to do about a catalog or head that both have and that differ.",
)
@json_option
def merge(into: str, stores: tuple[str, ...], on_conflict: str, as_json: bool) -> None:
    """Copy into the store INTO, made if need be, what the other STORES have and it lacks.

    Every row is compared with its checksum on the way.
    """
    from featstore import FeatureStore

    others = [FeatureStore(store) for store in stores]
    target = FeatureStore(into, create=True)
    reports = [target.merge(other, on_conflict=on_conflict).to_dict() for other in others]
    if as_json:
        print_json([{"store": store, **report} for store, report in zip(stores, reports, strict=True)])
        return
    for store, report in zip(stores, reports, strict=True):
        say(
            f"{store}: {count(report['segments'], 'segment')} with {count(report['rows'], 'row')}, "
            f"{count(len(report['catalogs']), 'catalog')} and {count(len(report['heads']), 'head')} copied"
        )


@click.command(
    epilog=example("featstore compact digits.fstore"), short_help="Fold small segments into big ones."
)
@click.argument("store", required=False, type=click.Path())
@click.option("--space", metavar="NAME", help="Only this space.  [default: all]")
@json_option
def compact(store: str | None, space: str | None, as_json: bool) -> None:
    """Fold the small segments of STORE into big ones, dropping rows that are there twice."""
    report = open_store(store).compact(space, full=True).to_dict()
    if as_json:
        print_json(report)
        return
    click.echo(
        f"{count(report['segments_before'], 'segment')} became {report['segments_after']:,}; "
        f"{count(report['duplicates'], 'double row')} dropped"
    )


@click.command(
    epilog=example("featstore pack digits.fstore digits.h5"), short_help="Write one plain HDF5 file."
)
@click.argument("store", type=click.Path())
@click.argument("output", type=click.Path())
@click.option("--space", metavar="NAME", help="Features to write.  [default: the only ones]")
@click.option("--catalog", metavar="NAME", help="Labels to write.  [default: the only ones]")
@click.option("--force", is_flag=True, help="Replace OUTPUT if it exists.")
@verify_reads_option
@json_option
def pack(store: str, output: str, space: str | None, catalog: str | None, force: bool, as_json: bool) -> None:
    """Write one space and one catalog of STORE as the single plain HDF5 file OUTPUT.

    It holds one row per image: features (of view 0), content_hash, path, label, group and split.
    """
    rows = open_store(store).pack(output, space=space, catalog=catalog, overwrite=force)
    if as_json:
        print_json({"path": os.path.abspath(output), "rows": rows})
        return
    say(f"{count(rows, 'row')} in {output}")

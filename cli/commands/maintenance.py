"""`featstore info`, `verify`, `merge`, `compact` and `pack`."""

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from featstore.messages import count

from ..finding import open_store
from ..options.shared import json_option, quiet_option, store_argument, verify_reads_option
from ..printing import bar, echo, example, print_json, print_more, print_table, short_path
from .forget import named_images

if TYPE_CHECKING:
    from featstore import FeatureStore
    from featstore.store import Damage, TraceReport

__all__ = ["compact", "info", "merge", "pack", "verify"]

_LISTED = 10


@click.command(epilog=example("featstore info digits.fstore"), short_help="Show the contents of a store.")
@store_argument
@json_option
def info(store: str | None, as_json: bool) -> None:
    """Show the spaces, catalogs, classes and heads of STORE, with its duplicates and label conflicts.

    STORE may be omitted if the current folder has only one.
    """
    from featstore import ViewRecipe

    contents = open_store(store).info()
    if as_json:
        print_json(contents)
        return
    echo(short_path(contents["path"]))
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
            for space in contents["spaces"]
        ],
    )
    for space in contents["spaces"]:
        if recipe := space["spec"].get("views"):
            click.echo(f"views of {space['name']}: {ViewRecipe.from_dict(recipe)}")
    maps = {space["name"] for space in contents["spaces"] if space["provenance"].get("activation_maps")}
    for name in sorted(maps):
        click.echo(f"{name}: activation maps, which finetune trains on")
    # Of maps nobody lacks any: finetune computes those it needs.
    n_views = {space["name"]: space["views"] for space in contents["spaces"] if space["name"] not in maps}
    for catalog in contents["catalogs"]:
        click.echo()
        _print_catalog(catalog, n_views)
    if contents["heads"]:
        click.echo()
        rows = [(head["name"], _since(head), _mb(head["bytes"])) for head in contents["heads"]]
        print_table(("head", "catalog", "MB"), rows, left=2)


def _since(head: dict[str, Any]) -> str:
    """Return what has become of the catalogs that a head was fitted on."""
    words = {
        "unchanged": "unchanged since the fit",
        "changed": "changed since the fit",
        "missing": "not in this store",
        "unknown": "unknown whether it has changed",
    }
    return "; ".join(f"{name}: {words[change]}" for name, change in head["catalogs"].items()) or "none"


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f}"


def _print_catalog(catalog: dict[str, Any], n_views: dict[str, int]) -> None:
    echo(
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
    if target := catalog["target"]:
        _print_target(target, catalog, splits)
    given = catalog["given_splits"]
    if parts := [f"{given[split]:,} {split}" for split in splits if given[split]]:
        rest = f"; {count(given['rule'], 'image')} split by the rule" if given["rule"] else ""
        click.echo(f"  given splits: {', '.join(parts)}{rest}")
    if unlabelled := catalog["images"] - catalog["failed"] - catalog["labeled"]:
        click.echo(f"  {count(unlabelled, 'image')} without a {'number' if target else 'label'}")
    if catalog["failed"]:
        click.echo(f"  {count(catalog['failed'], 'image')} could not be decoded")
    for space in n_views:
        present = catalog["spaces"][space]
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
        click.echo(f"  {count(len(catalog['duplicates']), 'image')} with several paths:")
        for duplicate in catalog["duplicates"][:_LISTED]:
            echo("    " + ", ".join(duplicate["paths"]))
        print_more(len(catalog["duplicates"]) - _LISTED, "--json lists them", indent="    ")
    if catalog["label_conflicts"]:
        what = "numbers" if target else "labels"
        click.echo(f"  {count(len(catalog['label_conflicts']), 'image')} with conflicting {what}:")
        for conflict in catalog["label_conflicts"][:_LISTED]:
            labels = [f"{label}: {', '.join(paths)}" for label, paths in conflict["labels"].items()]
            echo("    " + "; ".join(labels))
        print_more(len(catalog["label_conflicts"]) - _LISTED, "--json lists them", indent="    ")


def _print_target(target: dict[str, Any], catalog: dict[str, Any], splits: tuple[str, ...]) -> None:
    ends = [target[name] for name in ("smallest", "mean", "largest")]
    row = (target["name"], catalog["labeled"], *(catalog["splits"][split] for split in splits))
    shown = ["" if end is None else f"{end:.6g}" for end in ends]
    print_table(("number", "images", *splits, "smallest", "mean", "largest"), [(*row, *shown)], indent="  ")


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


@click.command(
    epilog=example("featstore merge all.fstore digits.fstore"),
    short_help="Merge stores made on several machines.",
)
@click.argument("into", type=click.Path())
@click.argument("stores", nargs=-1, required=True, type=click.Path())
@click.option(
    "--on-conflict",
    type=click.Choice(["error", "keep", "replace"]),
    default="error",
    help="What to do with a catalog or head that differs between the stores.",
)
@json_option
def merge(into: str, stores: tuple[str, ...], on_conflict: str, as_json: bool) -> None:
    """Copy what is missing in the store INTO from the other STORES; INTO is created if necessary.

    Every row is verified against its checksum.
    """
    from featstore import FeatureStore

    others = [FeatureStore(store) for store in stores]
    target = FeatureStore(into, create="later")
    reports = [target.merge(other, on_conflict=on_conflict).to_dict() for other in others]
    if as_json:
        print_json([{"store": store, **report} for store, report in zip(stores, reports, strict=True)])
        return
    for store, report in zip(stores, reports, strict=True):
        echo(
            f"{store}: {count(report['segments'], 'segment')} with {count(report['rows'], 'row')}, "
            f"{count(len(report['catalogs']), 'catalog')} and {count(len(report['heads']), 'head')} copied"
        )


@click.command(
    epilog=example("featstore compact digits.fstore"),
    short_help="Merge small segments of a store into large ones.",
)
@store_argument
@click.option("--space", metavar="NAME", help="Only this space.  [default: all]")
@json_option
def compact(store: str | None, space: str | None, as_json: bool) -> None:
    """Merge the small segments of STORE into large ones, and drop duplicate rows."""
    report = open_store(store).compact(space, full=True).to_dict()
    if as_json:
        print_json(report)
        return
    click.echo(
        f"{count(report['segments_before'], 'segment')} became {report['segments_after']:,}; "
        f"{count(report['duplicates'], 'duplicate row')} dropped"
    )


@click.command(
    epilog=example("featstore pack digits.fstore digits.h5"),
    short_help="Write features for other programs: HDF5, Parquet, NumPy, TFRecord.",
)
@click.argument("store", type=click.Path())
@click.argument("output", type=click.Path())
@click.option("--space", metavar="NAME", help="Space to write.  [default: the only space]")
@click.option("--catalog", metavar="NAME", help="Catalog to write.  [default: the only catalog]")
@click.option(
    "--format",
    "form",
    type=click.Choice(["h5", "parquet", "npz", "tfrecord"]),
    help="One HDF5, Parquet or NumPy file, or a folder of TFRecord shards with images, labels and "
    "features.  [default: by the ending of OUTPUT, .parquet or .npz, else h5]",
)
@click.option(
    "--shards",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of TFRecord shards of the largest split; the other splits' shards have the same size.  "
    "[default: 1]",
)
@click.option("--force", is_flag=True, help="Overwrite OUTPUT.")
@quiet_option
@verify_reads_option
@json_option
def pack(
    store: str,
    output: str,
    space: str | None,
    catalog: str | None,
    form: str | None,
    shards: int | None,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Write one space and one catalog of STORE to OUTPUT, for other programs.

    An HDF5, Parquet or NumPy file has one row per image: features (of view 0), content_hash, path, label,
    group and split. Parquet is for DuckDB, Polars, pandas and the like (pip install "featstore[parquet]").

    TFRecord output is a folder of shards with the names that Inception's build_image_data.py gives, such as
    train-00000-of-00008, with the image files, their labels (0 is the background class) and the features.
    """
    if shards is not None and form != "tfrecord":
        raise click.UsageError("--shards is for --format tfrecord")
    with bar(None, quiet=quiet) as progress:
        rows = open_store(store).pack(
            output,
            space=space,
            catalog=catalog,
            format=form,
            shards=shards or 1,
            overwrite=force,
            progress=progress,
        )
    if as_json:
        print_json({"path": os.path.abspath(output), "rows": rows})
        return
    echo(f"{count(rows, 'row')} in {output}")

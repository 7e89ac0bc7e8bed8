"""`featstore info`: what a store has."""

from typing import Any

import click

from featstore.messages import count

from ..finding import open_store
from ..options.shared import json_option, store_argument
from ..printing import echo, example, print_json, print_more, print_table, short_path

__all__ = ["info"]

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
    if catalog["unread"]:
        click.echo(
            f"  {count(catalog['unread'], 'image')} not read yet: extraction was interrupted; run it again"
        )
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

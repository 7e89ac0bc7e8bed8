"""`featstore duplicates` and `suspects`, and what `fit` says of near-duplicates."""

import csv
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from .console import (
    bar,
    count,
    example,
    force_option,
    json_option,
    mark_existing,
    marked_path,
    note,
    open_store,
    print_json,
    print_table,
    quiet_option,
    share,
    verify_reads_option,
)
from .finding import table_options
from .splitting import split_options
from .view_options import note_unused_views, view_options

if TYPE_CHECKING:
    from featstore import Duplicates, FeatureStore, FeatureTable, SplitRule

__all__ = ["duplicates", "print_near_duplicates", "suspects"]

_LISTED_GROUPS = 20
_LISTED_IMAGES = 10

_csv_option = click.option("--csv", "csv_file", metavar="FILE", type=click.Path(), help="Also write a CSV.")


@click.command(
    epilog=example("featstore duplicates digits.fstore --threshold 0.9"),
    short_help="Find images that are copies of each other.",
)
@click.argument("store", required=False, type=click.Path())
@table_options("Features to compare", "Images")
@click.option(
    "--threshold",
    type=click.FloatRange(min=0, max=1, min_open=True),
    help="Least similarity; higher finds fewer and surer ones.  [default: 0.75]",
)
@split_options
@click.option(
    "--write-groups", is_flag=True, help="Note the groups in the catalog, for `fit --split-by group`."
)
@_csv_option
@force_option
@verify_reads_option
@quiet_option
@json_option
def duplicates(
    store: str | None,
    space: tuple[str, ...],
    catalog: tuple[str, ...],
    threshold: float | None,
    rule: "SplitRule",
    write_groups: bool,
    csv_file: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Find images in STORE that have the same bytes, or features that are nearly the same.

    Groups with different labels come first, then those of which a part is in training and a part in test or
    validation, divided by the same options as for `featstore fit`. What counts as the same is what the
    network sees: a smaller or mirrored copy, or the next photo of the same scene, but perhaps also two
    handwritten digits that look alike.

    --write-groups notes the groups in the catalog, in place of those noted before. Groups that the source
    gave stay, and images that share either are kept together by `fit --split-by group`. A later extract keeps
    them; run this again after adding images, and fit heads anew.
    """
    import featstore

    opened = open_store(store)
    table = opened.table(space=space, catalog=catalog or None)
    csv_file = _checked_csv(csv_file, opened, table, force=force)
    settings: dict[str, Any] = {} if threshold is None else {"threshold": threshold}
    with bar(None, quiet=quiet, unit="pair") as progress:
        found = featstore.find_duplicates(table, rule=rule, progress=progress, **settings)
    n_grouped = None
    if write_groups:
        n_grouped = opened.write_near_groups(found.content_groups, catalog=catalog or None)
    if csv_file is not None:
        _write_csv(csv_file, _DUPLICATE_COLUMNS, _duplicate_rows(found))
    if as_json:
        print_json({**found.to_dict(), "n_grouped": n_grouped})
        return
    _print_duplicates(found)
    if n_grouped is not None:
        click.echo(f"{count(n_grouped, 'image')} noted in groups, for `featstore fit --split-by group`")
    elif any(not group.is_identical and group.straddles_splits for group in found.groups):
        note("to keep these groups in one split: --write-groups, then `featstore fit --split-by group`")


def _print_duplicates(found: "Duplicates") -> None:
    groups = found.groups
    click.echo(
        f"{count(found.n_images, 'image')}: {count(len(groups), 'group')} of duplicates with "
        f"{count(sum(len(group.images) for group in groups), 'image')}, at similarity {found.threshold:g}"
    )
    click.echo(f"{count(found.n_copies, 'image')} with the bytes of another")
    click.echo(f"{count(sum(group.straddles_splits for group in groups), 'group')} in several splits")
    click.echo(f"{count(sum(group.has_label_conflict for group in groups), 'group')} with different labels")
    if found.n_pairs_cut:
        click.echo(
            f"{count(found.n_pairs, 'pair')}, of which --json lists the {len(found.pairs):,} closest; "
            "the groups are complete"
        )
    if not groups:
        return
    click.echo()
    rows: list[tuple[object, ...]] = []
    for number, group in enumerate(groups[:_LISTED_GROUPS], start=1):
        marks = [
            *(["labels differ"] if group.has_label_conflict else []),
            *(["straddles"] if group.straddles_splits else []),
            *(["identical"] if group.is_identical else []),
        ]
        for place, image in enumerate(group.images[:_LISTED_IMAGES]):
            first = (str(number), ", ".join(marks)) if place == 0 else ("", "")
            rows.append(
                (*first, image.label, image.split, marked_path(image.path), f"{image.similarity:.3f}")
            )
        if (more := len(group.images) - _LISTED_IMAGES) > 0:
            rows.append(("", "", "", "", f"… and {more:,} more", ""))
    print_table(("group", "", "label", "split", "image", "similarity"), rows, left=5)
    if (more := len(groups) - _LISTED_GROUPS) > 0:
        click.echo(f"… and {count(more, 'more group')}: --csv and --json list them")


_DUPLICATE_COLUMNS = (
    "group",
    "path",
    "label",
    "split",
    "similarity",
    "identical",
    "label_conflict",
    "straddles_splits",
    "content_hash",
)


def _duplicate_rows(found: "Duplicates") -> Iterable[Sequence[object]]:
    for number, group in enumerate(found.groups, start=1):
        marks = (int(group.is_identical), int(group.has_label_conflict), int(group.straddles_splits))
        for image in group.images:
            yield (
                number,
                image.path,
                image.label,
                image.split,
                f"{image.similarity:.6f}",
                *marks,
                image.content_hash,
            )


@click.command(
    epilog=example("featstore suspects digits.fstore --top 5"),
    short_help="Find labels that are likely wrong.",
)
@click.argument("store", required=False, type=click.Path())
@table_options("Features to compare", "Images")
@click.option(
    "--head", default="logistic", show_default=True, metavar="NAME", help="One that `featstore heads` lists."
)
@click.option(
    "--class-weight",
    type=click.Choice(["balanced"]),
    help="Let all classes count alike, however many images they have.",
)
@view_options
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    default=10,
    show_default=True,
    help="Parts; each is judged by a head that is trained on the others.",
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Suspects to list; --csv and --json give all.",
)
@_csv_option
@force_option
@verify_reads_option
@quiet_option
@json_option
def suspects(
    store: str | None,
    space: tuple[str, ...],
    catalog: tuple[str, ...],
    head: str,
    class_weight: str | None,
    views: dict[str, int] | None,
    folds: int,
    top: int,
    csv_file: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Rank the images in STORE whose labels are contradicted by a head that was not trained on them.

    The margin is the label's probability less that of the suggested label: the nearer to -1, the more
    suspect. Look at the photos before you change a label: many suspects are hard to tell, but labelled
    rightly.

    Images of one group are judged together, and so are near-duplicates once `featstore duplicates
    --write-groups` has noted them.
    """
    import featstore

    opened = open_store(store)
    table = opened.table(space=space, catalog=catalog or None)
    csv_file = _checked_csv(csv_file, opened, table, force=force)
    with bar(None, quiet=quiet, unit="fit") as progress:
        found = featstore.find_suspects(
            table, head=head, class_weight=class_weight, views=views, folds=folds, progress=progress
        )
    note_unused_views(table, views)
    if csv_file is not None:
        columns = ("path", "label", "suggested", "label_probability", "probability", "margin", "content_hash")
        rows = ([getattr(suspect, name) for name in columns] for suspect in found.suspects)
        _write_csv(csv_file, columns, rows)
    if as_json:
        told = found.to_dict()
        mark_existing(told["suspects"])
        print_json(told)
        return
    chosen = ", ".join(f"{name}={value}" for name, value in found.params.items())
    click.echo(
        f"{count(found.n_images, 'image')} judged by {found.head}{f', {chosen}' if chosen else ''}, "
        f"in {folds} folds: accuracy {share(found.top1)}, {count(len(found.suspects), 'suspect')}"
    )
    if found.n_unjudged:
        click.echo(f"{count(found.n_unjudged, 'image')} not judged: their classes are in one fold only")
    if not found.suspects:
        return
    click.echo()
    print_table(
        ("label", "suggested", "image", "p(label)", "p(suggested)", "margin"),
        [
            (
                suspect.label,
                suspect.suggested,
                marked_path(suspect.path),
                share(suspect.label_probability),
                share(suspect.probability),
                f"{suspect.margin:.3f}",
            )
            for suspect in found.suspects[:top]
        ],
        left=3,
    )
    if (more := len(found.suspects) - top) > 0:
        click.echo(f"… and {more:,} more: --top, --csv and --json list them")


def print_near_duplicates(told: dict[str, Any]) -> None:
    """Say what fit found out about near-duplicates of test images among those that it trained on."""
    if told.get("n_test"):
        known = (
            "test image has a near-duplicate" if told["n_test"] == 1 else "test images have near-duplicates"
        )
        accuracy = ""
        if told["n_without"]:
            low, high = told["top1_ci_without"]
            accuracy = (
                f"; without: {share(told['top1_without'])} "
                f"(95% interval {share(low)} to {share(high)}, n = {told['n_without']:,})"
            )
        click.echo(f"{told['n_test']:,} {known} in train{accuracy}")
        note(
            "to keep such images in one split: `featstore duplicates --write-groups`, then "
            "`featstore fit --split-by group`"
        )
    elif told.get("skipped") and told["n_test"] is None:
        click.echo(f"near-duplicates of test images in train: not looked for, {told['skipped']}")


def _checked_csv(
    path: str | None, opened: "FeatureStore", table: "FeatureTable", *, force: bool
) -> str | None:
    """Refuse early, before minutes of work, a file that could not be written at their end."""
    if path is None:
        return None
    from featstore.io.outputs import check_output

    # A catalog may come from a CSV itself.
    lists = [opened.catalog(name).location for name in table.catalog_name.split("+")]
    return check_output(path, overwrite=force, inputs=[*lists, *table.paths.tolist()])


def _write_csv(path: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    from featstore.io.atomic import replacing

    with (
        replacing(path) as temporary,
        # Names of files that are not UTF-8 keep their bytes.
        open(temporary, "x", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)

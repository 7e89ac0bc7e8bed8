"""`featstore duplicates`."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from featstore.messages import count

from ..csv_files import checked_csv_path, write_csv
from ..options.groups import command, option_group
from ..options.shared import csv_option, result_options
from ..options.split import split_options
from ..options.table import table_options
from ..printing import bar, example, marked_path, note, print_json, print_table

if TYPE_CHECKING:
    from featstore import Duplicates, FeatureStore, FeatureTable

__all__ = ["duplicates"]

_LISTED_GROUPS = 20
_LISTED_IMAGES = 10


@command(
    epilog=example("featstore duplicates digits.fstore --threshold 0.9"),
    short_help="Find duplicate and near-duplicate images.",
)
@option_group(
    "Duplicates",
    click.option(
        "--threshold",
        type=click.FloatRange(min=0, max=1, min_open=True),
        default=0.75,
        help="Minimum similarity; a higher one finds fewer and more certain duplicates.",
    ),
    click.option(
        "--write-groups", is_flag=True, help="Record the groups in the catalog, for `fit --split-by group`."
    ),
)
@split_options
@result_options(csv_option)
@table_options("Features to compare", "Images to compare")
def duplicates(
    store: "FeatureStore",
    table: "FeatureTable",
    write_groups: bool,
    csv_file: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Find images in STORE with identical bytes or nearly identical features.

    Groups with conflicting labels are listed first, then those spread over several splits (leakage), with the
    images split by the same options as for `featstore fit`. Similarity is that of the features: it finds
    resized or mirrored copies and consecutive photos of a scene, but perhaps also two handwritten digits that
    look alike.

    --write-groups records the groups in the catalog and replaces those recorded before. The source's own
    groups are kept, and `fit --split-by group` keeps images that share either in one split. A later extract
    preserves them; after adding images, run this again and refit your heads.
    """
    import featstore

    csv_file = checked_csv_path(csv_file, store, table, force=force)
    with bar(None, quiet=quiet, unit="pair") as progress:
        found = featstore.find_duplicates(table, progress=progress, **options)
    n_grouped = None
    if write_groups:
        n_grouped = store.write_near_groups(found.content_groups, catalog=table.catalog_name.split("+"))
    write_csv(csv_file, _DUPLICATE_COLUMNS, _duplicate_rows(found))
    if as_json:
        print_json({**found.to_dict(), "n_grouped": n_grouped})
        return
    _print_duplicates(found)
    if n_grouped is not None:
        click.echo(f"{count(n_grouped, 'image')} recorded in groups, for `featstore fit --split-by group`")
    elif any(not group.is_identical and group.straddles_splits for group in found.groups):
        note("to keep these groups in one split: --write-groups, then `featstore fit --split-by group`")


def _print_duplicates(found: "Duplicates") -> None:
    groups = found.groups
    click.echo(
        f"{count(found.n_images, 'image')}: {count(len(groups), 'group')} of duplicates with "
        f"{count(sum(len(group.images) for group in groups), 'image')}, at similarity {found.threshold:g}"
    )
    click.echo(f"{count(found.n_copies, 'image')} identical to another")
    click.echo(
        f"{count(sum(group.straddles_splits for group in groups), 'group')} spread over several splits"
    )
    click.echo(f"{count(sum(group.has_label_conflict for group in groups), 'group')} with conflicting labels")
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

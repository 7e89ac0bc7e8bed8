"""`featstore suspects`."""

from typing import TYPE_CHECKING

import click

from .csv_files import checked_csv_path, write_csv
from .finding import open_store
from .options import (
    class_weight_option,
    csv_option,
    head_name_option,
    result_options,
    store_argument,
    table_options,
)
from .printing import (
    bar,
    count,
    example,
    mark_existing,
    marked_path,
    print_json,
    print_table,
    setting_text,
    share,
)
from .view_options import note_unused_views, view_options

if TYPE_CHECKING:
    from featstore import Suspects

__all__ = ["suspects"]

_COLUMNS = ("path", "label", "suggested", "label_probability", "probability", "margin", "content_hash")


@click.command(
    epilog=example("featstore suspects digits.fstore --top 5"),
    short_help="Find labels that are likely wrong.",
)
@store_argument
@table_options("Features to train on", "Images to check")
@head_name_option
@class_weight_option
@view_options
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    default=10,
    show_default=True,
    help="Number of cross-validation folds.",
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Number of suspects to list; --csv and --json list all.",
)
@csv_option
@result_options
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
    """Rank images in STORE whose label contradicts the prediction of a classifier not trained on them.

    Every image is predicted by cross-validation. The margin is the probability of the label minus that of the
    suggested label: the closer to -1, the more suspect. Look at the photos before you change a label: many
    suspects are merely hard to classify.

    Images of one group are in one fold, and so are near-duplicates once `featstore duplicates --write-groups`
    has recorded them.
    """
    import featstore

    opened = open_store(store)
    table = opened.table(space=space, catalog=catalog or None)
    csv_file = checked_csv_path(csv_file, opened, table, force=force)
    with bar(None, quiet=quiet, unit="fit") as progress:
        found = featstore.find_suspects(
            table, head=head, class_weight=class_weight, views=views, folds=folds, progress=progress
        )
    note_unused_views(table, views)
    if csv_file is not None:
        write_csv(
            csv_file,
            _COLUMNS,
            ([getattr(suspect, name) for name in _COLUMNS] for suspect in found.suspects),
        )
    if as_json:
        values = found.to_dict()
        mark_existing(values["suspects"])
        print_json(values)
        return
    _print_suspects(found, folds, top)


def _print_suspects(found: "Suspects", folds: int, top: int) -> None:
    chosen = setting_text(found.params)
    click.echo(
        f"{count(found.n_images, 'image')} predicted by {found.head}{f', {chosen}' if chosen else ''}, "
        f"in {folds} folds: accuracy {share(found.top1)}, {count(len(found.suspects), 'suspect')}"
    )
    if found.n_unjudged:
        click.echo(f"{count(found.n_unjudged, 'image')} not predicted: all of their class is in one fold")
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

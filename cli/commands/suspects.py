"""`featstore suspects`."""

from typing import TYPE_CHECKING, Any

import click

from featstore.label_sets import joined_labels
from featstore.messages import count

from ..csv_files import checked_csv_path, write_csv
from ..finding import check_head_kind
from ..options.groups import command, option_group
from ..options.shared import class_weight_option, csv_option, head_name_option, result_options
from ..options.table import table_options
from ..options.view import note_unused_views, view_options
from ..printing import (
    bar,
    example,
    marked_path,
    print_json,
    print_more,
    print_table,
    setting_text,
    share,
    with_existing,
)

if TYPE_CHECKING:
    from featstore import FeatureStore, FeatureTable, LabelSuspect, LabelSuspects, Suspects

__all__ = ["suspects"]

_COLUMNS = ("path", "label", "suggested", "label_probability", "probability", "margin", "content_hash")
_LABEL_COLUMNS = ("path", "label", "kind", "probability", "labels", "content_hash")


@command(
    epilog=example("featstore suspects digits.fstore --top 5"),
    short_help="Find labels that are likely wrong.",
)
@option_group(
    "Classifier",
    head_name_option,
    class_weight_option,
    click.option(
        "--folds",
        type=click.IntRange(min=2),
        default=10,
        help="Number of cross-validation folds.",
    ),
)
@view_options
@result_options(
    click.option(
        "--top",
        type=click.IntRange(min=1),
        default=50,
        help="Number of suspects to list; --csv and --json list all.",
    ),
    csv_option,
)
@table_options("Features to train on", "Images to check")
def suspects(
    store: "FeatureStore",
    table: "FeatureTable",
    top: int,
    csv_file: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Rank images in STORE whose label contradicts the prediction of a classifier not trained on them.

    Every image is predicted by cross-validation. The margin is the probability of the label minus that of the
    suggested label: the closer to -1, the more suspect. Look at the photos before you change a label: many
    suspects are merely hard to classify.

    Of images with several labels, it ranks each label that an image probably lacks, or has wrongly, by the
    probability of what the catalog says.

    Images of one group are in one fold, and so are near-duplicates once `featstore duplicates --write-groups`
    has recorded them.
    """
    import featstore

    check_head_kind(options["head"], store)
    csv_file = checked_csv_path(csv_file, store, table, force=force)
    find = featstore.find_label_suspects if table.label_separator else featstore.find_suspects
    with bar(None, quiet=quiet, unit="fit") as progress:
        found = find(table, progress=progress, **options)
    note_unused_views(table, options["views"])
    if isinstance(found, featstore.LabelSuspects):
        write_csv(csv_file, _LABEL_COLUMNS, (_label_row(one, table) for one in found.suspects))
    else:
        rows = ([getattr(suspect, name) for name in _COLUMNS] for suspect in found.suspects)
        write_csv(csv_file, _COLUMNS, rows)
    if as_json:
        print_json(with_existing(found.to_dict(), "suspects"))
    elif isinstance(found, featstore.LabelSuspects):
        _print_label_suspects(found, top)
    else:
        _print_suspects(found, options["folds"], top)


def _label_row(one: "LabelSuspect", table: "FeatureTable") -> list[Any]:
    labels = joined_labels(one.labels, table.label_separator)
    return [one.path, one.label, one.kind, one.probability, labels, one.content_hash]


def _print_label_suspects(found: "LabelSuspects", top: int) -> None:
    chosen = setting_text(found.params)
    click.echo(
        f"{count(found.n_images, 'image')} predicted by {found.head}{f', {chosen}' if chosen else ''}, in "
        f"{found.folds} folds: mAP {share(found.map)}, {count(len(found.suspects), 'suspect')}"
    )
    if found.n_unjudged:
        click.echo(
            f"{count(found.n_unjudged, 'image')} not predicted: all with one of their labels are in one fold"
        )
    click.echo()
    print_table(
        ("label", "n", "AP", "probably missing", "probably wrong"),
        [
            (
                one["label"],
                one["n"],
                "" if one["average_precision"] is None else share(one["average_precision"]),
                one["missing"],
                one["wrong"],
            )
            for one in found.classes
        ],
    )
    if not found.suspects:
        return
    click.echo()
    print_table(
        ("label", "probably", "p(label)", "image", "labels"),
        [
            (
                one.label,
                one.kind,
                share(one.probability),
                marked_path(one.path),
                ", ".join(one.labels) or "none",
            )
            for one in found.suspects[:top]
        ],
        left=5,
    )
    print_more(len(found.suspects) - top, "--top, --csv and --json list them")


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
    print_more(len(found.suspects) - top, "--top, --csv and --json list them")

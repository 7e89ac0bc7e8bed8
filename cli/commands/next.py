"""`featstore next`."""

from typing import TYPE_CHECKING, Any

import click

from featstore.messages import count

from ..csv_files import checked_csv_path, write_csv
from ..options.groups import command, option_group
from ..options.shared import head_name_option, result_options, seed_option
from ..options.table import table_options
from ..printing import bar, example, marked_path, print_json, print_more, print_table, share, with_existing

if TYPE_CHECKING:
    from featstore import FeatureStore, FeatureTable, NextImages

__all__ = ["next_"]

_LISTED = 50
_SCORES = {"margin": "margin", "entropy": "entropy", "diverse": "squared distance"}


@command(
    "next",
    epilog=example(
        "featstore extract digits/7 --backbone scattering --store unlabelled.fstore",
        "featstore next 5 unlabelled.fstore",
    ),
    short_help="Choose which unlabelled images to label next.",
)
@click.argument("n", metavar="N", type=click.IntRange(min=1))
@option_group(
    "Choice",
    click.option(
        "--by",
        type=click.Choice(["margin", "entropy", "diverse"]),
        help="Choose images whose two most probable classes are close (margin), whose probabilities are "
        "spread out (entropy), or that are unlike each other and the labelled ones (diverse).  "
        "[default: margin, or diverse while fewer than two classes are labelled]",
    ),
    head_name_option,
    seed_option,
)
@result_options(
    click.option(
        "--csv",
        "--output",
        "-o",
        "csv_file",
        metavar="FILE",
        type=click.Path(),
        help="Also write the list to a CSV file, with an empty label for you to fill in.",
    )
)
@table_options("Features to choose by", "Images, labelled and not")
def next_(
    n: int,
    store: "FeatureStore",
    table: "FeatureTable",
    csv_file: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Choose N images in STORE to label next, among those without a label.

    By margin or entropy, a classifier is fitted on the labelled images, and those that it is least sure of
    are chosen; of images with several labels those of which one label is nearest to its threshold. A diverse
    choice needs no labels. Copies of labelled images are not chosen.

    Fill in the column "label" of the CSV file, `featstore extract` it, and give both catalogs to the next
    `featstore next` and `featstore fit`. The chosen images are harder than others: score heads on images that
    were labelled at random.
    """
    import featstore

    csv_file = checked_csv_path(csv_file, store, table, force=force)
    with bar(None, quiet=quiet) as progress:
        found = featstore.next_to_label(table, n, progress=progress, **options)
    doubtful = ("doubtful",) if table.label_separator else ()
    columns = ("path", "label", "suggested", *doubtful, "probability", "score", "content_hash")
    rows = (["" if name == "label" else getattr(image, name) for name in columns] for image in found.images)
    write_csv(csv_file, columns, rows)
    if as_json:
        print_json(with_existing(found.to_dict(), "images"))
        return
    _print_next(found)


def _print_next(found: "NextImages") -> None:
    if not found.n_unlabelled:
        click.echo(f"nothing to choose from: {count(found.n_labelled, 'image')}, all with a label")
        return
    by = f"{found.by}, {found.head}" if found.head else found.by
    click.echo(
        f"{count(len(found.images), 'image')} of {found.n_unlabelled:,} without a label, by {by}; "
        f"{found.n_labelled:,} labelled"
    )
    click.echo()
    suggests = found.by != "diverse"
    doubts = any(image.doubtful for image in found.images)
    named = ("suggested", *(("doubtful",) if doubts else ()))
    print_table(
        ("image", *((*named, "probability") if suggests else ()), _SCORES[found.by]),
        [
            (
                marked_path(image.path),
                *(getattr(image, name) for name in named if suggests),
                *((share(image.probability or 0),) if suggests else ()),
                None if image.score is None else f"{image.score:.3g}",
            )
            for image in found.images[:_LISTED]
        ],
        left=1 + len(named) if suggests else 1,
    )
    print_more(len(found.images) - _LISTED, "-o and --json list them")

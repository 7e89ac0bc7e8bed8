"""`featstore similar` and `featstore centres`."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from featstore.messages import count, listed

from ..csv_files import checked_csv_path, write_csv
from ..finding import corrected, find_head, find_table, load_head, open_store
from ..options.groups import command, option_group
from ..options.shared import (
    csv_option,
    engine_option,
    import_option,
    result_options,
    trust_model_option,
    trust_option,
    weights_option,
)
from ..options.table import joined_table, new_table_options
from ..printing import (
    bar,
    echo,
    example,
    marked_path,
    note,
    print_json,
    print_table,
    short_path,
    with_existing,
)

if TYPE_CHECKING:
    from featstore import ClassCentre, FeatureStore, FeatureTable, SimilarImages

__all__ = ["centres", "similar"]

_SIMILAR_COLUMNS = ("path", "rank", "similar_path", "label", "similarity", "content_hash")
_CENTRE_COLUMNS = ("label", "rank", "path", "similarity", "content_hash")

_sheet_option = click.option(
    "--sheet",
    metavar="FILE",
    type=click.Path(),
    help="Also draw the images on a contact sheet (.png, .jpg or .webp).",
)


@command(
    epilog=example("featstore similar digits/7/0007.png --top 5 --store digits.fstore"),
    short_help="Find the stored images most like an image.",
)
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path())
@option_group(
    "Search",
    click.option(
        "--top",
        type=click.IntRange(min=1),
        default=10,
        help="Number of similar images for each IMAGE.",
    ),
)
@option_group("Backbone", weights_option, engine_option, trust_model_option, import_option)
@new_table_options("Features to compare", "Images to search", default="the only store here")
@result_options(_sheet_option, csv_option)
def similar(
    images: tuple[str, ...],
    store: str | None,
    space: tuple[str, ...],
    catalog: tuple[str, ...],
    top: int,
    sheet: str | None,
    csv_file: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Find the images of a store whose features are most like those of IMAGE, by cosine similarity.

    Every image is compared (the search is exact). IMAGE need not be in the store; copies of it are counted,
    but not listed. With several spaces, the similarity is the mean of their cosines.

    An IMAGE that cannot be decoded is reported on stderr, and the others continue; if all fail, the exit
    status is 1.
    """
    import featstore

    opened = open_store(store)
    table = corrected(joined_table(opened, space, catalog))
    csv_file = checked_csv_path(csv_file, opened, table, force=force)
    _check_sheet(sheet, [*images, *table.paths.tolist()], force=force)
    with bar(len(images), quiet=quiet) as progress:
        found = featstore.find_similar(table, images, top=top, progress=progress, **options)
    for one in found:
        if one.reason is not None:
            note(f"{one.path}: {one.reason}")
    if sheet is not None:
        rows = [(_title(one), _pictures(one)) for one in found if one.reason is None]
        _save_sheet(sheet, rows, force=force)
    write_csv(csv_file, _SIMILAR_COLUMNS, _similar_rows(found))
    if as_json:
        print_json([with_existing(one.to_dict(), "images") for one in found])
    else:
        _print_similar(found)
    if all(one.reason is not None for one in found):
        raise click.ClickException("none of the images could be compared")


def _title(one: "SimilarImages") -> str:
    return f"{short_path(one.path or '')}{f' ({len(one.copies):,} in the store)' if one.copies else ''}"


def _pictures(one: "SimilarImages") -> list[tuple[str, str]]:
    return [
        (one.path or "", "this image"),
        *((image.path, f"{image.similarity:.4f} {image.label}") for image in one.images),
    ]


def _similar_rows(found: "Sequence[SimilarImages]") -> Iterable[Sequence[object]]:
    for one in found:
        for rank, image in enumerate(one.images, 1):
            yield (one.path, rank, image.path, image.label, f"{image.similarity:.6f}", image.content_hash)


def _print_similar(found: "Sequence[SimilarImages]") -> None:
    usable = [one for one in found if one.reason is None]
    for number, one in enumerate(usable):
        if number:
            click.echo()
        if len(found) > 1 or one.copies:
            echo(_title(one))
        print_table(
            ("similarity", "label", "image"),
            [(f"{image.similarity:.4f}", image.label, marked_path(image.path)) for image in one.images],
            left=3,
        )


@command(
    epilog=example("featstore centres digits.fstore --top 2"),
    short_help="Show the most typical images of each class.",
)
@click.argument("source", metavar="HEAD|STORE")
@new_table_options("Features to compare", "Labelled images", default="HEAD's own, or the only store here")
@option_group(
    "Classes",
    click.option(
        "--top",
        type=click.IntRange(min=1),
        default=5,
        help="Number of images for each class.",
    ),
)
@option_group("Head", trust_option)
@result_options(_sheet_option, csv_option)
def centres(
    source: str,
    store: str | None,
    space: tuple[str, ...],
    catalog: tuple[str, ...],
    top: int,
    sheet: str | None,
    csv_file: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Show the most typical images of each class: those nearest to the mean of their class's features.

    For a STORE, the classes are the labels of a catalog. For a HEAD, they are its own, and the images are
    those of its catalogs, by the features that it takes.

    Similarity is the cosine with the class's mean. If the most typical images of a class do not look alike,
    it is really several classes, or badly labelled.
    """
    import featstore

    opened, table, classes = _of_source(source, store, space, catalog)
    csv_file = checked_csv_path(csv_file, opened, table, force=force)
    _check_sheet(sheet, table.paths.tolist(), force=force)
    with bar(None, quiet=quiet, unit="row") as progress:
        found = featstore.find_centres(table, top=top, classes=classes, progress=progress)
    if sheet is not None:
        rows = [
            (
                f"{one.label} ({count(one.n_images, 'image')})",
                [(image.path, f"{image.similarity:.4f}") for image in one.images],
            )
            for one in found
        ]
        _save_sheet(sheet, rows, force=force)
    write_csv(csv_file, _CENTRE_COLUMNS, _centre_rows(found))
    if as_json:
        print_json([with_existing(one.to_dict(), "images") for one in found])
        return
    print_table(
        ("class", "image", "images", "similarity"),
        [
            (
                one.label if not number else "",
                marked_path(image.path),
                one.n_images if not number else None,
                f"{image.similarity:.4f}",
            )
            for one in found
            for number, image in enumerate(one.images)
        ],
        left=2,
    )


def _of_source(
    source: str, store: str | None, space: tuple[str, ...], catalog: tuple[str, ...]
) -> "tuple[FeatureStore, FeatureTable, list[str] | None]":
    """Return the store, the table and the classes that HEAD|STORE names."""
    from featstore.io import is_store

    if source.endswith(".fstore") or is_store(source):
        if store is not None:
            raise click.UsageError(f"{short_path(source)} is a store itself; --store is for a HEAD")
        opened = open_store(source)
        return opened, corrected(joined_table(opened, space, catalog)), None
    if space:
        raise click.UsageError("a HEAD has its own spaces; --space is for a STORE")
    path, home = find_head(source, store)
    head = load_head(path)
    table, classes = find_table(head, home, catalog), head.classes.tolist()
    there = set(table.classes.tolist())
    if lacking := [label for label in classes if label not in there]:
        note(f"the catalog {table.catalog_name} has no images of {listed(lacking)}")
    return open_store(home), table, [label for label in classes if label in there]


def _centre_rows(found: "Sequence[ClassCentre]") -> Iterable[Sequence[object]]:
    for one in found:
        for rank, image in enumerate(one.images, 1):
            yield (one.label, rank, image.path, f"{image.similarity:.6f}", image.content_hash)


def _check_sheet(path: str | None, inputs: list[str], *, force: bool) -> None:
    """Refuse a file that cannot be written before the work, not after."""
    if path is not None:
        from featstore.images import check_sheet_path

        check_sheet_path(path, overwrite=force, inputs=inputs)


def _save_sheet(path: str, rows: Sequence[tuple[str, list[tuple[str, str]]]], *, force: bool) -> None:
    from featstore.images import contact_sheet, save_sheet

    save_sheet(contact_sheet(rows), path, overwrite=force)

"""Options on the lists and labels of a source of images."""

import click

__all__ = ["CORRECTIONS", "LABEL_OPTIONS", "LIST_OPTIONS", "PATH_OPTIONS", "SPLIT_LISTS"]

SPLIT_LISTS = (
    click.option(
        "--train-list",
        type=click.Path(),
        metavar="FILE",
        help="Text file of training images, one CLASS/IMAGE per line, relative to SOURCE, with or without "
        "file extension.",
    ),
    click.option(
        "--validation-list", type=click.Path(), metavar="FILE", help="Same as --train-list, for validation."
    ),
    click.option("--test-list", type=click.Path(), metavar="FILE", help="Same as --train-list, for test."),
)


PATH_OPTIONS = (
    click.option(
        "--path-column",
        metavar="NAME",
        help="Column of a list with the images' paths or ids.  [default: path, filename, image …]",
    ),
    click.option(
        "--image-root",
        type=click.Path(),
        metavar="FOLDER",
        help="Folder that a list's relative paths start from.  [default: the list's]",
    ),
    click.option("--suffix", help="Appended to a list's paths or ids that lack it, such as .jpg."),
)

LABEL_OPTIONS = (
    click.option(
        "--label-column",
        metavar="NAME",
        help="Column of a list, or of a folder's metadata.csv, with the labels.  [default: label, class …]",
    ),
    click.option(
        "--label-columns",
        metavar="NAME,...",
        default="",
        show_default=False,
        callback=lambda _ctx, _param, value: tuple(name for name in value.split(",") if name.strip()),
        help="Columns of a list that hold 0 or 1, one for each label: images may have several labels.",
    ),
    click.option(
        "--label-separator",
        metavar="TEXT",
        help="Images may have several labels: in one cell with this between them, such as '|', or as copies "
        "or links of one image in several class folders.",
    ),
    click.option(
        "--target",
        metavar="COLUMN",
        help="Column of a list, or of a folder's metadata.csv, with a number for each image, such as an age, "
        "that heads are to predict in place of labels.",
    ),
)

_WEIGHTS = click.option(
    "--weight-column",
    metavar="NAME",
    help="Column of a list, or of a folder's metadata.csv, with how much each image counts in a fit.",
)

LIST_OPTIONS = (*PATH_OPTIONS, *LABEL_OPTIONS, _WEIGHTS)

CORRECTIONS = click.option(
    "--corrections",
    metavar="FILE",
    type=click.Path(),
    help="Correct labels by this file, which `featstore review` has written, and leave out what it excludes.",
)

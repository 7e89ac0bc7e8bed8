"""`featstore extract` and `featstore backbones`."""

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from .backbone_options import backbone_options
from .option_groups import DATA, command, option_group
from .options import engine_option, json_option, quiet_option
from .printing import (
    bar,
    count,
    echo,
    example,
    left_out,
    listed,
    note,
    print_json,
    print_more,
    print_table,
    short_path,
)
from .view_options import recipe_options

if TYPE_CHECKING:
    from featstore import ExtractionReport

__all__ = ["backbones", "extract"]

_LISTED_FAILURES = 20


class _Devices(click.ParamType[list[str]]):
    """``gpu:0,gpu:1``."""

    name = "NAME,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        return value if isinstance(value, list) else str(value).split(",")


@command(
    epilog=example("featstore extract digits --backbone scattering --store digits.fstore"),
    short_help="Compute and store the features (embeddings) of images.",
)
@click.argument("sources", type=click.Path(), nargs=-1, required=True, metavar="SOURCE")
@option_group(
    DATA,
    click.option(
        "--store",
        type=click.Path(),
        help="Store to write the features to.  [default: NAME.fstore after SOURCE]",
    ),
    click.option(
        "--catalog",
        metavar="NAME",
        help="Name of this source's catalog in the store.  [default: after SOURCE]",
    ),
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
    click.option("--strict", is_flag=True, help="Stop at the first image that cannot be decoded."),
    click.option(
        "--rehash", is_flag=True, help="Read every file again, including those unchanged since the last run."
    ),
)
@backbone_options(
    weights="Weights file (.h5, .weights.h5, .keras).  [default: ImageNet's, downloaded by Keras]"
)
@recipe_options(
    click.option(
        "--views",
        "n_views",
        type=click.IntRange(1, 2**16),
        default=1,
        show_default=True,
        help="Number of views of each image: the image itself, and others drawn as the next options define.",
    )
)
@option_group(
    "Speed",
    engine_option,
    click.option(
        "--devices",
        type=_Devices(),
        help="Devices that Keras runs the network on, such as gpu:0,gpu:1.  [default: all GPUs]",
    ),
    click.option(
        "--workers", type=click.IntRange(min=1), help="Number of decoding threads.  [default: one per core]"
    ),
)
@quiet_option
@json_option
def extract(sources: tuple[str, ...], quiet: bool, as_json: bool, **options: Any) -> None:
    """Run every image of SOURCE through a frozen, pretrained network and store its features (embeddings).

    SOURCE is a folder with one subfolder of images per class, a folder of unlabelled images, a CSV file with
    the column path and, optionally, label, group and split, or TFRecord shards: a folder of them, or the
    shards themselves. A SOURCE with folders train and validation (or val, valid, dev) or test, and no others,
    is read as pre-split if train holds class folders; so are shards named train-... and validation-....

    Splits given by lists, folders or the CSV are stored for `featstore fit` and replace those of the previous
    run: without the lists, they are forgotten. Images in no list are split by the rule of fit; its --test 0
    keeps them out of the test set.

    Images and classes that disappeared since the last run are listed. A folder or CSV that was moved keeps
    its catalog, which is recognised by the images' content.

    Features that the store already has are not computed again: run the same command after adding images, or
    to resume after Ctrl-C.

    With --views 8 and at least one of --flip, --random-crop, --random-scale and --random-brightness, eight
    views of each image are stored: the image itself and seven reproducible variations. More can be added
    later. `featstore views` shows what they look like.
    """
    import featstore
    from featstore.flow import ExtractionInterrupted

    try:
        with bar(None, quiet=quiet) as progress:
            source = sources[0] if len(sources) == 1 else _shards(sources)
            report = featstore.extract(source, progress=progress, **options)
    except ExtractionInterrupted as interruption:
        _print_report(interruption.report, as_json=as_json)
        note("interrupted: the features computed so far are stored; run the same command to resume")
        ctx = click.get_current_context()
        ctx.exit(ctx.obj.status or 130)
    _print_report(report, as_json=as_json)


def _shards(sources: tuple[str, ...]) -> list[str]:
    """Return several sources, which must be shards: the shell has expanded a pattern."""
    for source in sources:
        if os.path.isdir(source) or source.lower().endswith((".csv", ".tsv")):
            raise click.UsageError(
                f"found {len(sources)} sources; extract each with a command of its own into the same --store"
            )
    return list(sources)


def _print_report(report: "ExtractionReport", *, as_json: bool) -> None:
    if as_json:
        print_json(report.to_dict())
        return
    settled = report.extracted + report.reused
    several = report.views > 1
    passed = f" ({count(report.extracted_views, 'view')})" if several else ""
    rate = (
        f", {report.extracted_views / report.seconds:,.0f} views/s"
        if report.extracted_views and several
        else ""
    )
    click.echo(
        f"{settled + report.failed:,} of {count(report.images, 'image')} in {report.seconds:.1f} s: "
        f"{report.extracted:,} extracted{passed}, {report.reused:,} reused, {report.failed:,} failed "
        f"({report.images_per_second:,.0f} images/s{rate})"
    )
    echo(f"store    {short_path(report.store)}")
    click.echo(f"space    {report.space}")
    click.echo(f"catalog  {report.catalog}")
    _print_changes(report)
    _print_given(report.given_splits)
    for line in left_out(report.ignored_endings, report.skipped):
        echo(line)
    if report.empty_classes:
        empty = report.empty_classes
        echo(f"no usable image in {_classes(len(empty))}: {listed(empty)}")
    if report.unlabelled:
        click.echo(f"{count(report.unlabelled, 'image')} without a label among labelled ones")
    if report.failures:
        click.echo(f"{count(report.failed, 'image')} without features:")
        print_table(("image", "reason"), report.failures[:_LISTED_FAILURES], left=2, indent="  ")
        where = "`featstore info` counts them, --json lists them"
        print_more(len(report.failures) - _LISTED_FAILURES, where, indent="  ")


def _print_changes(report: "ExtractionReport") -> None:
    """Print what disappeared from the source since the last run."""
    if report.moved_from is not None:
        echo(f"moved    from {short_path(report.moved_from)}")
    if report.emptied_classes:
        classes = [f"{label} ({images:,} before)" for label, images in report.emptied_classes.items()]
        echo(f"emptied  {_classes(len(classes))}: {listed(classes, most=5)}")
    if report.gone:
        echo(f"gone     {count(len(report.gone), 'image')} since the last run: {listed(report.gone, most=5)}")


def _classes(number: int) -> str:
    return f"{number:,} class" if number == 1 else f"{number:,} classes"


def _print_given(given: dict[str, int]) -> None:
    parts = [f"{number:,} {split}" for split, number in given.items() if number and split != "rule"]
    if parts:
        rest = f"; {count(given['rule'], 'image')} split by the rule of fit" if given["rule"] else ""
        click.echo(f"splits   given: {', '.join(parts)}{rest}")


@click.command(
    epilog=example("featstore backbones"), short_help="List the available pretrained networks (backbones)."
)
@json_option
def backbones(as_json: bool) -> None:
    """List the pretrained networks that `featstore extract --backbone` accepts.

    The feature size is that of the last layer after average pooling.
    """
    import featstore

    known = featstore.known_backbones()
    if as_json:
        print_json([{**asdict(backbone), "size_px": list(backbone.size_px)} for backbone in known])
        return
    rows = [
        (
            backbone.name,
            "x".join(str(side) for side in backbone.size_px),
            backbone.feature_dim,
            backbone.parameters,
            backbone.preprocessing,
        )
        for backbone in known
    ]
    print_table(("backbone", "input px", "features", "parameters", "pixel scaling"), rows)

"""`featstore extract` and `featstore backbones`."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from .console import (
    bar,
    count,
    engine_option,
    example,
    import_option,
    json_option,
    left_out,
    listed,
    note,
    print_json,
    print_table,
    quiet_option,
    say,
    short_path,
    trust_model_option,
)
from .viewing import ImageSize, recipe_options, recipe_told, resize_option

if TYPE_CHECKING:
    from featstore import ExtractionReport

__all__ = ["backbones", "extract"]

_LISTED_FAILURES = 20
_NAMED_GONE = 5


class _Devices(click.ParamType[list[str]]):
    """``gpu:0,gpu:1``."""

    name = "NAME,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        return value if isinstance(value, list) else str(value).split(",")


@click.command(
    epilog=example("featstore extract digits --backbone scattering --store digits.fstore"),
    short_help="Push images through a backbone and keep the features.",
)
@click.argument("source", type=click.Path())
@click.option(
    "--store", type=click.Path(), help="Where to keep the features.  [default: NAME.fstore after SOURCE]"
)
@click.option(
    "--backbone",
    default="mobilenet_v2",
    show_default=True,
    metavar="NAME|FILE",
    help="A network that `featstore backbones` lists, or a Keras model of your own (.keras, or a whole .h5).",
)
@click.option(
    "--weights",
    type=click.Path(),
    help="Weights file (.h5, .weights.h5, .keras).  [default: ImageNet's, downloaded by Keras]",
)
@click.option(
    "--layer",
    help="Cut the network at this layer; inside a nested network, at NETWORK/LAYER.  [default: the last "
    "before the classifier]",
)
@click.option(
    "--pooling",
    type=click.Choice(["avg", "max", "none"]),
    default="avg",
    show_default=True,
    help="How the layer's height and width are pooled; none flattens them.",
)
@click.option(
    "--image-size", type=ImageSize(), help="Input side, or HEIGHTxWIDTH.  [default: the network's own]"
)
@resize_option
@click.option(
    "--preprocess",
    type=click.Choice(["tf", "torch", "caffe", "unit", "none"]),
    help="Pixel scaling that a model of your own expects, in Keras' words.",
)
@trust_model_option
@import_option
@click.option("--alpha", type=float, help="Width multiplier of the MobileNets.")
@click.option(
    "--views",
    type=click.IntRange(1, 2**16),
    default=1,
    show_default=True,
    help="How many views of each image: itself, and others drawn as the next options say.",
)
@recipe_options
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Stored as.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Arithmetic of the forward pass.",
)
@engine_option
@click.option(
    "--devices",
    type=_Devices(),
    help="Where Keras runs the network, such as gpu:0,gpu:1.  [default: on all GPUs]",
)
@click.option(
    "--train-list",
    type=click.Path(),
    metavar="FILE",
    help="Text file that names training images, one CLASS/IMAGE a line, as seen from SOURCE, with or without "
    "extension.",
)
@click.option("--validation-list", type=click.Path(), metavar="FILE", help="The same for validation images.")
@click.option("--test-list", type=click.Path(), metavar="FILE", help="The same for test images.")
@click.option("--catalog", metavar="NAME", help="Name of this source in the store.  [default: after SOURCE]")
@click.option("--strict", is_flag=True, help="Stop at the first image that cannot be decoded.")
@click.option(
    "--rehash", is_flag=True, help="Read every file again, also those that are unchanged since the last time."
)
@click.option("--workers", type=click.IntRange(min=1), help="Decoding threads.  [default: one a core]")
@quiet_option
@json_option
@click.pass_context
def extract(
    ctx: click.Context,
    /,
    source: str,
    preprocess: str | None,
    views: int,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Push every image of SOURCE through a frozen network, once, and keep the features.

    SOURCE is a folder with one folder of images per class, a folder of images without labels, or a CSV with
    the columns path and, optionally, label, group and split. If all folders in SOURCE are called train,
    validation (or val, valid, dev) or test, train and another are there, and train holds class folders, then
    they are splits.

    Splits that this call gives, by lists, folders or the CSV, are kept for `featstore fit` in place of those
    of the call before: without the lists, they are forgotten. Images in no list are left to the rule of fit;
    its --test 0 keeps them out of the test images.

    Images and classes that are gone since the last run are named. A folder or CSV that was moved keeps its
    catalog, which is recognised by the images' content.

    What the store has already is not computed again: run the same command after adding images, or after
    Ctrl-C, and it goes on from there.

    With --views 8 and at least one of --flip, --random-crop, --random-scale and --random-brightness, eight
    views of each image are kept: the image itself and seven others, always the same ones. More can be added
    later. `featstore views` shows what they look like.
    """
    import featstore
    from featstore.flow.extraction import ExtractionInterrupted

    recipe = recipe_told(options)
    try:
        with bar(None, quiet=quiet) as progress:
            report = featstore.extract(
                source, n_views=views, views=recipe, preprocessing=preprocess, progress=progress, **options
            )
    except ExtractionInterrupted as interruption:
        _print_report(interruption.report, as_json=as_json)
        note("interrupted: what was done is sealed; the same command goes on from there")
        ctx.exit(ctx.obj.status or 130)
    _print_report(report, as_json=as_json)


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
    say(f"store    {short_path(report.store)}")
    click.echo(f"space    {report.space}")
    click.echo(f"catalog  {report.catalog}")
    _print_changes(report)
    _print_given(report.given_splits)
    for line in left_out(report.ignored_endings, report.skipped):
        say(line)
    if report.empty_classes:
        folders = f"{len(report.empty_classes):,} class{'es' * (len(report.empty_classes) > 1)}"
        say(f"no usable image in {folders}: {listed(report.empty_classes)}")
    if report.unlabelled:
        click.echo(f"{count(report.unlabelled, 'image')} without a label beside the others")
    if report.failures:
        click.echo(f"{count(report.failed, 'image')} without features:")
        print_table(("image", "reason"), report.failures[:_LISTED_FAILURES], left=2, indent="  ")
        if (more := len(report.failures) - _LISTED_FAILURES) > 0:
            click.echo(f"  and {more:,} more: `featstore info` counts them, --json lists them")


def _print_changes(report: "ExtractionReport") -> None:
    """Print what the catalog had and the source has no more."""
    if report.moved_from is not None:
        say(f"moved    from {short_path(report.moved_from)}")
    if report.emptied_classes:
        classes = [f"{label} ({images:,} before)" for label, images in report.emptied_classes.items()]
        say(f"emptied  {len(classes):,} {'class' if len(classes) == 1 else 'classes'}: {_first(classes)}")
    if report.gone:
        say(f"gone     {count(len(report.gone), 'image')} since the last run: {_first(report.gone)}")


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_GONE:,} more" if len(names) > _NAMED_GONE else ""
    return ", ".join(names[:_NAMED_GONE]) + more


def _print_given(given: dict[str, int]) -> None:
    told = [f"{number:,} {split}" for split, number in given.items() if number and split != "rule"]
    if told:
        rest = f"; {count(given['rule'], 'image')} left to the rule of fit" if given["rule"] else ""
        click.echo(f"splits   given: {', '.join(told)}{rest}")


@click.command(epilog=example("featstore backbones"), short_help="List the networks that extract knows.")
@json_option
def backbones(as_json: bool) -> None:
    """List the networks that `featstore extract --backbone` knows.

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

"""`featstore extract` and `featstore collect`."""

import os
import shlex
from typing import TYPE_CHECKING, Any

import click

from featstore.messages import count, listed

from ..options.backbone import backbone_options
from ..options.groups import DATA, command, option_group
from ..options.ray import on_ray, ray_option
from ..options.shared import engine_option, json_option, quiet_option, single_name_option
from ..options.source import CORRECTIONS, LIST_OPTIONS, SPLIT_LISTS
from ..options.view import recipe_options
from ..printing import (
    bar,
    corrections_text,
    echo,
    example,
    left_out,
    note,
    print_json,
    print_more,
    print_table,
    rate_text,
    short_path,
)

if TYPE_CHECKING:
    from featstore import ExtractionReport

__all__ = ["collect", "extract", "one_source"]

_LISTED_FAILURES = 20


class _Shard(click.ParamType[tuple[int, int]]):
    """``3/16``."""

    name = "K/N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        number, _, n_shards = str(value).partition("/")
        if not (number.isdecimal() and n_shards.isdecimal() and 1 <= int(number) <= int(n_shards)):
            self.fail(
                f"{value!r} is not a shard such as 3/16: the third of sixteen, from 1/16 on", param, ctx
            )
        return int(number), int(n_shards)


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
    single_name_option("--catalog", "Name of this source's catalog in the store.  [default: after SOURCE]"),
    *SPLIT_LISTS,
    CORRECTIONS,
    click.option(
        "--shard",
        type=_Shard(),
        help="Extract the K-th of N parts of SOURCE, from 1 to N, and leave its catalog to `featstore "
        "collect`.",
    ),
    click.option("--strict", is_flag=True, help="Stop at the first image that cannot be decoded."),
    click.option(
        "--rehash", is_flag=True, help="Read every file again, including those unchanged since the last run."
    ),
)
@option_group("Lists", *LIST_OPTIONS)
@backbone_options(
    weights="Weights file (.h5, .weights.h5, .keras).  [default: ImageNet's, downloaded by Keras]",
    several=True,
)
@recipe_options(
    click.option(
        "--views",
        "n_views",
        type=click.IntRange(1, 2**16),
        default=1,
        help="Number of views of each image: the image itself, and random ones by the next options.",
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
        "--workers", type=click.IntRange(min=1), help="Number of decoding threads.  [default: --threads]"
    ),
    click.option(
        "--threads",
        type=click.IntRange(min=1),
        help="Number of CPU threads of the forward pass and of decoding; with --ray, of each task.  "
        "[default: one per core; with --ray, one]",
    ),
    ray_option("Extract"),
)
@quiet_option
@json_option
def extract(sources: tuple[str, ...], quiet: bool, as_json: bool, ray: str | None, **options: Any) -> None:
    """Run every image of SOURCE through a frozen, pretrained network and store its features (embeddings).

    SOURCE is a folder with one subfolder of images per class, a folder of unlabelled images, a CSV file with
    the column path and, optionally, label, group and split, or files that hold many images: .zip and .tar
    archives, WebDataset, TFRecord and Parquet shards, a folder of them or the shards themselves. A SOURCE
    with folders train and validation (or val, valid, dev) or test, and no others, is read as pre-split if
    train holds class folders; so are shards named train-... and validation-....

    Images may be in an object store: SOURCE is then a prefix, such as s3://bucket/folder, gs:// or az://, or
    a CSV file whose paths are URLs. Credentials come from the environment.

    Kaggle's lists need --path-column id --suffix .jpg --image-root train. A metadata.csv or metadata.jsonl in
    a folder (column file_name) gives the labels of its images. A .json file is read as COCO annotations;
    images with several categories are listed as failures, except with --label-separator.

    Splits given by lists, folders or the CSV are stored for `featstore fit` and replace those of the previous
    run: without the lists, they are forgotten, and so are --corrections. Images in no list are split by the
    rule of fit; its --test 0 keeps them out of the test set.

    Images and classes that disappeared since the last run are listed. A folder or CSV that was moved keeps
    its catalog, which is recognised by the images' content.

    Features that the store already has are not computed again: run the same command after adding images, or
    to resume after Ctrl-C.

    With several --layer, or --features rich, one pass of the network gives the features of all layers, each
    in its own space; with several --image-size each file is read once. `featstore fit --space A --space B`
    joins spaces, which helps the head rbf most.

    With --views 8 and at least one of --flip, --random-crop, --random-scale and --random-brightness, eight
    views of each image are stored: the image itself and seven reproducible variations. More can be added
    later. `featstore views` shows what they look like.

    With --shard, several machines extract parts of SOURCE into one STORE. An image's part depends only on its
    path. Running a part again computes only what is missing. With --ray, tasks on a cluster do this; its
    nodes must see SOURCE and STORE under the same paths.
    """
    import featstore
    from featstore.backbones import read_preprocessor
    from featstore.flow import ExtractionInterrupted

    if (stated := read_preprocessor(options["backbone"])) is not None:
        note(f"{short_path(stated.file)}: {stated}; options take precedence")
    try:
        with bar(None, quiet=quiet) as progress:
            source = one_source(sources)
            with on_ray(ray) as on:
                report = featstore.extract(source, progress=progress, ray=on, **_once_or_listed(options))
    except ExtractionInterrupted as interruption:
        _print_report(interruption.report, as_json=as_json, target=options["target"])
        note("interrupted: the features computed so far are stored; run the same command to resume")
        ctx = click.get_current_context()
        ctx.exit(ctx.obj.status or 130)
    _print_report(report, as_json=as_json, target=options["target"])


@command(
    epilog=example(
        "featstore extract digits --backbone scattering --store digits.fstore --shard 1/1",
        "featstore collect digits.fstore digits",
    ),
    short_help="Write the catalog of a source that was extracted in shards.",
)
@click.argument("store", type=click.Path())
@click.argument("sources", type=click.Path(), nargs=-1, required=True, metavar="SOURCE")
@option_group(
    DATA,
    single_name_option("--space", "One of the spaces of the shards; by default all."),
    single_name_option("--catalog", "Name of the catalog, as given to the shards."),
    *SPLIT_LISTS,
    CORRECTIONS,
)
@option_group("Lists", *LIST_OPTIONS)
@json_option
def collect(store: str, sources: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Write the catalog of SOURCE, whose features `featstore extract --shard` has written to STORE.

    Give the SOURCE and the options that the shards were extracted with. No image is read: each shard has left
    a report of its images in STORE. Small segments are merged. The exit status is 1 if shards are missing;
    run them again, then collect again.
    """
    import featstore

    report = featstore.collect(store, one_source(sources), **options)
    _print_report(report, as_json=as_json, target=options["target"])
    if report.lacking:
        note(_advice(report))
        click.get_current_context().exit(1)


def _advice(report: "ExtractionReport") -> str:
    n_images, shards = sum(report.lacking.values()), [*report.lacking]
    return (
        f"lacking: {count(n_images, 'image')} of {count(len(shards), 'shard')} ({listed(shards)}); run "
        f"`featstore extract --shard {shards[0]}` again, and so on, and collect again"
    )


def one_source(sources: tuple[str, ...]) -> str | list[str]:
    """Return the source, or several, which must be shards: the shell has expanded a pattern."""
    from featstore.io import is_url

    if len(sources) == 1:
        return sources[0]
    for source in sources:
        is_list = source.lower().endswith((".csv", ".tsv", ".jsonl", ".json"))
        if is_list or is_url(source) or os.path.isdir(source):
            raise click.UsageError(
                f"found {len(sources)} sources; extract each with a separate command into the same --store"
            )
    return list(sources)


def _print_report(report: "ExtractionReport", *, as_json: bool, target: str | None) -> None:
    if as_json:
        print_json(report.to_dict())
        return
    settled = report.extracted + report.reused
    several = report.views > 1
    passed = f" ({count(report.extracted_views, 'view')})" if several else ""
    rate = rate_text(report.images_per_second, "images")
    if report.extracted_views and several:
        rate += f", {rate_text(report.extracted_views / report.seconds, 'views')}"
    click.echo(
        f"{settled + report.failed:,} of {count(report.images, 'image')} in {report.seconds:.1f} s: "
        f"{report.extracted:,} extracted{passed}, {report.reused:,} reused, {report.failed:,} failed "
        f"({rate})"
    )
    echo(f"store    {short_path(report.store)}")
    spaces = report.space.split("+")
    for space in spaces:
        click.echo(f"space    {space}")
    click.echo(f"catalog  {report.catalog}")
    for node, images_per_second in report.nodes.items():
        echo(f"node     {node}: {rate_text(images_per_second, 'images')}")
    _print_changes(report)
    if report.corrections:
        echo(f"labels   {corrections_text(report.corrections)}")
    _print_given(report.given_splits)
    for line in left_out(report.ignored_endings, report.skipped):
        echo(line)
    if report.empty_classes:
        empty = report.empty_classes
        echo(f"no usable image in {_classes(len(empty))}: {listed(empty)}")
    if report.unlabelled:
        what = "a number among those with one" if target else "a label among labelled ones"
        click.echo(f"{count(report.unlabelled, 'image')} without {what}")
    if report.failures:
        click.echo(f"{count(report.failed, 'image')} without features:")
        print_table(("image", "reason"), report.failures[:_LISTED_FAILURES], left=2, indent="  ")
        where = "`featstore info` counts them, --json lists them"
        print_more(len(report.failures) - _LISTED_FAILURES, where, indent="  ")
    if len(spaces) > 1:
        chosen = " ".join(f"--space {space}" for space in spaces)
        echo(f"join them: `featstore fit {shlex.quote(short_path(report.store))} {chosen} --head rbf`")


def _once_or_listed(options: dict[str, Any]) -> dict[str, Any]:
    """Return options with those that may be repeated as None, the one value or a list."""
    several = {name: [*options[name]] for name in ("layer", "image_size")}
    return {
        **options,
        **{name: given if given[1:] else next(iter(given), None) for name, given in several.items()},
    }


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

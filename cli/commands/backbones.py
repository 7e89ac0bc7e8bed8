"""`featstore backbones` and `featstore backbones suggest`."""

from dataclasses import asdict
from typing import Any

import click

from ..options.groups import command, option_group
from ..options.shared import force_option, json_option, quiet_option
from ..plotting import plot_option, save_plot
from ..printing import bar, echo, example, interval_text, note, print_json, print_table, share

__all__ = ["backbones"]


@click.group(
    epilog=example("featstore backbones", "featstore backbones suggest digits --backbone scattering"),
    short_help="List the available pretrained networks (backbones), or try some.",
    invoke_without_command=True,
)
@json_option
@click.pass_context
def backbones(ctx: click.Context, as_json: bool) -> None:
    """List the pretrained networks that `featstore extract --backbone` accepts.

    The feature size is that of the last layer after average pooling, the size in MB that of the weights in
    float32. Licences are those that Keras' documentation states for the ImageNet weights. Those that
    `featstore backbones suggest` has tried on this machine are shown with their time for an image.
    """
    if ctx.invoked_subcommand is not None:
        return
    import featstore

    known, speeds = featstore.known_backbones(), featstore.measured_speeds()
    if as_json:
        print_json(
            [
                {**asdict(one), "size_px": list(one.size_px), "ms_per_image": speeds.get(one.name)}
                for one in known
            ]
        )
        return
    rows = [
        (
            backbone.name,
            "x".join(str(side) for side in backbone.size_px),
            backbone.feature_dim,
            backbone.parameters,
            f"{4e-6 * backbone.parameters:,.1f}",
            backbone.preprocessing,
            backbone.licence or "-",
            *((_time(speeds.get(backbone.name)),) if speeds else ()),
        )
        for backbone in known
    ]
    header = ("backbone", "input px", "features", "parameters", "MB", "pixel scaling", "licence")
    print_table((*header, "ms/image") if speeds else header, rows)


def _time(ms_per_image: float | None) -> str:
    return "-" if ms_per_image is None else f"{ms_per_image:.1f}"


@backbones.command(
    cls=command.keywords["cls"],
    epilog=example("featstore backbones suggest digits --backbone scattering"),
    short_help="Try backbones on some of your images.",
)
@click.argument("source", type=click.Path())
@option_group(
    "Backbones",
    click.option(
        "--backbone",
        "names",
        multiple=True,
        metavar="NAME|FILE|NAME=WEIGHTS",
        help="Backbone to try; repeat for several.  [default: scattering, and those that Keras has fetched]",
    ),
    click.option(
        "--preprocess",
        type=click.Choice(["tf", "torch", "caffe", "unit", "none"]),
        help="Pixel scaling of files that do not state theirs.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["float32", "bfloat16"]),
        default="float32",
        help="Arithmetic of the forward pass.",
    ),
)
@option_group(
    "Trial",
    click.option(
        "--images", "n_images", type=click.IntRange(min=16), default=64, help="Number of images to try on."
    ),
    click.option("--head", default="logistic", metavar="NAME", help="Classifier, one of `featstore heads`."),
)
@option_group("Output", plot_option("accuracy against the time"), force_option)
@quiet_option
@json_option
def suggest(
    source: str,
    names: tuple[str, ...],
    plot: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Time backbones on some images of SOURCE, and evaluate a classifier on each in folds.

    The images are drawn by a hash, evenly from all classes. Nothing is downloaded and nothing is stored. An
    asterisk marks the backbones than which no faster one has a lower cross entropy. The accuracy of 64 images
    is uncertain by some 10 points: compare close ones on all your images, with `featstore compare`.
    """
    import featstore

    if plot is not None:
        from featstore.scoring import check_plot_path

        check_plot_path(plot, overwrite=force)
    with bar(None, quiet=quiet) as progress:
        found = featstore.suggest_backbones(source, names or None, progress=progress, **options)
    if plot is not None:
        save_plot(found, plot, force=force)
    for name, reason in found.failures.items():
        note(f"{name} was not tried: {reason}")
    if as_json:
        print_json(found.to_dict())
        return
    echo(f"{found.head} on {found.n_images} images of {found.n_classes} classes, in {found.folds} folds")
    best = {trial.backbone for trial in found.frontier}
    rows = [
        (
            f"{trial.label}{' *' if trial.backbone in best else ''}",
            trial.feature_dim,
            f"{trial.ms_per_image:.1f}",
            share(trial.top1),
            interval_text(trial.top1_ci),
            f"{trial.cross_entropy:.3f}",
        )
        for trial in found.trials
    ]
    print_table(("backbone", "features", "ms/image", "accuracy", "95% interval", "cross entropy"), rows)

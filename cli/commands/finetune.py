"""`featstore finetune`."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from featstore.messages import count

from ..finding import find_head, find_table, load_head, note_replaced, open_store
from ..options.backbone import ImageSize
from ..options.groups import DATA, command, option_group
from ..options.shared import (
    class_weight_option,
    corrections_option,
    engine_option,
    import_option,
    result_options,
    store_option,
    trust_model_option,
    trust_option,
)
from ..options.view import recipe_options
from ..printing import bar, echo, note, print_json, print_table, setting_text, share

if TYPE_CHECKING:
    from featstore.tuning import Tuned

__all__ = ["finetune"]

_OF_CUTS = ("image_size", "preprocess", "alpha")

# Of steps: below it, more epochs than the default gained more (benchmarks/README.md).
_FEW_STEPS = 200

# Of what is None where it is off: 0 turns it off.
_SWITCHED = ("clip_norm", "ema")

_TRAINING: Mapping[str, tuple[Any, str]] = {
    "epochs": (click.IntRange(min=1), "Passes over the training images.  [default: 3]"),
    "batch_size": (click.IntRange(min=1), "Images in a step.  [default: 32]"),
    "optimizer": (click.Choice(["sgd", "adam", "adamw", "rmsprop"]), "Optimizer, by Keras.  [default: sgd]"),
    "learning_rate": (
        float,
        "Learning rate at the start.  [default: 0.01 for sgd, 0.001 for rmsprop, 0.0001 for adam and adamw]",
    ),
    "momentum": (float, "Momentum of sgd and rmsprop.  [default: 0.9]"),
    "schedule": (
        click.Choice(["cosine", "exponential", "polynomial", "constant"]),
        "How the learning rate falls: half a cosine; a staircase; a straight line.  [default: cosine]",
    ),
    "decay": (float, "Factor of the exponential schedule.  [default: 0.94]"),
    "decay_epochs": (float, "Epochs between its steps.  [default: 2]"),
    "warmup": (float, "Epochs in which the learning rate rises from 0.  [default: 0]"),
    "weight_decay": (float, "Decoupled weight decay of the kernels.  [default: 0]"),
    "label_smoothing": (float, "Fraction of each target spread over all classes.  [default: 0]"),
    "dropout": (float, "Fraction of the features dropped in training.  [default: 0.2]"),
    "clip_norm": (float, "Maximum norm of the gradient; 0 does not clip.  [default: 1]"),
    "ema": (float, "Momentum of a moving average of the weights; 0 keeps none.  [default: 0]"),
    "head_rate": (float, "Factor of the head's learning rate.  [default: 1]"),
    "layer_decay": (float, "Factor of the learning rate from each layer to the one below.  [default: 1]"),
    "seed": (click.IntRange(0, 2**32 - 1), "Random seed.  [default: 0]"),
}


_TRAINING_OPTIONS = tuple(
    click.option(f"--{name.replace('_', '-')}", type=kind, help=text)
    for name, (kind, text) in _TRAINING.items()
)


def _refuse_precision(_ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    """Say why training is in float32, to those who know --precision from extract."""
    if value not in (None, "float32"):
        raise click.BadParameter(
            f"training computes in float32; {value} makes it no faster on a processor (see the page on "
            "fine-tuning). --maps float16 halves the stored maps"
        )


@command(
    epilog="\b\nExample, beside flowers.fstore, with a linear head on features of mobilenet_v2:\n"
    "  featstore fit flowers.fstore\n"
    "  featstore finetune logistic --views 4 --flip --random-crop 10",
    short_help="Fine-tune the top of a head's network on stored activation maps.",
)
@click.argument("head", metavar="HEAD", required=False)
@option_group(
    DATA,
    store_option("Store of the features.", default="the head's, or the only store here"),
    click.option(
        "--catalog",
        metavar="NAME",
        multiple=True,
        help="Images to train on, by the name of their catalog; repeat for several.  [default: the head's]",
    ),
    corrections_option,
    trust_option,
)
@option_group(
    "Network",
    click.option(
        "--from-layer",
        metavar="NAME|auto|all",
        default="auto",
        help="Train what is above this layer; auto chooses one that leaves at most a tenth of the cost; all "
        "trains the whole network from pixels.",
    ),
    click.option(
        "--maps",
        "maps_dtype",
        type=click.Choice(["float16", "float32"]),
        default="float16",
        help="Data type of the stored activation maps.",
    ),
    click.option("--weights", type=click.Path(), help="The network's weights file, if it has moved."),
    trust_model_option,
    import_option,
    engine_option,
    click.option(
        "--cuts",
        metavar="BACKBONE",
        help="List the layers that a network can be tuned from, and do nothing else.",
    ),
    click.option("--image-size", type=ImageSize(), help="Of --cuts: input size in pixels, or HEIGHTxWIDTH."),
    click.option(
        "--preprocess",
        type=click.Choice(["tf", "torch", "caffe", "unit", "none"]),
        help="Of --cuts: pixel scaling that your own model expects.",
    ),
    click.option("--alpha", type=float, help="Of --cuts: width multiplier of the MobileNets."),
)
@option_group(
    "Training",
    click.option(
        "--recipe",
        type=click.Choice(["inception", "food101"]),
        help="Take the training options of a published fine-tuning, except those that are given.",
    ),
    *_TRAINING_OPTIONS,
    class_weight_option,
    click.option(
        "--devices",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Devices (GPUs) that share each batch.",
    ),
    click.option(
        "--precision",
        hidden=True,
        expose_value=False,
        callback=_refuse_precision,
        help="Training computes in float32.",
    ),
)
@recipe_options(
    click.option(
        "--views",
        "n_views",
        type=click.IntRange(min=1),
        default=1,
        help="Number of views of each training image.",
    )
)
@result_options(
    click.option(
        "--output",
        "-o",
        metavar="NAME",
        help="Write NAME.weights.h5, NAME.report.json and .txt, and the head as NAME in the store.  "
        "[default: HEAD-tuned]",
    ),
    click.option(
        "--tensorboard", metavar="DIR", type=click.Path(), help="Also write curves for TensorBoard."
    ),
)
def finetune(
    head: str | None,
    store: str | None,
    catalog: tuple[str, ...],
    cuts: str | None,
    recipe: str | None,
    output: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train the top of a linear head's network, and the head, on the images of a store.

    The part below the cut runs once for each view, and its output (activation maps) is stored. After each
    epoch validation images are scored; the best epoch is kept, or the head as it was. NAME.weights.h5 is for
    `extract --weights`; the tuned features of the store's images are computed from the maps, so that
    evaluate, compare, predict and export work at once. Run the same command again to resume.
    """
    of_cuts = {name: options.pop(name) for name in _OF_CUTS}
    if (head is None) == (cuts is None):
        raise click.UsageError("give a HEAD to tune, or --cuts BACKBONE")
    if cuts is not None:
        own = {name: options[name] for name in ("weights", "trust_model", "imports")}
        _print_cuts(cuts, {**of_cuts, **own}, as_json=as_json)
        return
    if given := [f"--{name.replace('_', '-')}" for name, value in of_cuts.items() if value is not None]:
        raise click.UsageError(f"{', '.join(given)}: only with --cuts; the head's network has its own")
    import featstore
    from featstore.tuning import RECIPES, TuningInterrupted

    path, home = find_head(str(head), store)
    loaded = load_head(path)
    table = find_table(loaded, home, catalog)
    training = {name: value for name in _TRAINING if (value := options.pop(name)) is not None}
    training |= {name: training[name] or None for name in _SWITCHED if name in training}
    if recipe is not None:
        training = {**RECIPES[recipe], **training}
        note(f"recipe {recipe}: {setting_text(training)}")
    output = output or f"{os.path.basename(path).removesuffix('.head')}-tuned"
    note_replaced(open_store(home).head_path(os.path.basename(output)))
    try:
        with bar(None, quiet=quiet, unit="step") as progress:
            tuned = featstore.finetune(
                loaded,
                table,
                output=output,
                overwrite=force,
                progress=lambda _what, done, total: progress(done, total),
                **options,
                **training,
            )
    except TuningInterrupted as interruption:
        _print_report(interruption.tuned, as_json=as_json)
        note("interrupted: the best epoch so far is kept; run the same command to resume")
        ctx = click.get_current_context()
        ctx.exit(ctx.obj.status or 130)
    _print_report(tuned, as_json=as_json)
    if "epochs" not in training:
        _note_few_steps(tuned.report)


def _print_report(tuned: "Tuned", *, as_json: bool) -> None:
    from featstore.tuning import report_text

    if as_json:
        print_json(tuned.report)
        return
    for line in report_text(tuned.report).splitlines():
        echo(line)


def _note_few_steps(report: Mapping[str, Any]) -> None:
    """Print a note where the default number of epochs is few steps."""
    *_, last = report["epochs"]
    if (n_epochs := last["epoch"]) and not report["stopped"]:
        n_steps = n_epochs * (report["images"]["train"] // last["batch_size"])
        if n_steps < _FEW_STEPS:
            note(
                f"{n_epochs} epochs of {count(report['images']['train'], 'image')} are {n_steps} steps; with "
                "so few, more --epochs can gain more (see the page on fine-tuning)"
            )


def _print_cuts(backbone: str, options: dict[str, Any], *, as_json: bool) -> None:
    """Print where a network can be cut."""
    from featstore.errors import TuningError
    from featstore.tuning import choose_cut, network_cuts

    cuts = network_cuts(backbone, **options)
    try:
        auto = choose_cut(cuts, backbone).layer
    except TuningError:
        auto = None
    if as_json:
        print_json(
            {
                "backbone": backbone,
                "auto": auto,
                "cuts": [
                    {
                        "layer": cut.layer,
                        "shape": list(cut.shape),
                        "bytes_a_view": 2 * cut.size,
                        "share": cut.share,
                        "parameters": cut.parameters,
                    }
                    for cut in cuts
                ],
            }
        )
        return
    # Of layers in a row with outputs of one shape the last costs the least, and has nearly the same above.
    shown = [
        cut
        for cut, later in zip(cuts, [*cuts[1:], None], strict=True)
        if later is None or later.shape != cut.shape or cut.layer == auto
    ]
    print_table(
        ("layer", "output", "bytes a view", "cost above", "parameters above", ""),
        [
            (
                cut.layer,
                "x".join(map(str, cut.shape)),
                2 * cut.size,
                share(cut.share),
                cut.parameters,
                "auto" if cut.layer == auto else "",
            )
            for cut in shown
        ],
    )

"""The options that decide which features a backbone gives."""

from typing import Any

import click

from .option_groups import Decorator, option_group
from .options import import_option, trust_model_option

__all__ = ["ImageSize", "backbone_options", "resize_option"]


class ImageSize(click.ParamType[int | tuple[int, int]]):
    """``224`` or ``224x320`` (height x width)."""

    name = "PIXELS"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | tuple[int, int]:
        sides = str(value).lower().split("x")
        if not all(side.isdecimal() and int(side) > 0 for side in sides) or len(sides) > 2:
            self.fail(f"{value!r} is neither a number of pixels nor HEIGHTxWIDTH", param, ctx)
        return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


resize_option = click.option(
    "--resize",
    type=click.Choice(["stretch", "crop", "pad"]),
    default="stretch",
    show_default=True,
    help="How to fit images of another aspect ratio.",
)


def backbone_options(*, weights: str) -> Decorator:
    """Return the options of a backbone, given the help text of ``--weights``."""
    return option_group(
        "Backbone",
        click.option(
            "--backbone",
            default="mobilenet_v2",
            show_default=True,
            metavar="NAME|FILE",
            help="Pretrained network, one of `featstore backbones`, or your own Keras model (.keras, or a "
            "whole .h5).",
        ),
        click.option("--weights", type=click.Path(), help=weights),
        click.option(
            "--layer",
            help="Layer whose output becomes the features (embedding); in a nested network, NETWORK/LAYER.  "
            "[default: the last before the classifier]",
        ),
        click.option(
            "--pooling",
            type=click.Choice(["avg", "max", "none"]),
            default="avg",
            show_default=True,
            help="Pooling over the layer's height and width; none flattens them.",
        ),
        click.option(
            "--image-size",
            type=ImageSize(),
            help="Input size in pixels, or HEIGHTxWIDTH.  [default: the network's own]",
        ),
        resize_option,
        click.option(
            "--preprocess",
            "preprocessing",
            type=click.Choice(["tf", "torch", "caffe", "unit", "none"]),
            help="Pixel scaling that your own model expects, as Keras' preprocess_input names it.",
        ),
        trust_model_option,
        import_option,
        click.option("--alpha", type=float, help="Width multiplier of the MobileNets."),
        click.option(
            "--dtype",
            type=click.Choice(["float32", "float16"]),
            default="float32",
            show_default=True,
            help="Data type of the stored features.",
        ),
        click.option(
            "--precision",
            type=click.Choice(["float32", "bfloat16"]),
            default="float32",
            show_default=True,
            help="Arithmetic of the forward pass.",
        ),
    )

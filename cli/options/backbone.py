"""The options that decide which features a backbone gives."""

from typing import Any

import click

from .groups import Decorator, option_group
from .shared import import_option, trust_model_option

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
    help="How to fit images of another aspect ratio.  [default: stretch]",
)


interpolation_option = click.option(
    "--interpolation",
    type=click.Choice(["bilinear", "bicubic"]),
    help="Interpolation of the resize, which is always antialiased.  [default: bilinear]",
)
crop_fraction_option = click.option(
    "--crop-fraction",
    type=click.FloatRange(0, 1, min_open=True),
    help="Fraction of each side that a centre crop keeps, after stretch or crop: 0.875 resizes to 256 pixels "
    "and cuts out 224.  [default: 1]",
)


class _Channels(click.ParamType[tuple[float, ...]]):
    """``0.5``, or ``0.485,0.456,0.406``."""

    name = "R,G,B"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(float(number) for number in str(value).split(","))
        except ValueError:
            numbers = ()
        if len(numbers) not in (1, 3):
            self.fail(f"{value!r} is neither a number nor three: red,green,blue", param, ctx)
        return numbers


def backbone_options(*, weights: str, several: bool = False) -> Decorator:
    """Return the options of a backbone, given the help text of ``--weights``, or of several."""
    again = " Repeat for several spaces." if several else ""
    return option_group(
        "Backbone",
        click.option(
            "--backbone",
            default="mobilenet_v2",
            metavar="NAME|FILE",
            help="Pretrained network, one of `featstore backbones`; your own Keras model (.keras, or a whole "
            ".h5); keras_hub:PRESET or a preset's folder; or an ONNX, OpenVINO (.xml), TFLite, SavedModel or "
            "frozen .pb network.",
        ),
        click.option("--weights", type=click.Path(), help=weights),
        click.option(
            "--layer",
            *(("--output", "layer") if several else ()),
            multiple=several,
            help="Layer whose output becomes the features (embedding); in a nested network, NETWORK/LAYER; "
            f"of ONNX and the like, a tensor.{again}  [default: the last before the classifier]",
        ),
        *(
            [
                click.option(
                    "--features",
                    type=click.Choice(["last", "rich"]),
                    help="Predefined layers: the last one, or (rich) also the last one at twice its height "
                    "and width, in the same pass.",
                )
            ]
            if several
            else []
        ),
        click.option(
            "--pooling",
            type=click.Choice(["avg", "max", "cls", "tokens", "none"]),
            default="avg",
            help="Pooling over the layer's height and width; of a transformer's tokens, the first (cls) or "
            "the mean of all (tokens); none flattens either.",
        ),
        click.option(
            "--input",
            "input_name",
            metavar="TENSOR",
            help="Tensor of ONNX and the like that takes the pixels.  [default: the network's input]",
        ),
        click.option(
            "--layout",
            type=click.Choice(["nchw", "nhwc"]),
            help="Axis order of that tensor, if its shape does not show which axis has the channels.",
        ),
        click.option(
            "--image-size",
            type=ImageSize(),
            multiple=several,
            help=f"Input size in pixels, or HEIGHTxWIDTH.{again}  [default: the network's own]",
        ),
        resize_option,
        interpolation_option,
        crop_fraction_option,
        click.option(
            "--preprocess",
            "preprocessing",
            type=click.Choice(["tf", "torch", "caffe", "unit", "none"]),
            help="Pixel scaling that your own model expects, as Keras' preprocess_input names it.",
        ),
        click.option(
            "--mean",
            type=_Channels(),
            help="Mean to subtract from the scaled pixels, in place of --preprocess.",
        ),
        click.option("--std", type=_Channels(), help="Standard deviation to divide them by afterwards."),
        click.option(
            "--scale",
            type=click.FloatRange(min=0, min_open=True),
            help="Factor applied to the pixels before --mean and --std.  [default: 1/255]",
        ),
        trust_model_option,
        import_option,
        click.option("--alpha", type=float, help="Width multiplier of the MobileNets."),
        click.option(
            "--dtype",
            type=click.Choice(["float32", "float16"]),
            default="float32",
            help="Data type of the stored features.",
        ),
        click.option(
            "--precision",
            type=click.Choice(["float32", "bfloat16"]),
            default="float32",
            help="Numeric precision of the forward pass.",
        ),
    )

"""The options that say how views of an image are drawn."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from featstore import ViewRecipe

__all__ = ["recipe_options", "recipe_told"]

_OPTIONS = (
    click.option("--flip", is_flag=True, help="Mirror every second view."),
    click.option(
        "--random-crop",
        type=click.FloatRange(0, 1000),
        default=0.0,
        metavar="PERCENT",
        help="By how much the picture is larger than what a view shows of it.",
    ),
    click.option(
        "--random-scale",
        type=click.FloatRange(0, 1000),
        default=0.0,
        metavar="PERCENT",
        help="By how much, at most, a view enlarges it on top of that.",
    ),
    click.option(
        "--random-brightness",
        type=click.FloatRange(0, 100),
        default=0.0,
        metavar="PERCENT",
        help="By how much, at most, a view is brighter or darker.",
    ),
)
_NAMES = ("flip", "random_crop", "random_scale", "random_brightness")


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a view recipe, those of TensorFlow's ``retrain.py``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def recipe_told(options: dict[str, Any]) -> "ViewRecipe | None":
    """Take a view recipe out of a command's options; None where none of them says anything."""
    told = {name: options.pop(name) for name in _NAMES}
    if not any(told.values()):
        return None
    from featstore import ViewRecipe

    return ViewRecipe(**told)

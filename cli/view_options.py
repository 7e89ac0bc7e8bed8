"""Options for views (data augmentation): how to make them, and how many to train and predict with."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .printing import note

if TYPE_CHECKING:
    from featstore import FeatureTable, Head, ViewRecipe

__all__ = [
    "RECIPE_FIELDS",
    "note_unused_views",
    "recipe_options",
    "take_recipe",
    "view_options",
    "views_text",
]

RECIPE_FIELDS = ("flip", "random_crop", "random_scale", "random_brightness")

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Views(click.ParamType[dict[str, int]]):
    """``train=8,test=1``."""

    name = "train=N,test=N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, int]:
        views: dict[str, int] = {}
        for part in str(value).split(","):
            name, _, number = part.strip().partition("=")
            is_new = name in ("train", "test") and name not in views
            if not is_new or not number.isdecimal() or int(number) < 1:
                self.fail(
                    f"{value!r} is not of the form train=N,test=N, for example train=8,test=1", param, ctx
                )
            views[name] = int(number)
        return views


_OPTIONS = (
    click.option(
        "--views",
        type=_Views(),
        help="Number of views of each image to train on, and to average over in prediction.  "
        "[default: train=1,test=1]",
    ),
    click.option("--test-views", type=click.IntRange(min=1), metavar="N", help="Same as --views test=N."),
)


def view_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --views and --test-views; the command is called with ``views``, a dict or None."""

    @wraps(command)
    def with_views(*, views: dict[str, int] | None, test_views: int | None, **others: Any) -> None:
        if test_views is not None:
            views = views or {}
            if views.setdefault("test", test_views) != test_views:
                raise click.UsageError(
                    f"--views test={views['test']} and --test-views {test_views} contradict each other"
                )
        command(views=views, **others)

    decorated: Callable[..., None] = with_views
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def recipe_options(command: _Command) -> _Command:
    """Add the options of a view recipe, those of TensorFlow's ``retrain.py``."""
    for name, most, text in (
        ("--random-brightness", 100, "Maximum random change of brightness."),
        ("--random-scale", 1000, "Maximum random enlargement, on top of the crop."),
        ("--random-crop", 1000, "Margin for random crops: how much larger the image is than the crop."),
    ):
        kind = click.FloatRange(0, most)
        command = click.option(name, type=kind, default=0.0, metavar="PERCENT", help=text)(command)
    return click.option("--flip", is_flag=True, help="Mirror every second view.")(command)


def take_recipe(options: dict[str, Any]) -> "ViewRecipe | None":
    """Remove the recipe options from a command's options and return the recipe; None if all are off."""
    values = {name: options.pop(name) for name in RECIPE_FIELDS}
    if not any(values.values()):
        return None
    from featstore import ViewRecipe

    return ViewRecipe(**values)


def note_unused_views(table: "FeatureTable", views: Mapping[str, int] | None) -> None:
    """Print a note where the store has views and none were asked for."""
    if views is None and (n_views := table.n_views) > 1:
        note(
            f"the store has {n_views} views of each image, of which only the first, the image itself, is "
            f"used; --test-views {n_views} averages predictions over them, which is usually more accurate "
            f"and takes {n_views} forward passes for each new image"
        )


def views_text(head: "Head") -> str:
    """Return how many views a head is trained on and averages over; empty if both are one."""
    if head.train_views == head.test_views == 1:
        return ""
    trained = f"{head.train_views} views" if head.train_views > 1 else "one view"
    predicted = f"the mean over {head.test_views} views" if head.test_views > 1 else "one view"
    return f"trained on {trained} of each image, predicts by {predicted}"

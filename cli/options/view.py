"""Options for views (data augmentation): how to make them, and how many to train and predict with."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from ..printing import note
from .groups import Decorator, option_group

if TYPE_CHECKING:
    from featstore import FeatureTable, Head, MultiLabelHead

__all__ = ["RECIPE_FIELDS", "note_unused_views", "recipe_options", "view_options", "views_text"]

RECIPE_FIELDS = ("flip", "random_crop", "random_scale", "random_brightness")


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


def _build_views(views: dict[str, int] | None, test_views: int | None) -> dict[str, Any]:
    if test_views is not None:
        views = views or {}
        if views.setdefault("test", test_views) != test_views:
            raise click.UsageError(
                f"--views test={views['test']} and --test-views {test_views} contradict each other"
            )
    return {"views": views}


# The command is called with ``views``, a dict or None.
view_options = option_group(
    "Views (data augmentation)",
    click.option(
        "--views",
        type=_Views(),
        help="Number of views of each image to train on, and to average over in prediction.  "
        "[default: train=1,test=1]",
    ),
    click.option("--test-views", type=click.IntRange(min=1), metavar="N", help="Same as --views test=N."),
    build=_build_views,
)


def _build_recipe(
    flip: bool, random_crop: float, random_scale: float, random_brightness: float
) -> dict[str, Any]:
    if not (flip or random_crop or random_scale or random_brightness):
        return {"views": None}
    from featstore import ViewRecipe

    recipe = ViewRecipe(
        flip=flip, random_crop=random_crop, random_scale=random_scale, random_brightness=random_brightness
    )
    return {"views": recipe}


def _percent(name: str, most: float, text: str) -> Decorator:
    return click.option(
        name, type=click.FloatRange(0, most), default=0.0, show_default=False, metavar="PERCENT", help=text
    )


def recipe_options(*more: Decorator) -> Decorator:
    """Return the options of TensorFlow's ``retrain.py`` for views, as ``views``: a ViewRecipe or None."""
    return option_group(
        "Views (data augmentation)",
        *more,
        click.option("--flip", is_flag=True, help="Mirror every second view."),
        _percent(
            "--random-crop", 1000, "Margin for random crops: how much larger the image is than the crop."
        ),
        _percent("--random-scale", 1000, "Maximum random enlargement, on top of the crop."),
        _percent("--random-brightness", 100, "Maximum random change of brightness."),
        build=_build_recipe,
    )


def note_unused_views(table: "FeatureTable", views: Mapping[str, int] | None) -> None:
    """Print a note where the store has views and none were asked for."""
    if views is None and (n_views := table.n_views) > 1:
        note(
            f"the store has {n_views} views of each image, of which only the first, the image itself, is "
            f"used; --test-views {n_views} averages predictions over them, which is usually more accurate "
            f"and takes {n_views} forward passes for each new image"
        )


def views_text(head: "Head | MultiLabelHead") -> str:
    """Return how many views a head is trained on and averages over; empty if both are one."""
    if head.train_views == head.test_views == 1:
        return ""
    trained = f"{head.train_views} views" if head.train_views > 1 else "one view"
    predicted = f"averaged over {head.test_views} views" if head.test_views > 1 else "from one view"
    return f"trained on {trained} of each image; predictions are {predicted}"

"""The options that say on how many views of each image heads are trained and judged."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from .console import note

if TYPE_CHECKING:
    from featstore import FeatureTable, Head

__all__ = ["note_unused_views", "told_views", "view_options"]


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
        help="Views of each image to train on, and to average over where images are judged.  "
        "[default: train=1,test=1]",
    ),
    click.option("--test-views", type=click.IntRange(min=1), metavar="N", help="The same as --views test=N."),
)


def view_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of views; it is called with ``views``, a dict, or None for the default."""

    @wraps(command)
    def with_views(*, views: dict[str, int] | None, test_views: int | None, **others: Any) -> None:
        if test_views is not None:
            views = views or {}
            if views.setdefault("test", test_views) != test_views:
                raise click.UsageError(
                    f"--views says test={views['test']} and --test-views {test_views}: give one of them"
                )
        command(views=views, **others)

    decorated: Callable[..., None] = with_views
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def note_unused_views(table: "FeatureTable", views: Mapping[str, int] | None) -> None:
    """Say on stderr that there are views, where none were asked for."""
    if views is None and (n_views := table.n_views) > 1:
        note(
            f"there are {n_views} views of each image, and only the image itself is used; --test-views "
            f"{n_views} judges images by the mean over them, which is mostly more accurate, and takes "
            f"{n_views} passes of the network for each new image"
        )


def told_views(head: "Head") -> str:
    """Say on how many views a head was trained, and over how many it averages; nothing where it is one."""
    if head.train_views == head.test_views == 1:
        return ""
    trained = f"{head.train_views} views" if head.train_views > 1 else "one view"
    judged = f"the mean over {head.test_views} views" if head.test_views > 1 else "one view"
    return f"trained on {trained} of each image, which is judged by {judged}"

"""The options by which commands divide images into train, validation and test."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from .console import note

__all__ = ["split_options"]

_fraction = click.FloatRange(min=0, max=1, max_open=True)

_OPTIONS = (
    click.option(
        "--test", type=_fraction, default=0.1, show_default=True, help="Share of images kept for testing."
    ),
    click.option(
        "--validation", type=_fraction, default=0.1, show_default=True, help="Share kept for choosing."
    ),
    click.option("--salt", default="", help="Any text; another one gives another split."),
    click.option(
        "--stratify/--no-stratify",
        default=None,
        help="Whether a class that is left without an image in a part is given one, where it has enough; "
        "without, as versions up to 0.4 did.  [default: but with --split-by retrain]",
    ),
    click.option(
        "--split-by",
        type=click.Choice(["content", "group", "folder", "pattern", "filename", "retrain"]),
        default="content",
        show_default=True,
        help="What stays together: equal files, the catalog's groups, the images of one folder, what "
        "--group-pattern finds, or equal file names; retrain deals as TensorFlow's retrain.py does.",
    ),
    click.option(
        "--group-pattern",
        metavar="REGEX",
        help="For --split-by pattern: searched in the path, CLASS/FILE; its first (group), or else all that "
        "it matches, is what stays together.",
    ),
    click.option(
        "--retrain-prefix",
        metavar="DIR",
        help="For --split-by retrain: what retrain.py was given as --image_dir.  [default: nothing before "
        "CLASS/FILE]",
    ),
)


def split_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that divide images; it is called with ``rule``, a SplitRule."""

    @wraps(command)
    def with_rule(
        *,
        test: float,
        validation: float,
        salt: str,
        stratify: bool | None,
        split_by: str,
        group_pattern: str | None,
        retrain_prefix: str | None,
        **others: Any,
    ) -> None:
        import featstore

        rule = featstore.SplitRule(
            by=split_by,
            test=test,
            validation=validation,
            salt=salt,
            group_pattern=group_pattern,
            retrain_prefix=retrain_prefix,
            stratify=stratify,
        )
        if split_by == "retrain" and retrain_prefix is None:
            note(
                "retrain.py hashed its --image_dir with each path: to divide as an earlier run did, give "
                "that text with --retrain-prefix"
            )
        command(rule=rule, **others)

    decorated: Callable[..., None] = with_rule
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated

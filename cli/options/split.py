"""The options that split images into train, validation and test."""

from typing import Any

import click

from ..printing import note
from .groups import option_group

__all__ = ["split_options"]

_fraction = click.FloatRange(min=0, max=1, max_open=True)


def _build(
    test: float,
    validation: float,
    salt: str,
    stratify: bool | None,
    split_by: str,
    group_pattern: str | None,
    retrain_prefix: str | None,
) -> dict[str, Any]:
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
            "retrain.py hashed its --image_dir with each path: to reproduce the split of an earlier run, "
            "pass that text as --retrain-prefix"
        )
    return {"rule": rule}


# The command is called with ``rule``, a SplitRule.
split_options = option_group(
    "Splits",
    click.option(
        "--test",
        type=_fraction,
        default=0.1,
        help="Fraction of images held out for testing.",
    ),
    click.option(
        "--validation",
        type=_fraction,
        default=0.1,
        help="Fraction used for model selection.",
    ),
    click.option(
        "--salt", default="", show_default=False, help="Any text; a different salt gives a different split."
    ),
    click.option(
        "--stratify/--no-stratify",
        default=None,
        help="Move an image into any split that a class has none in, if the class has enough images. "
        "Versions up to 0.4 did not stratify.  [default: --stratify, except with --split-by retrain]",
    ),
    click.option(
        "--split-by",
        type=click.Choice(["content", "group", "folder", "pattern", "filename", "retrain"]),
        default="content",
        help="What is kept in one split: identical files, the catalog's groups, the images of a folder, "
        "matches of --group-pattern, or equal file names; retrain splits as TensorFlow's retrain.py does.",
    ),
    click.option(
        "--group-pattern",
        metavar="REGEX",
        help="For --split-by pattern: regular expression, searched in the path CLASS/FILE. Images with the "
        "same first (group), or the same match if there is none, are kept in one split.",
    ),
    click.option(
        "--retrain-prefix",
        metavar="DIR",
        help="For --split-by retrain: the --image_dir that retrain.py was run with.  [default: none before "
        "CLASS/FILE]",
    ),
    build=_build,
)

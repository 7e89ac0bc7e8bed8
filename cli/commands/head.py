"""`featstore head classes`."""

from typing import TYPE_CHECKING

import click

from featstore.class_names import matching_name
from featstore.messages import listed

from ..finding import find_head, is_file, load_head, output_path, save_head
from ..options.shared import force_option, json_option, output_option, store_option, trust_option
from ..printing import class_counts, echo, example, print_json, print_table, short_path

if TYPE_CHECKING:
    from featstore import Head

__all__ = ["head"]

_EXAMPLE = example("featstore head classes logistic --store digits.fstore --remove 0 --rename 1=one -o few")


@click.group(epilog=_EXAMPLE, short_help="Inspect and edit one head.")
def head() -> None:
    """Inspect one head, and edit it without refitting."""


@head.command(epilog=_EXAMPLE, short_help="List, remove or rename the classes of a head.")
@click.argument("head", metavar="HEAD")
@click.option("--remove", metavar="NAME", multiple=True, help="Remove a class; repeat for several.")
@click.option("--rename", metavar="OLD=NEW", multiple=True, help="Rename a class; repeat for several.")
@store_option("Store of HEAD, if given by name.", default="the only store here")
@output_option("Where to save the edited head; HEAD's own name in a store overwrites it.")
@trust_option
@force_option
@json_option
def classes(
    head: str,
    remove: tuple[str, ...],
    rename: tuple[str, ...],
    store: str | None,
    output: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """List the classes of HEAD with their numbers of images, or remove and rename classes.

    HEAD is the name of a head in the store, or a .head file. With --remove and --rename, the edited head is
    saved to --output. The probabilities of the remaining classes are renormalised to sum to 1. Nothing is
    refitted: after removing classes, evaluate the head to find its accuracy.
    """
    import featstore

    path, home = find_head(head, store)
    if output is None and (remove or rename):
        raise click.UsageError("give --output to save the edited head; its own name overwrites it")
    if output is not None and not (remove or rename):
        raise click.UsageError("nothing to save: give classes to --remove or --rename")
    found = load_head(path)
    renamed = dict(_old_and_new(text, found) for text in rename)
    if output is not None:
        path = output_path(output, None if is_file(output) else home, force=force)
        found = featstore.edit_classes(found, remove=remove, rename=renamed)
        save_head(found, path, force=force)
    if as_json:
        rows = [
            dict(zip(("label", *found.counts), row, strict=True))
            for row in class_counts(found.counts, found.classes.tolist())
        ]
        result = {"head": found.name, "classes": rows, "removed": [*remove], "renamed": renamed, "path": path}
        print_json(result)
    elif output is None:
        _print_classes(found)
    else:
        echo(f"classes  {len(found.classes):,}, {_changes(remove, renamed)}")
        echo(f"head     {short_path(path)}")


def _old_and_new(text: str, head: "Head") -> tuple[str, str]:
    # Names may contain equals signs: split at the first one after a known name.
    parts = text.split("=")
    pairs = [("=".join(parts[:end]), "=".join(parts[end:])) for end in range(1, len(parts))]
    if not pairs:
        raise click.UsageError(f"--rename {text!r} is not of the form OLD=NEW, for example daisy=bellis")
    known = set(head.classes.tolist())
    return next((pair for pair in pairs if matching_name(pair[0], known) in known), pairs[0])


def _print_classes(head: "Head") -> None:
    if not any(sum(of_split.values()) for of_split in head.counts.values()):
        for label in head.classes.tolist():
            echo(label)
        return
    totals = [sum(of_split.values()) for of_split in head.counts.values()]
    print_table(
        ("class", *head.counts), [*class_counts(head.counts, head.classes.tolist()), ("all", *totals)]
    )


def _changes(removed: tuple[str, ...], renamed: dict[str, str]) -> str:
    changes = []
    if removed:
        changes.append(f"without {listed(removed)}")
    if renamed:
        changes.append(listed([f"{old} as {new}" for old, new in renamed.items()]))
    return "; ".join(changes)

"""`featstore head classes`."""

from typing import TYPE_CHECKING, Any

import click

from featstore.class_names import matching_name

from .console import example, force_option, json_option, print_json, print_table, say, short_path
from .finding import find_head, is_file, note_replaced, output_path

if TYPE_CHECKING:
    from featstore import Head

__all__ = ["head"]

_EXAMPLE = example("featstore head classes logistic --store digits.fstore --remove 0 --rename 1=one -o few")

_LISTED_NAMES = 8


@click.group(epilog=_EXAMPLE, short_help="Look at one head, and change it.")
def head() -> None:
    """Look at one head, and change it without fitting it again."""


@head.command(epilog=_EXAMPLE, short_help="List, remove and rename the classes of a head.")
@click.argument("head", metavar="HEAD")
@click.option("--remove", metavar="NAME", multiple=True, help="Remove a class; repeat for several.")
@click.option(
    "--rename", metavar="OLD=NEW", multiple=True, help="Give a class another name; repeat for several."
)
@click.option(
    "--store", type=click.Path(), help="Where HEAD is, if it is a name.  [default: the only store here]"
)
@click.option(
    "--output",
    "-o",
    metavar="NAME|FILE.head",
    help="Where to save the changed head; in a store, HEAD itself is replaced.",
)
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
    """List the classes of HEAD, with the images that it was fitted on, or make a head with other classes.

    HEAD is the name of a head in the store, or a .head file. With --remove and --rename the changed head is
    saved as --output says. The probabilities of the classes that are left are the old ones, divided by their
    sum. Nothing is fitted: after removing, evaluate the head to know its accuracy.
    """
    import featstore

    path, home = find_head(head, store)
    if output is None and (remove or rename):
        raise click.UsageError("say with --output where to save the changed head; its own name replaces it")
    if output is not None and not (remove or rename):
        raise click.UsageError("there is nothing to save: say what to --remove or --rename")
    found = featstore.Head.load(path)
    renamed = dict(_old_and_new(text, found) for text in rename)
    if output is not None:
        path = output_path(output, None if is_file(output) else home, force=force)
        found = featstore.edit_classes(found, remove=remove, rename=renamed)
        note_replaced(path)
        found.save(path, overwrite=force)
    if as_json:
        rows = [dict(zip(("label", *found.counts), row, strict=True)) for row in _rows(found)]
        told = {"head": found.name, "classes": rows, "removed": [*remove], "renamed": renamed, "path": path}
        print_json(told)
    elif output is None:
        _print_classes(found)
    else:
        say(f"classes  {len(found.classes):,}, {_changes(remove, renamed)}")
        say(f"head     {short_path(path)}")


def _old_and_new(text: str, head: "Head") -> tuple[str, str]:
    # Names may hold equals signs: the first after a known name parts them.
    parts = text.split("=")
    pairs = [("=".join(parts[:end]), "=".join(parts[end:])) for end in range(1, len(parts))]
    if not pairs:
        raise click.UsageError(f"--rename {text!r} is not of the form OLD=NEW, for example daisy=bellis")
    known = set(head.classes.tolist())
    return next((pair for pair in pairs if matching_name(pair[0], known) in known), pairs[0])


def _rows(head: "Head") -> list[tuple[Any, ...]]:
    return [
        (label, *(of_split.get(label, 0) for of_split in head.counts.values()))
        for label in head.classes.tolist()
    ]


def _print_classes(head: "Head") -> None:
    if not any(sum(of_split.values()) for of_split in head.counts.values()):
        for label in head.classes.tolist():
            say(label)
        return
    totals = [sum(of_split.values()) for of_split in head.counts.values()]
    print_table(("class", *head.counts), [*_rows(head), ("all", *totals)])


def _changes(removed: tuple[str, ...], renamed: dict[str, str]) -> str:
    told = []
    if removed:
        names = ", ".join(removed[:_LISTED_NAMES]) + (" …" if len(removed) > _LISTED_NAMES else "")
        told.append(f"without {names}")
    if renamed:
        pairs = [f"{old} as {new}" for old, new in renamed.items()]
        told.append(", ".join(pairs[:_LISTED_NAMES]) + (" …" if len(pairs) > _LISTED_NAMES else ""))
    return "; ".join(told)

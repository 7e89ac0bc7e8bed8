"""Which head, and which features, a command line means."""

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from .console import accuracy_told, note, open_store, short_path

if TYPE_CHECKING:
    from featstore import FeatureTable, Head

__all__ = ["find_head", "find_table", "is_file", "note_replaced", "output_path", "table_options"]


def table_options(features: str, images: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return the options ``--space`` and ``--catalog`` of a command, by what it wants of them."""

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        space = click.option(
            "--space",
            metavar="NAME",
            multiple=True,
            help=f"{features}, or how the name begins; repeat to put several side by side.  "
            "[default: the only ones]",
        )
        catalog = click.option(
            "--catalog",
            metavar="NAME",
            multiple=True,
            help=f"{images}; repeat for several.  [default: the only ones]",
        )
        return space(catalog(command))

    return decorated


def find_head(head: str, store: str | None) -> tuple[str, str | None]:
    """Return a head's file, and the store that it is in if it is in one."""
    # A pickle is taken for a file, so that it is refused for what it is.
    if is_file(head) or head.endswith((".joblib", ".pickle", ".pkl")):
        path = os.path.abspath(head)
        home = os.path.dirname(os.path.dirname(path))
        inside = os.path.basename(os.path.dirname(path)) == "heads" and os.path.exists(
            f"{home}/featstore.json"
        )
        return path, store or (home if inside else None)
    opened = open_store(store)
    if head not in opened.head_names:
        known = ", ".join(opened.head_names) or "none yet: make one with `featstore fit`"
        raise click.UsageError(
            f"{opened.path} has no head {head!r}; it has {known}. A file's name ends in .head"
        )
    return opened.head_path(head), opened.path


def is_file(head: str) -> bool:
    """Say whether what a head is called is a file, rather than its name in a store."""
    return head.endswith(".head") or os.path.basename(head) != head


def output_path(output: str, store: str | None, *, force: bool, inputs: Iterable[str] = ()) -> str:
    """Return where a head is to be saved: in a file that may be written, or by its name in a store."""
    if is_file(output):
        from featstore.io.outputs import check_head_output

        return check_head_output(output, overwrite=force, inputs=inputs)
    return open_store(store).head_path(output)


def note_replaced(path: str) -> None:
    """Say that a head is about to be replaced, and what it was worth."""
    from featstore import FeatstoreError, Head

    if not os.path.exists(path):
        return
    try:
        old = Head.load(path)
    except FeatstoreError:
        note(f"replacing {short_path(path)}, which cannot be read")
        return
    test = f", test accuracy {accuracy_told(old.test, old.test['n'])}" if old.test["n"] else ""
    note(f"replacing the head {short_path(path)} of {old.created}{test}")


def find_table(head: "Head", home: str | None, catalog: tuple[str, ...] = ()) -> "FeatureTable":
    """Open the features that a head was fitted on, with the labels named or else its own."""
    opened = open_store(home)
    missing = [part.name for part in head.spec.parts if part.name not in opened.space_names]
    if missing:
        spaces = ", ".join(opened.space_names) or "none"
        raise click.UsageError(
            f"the head was trained on features of {', '.join(missing)}; {opened.path} has {spaces}. "
            "Name its store with --store"
        )
    # A head that was made of a network's own classifier was fitted on no catalog.
    catalogs = catalog or tuple(filter(None, head.catalog.split("+")))
    return opened.table(space=[part.name for part in head.spec.parts], catalog=catalogs or None)

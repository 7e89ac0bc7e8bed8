"""The options that choose which features of a store to work on."""

from typing import Any

import click

from .finding import open_store
from .option_groups import DATA, Decorator, option_group
from .options import store_argument, store_option

__all__ = ["new_table_options", "table_options"]


def table_options(features: str, images: str) -> Decorator:
    """Return STORE, --space and --catalog, given what a command uses the last two for.

    The command is called with ``store`` and ``table``, both opened. This is the last decorator of a command,
    so that wrong usage is found before a store is opened.
    """
    return option_group(DATA, store_argument, *_names(features, images), build=_open)


def new_table_options(features: str, images: str, *, default: str) -> Decorator:
    """Return --store, --space and --catalog, of which a command opens what it needs."""
    store = store_option(f"Store of {features[0].lower()}{features[1:]}.", default=default)
    return option_group(DATA, store, *_names(features, images))


def _names(features: str, images: str) -> tuple[Decorator, Decorator]:
    return (
        click.option(
            "--space",
            metavar="NAME",
            multiple=True,
            help=f"{features}, by the name of their space or its beginning; repeat to concatenate several.  "
            "[default: the only space]",
        ),
        click.option(
            "--catalog",
            metavar="NAME",
            multiple=True,
            help=f"{images}, by the name of their catalog; repeat for several.  [default: the only catalog]",
        ),
    )


def _open(store: str | None, space: tuple[str, ...], catalog: tuple[str, ...]) -> dict[str, Any]:
    opened = open_store(store)
    return {"store": opened, "table": opened.table(space=space, catalog=catalog or None)}

"""The options that choose which features of a store to work on."""

from typing import TYPE_CHECKING, Any

import click

from featstore.errors import NotInStoreError
from featstore.messages import count

from ..finding import corrected, open_store
from ..printing import note
from .groups import DATA, Decorator, option_group
from .shared import corrections_option, store_argument, store_option, trust_option

if TYPE_CHECKING:
    from featstore import FeatureStore, FeatureTable

__all__ = [
    "head_table_options",
    "joined_table",
    "new_table_options",
    "scored_split_option",
    "several_spaces_options",
    "table_options",
]


def table_options(features: str, images: str) -> Decorator:
    """Return STORE, --space, --catalog and --corrections, given what a command uses the last two for.

    The command is called with ``store`` and ``table``, both opened. This is the last decorator of a command,
    so that wrong usage is found before a store is opened.
    """
    return option_group(DATA, store_argument, *_names(features, images), build=_open)


def several_spaces_options(features: str, images: str) -> Decorator:
    """Return the same with --spaces, which the command is called with too."""
    spaces = click.option(
        "--spaces",
        type=click.Choice(["auto", "all"]),
        help="Measure what each of several spaces contributes, by default all of the store, in "
        "cross-validation; auto joins those that lower the cross entropy, all joins every one.",
    )
    named, *others = _names(features, images)
    return option_group(DATA, store_argument, named, spaces, *others, build=_open_several)


def new_table_options(features: str, images: str, *, default: str) -> Decorator:
    """Return --store, --space, --catalog and --corrections, of which a command opens what it needs."""
    store = store_option(f"Store of {features[0].lower()}{features[1:]}.", default=default)
    return option_group(DATA, store, *_names(features, images))


def head_table_options(catalog: str) -> Decorator:
    """Return the options of a command on the images of a head, given what it uses the catalog for."""
    return option_group(
        DATA,
        trust_option,
        store_option("Store of the features.", default="the head's, or the only store here"),
        click.option("--catalog", metavar="NAME", multiple=True, help=f"{catalog}.  [default: the head's]"),
        corrections_option,
    )


scored_split_option = click.option(
    "--split",
    type=click.Choice(["train", "validation", "test", "all"]),
    help="Split to score on.  [default: test, or all for a head that was fitted on no images]",
)


def _names(features: str, images: str) -> tuple[Decorator, Decorator, Decorator]:
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
        corrections_option,
    )


def _open(store: str | None, space: tuple[str, ...], catalog: tuple[str, ...]) -> dict[str, Any]:
    opened = open_store(store)
    return {"store": opened, "table": corrected(joined_table(opened, space, catalog))}


def joined_table(store: "FeatureStore", space: tuple[str, ...], catalog: tuple[str, ...]) -> "FeatureTable":
    """Open a table; where none of several spaces is named, the error adds that they can be joined."""
    try:
        return store.table(space=space, catalog=catalog or None)
    except NotInStoreError as error:
        if space or len(store.feature_space_names) < 2:
            raise
        raise NotInStoreError(f"{error}; repeat --space to join several") from error


def _open_several(
    store: str | None, space: tuple[str, ...], catalog: tuple[str, ...], spaces: str | None
) -> dict[str, Any]:
    opened = open_store(store)
    if spaces is not None and not space:
        space = _complete_spaces(opened, catalog)
    return {
        "store": opened,
        "table": corrected(joined_table(opened, space, catalog)),
        "spaces": spaces,
    }


def _complete_spaces(store: "FeatureStore", catalog: tuple[str, ...]) -> tuple[str, ...]:
    """Return the spaces with features of the most images, without those of activation maps."""
    lacking = {name: store.table(name, catalog or None).n_missing for name in store.feature_space_names}
    least = min(lacking.values(), default=0)
    for name, n_images in lacking.items():
        if n_images > least:
            note(f"the space {name} is left out: it lacks features of {count(n_images, 'image')}")
    return tuple(name for name, n_images in lacking.items() if n_images == least)

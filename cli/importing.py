"""`featstore import-head`."""

from typing import TYPE_CHECKING, Any

import click

from .console import force_option, json_option, note, open_store, print_json, say, short_path
from .extracting import extract
from .finding import is_file, note_replaced, output_path
from .viewing import RECIPE_FIELDS, recipe_told

if TYPE_CHECKING:
    from featstore import Head

__all__ = ["import_head"]

# What decides the features, as `featstore extract` has it.
_BACKBONE = (
    *(
        "backbone",
        "layer",
        "pooling",
        "image_size",
        "resize",
        "preprocess",
        "trust_model",
        "imports",
        "alpha",
        "dtype",
    ),
    *("precision", *RECIPE_FIELDS),
)

_LISTED_CLASSES = 4


@click.command(
    "import-head",
    params=[option for option in extract.params if option.name in _BACKBONE],
    epilog="\b\nExample, with Keras' own weights, which it downloads:\n"
    "  featstore import-head --backbone mobilenet_v2 -o imagenet.head",
    short_help="Make a head of a network's own classifier.",
)
@click.option(
    "--weights",
    type=click.Path(),
    help="Weights file with the classifier (.h5, .weights.h5, .keras).  [default: ImageNet's, downloaded by "
    "Keras]",
)
@click.option(
    "--classes",
    metavar="FILE|imagenet",
    type=click.Path(),
    help="Text file of the classes' names, one a line, in the network's order.  [default: ImageNet's where "
    "there are 1,000]",
)
@click.option(
    "--store",
    type=click.Path(),
    help="Where to save the head, if it gets a name.  [default: the only one here]",
)
@click.option(
    "--output",
    "-o",
    metavar="NAME|FILE.head",
    default="imported",
    show_default=True,
    help="The head's name in the store, or a file.",
)
@force_option
@json_option
def import_head(
    preprocess: str | None, store: str | None, output: str, force: bool, as_json: bool, **options: Any
) -> None:
    """Make a head of the classifier that a network has of its own, such as ImageNet's 1,000 classes.

    It works on the features that `featstore extract` gives with the same options, and with the same weights
    with or without the classifier. Before it is saved, its probabilities are compared with the network's own
    on random images.

    It was fitted on none of your images, so that `featstore evaluate` scores it on all of them.
    """
    import featstore

    inputs = [given for given in (options["weights"], options["classes"], options["backbone"]) if given]
    path = output_path(output, store, force=force, inputs=inputs)
    head = featstore.import_head(preprocessing=preprocess, views=recipe_told(options), **options)
    note_replaced(path)
    head.save(path, overwrite=force)
    if as_json:
        print_json({**head.to_dict(), "path": path})
        return
    shown = ", ".join(head.classes[:_LISTED_CLASSES].tolist())
    more = " …" if len(head.classes) > _LISTED_CLASSES else ""
    say(f"classes  {len(head.classes):,}: {shown}{more}")
    click.echo(f"space    {head.spec.name}")
    say(f"head     {short_path(path)}")
    _note_missing_space(head, output, store)


def _note_missing_space(head: "Head", output: str, store: str | None) -> None:
    """Say where a store has no features that its new head could be used on."""
    opened = None if is_file(output) else open_store(store)
    if opened is not None and opened.space_names and head.spec.name not in opened.space_names:
        note(
            f"{short_path(opened.path)} has no features of {head.spec.name}; it has "
            f"{', '.join(opened.space_names)}: the options of import-head and extract must be the same"
        )

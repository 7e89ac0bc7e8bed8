"""`featstore import-head`."""

from typing import TYPE_CHECKING, Any

import click

from ..finding import is_file, open_store, output_path, save_head
from ..options.backbone import backbone_options
from ..options.groups import command, option_group
from ..options.shared import force_option, json_option, output_option, store_option
from ..options.view import recipe_options
from ..printing import echo, note, print_json, short_path

if TYPE_CHECKING:
    from featstore import Head

__all__ = ["import_head"]

_LISTED_CLASSES = 4

_TEXT_OPTIONS = (
    *("texts", "text_model", "tokenizer"),
    *("templates", "logit_scale", "text_output", "text_length"),
)


@command(
    "import-head",
    epilog="\b\nExample, with Keras' own weights, which it downloads:\n"
    "  featstore import-head --backbone mobilenet_v2 -o imagenet.head",
    short_help="Import a network's own classifier as a head.",
)
@backbone_options(
    weights="Weights file with the classifier (.h5, .weights.h5, .keras).  [default: ImageNet's, downloaded "
    "by Keras]"
)
@recipe_options()
@click.option(
    "--classes",
    metavar="FILE|imagenet",
    type=click.Path(),
    help="Text file of class names, one per line, in the network's order.  [default: ImageNet's, if there "
    "are 1,000]",
)
@option_group(
    "Class names as texts (zero-shot)",
    click.option(
        "--texts",
        type=click.Path(),
        help="Text file of class names, one per line, to make a head of without photos; after a tab the text "
        "for a class, if other than its name.",
    ),
    click.option(
        "--text-model",
        type=click.Path(),
        help="Text tower of the network (ONNX or the like), which may be the file of both towers.",
    ),
    click.option("--tokenizer", type=click.Path(), help="The text tower's tokenizer.json."),
    click.option(
        "--template",
        "templates",
        multiple=True,
        metavar="TEXT",
        help="Text with {} for the class; repeat to average several.  [default: a photo of a {}]",
    ),
    click.option(
        "--logit-scale",
        type=click.FloatRange(min=0, min_open=True),
        help="Factor of the cosines.  [default: the text model's, or 100]",
    ),
    click.option(
        "--text-output", metavar="TENSOR", help="Embedding in the text model.  [default: text_embeds]"
    ),
    click.option(
        "--text-length",
        type=click.IntRange(min=1),
        help="Number of tokens to pad texts to, 64 for SigLIP.  [default: the model's or tokenizer's own]",
    ),
)
@option_group(
    "Output",
    store_option("Store to save the head in, if --output is a name.", default="the only store here"),
    output_option("Name of the head in the store, or a file.", default="imported"),
    force_option,
)
@json_option
def import_head(store: str | None, output: str, force: bool, as_json: bool, **options: Any) -> None:
    """Import the classification layer of a pretrained network, such as ImageNet's 1,000 classes, as a head.

    It works on the features that `featstore extract` computes with the same options and weights, whether or
    not the weights file includes the classifier. Before it is saved, its probabilities are verified against
    the network's own on random images.

    With --texts, the head is made of class names instead, by the text tower of a network such as CLIP, on the
    features of its image tower:

    \b
      featstore import-head --backbone image.onnx --texts labels.txt
        --text-model text.onnx --tokenizer tokenizer.json

    It was not fitted on any of your images, so `featstore evaluate` scores it on all of them.
    """
    import featstore

    files = ("weights", "classes", "backbone", "texts", "text_model", "tokenizer")
    path = output_path(output, store, force=force, inputs=[options[one] for one in files if options[one]])
    by_text = {name: given for name in _TEXT_OPTIONS if (given := options.pop(name)) not in (None, ())}
    if by_text:
        head = featstore.import_text_head(**_checked_texts(by_text, options), **options)
    else:
        head = featstore.import_head(**options)
    save_head(head, path, force=force)
    if as_json:
        print_json({**head.to_dict(), "path": path})
        return
    shown = ", ".join(head.classes[:_LISTED_CLASSES].tolist())
    more = " …" if len(head.classes) > _LISTED_CLASSES else ""
    echo(f"classes  {len(head.classes):,}: {shown}{more}")
    click.echo(f"space    {head.spec.name}")
    echo(f"head     {short_path(path)}")
    _note_missing_space(head, output, store)


def _checked_texts(by_text: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Check that the options of texts are given together, and not with those of a classifier."""
    if missing := [name for name in _TEXT_OPTIONS[:3] if name not in by_text]:
        named = " and ".join(f"--{name.replace('_', '-')}" for name in missing)
        raise click.UsageError(
            f"a head of class names takes --texts, --text-model and --tokenizer; add {named}"
        )
    if options.pop("classes") is not None:
        raise click.UsageError(
            "--classes names those of a network's own classifier; leave it out with --texts"
        )
    return by_text


def _note_missing_space(head: "Head", output: str, store: str | None) -> None:
    """Print a note if the store has no features that its new head could be used on."""
    opened = None if is_file(output) else open_store(store)
    if opened is not None and opened.space_names and head.spec.name not in opened.space_names:
        note(
            f"{short_path(opened.path)} has no features of {head.spec.name}; it has "
            f"{', '.join(opened.feature_space_names)}: use the same backbone options for import-head and "
            "extract"
        )

"""`featstore serve`."""

from typing import TYPE_CHECKING, Any

import click

from featstore.messages import listed, printable

from ..finding import find_head, find_table, load_any_head
from ..options.address import address_options, address_text
from ..options.groups import DATA, command, option_group
from ..options.shared import (
    engine_option,
    import_option,
    store_option,
    trust_model_option,
    trust_option,
    trusted_types,
    weights_option,
)
from ..printing import example, note

if TYPE_CHECKING:
    from featstore import Predictor
    from featstore.serving import ServedModel

__all__ = ["serve"]


@command(
    epilog=example("featstore serve logistic --store digits.fstore"),
    short_help="Serve heads: a page to try them, and HTTP for programs.",
)
@click.argument("models", metavar="HEAD|MODEL...", nargs=-1, required=True)
@option_group(
    DATA,
    store_option(
        "Store of the heads given by name; the page shows its photos beside predictions.",
        default="a head's, or the only store here",
    ),
)
@address_options(port=8501)
@option_group(
    "Limits",
    click.option(
        "--max-request-mb",
        "request_mb",
        type=click.FloatRange(min=0, min_open=True),
        default=32,
        help="Largest request.",
    ),
    click.option(
        "--max-megapixels",
        "megapixels",
        type=click.FloatRange(min=0, min_open=True),
        default=50,
        help="Largest image.",
    ),
    click.option(
        "--max-images",
        "images",
        type=click.IntRange(min=1),
        default=64,
        help="Maximum number of images in a request.",
    ),
    click.option(
        "--timeout",
        "seconds",
        type=click.FloatRange(min=0, min_open=True),
        default=30,
        help="Seconds for a request to arrive, and for its answer.",
    ),
)
@option_group("Backbone", weights_option, engine_option, trust_model_option, trust_option, import_option)
def serve(
    models: tuple[str, ...],
    store: str | None,
    host: str,
    port: int,
    token: str | None,
    request_mb: float,
    megapixels: float,
    images: int,
    seconds: float,
    **options: Any,
) -> None:
    """Serve heads, or exported models, over HTTP until Ctrl-C or SIGTERM.

    A HEAD is the name of a head in the store or a .head file. The page at / takes photos that are dropped,
    pasted, chosen or taken by the camera, and shows labels, the most similar training photos and the picture
    as the network sees it. Programs send files to /predict, or base64 to /v1/models/HEAD:predict as to
    TensorFlow Serving; /docs describes all routes. Images that arrive together are computed together. Of a
    head that gives several labels, answers list those that reach their thresholds under labels.

    Only requests from this machine are answered, unless --host says otherwise, which requires a token. No
    file that a client names is opened, and nothing that it sends is kept.
    """
    from featstore.serving import Limits, bound_socket, check_packages, model_names
    from featstore.serving import serve as run

    check_packages()
    limits = Limits(request_mb=request_mb, megapixels=megapixels, images=images, seconds=seconds)
    names = model_names(models)
    bound = bound_socket(host, port, token=token or None)
    with bound:
        served = [_served(model, name, store, options) for model, name in zip(models, names, strict=True)]

        def ready() -> None:
            click.echo(f"serving {printable(listed(names))} on {address_text(bound)}")

        run(served, bound, limits, token=token or None, ready=ready)


def _served(model: str, name: str, store: str | None, options: dict[str, Any]) -> "ServedModel":
    import featstore
    from featstore import FeatstoreError
    from featstore.prediction import is_exported
    from featstore.serving import ServedModel

    if is_exported(model):
        if trusted_types():
            raise click.UsageError("--trust is for heads; an exported model holds no types to trust")
        exported = featstore.Predictor(model, **options)
        _check_labels(exported, name)
        return ServedModel(name=name, predictor=exported)
    path, home = find_head(model, store)
    head = load_any_head(path)
    predictor = featstore.Predictor(head, **options)
    _check_labels(predictor, name)
    table = None
    if home is not None:
        try:
            table = find_table(head, home)
        except (FeatstoreError, click.UsageError) as error:
            note(f"{name} is served without training photos beside predictions: {error}")
    return ServedModel(name=name, predictor=predictor, table=table)


def _check_labels(predictor: "Predictor", name: str) -> None:
    if predictor.target is not None:
        raise click.UsageError(
            f"{name} predicts a number, {predictor.target}; models that are served give labels. "
            "`featstore predict` takes it"
        )

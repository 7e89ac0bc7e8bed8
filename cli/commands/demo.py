"""`featstore demo`."""

import os
import shlex

import click

from .evaluate import evaluate
from .extract import extract
from .fit import fit
from .predict import predict

__all__ = ["demo"]

_COMMANDS = {"extract": extract, "fit": fit, "evaluate": evaluate, "predict": predict}


@click.command(
    epilog="\b\nExample:\n  featstore demo",
    short_help="Run the whole workflow on handwritten digits, offline.",
)
@click.argument("folder", default="featstore-demo", type=click.Path())
@click.pass_context
def demo(ctx: click.Context, folder: str) -> None:
    """Run the whole workflow on scikit-learn's handwritten digits, without any download.

    The images, the store and the head are written to FOLDER (default: featstore-demo). Each command is
    printed before it runs, so that you can repeat it with your own photos.
    """
    import featstore
    from featstore.images import write_digits

    source, store = os.path.join(folder, "digits"), os.path.join(folder, "digits.fstore")
    count = write_digits(source)
    click.echo(f"{count:,} handwritten digits are in {source}, one folder per class.")
    _run(ctx, "extract", source, "--backbone", "scattering", "--store", store)
    _run(ctx, "fit", store, "--head", "logistic")
    head = os.path.join(store, "heads", "logistic.head")
    _run(ctx, "evaluate", head)
    unseen = featstore.FeatureStore(store).table(catalog="digits").split("test").paths
    _run(ctx, "predict", head, *(os.path.relpath(path) for path in unseen[:: len(unseen) // 5]))
    click.echo()
    click.echo("Next, your own photos, in one folder per class (the default backbone is mobilenet_v2):")
    click.echo("  featstore extract PHOTOS")
    click.echo("  featstore fit")


def _run(ctx: click.Context, name: str, *arguments: str) -> None:
    click.echo()
    click.secho(f"$ featstore {name} {shlex.join(arguments)}", bold=True)
    command = _COMMANDS[name]
    with command.make_context(name, list(arguments), parent=ctx) as inner:
        command.invoke(inner)

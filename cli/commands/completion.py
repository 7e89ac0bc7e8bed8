"""`featstore completion`."""

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]

_EXAMPLE = "\b\nExample; in ~/.bashrc, run its output with eval:\n  featstore completion bash"


@click.command(epilog=_EXAMPLE, short_help="Print a shell completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that makes SHELL complete featstore's commands and options on Tab."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "featstore", "_FEATSTORE_COMPLETE").source())

"""`featstore completion`."""

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]

_EXAMPLE = """\b
Examples:
  eval "$(featstore completion bash)"                       for this shell; in ~/.bashrc for all
  eval "$(featstore completion zsh)"                        the same, and in ~/.zshrc
  featstore completion fish | source                        or into
                                                            ~/.config/fish/completions/featstore.fish"""


@click.command(epilog=_EXAMPLE, short_help="Print what makes the shell complete commands and options.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script by which SHELL completes featstore's commands and options on Tab."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "featstore", "_FEATSTORE_COMPLETE").source())

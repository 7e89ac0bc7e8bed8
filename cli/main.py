"""The group that all commands hang on."""

from typing import Any

import click

from featstore import FeatstoreError

from .comparing import compare
from .console import printable, show_warnings
from .curves import curve
from .demo import demo
from .evaluating import evaluate
from .exporting import export
from .extending import extend
from .extracting import backbones, extract
from .head_classes import head
from .heads import fit, heads
from .importing import import_head
from .predicting import predict
from .projecting import projector
from .quality import duplicates, suspects
from .stopping import stoppable
from .stores import compact, info, merge, pack, verify
from .viewing import views

__all__ = ["main"]


class _Group(click.Group):
    """Commands in the order of the work, and our errors as one line with exit status 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        with stoppable() as ctx.obj:
            try:
                return super().invoke(ctx)
            except (BrokenPipeError, click.exceptions.Exit):
                raise
            except (FeatstoreError, OSError) as error:
                raise click.ClickException(printable(" ".join(str(error).split()))) from error
            except (Exception, KeyboardInterrupt) as error:
                # Stopped in the middle of an import, a library may make an error of its own of it.
                if ctx.obj.status is None and not isinstance(error, KeyboardInterrupt):
                    raise
                click.echo("interrupted", err=True)
                ctx.exit(ctx.obj.status or 130)


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from featstore import __version__

        click.echo(f"featstore {__version__}")
        ctx.exit()


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExample, from nothing to a classifier of handwritten digits:\n  featstore demo",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version."
)
def main() -> None:
    """Push every image through a frozen network once; train any classifier on its features in seconds."""
    show_warnings()


for command in (
    demo,
    extract,
    views,
    fit,
    evaluate,
    compare,
    curve,
    predict,
    export,
    import_head,
    extend,
    duplicates,
    suspects,
    info,
    verify,
    merge,
    compact,
    pack,
    projector,
    backbones,
    heads,
    head,
):
    main.add_command(command)

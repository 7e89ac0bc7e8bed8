"""The group that all commands hang on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from featstore import FeatstoreError

from .caching import cache
from .comparing import compare
from .completing import completion
from .console import printable, show_warnings
from .curves import curve
from .demo import demo
from .evaluating import evaluate
from .exporting import export
from .extending import extend
from .extracting import backbones, extract
from .fitting import fit, heads
from .head_classes import head
from .importing import import_head
from .predicting import predict
from .projecting import projector
from .quality import duplicates, suspects
from .retrain import today_for_command, today_for_option
from .stopping import stoppable
from .stores import compact, info, merge, pack, verify
from .viewing import views

__all__ = ["main"]


_TASKS: dict[str, tuple[click.Command, ...]] = {
    "The daily job": (extract, fit, evaluate, predict, export),
    "Begin": (demo, backbones, heads, views),
    "Improve": (compare, curve, suspects, duplicates),
    "Change a head": (extend, import_head, head),
    "Look after stores": (info, verify, merge, compact, pack, projector),
    "Set up": (completion, cache),
}


class _Group(click.Group):
    """Commands by task, today's commands for old ones, and our errors as one line with exit status 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        longest = max(map(len, self.commands))
        for task, commands in _TASKS.items():
            with formatter.section(task):
                formatter.write_dl(
                    [
                        ((command.name or "").ljust(longest), command.get_short_help_str(formatter.width))
                        for command in commands
                    ]
                )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _answering_old_options():
            return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands and (today := today_for_command(args[0], args[1:])):
            raise click.UsageError(today, ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with stoppable() as ctx.obj, _answering_old_options():
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


@contextmanager
def _answering_old_options() -> Iterator[None]:
    """Refuse an option of retrain.py with what does the same today."""
    try:
        yield
    except click.NoSuchOption as error:
        if today := today_for_option(error.option_name):
            raise click.UsageError(today, error.ctx) from error
        raise


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


for commands in _TASKS.values():
    for command in commands:
        main.add_command(command)

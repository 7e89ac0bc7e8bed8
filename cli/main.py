"""The command group `featstore`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from featstore import FeatstoreError
from featstore.messages import printable

from .commands.backbones import backbones
from .commands.cache import cache
from .commands.compact import compact
from .commands.compare import compare
from .commands.completion import completion
from .commands.curve import curve
from .commands.demo import demo
from .commands.diff import diff
from .commands.duplicates import duplicates
from .commands.evaluate import evaluate
from .commands.export import export
from .commands.extend import extend
from .commands.extract import collect, extract
from .commands.finetune import finetune
from .commands.fit import fit, heads
from .commands.forget import forget
from .commands.head import head
from .commands.import_head import import_head
from .commands.info import info
from .commands.merge import merge
from .commands.next import next_
from .commands.pack import pack
from .commands.predict import predict
from .commands.projector import projector
from .commands.remove import remove
from .commands.report import report
from .commands.review import review
from .commands.serve import serve
from .commands.similar import centres, similar
from .commands.suspects import suspects
from .commands.verify import verify
from .commands.views import views
from .interruption import stoppable
from .printing import show_warnings
from .retrain_hints import hint_for_command, hint_for_option

__all__ = ["main"]


_TASKS: dict[str, tuple[click.Command, ...]] = {
    "Main workflow": (extract, fit, evaluate, predict, export),
    "Get started": (demo, backbones, heads, views),
    "Improve models and data": (report, finetune, compare, curve, suspects, duplicates, review, next_),
    "Look at images": (similar, centres),
    "Deploy": (serve,),
    "Edit heads": (extend, import_head, head),
    "Manage stores": (info, diff, verify, collect, merge, compact, remove, forget, pack, projector),
    "Set up": (completion, cache),
}


class _Group(click.Group):
    """Lists commands by task, answers retrain.py's options, and prints errors as one line."""

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
        with _hints_for_old_options():
            return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands and (hint := hint_for_command(args[0], args[1:])):
            raise click.UsageError(hint, ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with stoppable() as ctx.obj, _hints_for_old_options():
            try:
                return super().invoke(ctx)
            except (BrokenPipeError, click.exceptions.Exit):
                raise
            except (FeatstoreError, OSError) as error:
                raise click.ClickException(printable(" ".join(str(error).split()))) from error
            except (Exception, KeyboardInterrupt) as error:
                # A library may turn an interrupt during an import into another error.
                if ctx.obj.status is None and not isinstance(error, KeyboardInterrupt):
                    raise
                click.echo("interrupted", err=True)
                ctx.exit(ctx.obj.status or 130)


@contextmanager
def _hints_for_old_options() -> Iterator[None]:
    """Answer an option of retrain.py with its replacement."""
    try:
        yield
    except click.NoSuchOption as error:
        if hint := hint_for_option(error.option_name):
            raise click.UsageError(hint, error.ctx) from error
        raise


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from featstore import __version__

        click.echo(f"featstore {__version__}")
        ctx.exit()


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True},
    epilog="\b\nExample, from nothing to a classifier of handwritten digits:\n  featstore demo",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Train image classifiers by transfer learning.

    Extract features (embeddings) once with a frozen, pretrained network, then train any classifier on them in
    seconds.
    """
    show_warnings()


for commands in _TASKS.values():
    for command in commands:
        main.add_command(command)

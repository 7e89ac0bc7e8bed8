"""Options in groups: listed under a title in a command's help, and given to it as one value."""

import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, TypeAlias

import click

__all__ = ["DATA", "Decorator", "command", "option_group"]

_Function: TypeAlias = Callable[..., Any]
Decorator: TypeAlias = Callable[[_Function], _Function]

DATA = "Data"
_GENERAL = "Options"


class _Command(click.Command):
    """Lists its options by group: those of data first, general ones last."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {DATA: []}
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)):
                groups.setdefault(vars(param).get("group", _GENERAL), []).append(record)
        groups[_GENERAL] = groups.pop(_GENERAL)
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


command = partial(click.command, cls=_Command)


def option_group(
    title: str, *options: Decorator, build: Callable[..., dict[str, Any]] | None = None
) -> Decorator:
    """Return a decorator that adds options under a title.

    With ``build``, a function of options of this group, the command is called with what it returns in place
    of these options. Of several groups the upper ones are built first.
    """

    def add(function: _Function) -> _Function:
        decorated = function if build is None else _with_built(function, build)
        for option in reversed(options):
            decorated = option(decorated)
            # Where click collects the parameters of a command.
            vars(vars(decorated)["__click_params__"][-1])["group"] = title
        return decorated

    return add


def _with_built(function: _Function, build: Callable[..., dict[str, Any]]) -> _Function:
    names = tuple(inspect.signature(build).parameters)

    @wraps(function)
    def called(**values: Any) -> Any:
        taken = {name: values.pop(name) for name in names}
        return function(**build(**taken), **values)

    return called

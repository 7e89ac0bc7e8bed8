"""The option ``--ray``: work on a cluster."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import click

from .groups import Decorator

__all__ = ["on_ray", "ray_option"]


class _RayAddress(click.ParamType[str]):
    """``auto``, ``HOST:6379``, or nothing."""

    name = "ADDRESS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in ("", "auto") and ":" not in str(value):
            self.fail(
                f"{value!r} is not the address of a Ray cluster (auto, HOST:6379); without "
                "an address, --ray comes last",
                param,
                ctx,
            )
        return str(value)


def ray_option(what: str) -> Decorator:
    """Return the option; ``what`` begins its help text."""
    return click.option(
        "--ray",
        type=_RayAddress(),
        is_flag=False,
        flag_value="",
        metavar="[ADDRESS]",
        help=f"{what} on this Ray cluster (auto, HOST:6379); without an address on a local one.",
    )


@contextmanager
def on_ray(address: str | None) -> Iterator[bool | str]:
    """Yield what functions take as ``ray``, with stdout kept for results."""
    if address is None:
        yield False
        return
    # Ray reports dead processes on stdout, from its own threads.
    with redirect_stdout(sys.stderr):
        yield address or True

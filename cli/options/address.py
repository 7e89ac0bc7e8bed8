"""The options on where a server listens, and who may ask it."""

import socket

import click

from .groups import Decorator, option_group

__all__ = ["address_options", "address_text"]


def address_options(*, port: int) -> Decorator:
    """Return --host, --port and --token, given the default port."""
    return option_group(
        "Address",
        click.option("--host", default="127.0.0.1", help="Address to listen on."),
        click.option(
            "--port",
            type=click.IntRange(0, 65535),
            default=port,
            help="Port to listen on; 0 takes any free one.",
        ),
        click.option(
            "--token",
            envvar="FEATSTORE_TOKEN",
            metavar="TEXT",
            help="Token that clients have to send; required for addresses that other machines reach.  "
            "[default: $FEATSTORE_TOKEN]",
        ),
    )


def address_text(bound: socket.socket) -> str:
    """Return the URL of a socket."""
    address, number = bound.getsockname()[:2]
    return f"http://[{address}]:{number}" if ":" in address else f"http://{address}:{number}"

"""Run a review until it is stopped."""

import socket
from collections.abc import Callable

from featstore.reviewing.session import ReviewSession
from featstore.serving.server import allowed_hosts, run_app

__all__ = ["review"]


def review(
    session: ReviewSession, bound: socket.socket, *, token: str | None = None, ready: Callable[[], None]
) -> None:
    """Serve the page of a review until SIGTERM or Ctrl-C; decisions under way are written first."""
    from featstore.reviewing.app import make_app

    run_app(make_app(session, token=token, hosts=allowed_hosts(bound, token)), bound, ready=ready)

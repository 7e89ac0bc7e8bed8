"""Run a server until it is stopped."""

import contextlib
import errno
import ipaddress
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from featstore.errors import ServingError
from featstore.extras import check_extra
from featstore.io.atomic import failure_reason
from featstore.serving.limits import Limits

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from featstore.serving.served import ServedModel

__all__ = [
    "allowed_hosts",
    "bound_socket",
    "check_packages",
    "is_loopback",
    "model_names",
    "run_app",
    "serve",
]

# Requests under way when the server is stopped.
_GRACE_SECONDS = 30
_WAITING_CONNECTIONS = 512
_MOST_CONNECTIONS = 1024


def check_packages() -> None:
    """Raise MissingExtraError if the packages to serve with are not installed."""
    check_extra("serve", "serving", "prometheus_client", "python_multipart", "starlette", "uvicorn")


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bound_socket(host: str, port: int, *, token: str | None) -> socket.socket:
    """Return a socket bound to an address; 0 takes any free port."""
    if token is None and not is_loopback(host):
        raise ServingError(
            f"{host} can be reached from other machines: give a token that they have to send, with --token "
            "or the environment variable FEATSTORE_TOKEN"
        )
    if token is not None and not re.fullmatch(r"[!-~]+", token):
        raise ServingError("a token is sent in a header: it may hold ASCII letters, digits and signs alone")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_WAITING_CONNECTIONS)
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise ServingError(
                f"cannot listen on {host}, port {port}: another program does; choose another --port, or "
                "0 for any that is free"
            ) from error
        raise ServingError(f"cannot listen on {host}, port {port}: {failure_reason(error)}") from error


def model_names(models: Sequence[str]) -> list[str]:
    """Return the names that models are served under, by their files."""
    names = [os.path.splitext(os.path.basename(os.path.normpath(model)))[0] for model in models]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ServingError(f"several models are called {', '.join(twice)}; give their files other names")
    return names


def serve(
    models: "Sequence[ServedModel]",
    bound: socket.socket,
    limits: Limits,
    *,
    token: str | None = None,
    ready: Callable[[], None],
) -> None:
    """Serve models until SIGTERM or Ctrl-C; requests under way are answered first."""
    from featstore.serving.app import make_app

    for model in models:
        model.warm_up()
    run_app(make_app(models, limits, token=token, hosts=allowed_hosts(bound, token)), bound, ready=ready)


def allowed_hosts(bound: socket.socket, token: str | None) -> list[str]:
    """Return the names that a server answers to."""
    # A name that leads here by someone else's choice is refused where there is no token.
    return ["*"] if token is not None else ["localhost", "127.0.0.1", "[::1]", bound.getsockname()[0]]


def run_app(app: "Starlette", bound: socket.socket, *, ready: Callable[[], None]) -> None:
    """Run an application until SIGTERM or Ctrl-C."""
    import uvicorn

    class Server(uvicorn.Server):
        """Says when it listens, and ends without raising the signal again."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if not self.should_exit:
                ready()

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            numbers = (signal.SIGINT, signal.SIGTERM)
            before = [signal.signal(number, self.handle_exit) for number in numbers]
            try:
                yield
            finally:
                for number, handler in zip(numbers, before, strict=True):
                    signal.signal(number, handler)

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        h11_max_incomplete_event_size=2**16,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    Server(config).run([bound])

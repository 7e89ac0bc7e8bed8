"""Connections to Ray clusters."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from featstore.errors import FeatstoreError, first_line
from featstore.extras import check_extra

__all__ = ["check_ray", "connected"]

_CONNECT_SECONDS = 10.0


def check_ray() -> None:
    """Raise MissingExtraError if Ray is not installed, without importing it."""
    check_extra("ray", "a cluster", "ray")


@contextmanager
def connected(address: str | None, error_type: type[FeatstoreError]) -> Iterator[None]:
    """Use the cluster that this process is connected to, or connect to one, or start one here, and leave it.

    ``error_type`` is raised where there is no such cluster.
    """
    import ray

    if ray.is_initialized():
        found = ray.get_runtime_context().gcs_address
        if address not in (None, "auto", found):
            raise error_type(
                f"this process is connected to the Ray cluster {found} already, not to {address}: use "
                "ray=True, or ray.shutdown() before"
            )
        yield
        return
    try:
        _connect(address, error_type)
        yield
    finally:
        ray.shutdown()


def _connect(address: str | None, error_type: type[FeatstoreError]) -> None:
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _check_reachable(address, error_type)
    is_main = threading.current_thread() is threading.main_thread()
    terminating = signal.getsignal(signal.SIGTERM)
    options: dict[str, Any] = {"include_dashboard": False} if address is None else {"address": address}
    try:
        ray.init(log_to_driver=False, configure_logging=False, **options)
    except (ConnectionError, ImportError, RuntimeError, ValueError) as error:
        raise error_type(
            f"cannot connect to the Ray cluster {address or 'on this machine'}: {first_line(error)}; "
            "`ray status` shows whether it runs"
        ) from error
    finally:
        # Ray's own handler would end the process before what is computed is recorded.
        if is_main and terminating is not None:
            signal.signal(signal.SIGTERM, terminating)


def _check_reachable(address: str | None, error_type: type[FeatstoreError]) -> None:
    """Raise an error if nothing answers at ``host:port``, for which Ray would wait for minutes."""
    host, _, port = (address or "").partition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise error_type(
            f"no Ray cluster answers at {address} ({first_line(error)}); `ray status` on one of its nodes "
            "shows whether it runs, and where"
        ) from error

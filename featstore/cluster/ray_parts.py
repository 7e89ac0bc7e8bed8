"""Passes over parts of rows as tasks of a Ray cluster."""

import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from featstore.cluster.ray_connection import check_ray, connected
from featstore.errors import HeadError, StoreNotFoundError, first_line
from featstore.heads.data.blocks import Rows
from featstore.heads.data.part_runner import Part
from featstore.io.storage.opening import file_exists
from featstore.process import one_thread

__all__ = ["RayParts"]

_log = logging.getLogger(__name__)

# A task whose process or node dies is run again so often; nothing of it is kept.
_MAX_RETRIES = 5
# Beside each running task one that waits, so that no processor does.
_IN_FLIGHT = 2
_COMPACTED = "the store was compacted meanwhile: this machine reads what the cluster no longer finds"


class RayParts:
    """Runs functions on parts of rows as tasks of Ray; those of processes and nodes that die again elsewhere.

    Places of rows go in and sums come out; features never pass through Ray.

    Parameters
    ----------
    address : str, optional
        As for :class:`~featstore.cluster.ray_executor.RayExecutor`.
    """

    def __init__(self, address: str | None = None) -> None:
        check_ray()
        self._address = address
        self._stack = contextlib.ExitStack()
        self._is_connected = False
        self._is_warned = False

    def __enter__(self) -> "RayParts":
        # The cluster is connected to at the first pass: a head that is refused starts none.
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(
        self, function: Callable[..., Any], parts: Iterable[Part], shared: tuple[Any, ...]
    ) -> Iterator[Any]:
        """Yield ``function(rows, *own, *shared)`` for each part ``(rows, own)``, in order."""
        import ray

        if not self._is_connected:
            self._stack.enter_context(connected(self._address, HeadError))
            self._is_connected = True
        task = ray.remote(_on_part).options(num_cpus=1, max_retries=_MAX_RETRIES, name="featstore fit")
        sent = ray.put(shared)
        waiting = iter(parts)
        running: deque[tuple[Any, Part]] = deque()
        try:
            while True:
                for rows, own in islice(waiting, max(0, _IN_FLIGHT * _n_processors() - len(running))):
                    running.append((task.remote(function, rows.sealed(), own, sent), (rows, own)))
                if not running:
                    return
                result, (rows, own) = running.popleft()
                try:
                    found = ray.get(result)
                except ray.exceptions.RayTaskError as error:
                    cause = error.cause
                    if not isinstance(cause, StoreNotFoundError):
                        raise cause if isinstance(cause, Exception) else error from error
                    _check_unseen(rows)
                    # This process knows the rows' keys and finds them again.
                    if not self._is_warned:
                        self._is_warned = True
                        _log.warning("%s", _COMPACTED)
                    found = function(rows, *own, *shared)
                except ray.exceptions.RayError as error:
                    raise HeadError(
                        f"the processes of the Ray cluster that read a part of the features ended, "
                        f"{_MAX_RETRIES + 1} times: {first_line(error)}"
                    ) from error
                yield found
        finally:
            for result, _ in running:
                ray.cancel(result, force=False)


def _on_part(function: Callable[..., Any], rows: Rows, own: tuple[Any, ...], shared: tuple[Any, ...]) -> Any:
    # A task has one processor.
    with one_thread:
        return function(rows, *own, *shared)


def _n_processors() -> int:
    """Return how many processors the cluster has now: nodes come and go."""
    import ray

    return max(1, int(sum(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])))


def _check_unseen(rows: Rows) -> None:
    """Raise HeadError if the files that a task could not find are there for this process."""
    files = rows.files()
    if all(map(file_exists, files)):
        raise HeadError(
            f"a node of the Ray cluster does not see {os.path.dirname(files[0])}: each must see the store "
            "under the same path"
        )

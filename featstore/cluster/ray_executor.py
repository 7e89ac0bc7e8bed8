"""Shards as tasks of a Ray cluster."""

import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from featstore.cluster.ray_connection import check_ray, connected
from featstore.errors import ExtractionError, first_line
from featstore.flow.sealing import SHARD_BYTES
from featstore.flow.shard import Shard, ShardJob, ShardResult
from featstore.store.segments.keys import HASH_BYTES

__all__ = ["RayExecutor"]

_log = logging.getLogger(__name__)

# A task whose process or node dies is run again so often before its shard is divided; each part, so often.
_MAX_RETRIES, _MAX_RETRIES_OF_PARTS = 5, 1
# Beside each running task one that waits, so that no processor does.
_IN_FLIGHT = 2
# Shards per processor, so that the last ones end at about the same time, and images in one.
_SHARDS_EACH = 4
_MIN_IMAGES, _MAX_IMAGES = 16, 4096
_WAIT_SECONDS = 5.0
_CANCEL_SECONDS = 60.0


class RayExecutor:
    """Runs shards as tasks of Ray, and those of processes and nodes that die again elsewhere.

    Paths go in and content hashes come out; pixels and features never pass through Ray. By default the
    cluster is the one that this process is connected to, or else a local one, which ends with the run.
    """

    def __init__(
        self, address: str | None = None, *, threads: int | None = None, uses_gpus: bool = True
    ) -> None:
        check_ray()
        self._address = address
        self._given_threads = threads
        self._uses_gpus = uses_gpus
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "RayExecutor":
        # The cluster is connected to at the first shard: a run that has nothing to compute starts none.
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _connect(self) -> None:
        """Connect to the cluster, and choose what a task needs."""
        import ray

        self._stack.enter_context(connected(self._address, ExtractionError))
        resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpu_shares = [found.get("CPU", 0) // found["GPU"] for found in resources if found.get("GPU")]
        self._n_gpus = int(self._uses_gpus and bool(gpu_shares))
        share = max(1, int(min(gpu_shares))) if self._n_gpus else 1
        self._threads = self._given_threads or share
        if not any(self._tasks_on(found) for found in resources):
            most = max((int(found.get("CPU", 0)) for found in resources), default=0)
            raise ExtractionError(
                f"no node of the Ray cluster can run a task of {self._threads} processors: the largest has "
                f"{most}; lower --threads"
            )

    def size_of_shards(self, n_images: int, row_bytes: int) -> int:
        """Return the number of images of a shard: mostly as many as one segment takes."""
        self._connect()
        even = -(-n_images // (_SHARDS_EACH * max(1, self._n_slots())))
        return max(_MIN_IMAGES, min(_MAX_IMAGES, SHARD_BYTES // row_bytes, even))

    def run(self, job: ShardJob, shards: Iterable[Shard]) -> Generator[tuple[Shard, ShardResult], None, None]:
        """Yield what became of each shard, in the order in which they end."""
        import ray

        from featstore.cluster.ray_tasks import extract_shard, send

        # A process keeps its network for the tasks to come.
        remote = ray.remote(max_calls=0)(extract_shard)
        needs = {"num_cpus": self._threads, "num_gpus": self._n_gpus, "name": "featstore shard"}
        task = remote.options(max_retries=_MAX_RETRIES, **needs)
        task_of_part = remote.options(max_retries=_MAX_RETRIES_OF_PARTS, **needs)
        sent = send(job, threads=self._threads)
        waiting = iter(shards)
        parts: deque[Shard] = deque()
        running: dict[Any, Shard] = {}
        try:
            while True:
                n_free = _IN_FLIGHT * max(1, self._n_slots()) - len(running)
                while parts:
                    shard = parts.popleft()
                    running[task_of_part.remote(sent, shard.records)] = shard
                for shard in islice(waiting, max(0, n_free)):
                    running[task.remote(sent, shard.records)] = shard
                if not running:
                    return
                for done in _ended([*running], lambda: self._n_slots() == 0):
                    shard = running.pop(done)
                    try:
                        result = ray.get(done)
                    except ray.exceptions.RayTaskError as error:
                        raise error.cause if isinstance(error.cause, Exception) else error from error
                    except ray.exceptions.RayError as error:
                        # All of its processes died: because of one image in it, or because memory ran out.
                        if len(shard.records) > 1:
                            parts.extend(_halves(shard))
                            continue
                        result = _lost(first_line(error))
                    yield shard, replace(result, node=self._name_of(result.node))
        finally:
            _cancel([*running])

    def _tasks_on(self, resources: dict[str, float]) -> int:
        """Return how many tasks a node runs at a time."""
        n_tasks = int(resources.get("CPU", 0)) // self._threads
        return min(n_tasks, int(resources.get("GPU", 0))) if self._n_gpus else n_tasks

    def _n_slots(self) -> int:
        """Return how many tasks the cluster runs at a time now: nodes come and go."""
        import ray

        return sum(self._tasks_on(node["Resources"]) for node in ray.nodes() if node["Alive"])

    def _name_of(self, node_id: str) -> str:
        """Return a node's host name, with a part of its id where the host has several."""
        import ray

        names = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes()}
        name = names.get(node_id, "")
        return f"{name}/{node_id[:8]}" if Counter(names.values())[name] > 1 else name


def _ended(running: list[Any], is_without_nodes: Callable[[], bool]) -> list[Any]:
    """Wait for a task to end."""
    import ray

    is_warned = False
    while True:
        done, _ = ray.wait(running, timeout=_WAIT_SECONDS)
        if done:
            return list(done)
        if not is_warned and is_without_nodes():
            is_warned = True
            _log.warning("the Ray cluster has no node left that can run a task; waiting for one")


def _halves(shard: Shard) -> list[Shard]:
    """Divide a shard that ended its processes."""
    middle = len(shard.records) // 2
    return [
        Shard(numbers=shard.numbers[part], records=shard.records[part])
        for part in (slice(None, middle), slice(middle, None))
    ]


def _lost(reason: str) -> ShardResult:
    """Return the result of an image that ends every process that reads it."""
    return ShardResult(
        content_hash=np.zeros((1, HASH_BYTES), np.uint8),
        is_computed=np.zeros(1, np.bool_),
        is_racy=np.ones(1, np.bool_),
        reasons={0: f"each process that read it ended: {reason}"},
    )


def _cancel(running: list[Any]) -> None:
    """End tasks early; they seal what they have computed."""
    import ray

    if not running:
        return
    for task in running:
        ray.cancel(task, force=False)
    ray.wait(running, num_returns=len(running), timeout=_CANCEL_SECONDS)

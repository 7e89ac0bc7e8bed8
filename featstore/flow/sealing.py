"""Computed rows on their way into a space: gathered, and sealed as segments on threads."""

import logging
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from featstore.backbones import Backbone
from featstore.errors import DamagedError, StoreError
from featstore.flow.loading import ItemT
from featstore.flow.stream import Group, Pass, stream_images
from featstore.store import FeatureStore, Space
from featstore.store.keys import HASH_BYTES

__all__ = ["SEAL_BYTES", "SEAL_SECONDS", "Sealer", "store_features", "uninterrupted"]

_log = logging.getLogger(__name__)

SEAL_BYTES = 4 * 2**20
SEAL_SECONDS = 60.0

_Result = TypeVar("_Result")


@dataclass(slots=True)
class _Pending:
    """Rows that one device has computed and that are not yet sealed: the first of ``features``."""

    features: NDArray[np.float32]
    keys: list[tuple[bytes, int]] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)


class Sealer:
    """Stores what a backbone computes, in bounded memory, and knows which rows are there or on their way.

    Parameters
    ----------
    store : FeatureStore
    network : Backbone
    n_views : int
        How many views each image is to have.

    Attributes
    ----------
    n_rows : int
        Rows that were added.
    """

    def __init__(self, store: FeatureStore, network: Backbone, *, n_views: int = 1) -> None:
        self.n_views = n_views
        self.n_rows = 0
        self._store = store
        self._network = network
        name = network.spec.name
        self._space = store.space(name) if name in store.space_names else None
        self._pending: dict[str, _Pending] = {}
        self._sealing: dict[str, Future[None]] = {}
        self._writers = ThreadPoolExecutor(thread_name_prefix="featstore-writer")
        self._on_the_way: set[tuple[bytes, int]] = set()

    def are_there(self, content_hash: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return whether the space has all views of each content, bool of shape (n,)."""
        there = np.full(len(content_hash), self._space is not None)
        for view in range(self.n_views):
            if self._space is None or not there.any():
                break
            there[there] = self._space.lookup(content_hash[there], view) >= 0
        return there

    def lacking(self, content_hash: bytes) -> list[int]:
        """Return the views of a content that are neither in the space nor on their way."""
        return [view for view in range(self.n_views) if not self._is_there(content_hash, view)]

    def claim(self, content_hash: bytes, views: Sequence[int]) -> bool:
        """Mark views as on their way; return False if another image with this content did so before."""
        if self._is_there(content_hash, views[0]):
            return False
        self._on_the_way.update((content_hash, view) for view in views)
        return True

    def add(self, keys: Sequence[tuple[bytes, int]], rows: NDArray[np.float32], *, turn: int) -> None:
        """Gather the rows of a network's batch, and start to seal them once there are enough."""
        devices = self._network.devices
        device = devices[turn % len(devices)]
        pending = self._pending.get(device)
        if pending is not None and len(pending.keys) + len(rows) > len(pending.features):
            self._seal(device)
            pending = None
        if pending is None:
            n_rows = max(SEAL_BYTES // rows[:1].nbytes, len(rows))
            pending = _Pending(np.empty((n_rows, rows.shape[1]), rows.dtype))
            self._pending[device] = pending
        start = len(pending.keys)
        pending.features[start : start + len(rows)] = rows
        pending.keys.extend(keys)
        self.n_rows += len(rows)
        if time.monotonic() - pending.since >= SEAL_SECONDS:
            self._seal(device)

    def close(self) -> None:
        """Seal all that is pending, and wait for it; raise what kept a segment from being written."""
        with self._writers:
            # All of them are tried, also where an earlier one failed.
            for writing in [*self._sealing.values(), *map(self._start_writing, [*self._pending])]:
                writing.result()

    def compact(self) -> None:
        """Compact the space's segments; the features are safe if this fails."""
        try:
            self._store.compact(self._network.spec.name)
        except DamagedError:
            raise
        except StoreError as error:
            _log.warning("the features are stored, but not compacted: %s", error)

    def _is_there(self, content_hash: bytes, view: int) -> bool:
        if (content_hash, view) in self._on_the_way:
            return True
        return self._space is not None and self._space.contains(content_hash, view)

    def _seal(self, device: str) -> None:
        """Write a device's pending rows as one segment while it computes the next."""
        if device in self._sealing:
            # One segment of each device on its way to the disk, so that memory is bounded.
            self._sealing.pop(device).result()
        self._sealing[device] = self._start_writing(device)

    def _start_writing(self, device: str) -> Future[None]:
        # Made with its first rows, so that a run that fails before them leaves no empty space behind.
        if self._space is None:
            self._space = self._store.create_space(
                self._network.spec,
                feature_dim=self._network.feature_dim,
                provenance={"weights": self._network.weights},
            )
        return self._writers.submit(self._write, self._space, device, self._pending.pop(device))

    def _write(self, space: Space, device: str, pending: _Pending) -> None:
        hashes, views = zip(*pending.keys, strict=True)
        space.append(
            pending.features[: len(pending.keys)],
            np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, HASH_BYTES),
            np.array(views, np.uint16),
            provenance={**self._network.provenance, "device": device},
        )
        self._on_the_way.difference_update(pending.keys)


def store_features(
    items: Iterable[ItemT], network: Backbone, sealer: Sealer, *, workers: int | None = None
) -> Generator[Group[ItemT], None, None]:
    """Pass images through a backbone and store the rows that its space lacks; yield each group when done.

    The caller closes the sealer, whatever happens.
    """
    one = Pass(network=network, spec=network.spec, wanted=sealer.lacking, claim=sealer.claim)
    for group in stream_images(items, [one], n_views=sealer.n_views, together=False, workers=workers):
        if 0 in group.rows:
            sealer.add(group.keys[0], group.rows[0], turn=group.turn[0])
        yield group


def uninterrupted(function: Callable[[], _Result]) -> _Result:
    """Call a function on a thread of its own, and raise Ctrl-C only when it is done."""
    interruption = None
    with ThreadPoolExecutor(1, thread_name_prefix="featstore-writer") as thread:
        calling = thread.submit(function)
        while not calling.done():
            try:
                wait([calling])
            except KeyboardInterrupt as error:
                interruption = error
    result = calling.result()
    if interruption is not None:
        raise interruption
    return result

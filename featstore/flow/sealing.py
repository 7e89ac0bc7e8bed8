"""Computed rows on their way into a space: gathered, and sealed as segments on threads."""

import contextlib
import logging
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from featstore.backbones import Backbone
from featstore.backbones.joint import JointBackbone
from featstore.errors import DamagedError, StoreError
from featstore.flow.loading import ItemT
from featstore.flow.stream import Group, Pass, stream_images
from featstore.store import FeatureStore, Space
from featstore.store.segments.keys import HASH_BYTES, ContentFilter

__all__ = [
    "SEAL_BYTES",
    "SEAL_SECONDS",
    "SHARD_BYTES",
    "JointSealer",
    "Sealer",
    "close_all",
    "in_all_spaces",
    "store_features",
    "uninterrupted",
]

_log = logging.getLogger(__name__)

SEAL_BYTES = 4 * 2**20
SEAL_SECONDS = 60.0
# A shard of a cluster is mostly one segment.
SHARD_BYTES = 16 * 2**20

_Result = TypeVar("_Result")


@dataclass(slots=True)
class _Pending:
    """Rows that one device has computed and that are not yet sealed: the first of ``features``."""

    features: NDArray[np.float32]
    keys: list[tuple[bytes, int]] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)


class Sealer:
    """Stores what a backbone computes, in bounded memory, and knows which rows are there or on their way.

    A shard gives the contents that the space has, as ``present``: the space's keys are not read, and a
    segment is named after its own and never sealed for its age, so that a shard that is run again writes none
    twice. ``engine`` computes the rows with those of other layers.
    """

    def __init__(
        self,
        store: FeatureStore,
        network: Backbone,
        *,
        n_views: int = 1,
        present: ContentFilter | None = None,
        engine: JointBackbone | None = None,
    ) -> None:
        self.n_views = n_views
        self._present = present
        self.n_rows = 0
        self._store = store
        self.network = network
        self._engine = engine or network
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

    def present(self) -> ContentFilter:
        """Return the contents that have all views."""
        if self._space is None:
            return ContentFilter()
        return ContentFilter.of(self._space.content_hash, self._space.view, n_views=self.n_views)

    def lacking(self, content_hash: bytes) -> list[int]:
        """Return the views of a content that are neither in the space nor on their way."""
        return [view for view in range(self.n_views) if not self._is_there(content_hash, view)]

    def claim(self, content_hash: bytes, views: Sequence[int]) -> bool:
        """Mark views as on their way; return False if another image with this content did so before."""
        if self._is_there(content_hash, views[0]):
            return False
        self._on_the_way.update((content_hash, view) for view in views)
        return True

    def is_on_the_way(self, content_hash: bytes, view: int) -> bool:
        """Return whether a row was claimed, and is not yet written."""
        return (content_hash, view) in self._on_the_way

    def add(self, keys: Sequence[tuple[bytes, int]], rows: NDArray[np.float32], *, turn: int) -> None:
        """Gather the rows of a network's batch, and start to seal them once there are enough."""
        devices = self._engine.devices
        device = devices[turn % len(devices)]
        pending = self._pending.get(device)
        if pending is not None and len(pending.keys) + len(rows) > len(pending.features):
            self._seal(device)
            pending = None
        if pending is None:
            n_bytes = SEAL_BYTES if self._present is None else SHARD_BYTES
            n_rows = max(n_bytes // rows[:1].nbytes, len(rows))
            pending = _Pending(np.empty((n_rows, rows.shape[1]), rows.dtype))
            self._pending[device] = pending
        start = len(pending.keys)
        pending.features[start : start + len(rows)] = rows
        pending.keys.extend(keys)
        self.n_rows += len(rows)
        if self._present is None and time.monotonic() - pending.since >= SEAL_SECONDS:
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
            self._store.compact(self.network.spec.name)
        except DamagedError:
            raise
        except StoreError as error:
            _log.warning("the features are stored, but not compacted: %s", error)

    def _is_there(self, content_hash: bytes, view: int) -> bool:
        if (content_hash, view) in self._on_the_way:
            return True
        if self._present is not None:
            return content_hash in self._present
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
                self.network.spec,
                feature_dim=self.network.feature_dim,
                provenance={"weights": self.network.weights},
            )
        return self._writers.submit(self._write, self._space, device, self._pending.pop(device))

    def _write(self, space: Space, device: str, pending: _Pending) -> None:
        hashes, views = zip(*pending.keys, strict=True)
        append = space.append if self._present is None else space.append_once
        append(
            pending.features[: len(pending.keys)],
            np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, HASH_BYTES),
            np.array(views, np.uint16),
            provenance={**self._engine.provenance, "device": device},
        )
        if self._present is None:
            self._on_the_way.difference_update(pending.keys)


class JointSealer:
    """Stores what one pass computes for the layers of a network, each in its own space."""

    def __init__(
        self,
        store: FeatureStore,
        network: JointBackbone,
        *,
        n_views: int = 1,
        present: ContentFilter | None = None,
    ) -> None:
        self.n_views = n_views
        self.network = network
        self.parts = [
            Sealer(store, part, n_views=n_views, present=present, engine=network) for part in network.parts
        ]

    def lacking(self, content_hash: bytes) -> list[int]:
        """Return the views of a content that some space lacks."""
        return sorted({view for part in self.parts for view in part.lacking(content_hash)})

    def claim(self, content_hash: bytes, views: Sequence[int]) -> bool:
        """Mark views as on their way to each space that lacks them; return False if none does."""
        is_claimed = False
        for part in self.parts:
            if own := [view for view in part.lacking(content_hash) if view in views]:
                is_claimed = part.claim(content_hash, own) or is_claimed
        return is_claimed

    def add(self, keys: Sequence[tuple[bytes, int]], rows: NDArray[np.float32], *, turn: int) -> None:
        """Give each space the rows that it lacks."""
        for part, columns in zip(self.parts, self.network.columns, strict=True):
            own = [at for at, key in enumerate(keys) if part.is_on_the_way(*key)]
            if own:
                part.add([keys[at] for at in own], rows[own, columns], turn=turn)


def in_all_spaces(sealers: Sequence[Sealer]) -> Callable[[NDArray[np.uint8]], NDArray[np.bool_]]:
    """Return what tells which contents, of shape (n, 32), have all views in every space."""

    def are_there(content_hash: NDArray[np.uint8]) -> NDArray[np.bool_]:
        there = [sealer.are_there(content_hash) for sealer in sealers]
        return np.asarray(np.logical_and.reduce(there), np.bool_)

    return are_there


def close_all(sealers: Sequence[Sealer]) -> None:
    """Close sealers, all of them also where one fails; raise what the first failed with."""
    with contextlib.ExitStack() as stack:
        for sealer in reversed(sealers):
            stack.callback(sealer.close)


def store_features(
    items: Iterable[ItemT], sealers: Sequence[Sealer | JointSealer], *, workers: int | None = None
) -> Generator[Group[ItemT], None, None]:
    """Store the rows that spaces lack; yield each group when done. The caller closes the sealers."""
    passes = [
        Pass(network=one.network, spec=one.network.spec, wanted=one.lacking, claim=one.claim)
        for one in sealers
    ]
    n_views = sealers[0].n_views
    for group in stream_images(items, passes, n_views=n_views, together=False, workers=workers):
        for number, rows in group.rows.items():
            sealers[number].add(group.keys[number], rows, turn=group.turn[number])
        yield group


def uninterrupted(function: Callable[[], _Result]) -> _Result:
    """Call a function on a separate thread, and raise Ctrl-C only when it is done."""
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

"""One extraction from a source's records to rows in the store, in bounded memory.

Threads read, hash and decode; the engine computes a batch while the next one is gathered; another thread
writes the rows of the batches before.
"""

import functools
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from featstore.backbones import Backbone
from featstore.errors import ExtractionError
from featstore.flow.changes import (
    SourceChanges,
    check_same_source,
    find_changes,
    find_moved,
    warn_of_lost_splits,
)
from featstore.flow.decoding import NO_HASH, Loaded, load_records
from featstore.images.sources.opening import Source
from featstore.io.stamps import UNKNOWN
from featstore.store import Catalog, FeatureStore, Space

__all__ = ["SEAL_BYTES", "SEAL_SECONDS", "ExtractionRun"]

_log = logging.getLogger(__name__)

SEAL_BYTES = 4 * 2**20
SEAL_SECONDS = 60.0


@dataclass(slots=True)
class _Batch:
    """A batch that the network is computing.

    Attributes
    ----------
    content_hash, view : list
        The rows' keys.
    n_images : int
        Images of which the last view is among them.
    """

    content_hash: list[bytes] = field(default_factory=list)
    view: list[int] = field(default_factory=list)
    n_images: int = 0


@dataclass(slots=True)
class _Pending:
    """Rows that one device has computed and that are not yet sealed: the first of ``features``."""

    features: NDArray[np.float32]
    content_hash: list[bytes] = field(default_factory=list)
    view: list[int] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)


class ExtractionRun:
    """One extraction: the source's records, what is known of them, and the rows to be stored.

    Parameters
    ----------
    source : Source
    store : FeatureStore
    network : Backbone
    known : Catalog or None
        What an earlier run wrote of this source.
    n_views : int
        How many views each image is to have.
    workers : int
        Threads that read and decode.
    strict : bool
        Stop at the first image that cannot be decoded.
    rehash : bool
        Read every file, also one that is unchanged.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of images.

    Attributes
    ----------
    n_images : int
        Of the source, those that could not even be opened included.
    extracted, extracted_views, reused, read : int
        As in :class:`~featstore.flow.extraction.ExtractionReport`, so far.
    catalog_name : str
        Once it has been kept, which it is.
    changes : SourceChanges
        From the catalog that was there, once a finished run has been kept.
    """

    def __init__(
        self,
        source: Source,
        store: FeatureStore,
        network: Backbone,
        known: Catalog | None,
        *,
        n_views: int,
        workers: int,
        strict: bool,
        rehash: bool,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.source = source
        self.store = store
        self.network = network
        self.n_views = n_views
        self.workers = workers
        self.strict = strict
        self.rehash = rehash
        self.progress = progress
        self.n_images = len(source.records) + len(source.failures)
        # One entry for each record. As columns they take a quarter of the memory that objects would.
        self._content_hash = np.zeros((len(source.records), len(NO_HASH)), np.uint8)
        self._is_settled = np.zeros(len(source.records), np.bool_)
        self._is_racy = np.zeros(len(source.records), np.bool_)
        self._reasons: dict[int, str] = {}
        self.settled = len(source.failures)
        self.extracted = 0
        self.extracted_views = 0
        self.reused = 0
        self.read = 0
        self.catalog_name = ""
        self.changes = SourceChanges()
        self._known = known
        self._near_groups = {} if known is None else known.near_group_by_content()
        self._pending: dict[str, _Pending] = {}
        self._sealing: dict[str, Future[None]] = {}
        self._writers = ThreadPoolExecutor(thread_name_prefix="featstore-writer")
        self._on_the_way: set[tuple[bytes, int]] = set()
        self._space = store.space(network.spec.name) if network.spec.name in store.space_names else None
        self._recall()

    def process(self) -> None:
        """Bring every record to its row in the store, or to the reason why it has none."""
        self._report_progress()
        if self.strict and (failures := self.failures()):
            raise _strict_error(*failures[0])
        queue: deque[_Batch] = deque()
        for number, rows in enumerate(self.network.run(self._batches(queue))):
            devices = self.network.devices
            device = devices[number % len(devices)]
            self._collect(device, queue.popleft(), rows)
            self._report_progress()
        self._report_progress()

    def save(self, name: str, *, is_named: bool) -> None:
        """Seal what is pending and write what is known of the source as its catalog."""
        interruption = None
        with self._writers:
            keeping = self._writers.submit(self._save, name, is_named)
            while not keeping.done():
                try:
                    wait([keeping])
                except KeyboardInterrupt as error:
                    interruption = error
        keeping.result()
        if interruption is not None:
            raise interruption

    def _save(self, name: str, is_named: bool) -> None:
        # All of them are tried, also where an earlier one failed.
        writing = [*self._sealing.values(), *(self._start_writing(device) for device in [*self._pending])]
        for sealing in writing:
            sealing.result()
        self.catalog_name = name
        if not is_named and name not in self.store.catalog_names:
            is_complete = bool(self._is_settled.all())
            self.catalog_name = find_moved(self.store, self._content_hash, is_complete=is_complete) or name
        # As it is by then: another run may have written it since this one began.
        self.store.update_catalog(self.catalog_name, functools.partial(self._merged, name))

    def _merged(self, name: str, current: Catalog | None) -> Catalog | None:
        """Return what this run makes of the catalog that is there, or None where it knows no better."""
        if current is None:
            catalog = self._catalog(name)
            return catalog if catalog.paths else None
        follows = current.name != name
        if not follows:
            check_same_source(current, self.source)
        is_known = self._known is not None and current.equals(self._known)
        is_complete = bool(self._is_settled.all())
        if not is_complete and (not is_known or current.root != self.source.root):
            # Unfinished, this run may know less.
            return None
        if follows:
            warn_of_lost_splits(current, self.source)
        self._near_groups = current.near_group_by_content()
        catalog = replace(
            self._catalog(current.name), moved_from=current.location if follows else current.moved_from
        )
        if is_complete:
            self.changes = find_changes(current, catalog)
        return catalog if catalog.paths else None

    def failures(self) -> list[tuple[str, str]]:
        """Return path and reason of each image without features."""
        decoded = [
            (self.source.records[number].path, reason)
            for number, reason in self._reasons.items()
            if self._is_settled[number]
        ]
        return sorted([*self.source.failures, *decoded], key=lambda failure: os.fsencode(failure[0]))

    def _catalog(self, name: str) -> Catalog:
        # Only records that are done now, or were in an earlier run, have something to record.
        numbers = np.flatnonzero(self._is_settled | self._content_hash.any(axis=1)).tolist()
        listed = [self.source.records[number] for number in numbers]
        failed = self.source.failures
        none = [None] * len(failed)
        hashes = np.concatenate([self._content_hash[numbers], np.zeros((len(failed), 32), np.uint8)])
        stamps = np.full((len(numbers) + len(failed), len(UNKNOWN)), UNKNOWN, np.int64)
        for at, (number, record) in enumerate(zip(numbers, listed, strict=True)):
            if not self._is_racy[number]:
                stamps[at] = record.stamp
        return Catalog(
            name=name,
            root=self.source.root,
            location=self.source.location,
            paths=[*(record.path for record in listed), *(path for path, _ in failed)],
            labels=[*(record.label for record in listed), *none],
            groups=[*(record.group for record in listed), *none],
            splits=[*(record.split for record in listed), *none],
            content_hash=hashes,
            sizes=stamps[:, 0],
            mtimes_ns=stamps[:, 1],
            ctimes_ns=stamps[:, 2],
            inodes=stamps[:, 3],
            reasons=[*map(self._reasons.get, numbers), *(reason for _, reason in failed)],
            near_groups=self._near_groups_of(hashes),
        )

    def _near_groups_of(self, hashes: NDArray[np.uint8]) -> list[str | None]:
        if not self._near_groups:
            return [None] * len(hashes)
        return [self._near_groups.get(row.tobytes()) for row in hashes]

    def _recall(self) -> None:
        """Reuse what the known catalog says about unchanged files."""
        # An unchanged file is done if the space has all views of its content, or if it could not be
        # decoded. For others the old content is kept, without stamps, in case the run is interrupted
        # before them.
        if (known := self._known) is None or known.root != self.source.root:
            return
        numbers = {path: number for number, path in enumerate(known.paths)}
        stamps = known.stamps()
        has_hash = np.asarray(known.content_hash.any(axis=1)).tolist()
        present = self._are_there(known.content_hash).tolist()
        for at, record in enumerate(self.source.records):
            number = numbers.get(record.path, -1)
            if number < 0:
                continue
            is_same = not self.rehash and stamps[number] == record.stamp
            self._is_racy[at] = not is_same
            self._content_hash[at] = known.content_hash[number]
            reason = known.reasons[number]
            if reason is not None:
                self._reasons[at] = reason
            if is_same and has_hash[number] and (present[number] or reason is not None):
                self._is_settled[at] = True
                self.settled += 1
                self.reused += reason is None

    def _batches(self, queue: deque[_Batch]) -> Iterator[NDArray[np.uint8]]:
        """Yield batches of decoded views, and queue their keys in the same order."""
        height, width = self.network.spec.size_px
        size = self.network.batch_size
        records = load_records(
            self.source,
            map(int, np.flatnonzero(~self._is_settled)),
            self.network.spec,
            wanted=self._lacking_views,
            n_views=self.n_views,
            workers=self.workers,
            ahead=2 * size + self.workers,
        )
        pixels, batch = np.empty((size, height, width, 3), np.uint8), _Batch()
        for loaded in records:
            is_last = loaded.rest is None
            if is_last:
                self.read += 1
                self._record(loaded)
            if loaded.reason is not None:
                continue
            # Looked up again: another file with the same content may have gone ahead since it was loaded.
            if not loaded.views or self._is_there(loaded.content_hash, loaded.views[0]):
                self.reused += is_last
                continue
            for view, seen in zip(loaded.views, loaded.pixels, strict=True):
                self._on_the_way.add((loaded.content_hash, view))
                pixels[len(batch.view)] = seen
                batch.content_hash.append(loaded.content_hash)
                batch.view.append(view)
                batch.n_images += is_last and view == loaded.views[-1]
                if len(batch.view) == size:
                    queue.append(batch)
                    yield pixels
                    pixels, batch = np.empty((size, height, width, 3), np.uint8), _Batch()
        if batch.view:
            queue.append(batch)
            yield pixels[: len(batch.view)]

    def _collect(self, device: str, batch: _Batch, rows: NDArray[np.float32]) -> None:
        """Collect a device's computed rows, and seal them once there are enough."""
        pending = self._pending.get(device)
        if pending is not None and len(pending.view) + len(rows) > len(pending.features):
            self._seal(device)
            pending = None
        if pending is None:
            n_rows = max(SEAL_BYTES // rows[:1].nbytes, len(rows))
            pending = _Pending(np.empty((n_rows, rows.shape[1]), rows.dtype))
            self._pending[device] = pending
        start = len(pending.view)
        pending.features[start : start + len(rows)] = rows
        pending.content_hash.extend(batch.content_hash)
        pending.view.extend(batch.view)
        self.extracted += batch.n_images
        self.extracted_views += len(batch.view)
        if time.monotonic() - pending.since >= SEAL_SECONDS:
            self._seal(device)

    def _seal(self, device: str) -> None:
        """Write a device's pending rows as one segment while it computes the next."""
        if device in self._sealing:
            # One segment of each device on its way to the disk, so that memory is bounded.
            self._sealing.pop(device).result()
        self._sealing[device] = self._start_writing(device)

    def _start_writing(self, device: str) -> Future[None]:
        # Made with its first rows, so that a run that fails before them leaves no empty space behind.
        if self._space is None:
            self._space = self.store.create_space(
                self.network.spec,
                feature_dim=self.network.feature_dim,
                provenance={"weights": self.network.weights},
            )
        return self._writers.submit(self._write, self._space, device, self._pending.pop(device))

    def _write(self, space: Space, device: str, pending: _Pending) -> None:
        features = pending.features[: len(pending.view)]
        hashes = np.frombuffer(b"".join(pending.content_hash), np.uint8).reshape(-1, 32)
        views = np.array(pending.view, np.uint16)
        space.append(features, hashes, views, provenance={**self.network.provenance, "device": device})
        self._on_the_way.difference_update(zip(pending.content_hash, pending.view, strict=True))

    def _record(self, loaded: Loaded) -> None:
        """Record a worker's result in the record's row."""
        self._content_hash[loaded.number] = np.frombuffer(loaded.content_hash, np.uint8)
        self._is_racy[loaded.number] = loaded.racy
        self._is_settled[loaded.number] = True
        self._reasons.pop(loaded.number, None)
        self.settled += 1
        if loaded.reason is not None:
            path = self.source.records[loaded.number].path
            self._reasons[loaded.number] = loaded.reason
            _log.info("%s: %s", path, loaded.reason)
            if self.strict:
                raise _strict_error(path, loaded.reason)

    def _is_there(self, content_hash: bytes, view: int) -> bool:
        if (content_hash, view) in self._on_the_way:
            return True
        return self._space is not None and self._space.contains(content_hash, view)

    def _are_there(self, content_hash: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return whether the space has all views of each content."""
        there = np.full(len(content_hash), self._space is not None)
        for view in range(self.n_views):
            if self._space is None or not there.any():
                break
            there[there] = self._space.lookup(content_hash[there], view) >= 0
        return there

    def _lacking_views(self, content_hash: bytes) -> list[int]:
        return [view for view in range(self.n_views) if not self._is_there(content_hash, view)]

    def _report_progress(self) -> None:
        if self.progress is not None:
            self.progress(self.settled, self.n_images)


def _strict_error(path: str, reason: str) -> ExtractionError:
    return ExtractionError(
        f"{path}: {reason}. Repair or remove it, or run without --strict to skip and list such images"
    )

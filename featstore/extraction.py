"""From a source of images to features at rest: each distinct content passes the backbone once, ever."""

import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones import Backbone, load_backbone
from featstore.errors import ExtractionError, ImageError, SourceError
from featstore.hashing import content_hash
from featstore.images.decode import decode_image
from featstore.images.reading import default_workers, map_ahead, read_image
from featstore.images.sources import ImageRecord, Source, open_source
from featstore.store import Catalog, FeatureStore

__all__ = ["ExtractionInterrupted", "ExtractionReport", "extract"]

_log = logging.getLogger(__name__)

SEAL_BYTES = 16 * 2**20
SEAL_SECONDS = 60.0
# A file written this short a time before it was read may be written again within the same tick of the
# file system's clock, so its size and time would not tell: it is read again next time.
RACY_NS = 50_000_000
_NO_HASH = bytes(32)


@dataclass(frozen=True, kw_only=True)
class ExtractionReport:
    """What an extraction did.

    Attributes
    ----------
    store : str
        Absolute path of the store.
    space, catalog : str
        Where the features and the labels are in it.
    images : int
        Files of the source, the failed ones included.
    extracted : int
        Images that passed the backbone.
    reused : int
        Images whose features were there already, or came from another file with the same content.
    failed : int
        Images without features.
    failures : tuple of (str, str)
        Path and reason of each failed image.
    ignored : int
        Files of the source that are no images by their name.
    read : int
        Files that were opened.
    seconds, images_per_second : float
        Wall time, and images settled in it.
    """

    store: str
    space: str
    catalog: str
    images: int
    extracted: int
    reused: int
    failed: int
    failures: tuple[tuple[str, str], ...]
    ignored: int
    read: int
    seconds: float
    images_per_second: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values, each failure as ``{"path", "reason"}``."""
        failures = [{"path": path, "reason": reason} for path, reason in self.failures]
        return {**self.__dict__, "failures": failures}


class ExtractionInterrupted(KeyboardInterrupt):
    """Ctrl-C during an extraction, raised once everything that was done has been sealed.

    Attributes
    ----------
    report : ExtractionReport
        What had been done. The same call goes on from there.
    """

    def __init__(self, report: ExtractionReport) -> None:
        super().__init__("extraction interrupted")
        self.report = report


def extract(
    source: str | os.PathLike[str],
    store: str | os.PathLike[str] | FeatureStore | None = None,
    *,
    backbone: str | os.PathLike[str] | Backbone = "mobilenet_v2",
    catalog: str | None = None,
    strict: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    **backbone_options: Any,
) -> ExtractionReport:
    """Push every image of a source through a backbone and keep the features.

    Images whose content is in the store's space already cost no forward pass; files that are unchanged since
    the last time (same path, size and modification time) are not even opened.

    Parameters
    ----------
    source : path
        A folder of class folders, a flat folder, or a CSV with the columns ``path`` and, optionally,
        ``label``, ``group`` and ``split``.
    store : path or FeatureStore, optional
        Made where it does not exist. By default ``NAME.fstore`` in the current folder, after the source.
    backbone : str or Backbone
        Name of a known backbone, path of a ``.keras`` model, or a loaded one.
    catalog : str, optional
        Name for this source's paths and labels in the store; by default after the source.
    strict : bool
        Stop at the first image that cannot be decoded instead of recording its reason and going on.
    workers : int, optional
        Threads that read and decode; by default one for each core.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of images.
    **backbone_options
        As for :func:`featstore.load_backbone`: ``weights``, ``layer``, ``pooling``, ``image_size``,
        ``resize``, ``dtype``, ``precision``, ``preprocessing``, ``alpha``, ``engine``.

    Returns
    -------
    ExtractionReport

    Raises
    ------
    SourceError
        The source cannot be used, or its catalog's name is taken by another source.
    BackboneError
        The backbone cannot be built.
    StoreError
        The store cannot be opened or written.
    ExtractionError
        Every image failed, or one did and ``strict`` is true.
    ExtractionInterrupted
        Ctrl-C; what was done is sealed.
    """
    started = time.monotonic()
    images = open_source(source)
    if isinstance(backbone, str | os.PathLike):
        network = load_backbone(os.fspath(backbone), **backbone_options)
    elif backbone_options:
        raise TypeError(f"a loaded backbone takes no further options: {', '.join(sorted(backbone_options))}")
    else:
        network = backbone
    made = False
    if not isinstance(store, FeatureStore):
        path = f"{images.name}.fstore" if store is None else store
        made = not os.path.lexists(path)
        store = FeatureStore(path, create=True)
    name = catalog or images.name
    known = _known_catalog(store, name, images)
    run = _Run(
        images, store, network, known, workers=workers or default_workers(), strict=strict, progress=progress
    )
    try:
        try:
            run.settle()
        finally:
            run.keep(name)
    except KeyboardInterrupt as interruption:
        raise ExtractionInterrupted(run.report(name, time.monotonic() - started)) from interruption
    finally:
        if made and not store.space_names:
            _remove_empty(store, name)
    if run.extracted:
        store.compact(network.spec.name)
    finished = run.report(name, time.monotonic() - started)
    if finished.failed == finished.images:
        path, reason = finished.failures[0]
        raise ExtractionError(
            f"none of the {finished.images:,} images could be used; the first, {path}: {reason}. "
            "Check that the files are whole and are images."
        )
    return finished


def _remove_empty(store: FeatureStore, catalog: str) -> None:
    """Take away a store that this run made and that nothing came of, so that it is not in the way.

    Folders are removed only while they are empty: rows that another process seals meanwhile stay.
    """
    with contextlib.suppress(OSError):
        os.rmdir(os.path.join(store.path, "spaces"))
        if catalog in store.catalog_names:
            os.unlink(store.catalog_path(catalog))
        for folder in ("catalogs", "heads"):
            os.rmdir(os.path.join(store.path, folder))
        os.unlink(os.path.join(store.path, "featstore.json"))
        os.rmdir(store.path)


def _known_catalog(store: FeatureStore, name: str, images: Source) -> Catalog | None:
    """Return the catalog that an earlier run wrote for this source, if any."""
    if name not in store.catalog_names:
        return None
    known = store.catalog(name)
    if os.path.lexists(known.location) and not os.path.samefile(known.location, images.location):
        raise SourceError(
            f"the catalog {name!r} of {store.path} describes {known.location}, not {images.location}; "
            "give this source a name of its own with --catalog NAME"
        )
    return known


@dataclass(slots=True)
class _Row:
    """What the catalog will say about one record, filled in as the run settles it."""

    content_hash: bytes = _NO_HASH
    size: int = -1
    mtime_ns: int = -1
    reason: str | None = None
    settled: bool = False

    @property
    def known(self) -> bool:
        """Whether the catalog can say something of it: it is settled now, or was in an earlier run."""
        return self.settled or self.content_hash != _NO_HASH


@dataclass(slots=True)
class _Loaded:
    """One record after a worker thread has dealt with it."""

    number: int
    content_hash: bytes = _NO_HASH
    pixels: NDArray[np.uint8] | None = None
    reason: str | None = None
    racy: bool = False


@dataclass(slots=True)
class _Pending:
    """Rows that have been computed and not yet sealed."""

    features: list[NDArray[np.float32]] = field(default_factory=list)
    content_hash: list[bytes] = field(default_factory=list)
    bytes: int = 0
    since: float = field(default_factory=time.monotonic)


class _Run:
    """One extraction: its records, what is known of them, and the rows on their way to the store."""

    def __init__(
        self,
        source: Source,
        store: FeatureStore,
        network: Backbone,
        known: Catalog | None,
        *,
        workers: int,
        strict: bool,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.source = source
        self.store = store
        self.network = network
        self.workers = workers
        self.strict = strict
        self.progress = progress
        self.rows = [_Row() for _ in source.records]
        self.settled = len(source.failures)
        self.extracted = 0
        self.reused = 0
        self.read = 0
        self._known = known
        self._near_groups = {} if known is None else known.near_group_by_content()
        self._pending = _Pending()
        self._on_the_way: set[bytes] = set()
        self._space = store.space(network.spec.name) if network.spec.name in store.space_names else None
        self._recall()

    def settle(self) -> None:
        """Bring every record to its row in the store, or to the reason why it has none."""
        self._report_progress()
        if self.strict and (failures := self.failures()):
            raise _strict_error(*failures[0])
        queues: deque[list[bytes]] = deque()
        for rows in self.network.run(self._batches(queues)):
            hashes = queues.popleft()
            if not self._pending.features:
                self._pending.since = time.monotonic()
            self._pending.features.append(rows)
            self._pending.content_hash.extend(hashes)
            self._pending.bytes += rows.nbytes
            self.extracted += len(hashes)
            if self._pending.bytes >= SEAL_BYTES or time.monotonic() - self._pending.since >= SEAL_SECONDS:
                self.seal()
            self._report_progress()
        self._report_progress()

    def seal(self) -> None:
        """Write the pending rows to the space as one segment."""
        if not self._pending.features:
            return
        features = np.concatenate(self._pending.features)
        hashes = np.frombuffer(b"".join(self._pending.content_hash), np.uint8).reshape(-1, 32)
        # Made with its first rows, so that a run that fails before them leaves no empty space behind.
        if self._space is None:
            self._space = self.store.create_space(
                self.network.spec,
                feature_dim=self.network.feature_dim,
                provenance={"weights": self.network.weights},
            )
        self._space.append(features, hashes, provenance=self.network.provenance)
        self._on_the_way.difference_update(self._pending.content_hash)
        self._pending = _Pending()

    def keep(self, name: str) -> None:
        """Seal what is pending and write what is known of the source as its catalog."""
        self.seal()
        catalog = self._catalog(name)
        if catalog.paths and (self._known is None or not catalog.equals(self._known)):
            self.store.write_catalog(catalog)

    def failures(self) -> list[tuple[str, str]]:
        """Return path and reason of each image without features."""
        decoded = [
            (record.path, row.reason)
            for record, row in zip(self.source.records, self.rows, strict=True)
            if row.settled and row.reason is not None
        ]
        return sorted([*self.source.failures, *decoded], key=lambda failure: os.fsencode(failure[0]))

    def report(self, catalog: str, seconds: float) -> ExtractionReport:
        """Sum up what was done."""
        failures = tuple(self.failures())
        return ExtractionReport(
            store=self.store.path,
            space=self.network.spec.name,
            catalog=catalog,
            images=len(self.rows) + len(self.source.failures),
            extracted=self.extracted,
            reused=self.reused,
            failed=len(failures),
            failures=failures,
            ignored=self.source.ignored,
            read=self.read,
            seconds=seconds,
            images_per_second=(self.extracted + self.reused + len(failures)) / seconds,
        )

    def _catalog(self, name: str) -> Catalog:
        told = [pair for pair in zip(self.source.records, self.rows, strict=True) if pair[1].known]
        for path, reason in self.source.failures:
            told.append((ImageRecord(path=path, size=-1, mtime_ns=-1), _Row(reason=reason)))
        return Catalog(
            name=name,
            root=self.source.root,
            location=self.source.location,
            paths=[record.path for record, _ in told],
            labels=[record.label for record, _ in told],
            groups=[record.group for record, _ in told],
            splits=[record.split for record, _ in told],
            content_hash=np.frombuffer(b"".join(row.content_hash for _, row in told), np.uint8).reshape(
                -1, 32
            ),
            sizes=np.array([row.size for _, row in told], np.int64),
            mtimes_ns=np.array([row.mtime_ns for _, row in told], np.int64),
            reasons=[row.reason for _, row in told],
            near_groups=[self._near_groups.get(row.content_hash) for _, row in told],
        )

    def _recall(self) -> None:
        """Take over what the known catalog says of files that are unchanged since it was written.

        Such a file is settled if the space has its content, or if it could not be decoded.
        """
        if (known := self._known) is None or known.root != self.source.root:
            return
        numbers = {path: number for number, path in enumerate(known.paths)}
        sizes, mtimes_ns = known.sizes.tolist(), known.mtimes_ns.tolist()
        if self._space is None:
            present = [False] * len(known.paths)
        else:
            present = (self._space.lookup(known.content_hash) >= 0).tolist()
        for record, row in zip(self.source.records, self.rows, strict=True):
            number = numbers.get(record.path, -1)
            if number < 0 or sizes[number] != record.size or mtimes_ns[number] != record.mtime_ns:
                continue
            row.content_hash = known.content_hash[number].tobytes()
            row.size, row.mtime_ns, row.reason = record.size, record.mtime_ns, known.reasons[number]
            row.settled = row.content_hash != _NO_HASH and (present[number] or row.reason is not None)
            self.settled += row.settled
            self.reused += row.settled and row.reason is None

    def _batches(self, queues: deque[list[bytes]]) -> Iterator[NDArray[np.uint8]]:
        """Yield batches of decoded images; their hashes are queued in the same order."""
        height, width = self.network.spec.size_px
        size = self.network.batch_size
        unsettled = (number for number, row in enumerate(self.rows) if not row.settled)
        pixels = np.empty((size, height, width, 3), np.uint8)
        hashes: list[bytes] = []
        for loaded in map_ahead(self._load, unsettled, workers=self.workers, ahead=2 * size + self.workers):
            self.read += 1
            self._note(loaded)
            if loaded.reason is not None:
                continue
            # Looked up again: another file with the same content may have gone ahead since it was loaded.
            if loaded.pixels is None or self._is_there(loaded.content_hash):
                self.reused += 1
                continue
            self._on_the_way.add(loaded.content_hash)
            pixels[len(hashes)] = loaded.pixels
            hashes.append(loaded.content_hash)
            if len(hashes) == size:
                queues.append(hashes)
                yield pixels
                pixels, hashes = np.empty((size, height, width, 3), np.uint8), []
        if hashes:
            queues.append(hashes)
            yield pixels[: len(hashes)]

    def _load(self, number: int) -> _Loaded:
        """Read, hash and, where the space lacks it, decode one image; runs on a worker thread."""
        record = self.source.records[number]
        loaded = _Loaded(number)
        spec = self.network.spec
        try:
            data = read_image(os.path.join(self.source.root, record.path))
            loaded.racy = len(data) != record.size or abs(time.time_ns() - record.mtime_ns) < RACY_NS
            loaded.content_hash = content_hash(data)
            if not self._is_there(loaded.content_hash):
                loaded.pixels = decode_image(data, size_px=spec.size_px, resize=spec.resize)
        except ImageError as error:
            loaded.reason = str(error)
        return loaded

    def _note(self, loaded: _Loaded) -> None:
        """Write into the record's row what its worker found."""
        record, row = self.source.records[loaded.number], self.rows[loaded.number]
        row.content_hash, row.reason, row.settled = loaded.content_hash, loaded.reason, True
        row.size, row.mtime_ns = (-1, -1) if loaded.racy else (record.size, record.mtime_ns)
        self.settled += 1
        if loaded.reason is not None:
            _log.info("%s: %s", record.path, loaded.reason)
            if self.strict:
                raise _strict_error(record.path, loaded.reason)

    def _is_there(self, content_hash: bytes) -> bool:
        if content_hash in self._on_the_way:
            return True
        return self._space is not None and self._space.contains(content_hash)

    def _report_progress(self) -> None:
        if self.progress is not None:
            self.progress(self.settled, len(self.rows) + len(self.source.failures))


def _strict_error(path: str, reason: str) -> ExtractionError:
    return ExtractionError(
        f"{path}: {reason}. Mend or remove it, or run without --strict to skip and list such images"
    )

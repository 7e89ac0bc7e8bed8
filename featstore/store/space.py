"""Spaces: all features of one backbone specification in a store."""

import hashlib
import os
import re
import threading
import time
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featstore.errors import NotInStoreError, StoreError
from featstore.io.atomic import failure_reason
from featstore.io.hdf5.raw import damaged
from featstore.io.storage.opening import file_exists, storage_of
from featstore.store.description import read_space_description
from featstore.store.segments.headers import open_plain_segment
from featstore.store.segments.keys import HASH_BYTES, KeyIndex
from featstore.store.segments.maps import SegmentMaps
from featstore.store.segments.retired import retired_names, retired_paths
from featstore.store.segments.segment import (
    FILE_DTYPES,
    LATEST_NS,
    FeatureArray,
    Rows,
    Segment,
    open_segment,
    row_checksums,
    segment_writer,
)

__all__ = ["Space", "segment_paths"]

_SEGMENT_NAME = re.compile(r"[0-9a-f]{32}\.h5")
_MAX_VIEW = 2**16 - 1
_MAX_RETRIES = 20
_GATHER_BYTES = 4 * 2**20


class Space:
    """The rows of one space, numbered from 0 in the order of their segments.

    A row's key is the image's content hash and the view: 0, the image itself, or one of those that the
    recipe ``spec.views`` draws. Images may have different numbers of views.

    Opening one reads nothing but ``space.json``; the segments are opened, and their keys read, at the first
    look-up. From then on the rows keep their numbers: what other processes append is not seen, and what they
    compact is found again. :meth:`FeatureStore.space` gives a fresh one where the folder has changed. A space
    may be used by several threads at once. With ``verify_reads``, rows are compared with their checksums.
    """

    def __init__(self, path: str, *, verify_reads: bool = False) -> None:
        self.path = path
        self.verify_reads = verify_reads
        self.name = os.path.basename(path)
        self.spec, self.feature_dim, self.provenance = read_space_description(path)
        self._lock = threading.RLock()
        self._loaded = False
        self._segments: list[Segment] = []
        self._starts: list[int] = []
        self._index = KeyIndex()
        self._maps = SegmentMaps(path)
        self._latest_ns = 0
        self._compacted: Space | None = None

    def __repr__(self) -> str:
        count = f"{len(self._index):,} rows" if self._loaded else "rows"
        return f"<Space {self.name}: {count} of {self.feature_dim} x {self.spec.dtype}>"

    @property
    def fingerprint(self) -> str:
        """The specification's fingerprint, 64 hexadecimal digits."""
        return self.spec.fingerprint

    @property
    def dtype(self) -> np.dtype[Any]:
        """How features are stored: little-endian float32 or float16."""
        return np.dtype(FILE_DTYPES[self.spec.dtype])

    @property
    def n_rows(self) -> int:
        """Number of rows; duplicate keys count twice."""
        self._load()
        return len(self._index)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The sealed files, in the order of their rows."""
        self._load()
        return tuple(self._segments)

    @property
    def content_hash(self) -> NDArray[np.uint8]:
        """The content hash of every row, uint8 of shape (n_rows, 32), read-only."""
        self._load()
        return _read_only(self._index.content_hash)

    @property
    def view(self) -> NDArray[np.uint16]:
        """The view of every row, uint16 of shape (n_rows,), read-only."""
        self._load()
        return _read_only(self._index.view)

    def lookup(
        self, content_hash: NDArray[np.uint8], view: int | NDArray[np.uint16] = 0
    ) -> NDArray[np.int64]:
        """Return the row of each key, int64 of shape (n,): the first of duplicates, -1 where missing."""
        hashes, views = _checked_keys(content_hash, view)
        with self._lock:
            self._load()
            return self._index.find(hashes, views)

    def contains(self, content_hash: bytes, view: int = 0) -> bool:
        """Return whether the space has a row for one key; takes microseconds."""
        if len(content_hash) != HASH_BYTES:
            raise StoreError(f"a content hash has {HASH_BYTES} bytes; found {len(content_hash)}")
        with self._lock:
            self._load()
            return self._index.find_one(content_hash, view) >= 0

    def rows(self, numbers: ArrayLike) -> FeatureArray:
        """Return features by row number, of shape (m, feature_dim)."""
        # One ascending run within one segment comes as a read-only memory map, anything else as a copy.
        self._load()
        wanted = np.asarray(numbers, np.int64).reshape(-1)
        if len(wanted) == 0:
            return np.empty((0, self.feature_dim), self.dtype)
        order = None if (wanted[1:] > wanted[:-1]).all() else np.argsort(wanted, kind="stable")
        ascending = wanted if order is None else wanted[order]
        first, last = int(ascending[0]), int(ascending[-1])
        if first < 0 or last >= len(self._index):
            wrong = first if first < 0 else last
            raise NotInStoreError(
                f"the space {self.name} has the rows 0 to {len(self._index) - 1}, not {wrong}"
            )
        numbers_of_segments = np.searchsorted(self._starts, ascending, side="right") - 1
        cuts = [0, *(np.flatnonzero(np.diff(numbers_of_segments)) + 1).tolist(), len(ascending)]
        if self.verify_reads:
            for begin, end in pairwise(cuts):
                number = int(numbers_of_segments[begin])
                self._segments[number].check_rows(ascending[begin:end] - self._starts[number])
        if order is None and len(cuts) == 2 and last - first == len(wanted) - 1:
            number = int(numbers_of_segments[0])
            mapped = self._map(number)
            if mapped is not None:
                start = first - self._starts[number]
                return mapped[start : start + len(wanted)]
        gathered = np.empty((len(wanted), self.feature_dim), self.dtype)
        segments_left = [self._segments[number] for number in numbers_of_segments[cuts[:-1]]]
        n_fetched = 0
        step = max(1, _GATHER_BYTES // (self.feature_dim * self.dtype.itemsize))
        for begin, end in pairwise(cuts):
            number = int(numbers_of_segments[begin])
            if not n_fetched:
                n_fetched = self._maps.fetch(segments_left)
            del segments_left[0]
            n_fetched -= 1
            mapped = self._map(number)
            for start in range(begin, end, step):
                stop = min(start + step, end)
                if mapped is None:
                    block = self._rows_elsewhere(ascending[start:stop])
                else:
                    block = mapped[ascending[start:stop] - self._starts[number]]
                gathered[slice(start, stop) if order is None else order[start:stop]] = block
        return gathered

    def append(
        self,
        features: NDArray[np.floating[Any]],
        content_hash: NDArray[np.uint8],
        view: NDArray[np.uint16] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        """Write finite features of shape (n, feature_dim) as one new segment, durable on return."""
        hashes, views = _checked_keys(content_hash, 0 if view is None else view)
        values = self._converted(features, len(hashes))
        if len(values) == 0:
            return
        segment = self._write(values, hashes, views, provenance)
        with self._lock:
            if self._loaded:
                self._segments.append(segment)
                self._starts.append(len(self._index))
                self._index.extend(hashes, views)

    def append_once(
        self,
        features: NDArray[np.floating[Any]],
        content_hash: NDArray[np.uint8],
        view: NDArray[np.uint16],
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        """Write rows as a segment named after their keys, unless it is there; seen once opened anew."""
        hashes, views = _checked_keys(content_hash, view)
        values = self._converted(features, len(hashes))
        if len(values) == 0:
            return
        keys = np.ascontiguousarray(hashes).tobytes() + views.astype("<u2").tobytes()
        name = f"{hashlib.sha256(keys).hexdigest()[:32]}.h5"
        if not file_exists(os.path.join(self.path, name)):
            self._write(values, hashes, views, provenance, name=name)
        elif os.path.join(self.path, name) in retired_paths(self.path):
            # Whatever has replaced it may have been set aside since, as damaged.
            self._write(values, hashes, views, provenance)

    @property
    def holds_maps(self) -> bool:
        """Whether the rows are activation maps, on which a fine-tuning trains."""
        return bool(self.provenance.get("activation_maps"))

    @property
    def saw_labels(self) -> bool:
        """Whether the network was fine-tuned in this store, on labels of images that are here."""
        return bool(self.provenance.get("fine_tuned"))

    def is_current(self) -> bool:
        """Return whether the folder still holds exactly the segments that are open here."""
        with self._lock:
            known = {segment.path for segment in self._segments}
            return not self._loaded or known == set(segment_paths(self.path))

    def _write(
        self,
        values: FeatureArray,
        hashes: NDArray[np.uint8],
        views: NDArray[np.uint16],
        provenance: Mapping[str, Any] | None,
        *,
        name: str | None = None,
    ) -> Segment:
        rows = Rows(
            features=values, content_hash=hashes, view=views, checksum=row_checksums(values, hashes, views)
        )
        with self._lock:
            # A clock that was set back must not put later rows before earlier ones; a segment from the end
            # of time must not make later ones unreadable.
            created_ns = self._latest_ns = min(max(time.time_ns(), self._latest_ns + 1), LATEST_NS)
        with segment_writer(
            self.path,
            self.spec,
            n_rows=len(values),
            feature_dim=self.feature_dim,
            created_ns=created_ns,
            provenance=self.provenance if provenance is None else provenance,
            name=name,
        ) as writer:
            writer.write(rows)
        return writer.segment

    def _load(self) -> None:
        """Open all segments and read their keys, once."""
        if self._loaded:
            return None
        with self._lock:
            for _ in range(_MAX_RETRIES):
                try:
                    return self._load_listed(segment_paths(self.path))
                except FileNotFoundError:
                    # Compaction elsewhere removed a segment after it was listed: its rows are in a new one.
                    continue
            raise StoreError(f"the segments of {self.path} keep vanishing; is another program removing them?")

    def _load_listed(self, paths: list[str]) -> None:
        if self._loaded:
            return
        fingerprint = self.fingerprint

        def opened(path: str) -> Segment:
            plain = open_plain_segment(path, expected_fingerprint=fingerprint)
            return plain or open_segment(path, expected_fingerprint=fingerprint)

        segments = storage_of(self.path).map(opened, paths)
        for segment in segments:
            if segment.feature_dim != self.feature_dim or segment.dtype != self.dtype:
                raise damaged(
                    segment.path,
                    f"its rows are {segment.feature_dim} x {segment.dtype}; "
                    f"the space's are {self.feature_dim} x {self.dtype}",
                )
        segments.sort(key=lambda segment: (segment.created_ns, segment.name))
        index = KeyIndex(sum(segment.n_rows for segment in segments))
        starts = []
        for segment in segments:
            starts.append(len(index))
            for keys in segment.key_blocks():
                index.extend(*keys)
        if segments:
            self._latest_ns = max(self._latest_ns, segments[-1].created_ns)
        self._segments, self._starts, self._index = segments, starts, index
        self._loaded = True

    def _map(self, number: int) -> FeatureArray | None:
        """Return a segment's features, or None if its file has been removed."""
        with self._lock:
            return self._maps.open(self._segments[number])

    def _rows_elsewhere(self, numbers: NDArray[np.int64]) -> FeatureArray:
        """Gather rows of a compacted segment from the one that now holds them."""
        hashes, views = self._index.content_hash[numbers], self._index.view[numbers]
        with self._lock:
            if self._compacted is not None:
                found = self._compacted.lookup(hashes, views)
                if (found >= 0).all():
                    return self._compacted.rows(found)
            self._compacted = Space(self.path, verify_reads=self.verify_reads)
            found = self._compacted.lookup(hashes, views)
            if (found >= 0).all():
                return self._compacted.rows(found)
        raise StoreError(
            f"{int((found < 0).sum())} rows of the space {self.name} have been removed since it was opened; "
            "extract these images again"
        )

    def _converted(self, features: NDArray[np.floating[Any]], n_rows: int) -> FeatureArray:
        given = np.asarray(features)
        if given.shape != (n_rows, self.feature_dim) or given.dtype.kind != "f":
            raise StoreError(
                f"features must be floating-point of shape ({n_rows}, {self.feature_dim}); "
                f"found {given.dtype} of shape {given.shape}"
            )
        with np.errstate(over="ignore"):
            values: FeatureArray = np.ascontiguousarray(given, self.dtype)
        wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(wrong):
            shown = ", ".join(map(str, wrong[:10].tolist())) + (", …" if len(wrong) > 10 else "")
            if np.isfinite(given[wrong]).all():
                raise StoreError(
                    f"features in {len(wrong)} rows ({shown}) are too large for {self.spec.dtype}, "
                    f"which ends at {np.finfo(self.dtype).max:g}; store them as float32"
                )
            raise StoreError(
                f"features in {len(wrong)} rows ({shown}) are not finite; nothing was stored. "
                "Check the backbone's weights and preprocessing."
            )
        return values


def segment_paths(folder: str) -> list[str]:
    """List a space's sealed files in no particular order, ignoring other files."""
    # Large folders are listed in parts: what compaction replaces in between could be missed, old and new.
    # Two lists that agree were not torn so. What a bucket lists is whole, and what was replaced still there.
    listed = _listed(folder)
    if not storage_of(folder).keeps_removed:
        return list(listed)
    for _ in range(_MAX_RETRIES):
        again = _listed(folder)
        if listed == again:
            return list(listed)
        listed = again
    raise StoreError(f"the segments of {folder} keep changing while they are listed; try again")


def _listed(folder: str) -> set[str]:
    try:
        entries = storage_of(folder).entries(folder)
    except OSError as error:
        raise StoreError(f"cannot read the space {folder}: {failure_reason(error)}") from error
    retired = retired_names(entries)
    return {
        entry.path for entry in entries if _SEGMENT_NAME.fullmatch(entry.name) and entry.name not in retired
    }


def _checked_keys(
    content_hash: NDArray[np.uint8], view: int | NDArray[np.uint16]
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    hashes = np.asarray(content_hash)
    if hashes.dtype != np.uint8 or hashes.ndim != 2 or hashes.shape[1] != HASH_BYTES:
        raise StoreError(
            f"content hashes must be uint8 of shape (n, {HASH_BYTES}); "
            f"found {hashes.dtype} of shape {hashes.shape}"
        )
    views = np.asarray(view)
    if views.ndim > 1 or views.dtype.kind not in "iu" or (views.ndim and len(views) != len(hashes)):
        raise StoreError(
            f"views must be integers, one for each of the {len(hashes)} hashes; "
            f"found {views.dtype} of shape {views.shape}"
        )
    if views.size and (views.min() < 0 or views.max() > _MAX_VIEW):
        raise StoreError(f"views go from 0 to {_MAX_VIEW}; found {int(views.min())} to {int(views.max())}")
    return hashes, np.broadcast_to(views.astype(np.uint16), len(hashes))


def _read_only(column: NDArray[Any]) -> NDArray[Any]:
    view = column.view()
    view.flags.writeable = False
    return view

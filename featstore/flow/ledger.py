"""What is known of a source's images: from its last catalog, and from this run."""

import functools
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ExtractionError
from featstore.flow.changes import (
    SourceChanges,
    check_same_source,
    find_changes,
    find_moved,
    warn_of_lost_splits,
)
from featstore.flow.loading import Loaded
from featstore.images.reading import read_image
from featstore.images.sources.opening import ImageRecord, Source
from featstore.io.stamps import MEMBER_MARK, UNKNOWN
from featstore.store import Catalog, FeatureStore
from featstore.store.keys import HASH_BYTES

__all__ = ["Ledger", "RecordItem"]

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class RecordItem:
    """A source's image on its way through the pipeline."""

    number: int  # of the record, in its source
    record: ImageRecord
    root: str
    is_racy: bool = False  # the file may have changed while it was read: the next run has to read it again

    def read(self) -> bytes:
        """Return the file's bytes."""
        self.is_racy = self.record.stamp.is_racy(time.time_ns())
        content = read_image(os.path.join(self.root, self.record.path))
        # The stamp of an image within a larger file is that file's.
        self.is_racy |= MEMBER_MARK not in self.record.path and len(content) != self.record.stamp.size
        return content


class Ledger:
    """The state of each record of a source, from which its catalog is written.

    A record is settled once its features are in the store, or the reason is known why it has none.

    Parameters
    ----------
    source : Source
    known : Catalog or None
        What an earlier run wrote of this source.
    strict : bool
        Raise ExtractionError at the first image that cannot be decoded.

    Attributes
    ----------
    n_images : int
        Of the source, those that could not even be opened included.
    settled, extracted, reused, read : int
        Numbers of images so far; see :class:`~featstore.flow.extraction.ExtractionReport`.
    catalog_name : str
        Once the catalog has been written.
    changes : SourceChanges
        From the catalog that was there, once that of a finished run has been written.
    """

    def __init__(self, source: Source, known: Catalog | None, *, strict: bool) -> None:
        self.source = source
        self.strict = strict
        self.n_images = len(source.records) + len(source.failures)
        # One entry for each record. As columns they take a quarter of the memory that objects would.
        self._content_hash = np.zeros((len(source.records), HASH_BYTES), np.uint8)
        self._is_settled = np.zeros(len(source.records), np.bool_)
        self._is_racy = np.zeros(len(source.records), np.bool_)
        self._reasons: dict[int, str] = {}
        self.settled = len(source.failures)
        self.extracted = 0
        self.reused = 0
        self.read = 0
        self.catalog_name = ""
        self.changes = SourceChanges()
        self._known = known
        self._near_groups = {} if known is None else known.near_group_by_content()

    def recall(self, are_there: Callable[[NDArray[np.uint8]], NDArray[np.bool_]], *, rehash: bool) -> None:
        """Settle unchanged files of which the features are there, or that could not be decoded."""
        # For others the old content is kept, without stamps, in case the run is interrupted before them.
        if (known := self._known) is None or known.root != self.source.root:
            return
        numbers = {path: number for number, path in enumerate(known.paths)}
        stamps = known.stamps()
        has_hash = np.asarray(known.content_hash.any(axis=1)).tolist()
        present = are_there(known.content_hash).tolist()
        for at, record in enumerate(self.source.records):
            number = numbers.get(record.path, -1)
            if number < 0:
                continue
            is_same = not rehash and stamps[number] == record.stamp
            self._is_racy[at] = not is_same
            self._content_hash[at] = known.content_hash[number]
            reason = known.reasons[number]
            if reason is not None:
                self._reasons[at] = reason
            if is_same and has_hash[number] and (present[number] or reason is not None):
                self._is_settled[at] = True
                self.settled += 1
                self.reused += reason is None

    def items(self) -> Iterator[RecordItem]:
        """Yield what is not settled yet."""
        if self.strict and (failures := self.failures()):
            raise _strict_error(*failures[0])
        for number in np.flatnonzero(~self._is_settled).tolist():
            yield RecordItem(number, self.source.records[number], self.source.root)

    def settle(self, image: Loaded[RecordItem]) -> None:
        """Record what became of an image."""
        number = image.item.number
        if image.content_hash:
            self._content_hash[number] = np.frombuffer(image.content_hash, np.uint8)
        else:
            self._content_hash[number] = 0
        self._is_racy[number] = image.item.is_racy or image.is_transient
        self._is_settled[number] = True
        self._reasons.pop(number, None)
        self.settled += 1
        self.read += 1
        if image.reason is not None:
            path = image.item.record.path
            self._reasons[number] = image.reason
            _log.info("%s: %s", path, image.reason)
            if self.strict:
                raise _strict_error(path, image.reason)
        elif image.views:
            self.extracted += 1
        else:
            self.reused += 1

    def failures(self) -> list[tuple[str, str]]:
        """Return path and reason of each image without features."""
        decoded = [
            (self.source.records[number].path, reason)
            for number, reason in self._reasons.items()
            if self._is_settled[number]
        ]
        return sorted([*self.source.failures, *decoded], key=lambda failure: os.fsencode(failure[0]))

    def write_catalog(self, store: FeatureStore, name: str, *, is_named: bool) -> None:
        """Write what is known of the source as its catalog."""
        self.catalog_name = name
        if not is_named and name not in store.catalog_names:
            is_complete = bool(self._is_settled.all())
            self.catalog_name = find_moved(store, self._content_hash, is_complete=is_complete) or name
        # As it is by then: another run may have written it since this one began.
        store.update_catalog(self.catalog_name, functools.partial(self._merged, name))

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

    def _catalog(self, name: str) -> Catalog:
        # Only records that are done now, or were in an earlier run, have something to record.
        numbers = np.flatnonzero(self._is_settled | self._content_hash.any(axis=1)).tolist()
        listed = [self.source.records[number] for number in numbers]
        failed = self.source.failures
        none = [None] * len(failed)
        hashes = np.concatenate([self._content_hash[numbers], np.zeros((len(failed), HASH_BYTES), np.uint8)])
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


def _strict_error(path: str, reason: str) -> ExtractionError:
    return ExtractionError(
        f"{path}: {reason}. Repair or remove it, or run without --strict to skip and list such images"
    )

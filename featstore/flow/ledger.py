"""What is known of a source's images: from its last catalog, and from this run."""

import functools
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import CorrectionsError, ExtractionError
from featstore.flow.changes import (
    SourceChanges,
    check_same_source,
    find_changes,
    find_moved,
    warn_of_lost_splits,
)
from featstore.flow.loading import Loaded
from featstore.flow.record_item import RecordItem
from featstore.flow.shard import Shard, ShardResult
from featstore.images.sources.opening import ImageRecord, Source
from featstore.io.stamps import UNKNOWN
from featstore.messages import printable
from featstore.store import Catalog, Corrections, FeatureStore, correct_catalog, is_correction
from featstore.store.correcting import check_one_label
from featstore.store.keys import HASH_BYTES

__all__ = ["Ledger"]

_log = logging.getLogger(__name__)


class Ledger:
    """The state of each record of a source, from which its catalog is written.

    A record is settled once its features are in the store, or the reason is known why it has none.
    With ``strict``, the first image that cannot be decoded raises ExtractionError.
    """

    def __init__(
        self,
        source: Source,
        known: Catalog | None,
        *,
        strict: bool,
        corrections: Corrections | None = None,
    ) -> None:
        if corrections is not None:
            check_one_label(source.label_separator, printable(source.location), target=source.target)
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
        self.corrections: dict[str, Any] = {}
        self._corrections = corrections
        self._known = known
        self._near_groups = {} if known is None else known.near_group_by_content()

    def recall(self, are_there: Callable[[NDArray[np.uint8]], NDArray[np.bool_]], *, rehash: bool) -> None:
        """Settle unchanged files of which the features are there, or that could not be decoded."""
        # For others the old content is kept, without stamps, in case the run is interrupted before them.
        if self._known is not None:
            self.recall_from(self._known, are_there, rehash=rehash)

    def recall_from(
        self,
        known: Catalog,
        are_there: Callable[[NDArray[np.uint8]], NDArray[np.bool_]],
        *,
        rehash: bool = False,
        is_report: bool = False,
    ) -> None:
        """Do so by any catalog of the source, or by a shard's report, with what it could not read."""
        if known.root != self.source.root:
            return
        numbers = {path: number for number, path in enumerate(known.paths)}
        stamps = known.stamps()
        has_hash = np.asarray(known.content_hash.any(axis=1)).tolist()
        present = are_there(known.content_hash).tolist()
        for at, record in enumerate(self.source.records):
            number = numbers.get(record.path, -1)
            if number < 0 or self._is_settled[at]:
                continue
            is_same = not rehash and stamps[number] == record.stamp
            # A file that may have changed while it was read counts as read; the next run reads it again.
            is_settled = is_same or (is_report and stamps[number] == UNKNOWN)
            self._is_racy[at] = not is_same
            self._content_hash[at] = known.content_hash[number]
            reason = None if is_correction(known.reasons[number]) else known.reasons[number]
            if reason is not None:
                self._reasons[at] = reason
            is_known = has_hash[number] or (is_report and reason is not None)
            if is_settled and is_known and (present[number] or reason is not None):
                self._is_settled[at] = True
                self.settled += 1
                self.reused += reason is None

    def check_strict(self) -> None:
        """Raise ExtractionError for what is known to have failed, if strict."""
        if self.strict and (failures := self.failures()):
            raise _strict_error(*failures[0])

    def items(self) -> Iterator[RecordItem]:
        """Yield what is not settled yet."""
        self.check_strict()
        for number in np.flatnonzero(~self._is_settled).tolist():
            yield RecordItem(number, self.source.records[number], self.source.root)

    def shards(self, size: int) -> Iterator[Shard]:
        """Yield what is not settled yet, some images at a time, without what workers need not know."""
        numbers = np.flatnonzero(~self._is_settled)
        for start in range(0, len(numbers), size):
            some = numbers[start : start + size]
            records = [self.source.records[number] for number in some.tolist()]
            bare = [ImageRecord(path=record.path, stamp=record.stamp) for record in records]
            yield Shard(numbers=some, records=bare)

    def settle(self, image: Loaded[RecordItem]) -> None:
        """Record the outcome of an image."""
        self._settle(
            image.item.number,
            image.content_hash or None,
            reason=image.reason,
            is_racy=image.item.is_racy or image.is_transient,
            is_computed=bool(image.views),
        )

    def settle_shard(self, shard: Shard, result: ShardResult) -> None:
        """Record the outcome of a shard's images."""
        for at, number in enumerate(shard.numbers.tolist()):
            self._settle(
                number,
                result.content_hash[at].tobytes(),
                reason=result.reasons.get(at),
                is_racy=bool(result.is_racy[at]),
                is_computed=bool(result.is_computed[at]),
            )

    def unsettle_lacking(self, are_there: Callable[[NDArray[np.uint8]], NDArray[np.bool_]]) -> list[str]:
        """Take settled images without a reason back if their features are not there; return their paths."""
        numbers = np.flatnonzero(self._is_settled)
        numbers = numbers[[number not in self._reasons for number in numbers.tolist()]]
        lacking = numbers[~are_there(self._content_hash[numbers])]
        self._is_settled[lacking] = False
        self._content_hash[lacking] = 0
        return [self.source.records[number].path for number in lacking.tolist()]

    def _settle(
        self, number: int, content_hash: bytes | None, *, reason: str | None, is_racy: bool, is_computed: bool
    ) -> None:
        self._content_hash[number] = 0 if content_hash is None else np.frombuffer(content_hash, np.uint8)
        self._is_racy[number] = is_racy
        self._is_settled[number] = True
        self._reasons.pop(number, None)
        self.settled += 1
        self.read += 1
        if reason is not None:
            path = self.source.records[number].path
            self._reasons[number] = reason
            _log.info("%s: %s", path, reason)
            if self.strict:
                raise _strict_error(path, reason)
        elif is_computed:
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
        """Return what this run makes of the catalog that is there, or None if that is more complete."""
        if current is None:
            catalog = self._corrected(self._catalog(name))
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
            self._corrected(self._catalog(current.name)),
            moved_from=current.location if follows else current.moved_from,
        )
        if is_complete:
            self.changes = find_changes(current, catalog)
        return catalog if catalog.paths else None

    def _corrected(self, catalog: Catalog) -> Catalog:
        if self._corrections is None:
            return catalog
        is_complete = bool(self._is_settled.all())
        try:
            corrected, effect = correct_catalog(catalog, self._corrections, is_complete=is_complete)
        except CorrectionsError as error:
            raise CorrectionsError(f"{error}; the features are stored, and no catalog is written") from None
        self.corrections = effect.to_dict()
        return corrected

    def settled_catalog(self, name: str) -> Catalog:
        """Return a catalog of what is settled, and of nothing else."""
        return self._catalog(name, self._is_settled)

    def lacking(self) -> list[str]:
        """Return the paths of the images that are not settled."""
        return [self.source.records[number].path for number in np.flatnonzero(~self._is_settled).tolist()]

    def _catalog(self, name: str, is_listed: NDArray[np.bool_] | None = None) -> Catalog:
        # Only records that are done now, or were in an earlier run, have something to record.
        if is_listed is None:
            is_listed = self._is_settled | self._content_hash.any(axis=1)
        # Of many millions of images each copy counts: the catalog takes tuples as they are.
        numbers = np.flatnonzero(is_listed)
        listed, failed = self.source.records, self.source.failures
        if len(numbers) < len(listed):
            listed = [listed[number] for number in numbers.tolist()]
        none = [None] * len(failed)
        hashes = np.zeros((len(listed) + len(failed), HASH_BYTES), np.uint8)
        np.take(self._content_hash, numbers, axis=0, out=hashes[: len(listed)])
        stamps = np.full((len(hashes), len(UNKNOWN)), UNKNOWN, np.int64)
        is_known = ~self._is_racy[numbers]
        for at, record in enumerate(listed):
            if is_known[at]:
                stamps[at] = record.stamp
        weights, targets = np.full((2, len(hashes)), np.nan)
        weights[: len(listed)] = np.fromiter((_number(record.weight) for record in listed), np.float64)
        targets[: len(listed)] = np.fromiter((_number(record.target) for record in listed), np.float64)
        return Catalog(
            name=name,
            root=self.source.root,
            location=self.source.location,
            paths=(*(record.path for record in listed), *(path for path, _ in failed)),
            labels=(*(record.label for record in listed), *none),
            groups=(*(record.group for record in listed), *none),
            splits=(*(record.split for record in listed), *none),
            content_hash=hashes,
            sizes=stamps[:, 0],
            mtimes_ns=stamps[:, 1],
            ctimes_ns=stamps[:, 2],
            inodes=stamps[:, 3],
            reasons=(
                *(self._reasons.get(int(number)) for number in numbers),
                *(reason for _, reason in failed),
            ),
            near_groups=self._near_groups_of(hashes),
            label_separator=self.source.label_separator,
            weights=weights,
            target_name=self.source.target,
            targets=targets,
        )

    def _near_groups_of(self, hashes: NDArray[np.uint8]) -> tuple[str | None, ...]:
        if not self._near_groups:
            return (None,) * len(hashes)
        return tuple(self._near_groups.get(row.tobytes()) for row in hashes)


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _strict_error(path: str, reason: str) -> ExtractionError:
    return ExtractionError(
        f"{path}: {reason}. Repair or remove it, or run without --strict to skip and list such images"
    )

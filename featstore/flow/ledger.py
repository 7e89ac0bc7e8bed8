"""What is known of a source's images: from its last catalog, and from this run."""

import functools
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
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
from featstore.io.long_arrays import as_read_only, blocks_of, forget_pages, long_zeros
from featstore.io.stamps import UNKNOWN
from featstore.io.texts import CodedTexts, PathIndex, PlainTexts
from featstore.messages import printable
from featstore.store import Catalog, Corrections, FeatureStore, correct_catalog, is_correction
from featstore.store.corrections.correcting import check_one_label
from featstore.store.segments.keys import HASH_BYTES

__all__ = ["Ledger"]

_log = logging.getLogger(__name__)

_ROWS_AT_ONCE = 2**14


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
        # One entry for each record; of many millions they are in files.
        self._content_hash = long_zeros(len(source.records), (HASH_BYTES,), np.uint8)
        self._is_settled = long_zeros(len(source.records), (), np.bool_)
        self._is_racy = long_zeros(len(source.records), (), np.bool_)
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
        self._index: PathIndex | None = None

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
        if self._index is None:
            self._index = PathIndex(self.source.records.columns.paths)
        for block in blocks_of(len(known), _ROWS_AT_ONCE):
            places, at = self._index.find(known.encoded_paths(block))
            # Of a path that is listed more than once, the last row counts.
            _, last = np.unique(at[::-1], return_index=True)
            places, at = places[::-1][last], at[::-1][last]
            is_open = ~self._is_settled[at]
            rows, at = block.start + places[is_open], at[is_open]
            if not len(rows):
                continue
            hashes, stamps = known.content_hash[rows], known.stamps(rows)
            is_same = (stamps == self.source.records.columns.stamps.rows[at]).all(axis=1) & (not rehash)
            # A file that may have changed while it was read counts as read; the next run reads it again.
            is_settled = is_same | (is_report & (stamps == UNKNOWN).all(axis=1))
            self._is_racy[at] = ~is_same
            self._content_hash[at] = hashes
            told = known.reasons[block]
            reasons = [told[place] for place in places[is_open].tolist()]
            reasons = [None if is_correction(reason) else reason for reason in reasons]
            has_reason = np.array([reason is not None for reason in reasons], np.bool_)
            self._reasons |= {
                place: reason
                for place, reason in zip(at.tolist(), reasons, strict=True)
                if reason is not None
            }
            is_known = hashes.any(axis=1) | (has_reason & is_report)
            is_settled &= is_known & (are_there(hashes) | has_reason)
            self._is_settled[at[is_settled]] = True
            self.settled += int(is_settled.sum())
            self.reused += int((is_settled & ~has_reason).sum())
            self.forget_pages()

    def check_strict(self) -> None:
        """Raise ExtractionError for what is known to have failed, if strict."""
        if self.strict and (failures := self.failures()):
            raise _strict_error(*failures[0])

    def items(self) -> Iterator[RecordItem]:
        """Yield what is not settled yet."""
        self.check_strict()
        for number in self._unsettled():
            yield RecordItem(number, self.source.records[number], self.source.root)

    def shards(self, size: int) -> Iterator[Shard]:
        """Yield what is not settled yet, some images at a time, without what workers need not know."""
        numbers = self._unsettled()
        while some := list(islice(numbers, size)):
            records = [self.source.records[number] for number in some]
            bare = [ImageRecord(path=record.path, stamp=record.stamp) for record in records]
            yield Shard(numbers=np.array(some), records=bare)
            self.forget_pages()

    def _unsettled(self) -> Iterator[int]:
        """Yield the numbers of the records that are not settled when their turn comes."""
        for block in blocks_of(len(self._is_settled), _ROWS_AT_ONCE):
            yield from (block.start + np.flatnonzero(~self._is_settled[block])).tolist()

    def forget_pages(self) -> None:
        """Give memory back to the system, of which files have the content."""
        self.source.records.forget_pages()
        for array in (self._content_hash, self._is_settled, self._is_racy):
            forget_pages(array)
        if self._known is not None:
            self._known.forget_pages()

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
        lacking: list[int] = []
        for block in blocks_of(len(self._is_settled)):
            numbers = block.start + np.flatnonzero(self._is_settled[block])
            numbers = numbers[~are_there(self._content_hash[numbers])]
            lacking += [number for number in numbers.tolist() if number not in self._reasons]
        self._is_settled[lacking] = False
        self._content_hash[lacking] = 0
        self.forget_pages()
        return [self.source.records[number].path for number in lacking]

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
        return [self.source.records[number].path for number in self._unsettled()]

    def _catalog(self, name: str, is_listed: NDArray[np.bool_] | None = None) -> Catalog:
        unread = 0
        if is_listed is None:
            is_listed = self._have_something()
            unread = len(is_listed) - int(is_listed.sum())
        columns, failed = self.source.records.columns, self.source.failures
        n_listed = int(is_listed.sum())
        n_images = n_listed + len(failed)
        hashes = long_zeros(n_images, (HASH_BYTES,), np.uint8)
        stamps = long_zeros(n_images, (len(UNKNOWN),), np.int64)
        weights, targets = (long_zeros(n_images, (), np.float64) for _ in range(2))
        paths, labels, groups, splits = PlainTexts(), CodedTexts(), PlainTexts(), CodedTexts()
        reasons, near_groups = CodedTexts(), CodedTexts()
        start = 0
        for block in blocks_of(len(is_listed), _ROWS_AT_ONCE):
            taken = np.flatnonzero(is_listed[block])
            rows = slice(start, start := start + len(taken))
            chosen = block.start + taken
            hashes[rows] = self._content_hash[chosen]
            stamps[rows] = np.where(self._is_racy[chosen, None], UNKNOWN, columns.stamps.rows[chosen])
            weights[rows] = columns.weights.rows[chosen]
            targets[rows] = columns.targets.rows[chosen]
            for given, plain in ((columns.paths, paths), (columns.groups, groups)):
                encoded = given.encoded(block.start, block.stop)
                plain.extend([encoded[place] for place in taken.tolist()])
            for said, coded in ((columns.labels, labels), (columns.splits, splits)):
                texts = said.block(block.start, block.stop)
                coded.extend([texts[place] for place in taken.tolist()])
            reasons.extend([self._reasons.get(number) for number in chosen.tolist()])
            near_groups.extend(self._near_groups_of(hashes[rows]))
            self.forget_pages()
            for filled in (hashes, stamps, weights, targets):
                forget_pages(filled)
        hashes[start:], stamps[start:], weights[start:], targets[start:] = 0, UNKNOWN, np.nan, np.nan
        paths.extend([path.encode("utf-8", "surrogateescape") for path, _ in failed])
        groups.extend([b""] * len(failed))
        for coded in (labels, splits, near_groups):
            coded.extend([None] * len(failed))
        reasons.extend([reason for _, reason in failed])
        self.forget_pages()
        return Catalog(
            name=name,
            root=self.source.root,
            location=self.source.location,
            paths=paths,
            labels=labels,
            groups=groups,
            splits=splits,
            content_hash=as_read_only(hashes),
            sizes=as_read_only(stamps[:, 0]),
            mtimes_ns=as_read_only(stamps[:, 1]),
            ctimes_ns=as_read_only(stamps[:, 2]),
            inodes=as_read_only(stamps[:, 3]),
            reasons=reasons,
            near_groups=near_groups,
            label_separator=self.source.label_separator,
            weights=as_read_only(weights),
            target_name=self.source.target,
            targets=as_read_only(targets),
            unread=str(unread or ""),
        )

    def _have_something(self) -> NDArray[np.bool_]:
        """Return whether each record is done now, or was in an earlier run."""
        is_listed = long_zeros(len(self._is_settled), (), np.bool_)
        for block in blocks_of(len(is_listed)):
            is_listed[block] = self._is_settled[block] | self._content_hash[block].any(axis=1)
            forget_pages(self._content_hash)
        return is_listed

    def _near_groups_of(self, hashes: NDArray[np.uint8]) -> list[str | None]:
        if not self._near_groups:
            return [None] * len(hashes)
        return [self._near_groups.get(row.tobytes()) for row in hashes]


def _strict_error(path: str, reason: str) -> ExtractionError:
    return ExtractionError(
        f"{path}: {reason}. Repair or remove it, or run without --strict to skip and list such images"
    )

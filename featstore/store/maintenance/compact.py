"""Compaction: merge small segments into larger ones.

A segment is removed only once a newly sealed one holds every key that it held. That holds whatever other
processes append, read or compact at the same time, so there is no lock; a crash before the removal leaves
keys that are there twice, which is harmless, and the next compaction drops the second copies.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import StoreNotFoundError
from featstore.io.hdf5.raw import damaged
from featstore.io.storage.folders import Folders
from featstore.io.storage.opening import storage_of
from featstore.store.segments.keys import KeyIndex
from featstore.store.segments.retired import remove_retired, retire
from featstore.store.segments.segment import Segment, damaged_rows, read_description, segment_writer
from featstore.store.space import Space

__all__ = ["CompactReport", "compact_space", "plan_compaction"]

MAX_BYTES = Folders.max_file_bytes
# Up to here a rewrite takes a fraction of a second and is always worth a smaller number of files.
SMALL_BYTES = 32 * 2**20
RATIO = 4

_MAX_PROVENANCES = 16
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CompactReport:
    """Result of a compaction.

    Attributes
    ----------
    spaces : int
        Spaces that were looked at.
    segments_before, segments_after : int
        Sealed files of these spaces.
    rows : int
        Rows that were rewritten.
    duplicates : int
        Rows that were dropped because their key was there already.
    bytes_written : int
    leftovers_removed : int
        Temporary files of killed processes, older than a day; in a bucket, segments that an earlier
        compaction has replaced, more than an hour ago.
    """

    spaces: int = 0
    segments_before: int = 0
    segments_after: int = 0
    rows: int = 0
    duplicates: int = 0
    bytes_written: int = 0
    leftovers_removed: int = 0

    def __add__(self, other: "CompactReport") -> "CompactReport":
        return CompactReport(**{name: value + getattr(other, name) for name, value in asdict(self).items()})

    def to_dict(self) -> dict[str, int]:
        """Return the fields as JSON values."""
        return asdict(self)


def compact_space(
    space: Space,
    *,
    min_segments: int = 2,
    full: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> CompactReport:
    """Merge those segments of a space that :func:`plan_compaction` selects."""
    n_removed = remove_retired(space.path)
    segments, max_bytes = space.segments, storage_of(space.path).max_file_bytes
    groups = []
    if len(segments) >= min_segments or full:
        groups = plan_compaction(segments, full=full, max_bytes=max_bytes)
    groups = [group for group in groups if len(group) > 1 or full]
    total = sum(segment.n_rows for group in groups for segment in group)
    report = CompactReport(
        spaces=1,
        segments_before=len(segments),
        segments_after=len(segments),
        leftovers_removed=n_removed,
    )
    seen = 0
    for group in groups:
        done = seen

        def advance(n_rows: int, done: int = done) -> None:
            if progress is not None:
                progress(done + n_rows, total)

        try:
            report += _fold(space, group, advance)
        except StoreNotFoundError:
            _log.info("another process is compacting %s; skipped", space.name)
        seen += sum(segment.n_rows for segment in group)
    return report


def plan_compaction(
    segments: Sequence[Segment], *, full: bool = False, max_bytes: int = MAX_BYTES
) -> list[list[Segment]]:
    """Return which neighbouring segments should be merged."""
    # From the newest back, a segment joins its younger neighbours while the largest is at most four times
    # as large as the others together (or 32 MiB) and the total stays within max_bytes. So ten new rows never
    # rewrite gigabytes, a row is rewritten O(log n) times as its space grows to n, and there are O(log n)
    # segments until they reach max_bytes. With full=True only this limit counts.
    groups: list[list[Segment]] = []
    total = largest = 0
    for segment in reversed(segments):
        new_total, new_largest = total + segment.n_bytes, max(largest, segment.n_bytes)
        worth_it = full or new_largest <= max(RATIO * (new_total - new_largest), SMALL_BYTES)
        if groups and worth_it and new_total <= max_bytes:
            groups[-1].append(segment)
            total, largest = new_total, new_largest
        else:
            groups.append([segment])
            total = largest = segment.n_bytes
    return [group[::-1] for group in reversed(groups)]


def _fold(space: Space, group: list[Segment], advance: Callable[[int], None]) -> CompactReport:
    """Write one segment with the rows of several, then remove these."""
    kept = _first_of_each_key(group)
    n_kept, n_rows = int(kept.sum()), len(kept)
    if len(group) == 1 and n_kept == n_rows:
        return CompactReport()
    done = 0
    with segment_writer(
        space.path,
        space.spec,
        n_rows=n_kept,
        feature_dim=space.feature_dim,
        created_ns=group[0].created_ns,
        provenance=_merged_provenance(group),
    ) as writer:
        for segment in group:
            for rows in segment.blocks():
                if len(wrong := damaged_rows(rows)):
                    raise damaged(segment.path, f"{len(wrong)} rows do not agree with their checksums")
                chosen = kept[done : done + len(rows.view)]
                writer.write(rows if chosen.all() else rows.take(chosen))
                done += len(chosen)
                advance(done)
    retire(space.path, [segment.path for segment in group])
    return CompactReport(
        segments_after=1 - len(group),
        rows=n_kept,
        duplicates=n_rows - n_kept,
        bytes_written=writer.segment.n_bytes,
    )


def _first_of_each_key(group: list[Segment]) -> NDArray[np.bool_]:
    """Return whether each row is the first with its key; bool over the rows of all segments."""
    index = KeyIndex(sum(segment.n_rows for segment in group))
    for segment in group:
        for keys in segment.key_blocks():
            index.extend(*keys)
    return index.is_first()


def _merged_provenance(group: list[Segment]) -> dict[str, Any]:
    """Return what the segments agree on; where they differ, all values up to a limit."""
    found: list[dict[str, Any]] = []
    for segment in group:
        _, provenance = read_description(segment.path)
        merged = provenance.get("merged")
        for one in merged if isinstance(merged, list) else [provenance]:
            if one not in found:
                found.append(one)
    if len(found) == 1:
        return found[0]
    return {"merged": found[:_MAX_PROVENANCES], "others": max(0, len(found) - _MAX_PROVENANCES) or None}

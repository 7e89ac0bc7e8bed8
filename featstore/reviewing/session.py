"""A review under way: the queue, the decisions so far, and the photos."""

import getpass
import os
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from featstore.errors import CorrectionsError
from featstore.heads.head import Head
from featstore.images.thumbnails import read_thumbnail, webp
from featstore.reviewing.queue import ReviewItem, ReviewQueue, review_queue
from featstore.store import (
    Correction,
    Corrections,
    correct_labels,
    correction_effect,
    read_corrections,
    record_correction,
    undo_correction,
)
from featstore.store.corrections.file import check_corrections_path
from featstore.store.tables.table import FeatureTable

__all__ = ["ReviewSession"]

_PHOTO_PX = 1024


class ReviewSession:
    """Decisions on a table's images, each of which goes to a file at once.

    The queue is made of the labels as they are corrected so far; what is decided already is at its end.

    Parameters
    ----------
    head : Head
    table : FeatureTable
        As in the store, not corrected.
    path : path_like
        The file of corrections, which need not exist.
    who : str, optional
        Who decides; by default the user's name.
    most : int
        Most images of each kind.

    Raises
    ------
    CorrectionsError
        The file is no file of corrections.
    OutputError
        No file may be written there.
    """

    def __init__(
        self,
        head: Head,
        table: FeatureTable,
        path: str | os.PathLike[str],
        *,
        who: str | None = None,
        most: int = 100,
    ) -> None:
        self.path = check_corrections_path(path)
        self.who = _user_name() if who is None else who
        self._table = table
        known = self._known()
        self.queue = _remaining(head, table, known, most)
        self._rows: dict[str, int] = {
            content: row for row, content in reversed([*enumerate(table.content_hash.tolist())])
        }
        self._labels: dict[str, list[str]] = {}
        for content, label in zip(table.content_hash.tolist(), table.y.tolist(), strict=True):
            if label and label not in self._labels.setdefault(content, []):
                self._labels[content].append(label)
        self.classes = sorted({*head.classes.tolist(), *table.classes.tolist()})
        self.name = head.name
        self._paths = table.relative_paths
        self._splits = table.splits(head.split_rule)
        self._hashes = np.ascontiguousarray(table.content_hash_bytes)

    @property
    def n_decided(self) -> int:
        """Number of images of the table that are decided."""
        return sum(content in self._rows for content in self._known().current)

    def state(self) -> dict[str, Any]:
        """Return what the page shows: the queue, and what is decided."""
        known = self._known().current
        decided = [content for content in known if content in self._rows]
        queued = {item.content_hash for item in self.queue.items}
        items = [self._described(item) for item in self.queue.items]
        items += [self._decided(content) for content in decided if content not in queued]
        return {
            "file": os.path.basename(self.path),
            "who": self.who,
            "classes": sorted({*self.classes, *(one.new for one in known.values() if _is_label(one))}),
            "items": items,
            "decided": decided,
            "decisions": {content: _told(known[content]) for content in decided},
            "left_out": self.queue.left_out,
        }

    def decide(self, content_hash: str, decision: str, new: str = "") -> dict[str, str]:
        """Record a decision, and return it."""
        row = self._row(content_hash)
        labels = self._labels.get(content_hash, [])
        if decision == "accept":
            if len(labels) != 1:
                found = ", ".join(map(repr, labels)) or "none"
                raise CorrectionsError(f"only one label can be right; the image has {found}")
            new = labels[0]
        if decision == "duplicate":
            self._row(new)
        one = Correction(
            content_hash=content_hash,
            decision=decision,
            new=new,
            old=str(self._table.y[row]),
            path=self._paths[row],
            who=self.who,
            when=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        record_correction(self.path, one)
        return _told(one)

    def undo(self, content_hash: str) -> dict[str, str] | None:
        """Take the last decision on an image back, and return the one that counts then."""
        undo_correction(self.path, content_hash)
        before = self._known().current.get(content_hash)
        return None if before is None else _told(before)

    def photo(self, content_hash: str) -> bytes:
        """Return an image of the table as a WebP file."""
        row = self._row(content_hash)
        pixels = read_thumbnail(str(self._table.paths[row]), self._hashes[row].tobytes(), _PHOTO_PX)
        return webp(pixels, size_px=_PHOTO_PX, quality=82)

    def _row(self, content_hash: str) -> int:
        if content_hash not in self._rows:
            raise LookupError(f"no image of {self._table.catalog_name} has the content {content_hash[:64]!r}")
        return self._rows[content_hash]

    def _known(self) -> Corrections:
        return read_corrections(self.path) if os.path.lexists(self.path) else Corrections(path=self.path)

    def _described(self, item: ReviewItem) -> dict[str, Any]:
        told = {
            **self._decided(item.content_hash),
            "kinds": list(item.kinds),
            "suggested": item.suggested,
            "p": round(item.probability, 4),
            "pLabel": None if item.label_probability is None else round(item.label_probability, 4),
        }
        if item.other is not None:
            told["other"] = {
                "hash": str(self._table.content_hash[item.other]),
                "path": self._paths[item.other],
                "label": str(self._table.y[item.other]),
                "similarity": None if item.similarity is None else round(item.similarity, 3),
            }
        return told

    def _decided(self, content_hash: str) -> dict[str, Any]:
        row = self._rows[content_hash]
        return {
            "hash": content_hash,
            "path": self._paths[row],
            "labels": self._labels.get(content_hash, []),
            "split": str(self._splits[row]),
            "kinds": [],
            "suggested": "",
            "p": None,
            "pLabel": None,
            "other": None,
        }


def _remaining(head: Head, table: FeatureTable, known: Corrections, most: int) -> ReviewQueue:
    """Return the queue by labels as they are corrected so far, without what is decided."""
    current = table
    if known.current and correction_effect(table, known).unmatched < len(known.current):
        current = correct_labels(table, known)
    queue = review_queue(head, current, most=most)
    rows = {content: row for row, content in reversed([*enumerate(table.content_hash.tolist())])}

    def in_table(row: int | None) -> int | None:
        return None if row is None else rows[str(current.content_hash[row])]

    items = [
        replace(item, row=rows[item.content_hash], other=in_table(item.other))
        for item in queue.items
        if item.content_hash not in known.current
    ]
    return replace(queue, items=tuple(items))


def _told(one: Correction) -> dict[str, str]:
    return {"decision": one.decision, "new": one.new}


def _is_label(one: Correction) -> bool:
    return one.decision in ("accept", "relabel")


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A user of a container may have no name.
        return ""

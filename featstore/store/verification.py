"""Every byte that matters, checked: what is damaged is reported, not raised."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featstore.errors import DamagedError, FeatstoreError, StoreNotFoundError
from featstore.hashing import fingerprint
from featstore.store.catalog import read_catalog
from featstore.store.segment import Segment, damaged_rows, open_segment, read_description
from featstore.store.space import Space, segment_paths

if TYPE_CHECKING:
    from featstore.store.store import FeatureStore

__all__ = ["Damage", "VerifyReport", "verify_store"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Damage:
    """One damaged file.

    Attributes
    ----------
    path : str
        Absolute.
    space : str or None
        The space that it belongs to; None for a catalog.
    rows : tuple of int
        The damaged rows, counted from the segment's first; empty where the whole file cannot be used.
    reason : str
    """

    path: str
    space: str | None
    rows: tuple[int, ...] = ()
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {"path": self.path, "space": self.space, "rows": list(self.rows), "reason": self.reason}


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What a verification found.

    Attributes
    ----------
    segments, catalogs : int
        Files that were checked.
    rows : int
        Rows that agree with their checksums.
    damaged : tuple of Damage
    leftovers : tuple of str
        Absolute paths of files that are no part of a store: temporary ones of killed processes, which
        ``compact`` removes once they are a day old, and foreign ones.
    """

    segments: int
    rows: int
    catalogs: int
    damaged: tuple[Damage, ...]
    leftovers: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged; leftovers do no harm."""
        return not self.damaged

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {
            "segments": self.segments,
            "rows": self.rows,
            "catalogs": self.catalogs,
            "damaged": [damage.to_dict() for damage in self.damaged],
            "leftovers": list(self.leftovers),
        }


def verify_store(store: "FeatureStore", progress: Progress | None = None) -> VerifyReport:
    """Read every segment and catalog of a store; see :meth:`FeatureStore.verify`."""
    damage: list[Damage] = []
    opened: list[tuple[str, Segment]] = []
    n_segments = 0
    for name in store.space_names:
        folder = os.path.join(store.path, "spaces", name)
        try:
            space = Space(folder)
        except FeatstoreError as error:
            space = None
            damage.append(
                Damage(path=os.path.join(folder, "space.json"), space=name, reason=_without_advice(error))
            )
        for path in sorted(segment_paths(folder)):
            try:
                opened.append((name, _checked_segment(path, space)))
            except StoreNotFoundError:
                # Compaction elsewhere removed it since it was listed.
                continue
            except FeatstoreError as error:
                damage.append(Damage(path=path, space=name, reason=_without_advice(error)))
            n_segments += 1
    n_rows = n_seen = 0
    total = sum(segment.n_rows for _, segment in opened)
    for name, segment in opened:
        try:
            wrong = _damaged_rows(segment)
        except StoreNotFoundError:
            n_segments -= 1
            continue
        except FeatstoreError as error:
            damage.append(Damage(path=segment.path, space=name, reason=_without_advice(error)))
            continue
        finally:
            n_seen += segment.n_rows
            if progress is not None:
                progress(n_seen, total)
        n_rows += segment.n_rows - len(wrong)
        if wrong:
            reason = f"{len(wrong):,} of {segment.n_rows:,} rows do not agree with their checksums"
            damage.append(Damage(path=segment.path, space=name, rows=tuple(wrong), reason=reason))
    for name in store.catalog_names:
        path = store.catalog_path(name)
        try:
            read_catalog(path)
        except FeatstoreError as error:
            damage.append(Damage(path=path, space=None, reason=_without_advice(error)))
    return VerifyReport(
        segments=n_segments,
        rows=n_rows,
        catalogs=len(store.catalog_names),
        damaged=tuple(damage),
        leftovers=tuple(_leftovers(store)),
    )


def _checked_segment(path: str, space: Space | None) -> Segment:
    """Open a segment and check all that it says of itself."""
    spec, _ = read_description(path)
    if space is None:
        return open_segment(path, expected_fingerprint=fingerprint(spec))
    segment = open_segment(path, expected_fingerprint=space.fingerprint)
    if (segment.feature_dim, segment.dtype) != (space.feature_dim, space.dtype):
        raise DamagedError(
            f"its rows are {segment.feature_dim} x {segment.dtype}; "
            f"the space's are {space.feature_dim} x {space.dtype}"
        )
    return segment


def _damaged_rows(segment: Segment) -> list[int]:
    wrong: list[int] = []
    start = 0
    for rows in segment.blocks():
        wrong.extend((damaged_rows(rows) + start).tolist())
        start += len(rows.view)
    return wrong


def _leftovers(store: "FeatureStore") -> list[str]:
    """List what lies in the store's folder and is no part of it."""
    known = {os.path.join(store.path, "featstore.json")}
    known.update(map(store.catalog_path, store.catalog_names))
    known.update(map(store.head_path, store.head_names))
    for name in store.space_names:
        folder = os.path.join(store.path, "spaces", name)
        known.add(os.path.join(folder, "space.json"))
        known.update(segment_paths(folder))
    found = (os.path.join(folder, name) for folder, _, names in os.walk(store.path) for name in names)
    return sorted(set(found) - known)


def _without_advice(error: FeatstoreError) -> str:
    return str(error).split("; run featstore verify", maxsplit=1)[0]

"""The columns of a feature table: row numbers in the spaces, and the catalogs' metadata."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from featstore.errors import StoreError
from featstore.io.urls import joined
from featstore.label_sets import joined_labels, split_labels

if TYPE_CHECKING:
    from featstore.store.catalogs.catalog import Catalog

__all__ = ["Columns", "checked_index", "frozen", "number_texts", "texts"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Row i of each array is one view of one image; texts are str or None."""

    rows: NDArray[np.int64]  # (n, n_spaces): -1 where a space lacks its features
    views: NDArray[np.uint16]  # (n,)
    content_hash: NDArray[np.uint8]  # (n, 32)
    weights: NDArray[np.float64]  # (n,): in a fit; NaN where nothing is said
    targets: NDArray[np.float64]  # (n,): NaN where not known
    paths: NDArray[np.object_]
    roots: NDArray[np.object_]
    labels: NDArray[np.object_]
    groups: NDArray[np.object_]
    near_groups: NDArray[np.object_]
    splits: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of_catalog(cls, catalog: "Catalog", rows: NDArray[np.int64]) -> Self:
        """Return a catalog's images, with the rows of their view 0."""
        return cls(
            rows=rows,
            views=np.zeros(len(rows), np.uint16),
            content_hash=catalog.content_hash,
            weights=np.asarray(catalog.weights),
            targets=np.asarray(catalog.targets),
            paths=_objects(catalog.paths),
            roots=_objects([catalog.root] * len(catalog)),
            labels=_objects(catalog.labels),
            groups=_objects(catalog.groups),
            near_groups=_objects(catalog.near_groups),
            splits=_objects(catalog.splits),
        )

    @classmethod
    def joined(cls, parts: Sequence["Columns"]) -> "Columns":
        """Concatenate several catalogs' images, without repeats of the same file, content and label."""
        if len(parts) == 1:
            return parts[0]
        together = cls(
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__}
        )
        return together.take(np.fromiter(together._first_tellings(), np.int64))

    def take(self, index: Any) -> "Columns":
        """Return some of the rows."""
        return Columns(**{name: getattr(self, name)[index] for name in self.__slots__})

    def one_for_each_content(self, separator: str) -> "Columns":
        """Return one row for each image, with the labels of all its copies."""
        first: dict[bytes, int] = {}
        found: dict[bytes, set[str]] = {}
        for at, (row, text) in enumerate(zip(self.content_hash, self.labels.tolist(), strict=True)):
            content = row.tobytes()
            first.setdefault(content, at)
            if text is not None:
                found.setdefault(content, set()).update(split_labels(text, separator))
        joined_texts = [joined_labels(found[one], separator) if one in found else None for one in first]
        return replace(self.take(np.array([*first.values()], np.int64)), labels=_objects(joined_texts))

    def with_groups(self, groups: Sequence[str | None]) -> "Columns":
        """Return the same rows in other groups."""
        return replace(self, groups=_objects(groups))

    def file_paths(self, index: Any) -> list[str]:
        """Return the absolute paths of some rows."""
        pairs = zip(self.roots[index].tolist(), self.paths[index].tolist(), strict=True)
        return [joined(*pair) for pair in pairs]

    def _first_tellings(self) -> Iterator[int]:
        """Yield the rows whose file, content and label no earlier row has together."""
        seen = set()
        hashes = (row.tobytes() for row in self.content_hash)
        numbers = (None if value != value else value for value in self.targets.tolist())
        entries = zip(self.file_paths(slice(None)), self.labels.tolist(), numbers, hashes, strict=True)
        for number, (path, *told) in enumerate(entries):
            telling = (os.path.normpath(path), *told)
            if telling not in seen:
                seen.add(telling)
                yield number


def checked_index(index: Any, n_rows: int) -> Any:
    """Return an index of rows as a slice or an array, or raise StoreError."""
    if isinstance(index, slice):
        return index
    chosen = np.asarray(index)
    chosen = chosen.astype(np.int64) if chosen.size == 0 and chosen.dtype != np.bool_ else chosen
    if chosen.ndim != 1 or chosen.dtype.kind not in "biu":
        raise StoreError(
            "rows are selected by a slice, by integers or by a mask; "
            f"found {chosen.dtype} of shape {chosen.shape}"
        )
    if chosen.dtype == np.bool_ and len(chosen) != n_rows:
        raise StoreError(f"a mask must have one entry for each of {n_rows} rows; found {len(chosen)}")
    return chosen


def texts(values: NDArray[np.object_]) -> NDArray[np.str_]:
    """Return texts as a read-only array; None becomes ""."""
    return frozen(np.array([value or "" for value in values.tolist()], np.str_))


def number_texts(values: Sequence[float] | NDArray[np.float64]) -> list[str]:
    """Return numbers as texts, in the fewest digits; NaN becomes ""."""
    return ["" if value != value else repr(float(value)).removesuffix(".0") for value in values]


def frozen(values: NDArray[Any]) -> NDArray[Any]:
    """Make an array read-only, and return it."""
    values.flags.writeable = False
    return values


def _objects(values: Sequence[Any]) -> NDArray[np.object_]:
    column = np.empty(len(values), object)
    column[:] = [*values]
    return column

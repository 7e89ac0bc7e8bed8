"""The columns of a feature table: row numbers in the spaces, and the catalogs' metadata."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from featstore.store.catalog import Catalog

__all__ = ["Columns"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Row i of each array is one view of one image; texts are objects (str or None).

    Parameters
    ----------
    rows : ndarray of shape (n, n_spaces), int64
        Where its features are, one part in each space; -1 where the space lacks them.
    views : ndarray of shape (n,), uint16
    content_hash : ndarray of shape (n, 32), uint8
    paths, roots, labels, groups, near_groups, splits : ndarray of shape (n,), object
    """

    rows: NDArray[np.int64]
    views: NDArray[np.uint16]
    content_hash: NDArray[np.uint8]
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

    def with_groups(self, groups: Sequence[str | None]) -> "Columns":
        """Return the same rows in other groups."""
        return replace(self, groups=_objects(groups))

    def file_paths(self, index: Any) -> list[str]:
        """Return the absolute paths of some rows."""
        pairs = zip(self.roots[index].tolist(), self.paths[index].tolist(), strict=True)
        return [os.path.join(*pair) for pair in pairs]

    def _first_tellings(self) -> Iterator[int]:
        """Yield the rows whose file, content and label no earlier row has together."""
        seen = set()
        hashes = (row.tobytes() for row in self.content_hash)
        entries = zip(self.file_paths(slice(None)), self.labels.tolist(), hashes, strict=True)
        for number, (path, label, content) in enumerate(entries):
            telling = (os.path.normpath(path), label, content)
            if telling not in seen:
                seen.add(telling)
                yield number


def _objects(values: Sequence[Any]) -> NDArray[np.object_]:
    column = np.empty(len(values), object)
    column[:] = values
    return column

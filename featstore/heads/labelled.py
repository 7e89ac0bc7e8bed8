"""Labelled images of a table, as fits are given them."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.heads.parallel import has_own_memory, is_sequential
from featstore.heads.rows import Rows

if TYPE_CHECKING:
    from featstore.store.table import FeatureTable

__all__ = ["Images", "shared_images"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """Labelled images of a table: their rows, labels, and what must stay together of them."""

    table: "FeatureTable"
    at: NDArray[np.intp]
    y: NDArray[np.str_]
    groups: NDArray[Any]
    name: str

    def __len__(self) -> int:
        return len(self.at)

    @property
    def rows(self) -> Rows:
        """Their features."""
        return Rows(self.table, self.at, name=self.name)

    def some(self, at: NDArray[np.intp]) -> "Images":
        """Return some of them."""
        return replace(self, at=self.at[at], y=self.y[at], groups=self.groups[at])

    def joined(self, other: "Images") -> "Images":
        """Return these and others, in the table's order."""
        at = np.concatenate([self.at, other.at])
        order = np.argsort(at, kind="stable")
        return Images(
            table=self.table,
            at=at[order],
            y=np.concatenate([self.y, other.y])[order],
            groups=np.concatenate([self.groups, other.groups])[order],
            name=f"{self.name} and {other.name}",
        )


def shared_images(
    *images: Images, jobs: int | None, n_tasks: int, prefer: str
) -> AbstractContextManager[tuple[Images, ...]]:
    """Give the same images in a form that all tasks can read from.

    Threads share what there is. For other processes the features are written once to a temporary file, which
    each of them maps into its memory while the block lasts.

    Parameters
    ----------
    images : Images
        All of one table.
    jobs, n_tasks, prefer
        As for :func:`featstore.heads.parallel.is_sequential`.
    """
    if is_sequential(jobs, n_tasks, prefer=prefer) or not has_own_memory(prefer=prefer):
        return nullcontext(images)
    return _dumped(images)


@contextmanager
def _dumped(images: tuple[Images, ...]) -> Iterator[tuple[Images, ...]]:
    """Write features to a temporary file, which other processes map into their memory."""
    with tempfile.TemporaryDirectory(prefix="featstore-") as folder:
        path = os.path.join(folder, "X.npy")
        rows = [part.rows for part in images]
        ends = np.cumsum([0, *map(len, rows)])
        shape = (int(ends[-1]), rows[0].feature_dim)
        mapped = np.lib.format.open_memmap(path, mode="w+", dtype=rows[0].dtype, shape=shape)
        for part, start in zip(rows, ends, strict=False):
            for at, block in part.blocks():
                mapped[start + at.start : start + at.stop] = block
        mapped.flush()
        del mapped
        table: Any = _MappedTable(np.load(path, mmap_mode="r"))
        yield tuple(
            replace(part, table=table, at=np.arange(start, end))
            for part, (start, end) in zip(images, pairwise(ends), strict=True)
        )


class _MappedTable:
    """As much of a table as :class:`Rows` needs, on one memory map, which joblib sends as a file's name."""

    def __init__(self, X: NDArray[Any]) -> None:
        self.X = X
        self.dtype = X.dtype
        self.feature_dim = X.shape[1]

    def __len__(self) -> int:
        return len(self.X)

    def select(self, index: Any) -> "_MappedTable":
        """Return some rows."""
        return _MappedTable(self.X[index])

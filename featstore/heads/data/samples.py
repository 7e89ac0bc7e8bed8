"""Labelled images of a table, as solvers take them."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.heads.data.blocks import ArrayTable, Rows
from featstore.heads.data.part_runner import PartRunner
from featstore.heads.data.view_counts import Views
from featstore.heads.solvers.parallel import has_own_memory, is_sequential

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["Images", "shared_images"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """Labelled images of a table, with the groups that stay together."""

    table: "FeatureTable"  # with views.most rows for each image
    at: NDArray[np.intp]  # (n,): numbers of images
    y: NDArray[np.str_]  # (n,)
    groups: NDArray[Any]
    weights: NDArray[np.float64] | None = None  # (n,): how much each counts in a fit; None for all the same
    name: str
    views: Views = field(default_factory=Views)
    runner: PartRunner | None = None  # of passes over the rows

    def __len__(self) -> int:
        return len(self.at)

    @property
    def n_fitted(self) -> int:
        """Number of rows in a fit on these images."""
        return len(self) * self.views.train

    @property
    def to_fit(self) -> tuple[Rows, NDArray[np.str_], NDArray[Any], NDArray[np.float64] | None]:
        """Features of all training views, with their labels, groups and weights."""
        rows, n_views = self._rows(self.views.train), self.views.train
        if n_views == 1:
            return rows, self.y, self.groups, self.weights
        weights = None if self.weights is None else np.repeat(self.weights, n_views)
        return rows, np.repeat(self.y, n_views), np.repeat(self.groups, n_views, axis=0), weights

    @property
    def to_predict(self) -> Rows:
        """Features of the test views, by which the images are predicted."""
        return self._rows(self.views.test, are_one=True)

    def some(self, at: NDArray[np.intp]) -> "Images":
        """Return a subset."""
        weights = None if self.weights is None else self.weights[at]
        return replace(self, at=self.at[at], y=self.y[at], groups=self.groups[at], weights=weights)

    def joined(self, other: "Images") -> "Images":
        """Return the union with other images, in the table's order."""
        at = np.concatenate([self.at, other.at])
        order = np.argsort(at, kind="stable")
        weights = self.weights
        if weights is not None and other.weights is not None:
            weights = np.concatenate([weights, other.weights])[order]
        return replace(
            self,
            at=at[order],
            y=np.concatenate([self.y, other.y])[order],
            groups=np.concatenate([self.groups, other.groups])[order],
            weights=weights,
            name=f"{self.name} and {other.name}",
        )

    def _rows(self, n_views: int, *, are_one: bool = False) -> Rows:
        stored = self.views.most
        at = self.at if stored == 1 else (self.at[:, None] * stored + np.arange(n_views)).ravel()
        return Rows(self.table, at, name=self.name, n_views=n_views if are_one else 1, runner=self.runner)


def shared_images(
    *images: Images, jobs: int | None, n_tasks: int, prefer: str
) -> AbstractContextManager[tuple[Images, ...]]:
    """Provide images that parallel tasks can share."""
    # Threads share memory. For processes the features are written once to a temporary file, which each of
    # them maps into memory while the context lasts.
    if is_sequential(jobs, n_tasks, prefer=prefer) or not has_own_memory(prefer=prefer):
        return nullcontext(images)
    return _dumped(images)


@contextmanager
def _dumped(images: tuple[Images, ...]) -> Iterator[tuple[Images, ...]]:
    """Write features to a temporary file for other processes to map into memory."""
    with tempfile.TemporaryDirectory(prefix="featstore-") as folder:
        path = os.path.join(folder, "X.npy")
        rows = [part._rows(part.views.most) for part in images]
        ends = np.cumsum([0, *map(len, rows)])
        numbers = np.cumsum([0, *map(len, images)])
        shape = (int(ends[-1]), rows[0].feature_dim)
        mapped = np.lib.format.open_memmap(path, mode="w+", dtype=rows[0].dtype, shape=shape)
        for part, start in zip(rows, ends, strict=False):
            for at, block in part.blocks():
                mapped[start + at.start : start + at.stop] = block
        mapped.flush()
        del mapped
        # joblib pickles a memory map by its file's name.
        table: Any = ArrayTable(np.load(path, mmap_mode="r"), images[0].table.feature_dims)
        yield tuple(
            replace(part, table=table, at=np.arange(start, end))
            for part, (start, end) in zip(images, pairwise(numbers), strict=True)
        )

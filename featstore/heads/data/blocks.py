"""The features of some of a table's images, read a block at a time."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError

if TYPE_CHECKING:
    from featstore.store.table import FeatureTable

__all__ = ["Rows", "rows_of_images", "usable_features"]

_BLOCK_BYTES = 32 * 2**20


class Rows:
    """Rows of a table that are in memory only while they are looked at.

    Parameters
    ----------
    table : FeatureTable
    rows : ndarray of shape (n,), int
        Their numbers in the table.
    name : str
        What they are, for messages: ``"train"``.
    n_views : int
        How many of them, one after the other, are views of one image that are looked at together.
    """

    def __init__(self, table: "FeatureTable", rows: NDArray[np.intp], *, name: str, n_views: int = 1) -> None:
        self._table = table
        self._rows = rows
        self._name = name
        self.n_views = n_views
        self.feature_dim: int = table.feature_dim

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of :meth:`take`: float64 where the features are, else float32."""
        return np.dtype(np.float64 if self._table.dtype == np.float64 else np.float32)

    @property
    def block_rows(self) -> int:
        """How many rows are about 32 MB, of whole images."""
        n_images = _BLOCK_BYTES // max(1, self.n_views * self.feature_dim * self.dtype.itemsize)
        return max(1, n_images) * self.n_views

    def take(self, at: NDArray[np.intp] | slice) -> NDArray[Any]:
        """Return some rows' features; a view of the store's memory map where they are one run of it.

        Returns
        -------
        ndarray of shape (n_chosen, feature_dim), float32 or float64

        Raises
        ------
        HeadError
            They hold NaN or infinity.
        """
        try:
            return usable_features(self._table.select(self._rows[at]).X)
        except HeadError as error:
            raise HeadError(f"in {self._name}, {error}") from error

    def blocks(self) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Yield runs of rows, about 32 MB each, with where they are."""
        for start in range(0, len(self), self.block_rows):
            at = slice(start, min(start + self.block_rows, len(self)))
            yield at, self.take(at)

    def image_blocks(self) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Yield the same by images, as heads take them.

        Yields
        ------
        at : slice
            Of the images.
        X : ndarray of shape (n, feature_dim), or (n, n_views, feature_dim) where there are several
        """
        for at, block in self.blocks():
            if self.n_views > 1:
                at = slice(at.start // self.n_views, at.stop // self.n_views)
                block = block.reshape(-1, self.n_views, self.feature_dim)
            yield at, block


def rows_of_images(table: "FeatureTable", at: NDArray[np.intp], *, n_views: int, name: str) -> Rows:
    """Return the rows of some images of a table, with ``n_views`` views of each.

    Raises
    ------
    NotInStoreError
        An image lacks some of these views.
    """
    if n_views == 1:
        return Rows(table, at, name=name)
    views = table.select(at).with_views(n_views)
    return Rows(views, np.arange(len(views)), name=name, n_views=n_views)


def usable_features(rows: Any) -> NDArray[Any]:
    """Return rows as float32 or float64, refusing what is not finite; no copy where none is needed.

    Raises
    ------
    HeadError
        Something is NaN, infinite or no number.
    """
    block = np.asarray(rows)
    if block.dtype.kind not in "fiu":
        raise HeadError(f"features are numbers; found {block.dtype}")
    if block.dtype not in (np.float32, np.float64):
        block = block.astype(np.float32)
    if not np.isfinite(block).all():
        n_bad = int((~np.isfinite(block).all(axis=1)).sum())
        raise HeadError(f"{n_bad} of {len(block)} rows of features hold NaN or infinity; extract them again")
    return block

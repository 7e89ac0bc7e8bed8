"""Block-wise access to the features of some of a table's images."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.heads.data.part_runner import PartRunner

if TYPE_CHECKING:
    from featstore.store.segments.sealed_rows import SealedRows
    from featstore.store.tables.table import FeatureTable

__all__ = ["ArrayTable", "Rows", "rows_of_images", "usable_features"]

_BLOCK_BYTES = 32 * 2**20


class Rows:
    """Rows of a table, read block by block; with n_views > 1, consecutive rows are views of an image."""

    def __init__(
        self,
        table: "FeatureTable | ArrayTable | SealedRows",
        rows: NDArray[np.intp],
        *,
        name: str,
        n_views: int = 1,
        runner: PartRunner | None = None,
    ) -> None:
        self._table = table
        self._rows = rows
        self._name = name
        self.n_views = n_views
        self.runner = runner
        self.feature_dim: int = table.feature_dim
        self.block_dims: tuple[int, ...] = table.feature_dims

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of :meth:`take`: float64 if the features are float64, else float32."""
        return np.dtype(np.float64 if self._table.dtype == np.float64 else np.float32)

    @property
    def block_rows(self) -> int:
        """Number of rows in about 32 MB, of whole images."""
        n_images = _BLOCK_BYTES // max(1, self.n_views * self.feature_dim * self.dtype.itemsize)
        return max(1, n_images) * self.n_views

    def take(self, at: NDArray[np.intp] | slice) -> NDArray[Any]:
        """Return features of shape (n, feature_dim); a view of the memory map if the rows are contiguous."""
        try:
            return usable_features(self._table.select(self._rows[at]).X)
        except HeadError as error:
            raise HeadError(f"in {self._name}, {error}") from error

    def blocks(self) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Yield slices of rows and their features, about 32 MB each."""
        for start in range(0, len(self), self.block_rows):
            at = slice(start, min(start + self.block_rows, len(self)))
            yield at, self.take(at)

    def part(self, at: slice) -> "Rows":
        """Return some of the rows, whose blocks are read here."""
        return Rows(self._table, self._rows[at], name=self._name, n_views=self.n_views)

    def sealed(self) -> "Rows":
        """Return the same rows as what can be pickled: the files that they are in, and their places there."""
        table = self._table.sealed_rows(self._rows)  # type: ignore[union-attr]
        return Rows(table, np.arange(len(self)), name=self._name, n_views=self.n_views)

    def files(self) -> list[str]:
        """Return the paths of the files that the rows are in."""
        files: list[str] = self._table.sealed_rows(self._rows).files  # type: ignore[union-attr]
        return files

    def image_blocks(self) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Yield slices of images and their features, (n, n_views, feature_dim) with several views."""
        for at, block in self.blocks():
            if self.n_views > 1:
                at = slice(at.start // self.n_views, at.stop // self.n_views)
                block = block.reshape(-1, self.n_views, self.feature_dim)
            yield at, block


class ArrayTable:
    """What :class:`Rows` needs of a table, on an array."""

    def __init__(self, X: NDArray[Any], feature_dims: Sequence[int] | None = None) -> None:
        self.X = X
        self.dtype = X.dtype
        self.feature_dim = int(X.shape[1])
        self.feature_dims = (self.feature_dim,) if feature_dims is None else tuple(feature_dims)

    def __len__(self) -> int:
        return len(self.X)

    def select(self, index: Any) -> "ArrayTable":
        """Return some rows."""
        return ArrayTable(self.X[index], self.feature_dims)


def rows_of_images(
    table: "FeatureTable", at: NDArray[np.intp], *, n_views: int, name: str, are_one: bool = True
) -> Rows:
    """Return the rows of some images, with ``n_views`` views of each, which are one image or one row each."""
    if n_views == 1:
        return Rows(table, at, name=name)
    views = table.select(at).with_views(n_views)
    return Rows(views, np.arange(len(views)), name=name, n_views=n_views if are_one else 1)


def usable_features(rows: Any) -> NDArray[Any]:
    """Return features as float32 or float64 without copying if possible; raise HeadError if not finite."""
    block = np.asarray(rows)
    if block.dtype.kind not in "fiu":
        raise HeadError(f"features must be numbers; found {block.dtype}")
    if block.dtype not in (np.float32, np.float64):
        block = block.astype(np.float32)
    if not np.isfinite(block).all():
        n_bad = int((~np.isfinite(block).all(axis=1)).sum())
        raise HeadError(
            f"{n_bad} of {len(block)} rows of features contain NaN or infinity; extract them again"
        )
    return block

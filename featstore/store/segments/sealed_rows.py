"""Features by the files that they are in: for processes without the store's index."""

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.store.segments.segment import FeatureArray, Segment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featstore.store.space import Space

__all__ = ["SealedRows"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SealedRows:
    """Rows of one or several spaces, side by side, as segments and places in them."""

    segments: tuple[tuple[Segment, ...], ...]  # of each space
    places: tuple[NDArray[np.int64], ...]  # of each space, (n, 2): a row's segment, and its number there
    dtype: np.dtype[Any]
    feature_dims: tuple[int, ...]
    verify_reads: bool = False

    @classmethod
    def of(cls, spaces: "Sequence[Space]", rows: NDArray[np.int64]) -> "SealedRows":
        """Return rows by their numbers of shape (n, n_spaces)."""
        located = [_located(space, numbers) for space, numbers in zip(spaces, rows.T, strict=True)]
        return cls(
            segments=tuple(segments for segments, _ in located),
            places=tuple(places for _, places in located),
            dtype=np.result_type(*(space.dtype for space in spaces)),
            feature_dims=tuple(space.feature_dim for space in spaces),
            verify_reads=any(space.verify_reads for space in spaces),
        )

    def __len__(self) -> int:
        return len(self.places[0])

    @property
    def feature_dim(self) -> int:
        """Number of features, over all spaces."""
        return sum(self.feature_dims)

    @property
    def files(self) -> list[str]:
        """Paths of the segments."""
        return [segment.path for segments in self.segments for segment in segments]

    def select(self, index: Any) -> "SealedRows":
        """Return some of the rows."""
        return SealedRows(
            segments=self.segments,
            places=tuple(places[index] for places in self.places),
            dtype=self.dtype,
            feature_dims=self.feature_dims,
            verify_reads=self.verify_reads,
        )

    @property
    def X(self) -> FeatureArray:  # noqa: N802
        """The features, of shape (n, feature_dim); a memory map where they are one run of a segment."""
        if len(self.places) == 1:
            return self._of_space(0)
        parts = [self._of_space(number) for number in range(len(self.places))]
        return np.concatenate([np.asarray(part, self.dtype) for part in parts], axis=1)

    def _of_space(self, number: int) -> FeatureArray:
        which, rows = self.places[number].T
        cuts = [0, *(np.flatnonzero(np.diff(which)) + 1).tolist(), len(which)]
        runs = [
            self._of_segment(self.segments[number][which[begin]], rows[begin:end])
            for begin, end in pairwise(cuts)
            if begin < end
        ]
        if len(runs) == 1:
            return runs[0]
        return np.concatenate([np.empty((0, self.feature_dims[number]), self.dtype), *runs])

    def _of_segment(self, segment: Segment, rows: NDArray[np.int64]) -> FeatureArray:
        if self.verify_reads:
            segment.check_rows(rows)
        features, first = segment.features(), int(rows[0])
        is_one_run = len(rows) == rows[-1] - first + 1 and (np.diff(rows) == 1).all()
        found: FeatureArray = features[first : first + len(rows)] if is_one_run else features[rows]
        return found


def _located(space: "Space", numbers: NDArray[np.int64]) -> tuple[tuple[Segment, ...], NDArray[np.int64]]:
    """Return the segments of some rows; and which of these each row is in, and its number there."""
    segments = space.segments
    starts = np.cumsum([0, *(segment.n_rows for segment in segments)])
    which = np.searchsorted(starts, numbers, side="right") - 1
    used, position = np.unique(which, return_inverse=True)
    return tuple(segments[at] for at in used.tolist()), np.stack([position, numbers - starts[which]], axis=1)

"""Passes over rows in parts, here or wherever a runner takes them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from numpy.typing import NDArray

from featstore.heads.data.blocks import Rows

__all__ = ["over_parts"]

# Of a part in memory: as much as a task on another machine is worth, and as its moments take.
_PART_BYTES = 256 * 2**20


def over_parts(
    X: Rows, function: Callable[..., Any], *shared: Any, columns: Sequence[NDArray[Any]] = ()
) -> Iterator[tuple[slice, Any]]:
    """Yield slices of the rows and ``function(rows, *columns, *shared)`` of each, in order.

    ``columns`` have an entry for each image. Parts depend on the rows alone, so that results that are merged
    in order are the same wherever they come from. A runner needs a function that can be pickled.
    """
    n_blocks = max(1, _PART_BYTES // max(1, X.block_rows * X.feature_dim * X.dtype.itemsize))
    step = n_blocks * X.block_rows
    slices = [slice(start, min(start + step, len(X))) for start in range(0, len(X), step)]
    parts = ((X.part(at), tuple(column[_of_images(at, X.n_views)] for column in columns)) for at in slices)
    if X.runner is None:
        found: Iterator[Any] = (function(rows, *own, *shared) for rows, own in parts)
    else:
        found = X.runner.run(function, parts, shared)
    yield from zip(slices, found, strict=True)


def _of_images(at: slice, n_views: int) -> slice:
    return slice(at.start // n_views, at.stop // n_views)

"""Writing of a segment anew, without some of its rows."""

import numpy as np
from numpy.typing import NDArray

from featstore.io.hdf5.raw import damaged
from featstore.store.segments.segment import Segment, damaged_rows, read_description, segment_writer
from featstore.store.space import Space

__all__ = ["reseal"]


def reseal(space: Space, segment: Segment, kept: NDArray[np.int64]) -> None:
    """Seal some rows of a segment, ascending, as a new one in its place; the old one stays."""
    _, provenance = read_description(segment.path)
    start = 0
    with segment_writer(
        space.path,
        space.spec,
        n_rows=len(kept),
        feature_dim=segment.feature_dim,
        created_ns=segment.created_ns,
        provenance=provenance,
    ) as writer:
        for block in segment.blocks():
            stop = start + len(block.view)
            rows = block.take(kept[np.searchsorted(kept, start) : np.searchsorted(kept, stop)] - start)
            if len(wrong := damaged_rows(rows)):
                raise damaged(segment.path, f"{len(wrong)} rows do not agree with their checksums")
            writer.write(rows)
            start = stop

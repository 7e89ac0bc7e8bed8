"""Memory maps of a space's segments, and of those on other machines their copies."""

from collections import OrderedDict
from collections.abc import Sequence

from featstore.io.atomic import failure_reason
from featstore.io.hdf5.raw import damaged
from featstore.io.storage.opening import storage_of
from featstore.store.segments.rows import FeatureArray
from featstore.store.segments.segment import Segment

__all__ = ["SegmentMaps"]

# Linux grants a process 65,530 mappings.
_MAX_MAPPED = 256
# Copied from another machine at a time.
_MAX_AHEAD = 8


class SegmentMaps:
    """The maps of a space's segments that were used last; the caller takes care of threads.

    Parameters
    ----------
    folder : str
        The space's.
    """

    def __init__(self, folder: str) -> None:
        self._storage = storage_of(folder)
        self._mapped: OrderedDict[Segment, FeatureArray] = OrderedDict()

    def open(self, segment: Segment) -> FeatureArray | None:
        """Return a segment's features, or None if its file has been removed."""
        mapped = self._mapped.get(segment)
        if mapped is not None:
            self._mapped.move_to_end(segment)
            return mapped
        try:
            mapped = segment.features()
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise damaged(segment.path, failure_reason(error)) from error
        self._mapped[segment] = mapped
        bound = self._storage.max_mapped_bytes
        while len(self._mapped) > _MAX_MAPPED or (
            bound is not None and len(self._mapped) > 1 and _n_bytes([*self._mapped]) > bound
        ):
            self._mapped.popitem(last=False)
        return mapped

    def fetch(self, segments: Sequence[Segment]) -> int:
        """Copy the first few of some segments to this machine at a time; return how many these are."""
        bound = self._storage.max_mapped_bytes
        if bound is None:
            return len(segments)
        n_ahead = 1
        while n_ahead < min(len(segments), _MAX_AHEAD) and _n_bytes(segments[: n_ahead + 1]) <= bound // 4:
            n_ahead += 1
        needed = [segment for segment in segments[:n_ahead] if segment not in self._mapped]
        if len(needed) > 1:
            self._storage.map(Segment.fetch, needed)
        return n_ahead


def _n_bytes(segments: Sequence[Segment]) -> int:
    return sum(segment.n_bytes for segment in segments)

"""Reading, hashing and decoding of a source's records on threads."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.spec import BackboneSpec
from featstore.errors import ImageError
from featstore.hashing import content_hash
from featstore.images.decode import iter_views
from featstore.images.reading import map_ahead, read_image
from featstore.images.reasons import NotDecodableHereError
from featstore.images.sources.opening import Source
from featstore.io.stamps import MEMBER_MARK

__all__ = ["NO_HASH", "Loaded", "load_records"]

NO_HASH = bytes(32)

# Of one image, so many views at most are drawn before the network has taken some.
VIEWS_AT_ONCE = 32


@dataclass(slots=True, kw_only=True)
class Loaded:
    """A record (or part of its views) after a worker thread has read it.

    Attributes
    ----------
    number : int
        Of the record, in its source.
    content_hash : bytes
        32 bytes, zeros where the file could not be read.
    views : sequence of int
        Those that are decoded here; none where none is wanted.
    pixels : list of ndarray of shape (height, width, 3), uint8
        Of these views.
    reason : str or None
        Why it could not be decoded.
    racy : bool
        Whether the file has to be read again by the next run, though it be unchanged: it may have changed
        while it was read, or what kept it from being decoded is no fault of its own.
    rest : tuple of (iterator of ndarray, sequence of int) or None
        What is still to come of its views; None with the last ones.
    """

    number: int
    content_hash: bytes = NO_HASH
    views: Sequence[int] = ()
    pixels: list[NDArray[np.uint8]] = field(default_factory=list)
    reason: str | None = None
    racy: bool = False
    rest: tuple[Iterator[NDArray[np.uint8]], Sequence[int]] | None = None


def load_records(
    source: Source,
    numbers: Iterator[int],
    spec: BackboneSpec,
    *,
    wanted: Callable[[bytes], Sequence[int]],
    n_views: int,
    workers: int,
    ahead: int,
) -> Iterator[Loaded]:
    """Read, hash and decode records of a source on threads, in order."""

    def load(number: int) -> Loaded:
        record = source.records[number]
        loaded = Loaded(number=number)
        loaded.racy = record.stamp.is_racy(time.time_ns())
        try:
            data = read_image(os.path.join(source.root, record.path))
        except ImageError as error:
            loaded.reason = str(error)
            return loaded
        # The stamp of an image within a larger file is that file's.
        loaded.racy |= MEMBER_MARK not in record.path and len(data) != record.stamp.size
        loaded.content_hash = content_hash(data)
        views = wanted(loaded.content_hash)
        pixels = iter_views(
            data,
            size_px=spec.size_px,
            resize=spec.resize,
            recipe=spec.views,
            content_hash=loaded.content_hash,
            views=views,
        )
        return _drawn(loaded, pixels, views)

    def more(loaded: Loaded) -> Callable[[], Loaded] | None:
        if loaded.rest is None:
            return None
        pixels, views = loaded.rest
        return lambda: _drawn(loaded, pixels, views)

    at_once = min(n_views, VIEWS_AT_ONCE)
    images_ahead = max(workers + 1, -(-ahead // at_once))
    yield from map_ahead(load, numbers, workers=workers, ahead=images_ahead, more=more)


def _drawn(loaded: Loaded, pixels: Iterator[NDArray[np.uint8]], views: Sequence[int]) -> Loaded:
    """Return a record with the next of its views."""
    now, later = views[:VIEWS_AT_ONCE], views[VIEWS_AT_ONCE:]
    try:
        drawn = list(islice(pixels, len(now)))
    except ImageError as error:
        is_racy = loaded.racy or isinstance(error, NotDecodableHereError)
        return replace(loaded, views=(), pixels=[], reason=str(error), racy=is_racy, rest=None)
    return replace(loaded, views=now, pixels=drawn, rest=(pixels, later) if later else None)

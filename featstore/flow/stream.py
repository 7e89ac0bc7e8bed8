"""The one pipeline from images to rows: reading, hashing, decoding and forward passes overlap."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol

import numpy as np
from numpy.typing import NDArray

from featstore.flow.loading import VIEWS_AT_ONCE, Input, ItemT, Loaded, load_images

__all__ = ["Group", "Network", "Pass", "stream_images"]

# Groups without a picture to compute that may wait for the network to be done with those before them.
_MAX_IDLE = 8


class Network(Protocol):
    """A model that images are passed through: a backbone or an exported model."""

    @property
    def batch_size(self) -> int:
        """Images in a batch that keeps the device busy."""

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Compute the rows of batches, in order, while the caller prepares the next ones."""


@dataclass(frozen=True, kw_only=True)
class Pass(Input):
    """One network, and what it sees of the images."""

    network: Network
    claim: Callable[[bytes, Sequence[int]], bool] | None = None


@dataclass(slots=True)
class Group(Generic[ItemT]):
    """One batch for each network, its rows, and the images that end with it; dicts are by pass."""

    images: list[Loaded[ItemT]] = field(default_factory=list)
    keys: dict[int, list[tuple[bytes, int]]] = field(default_factory=dict)  # content hash and view
    rows: dict[int, NDArray[np.float32]] = field(default_factory=dict)  # (n_pictures, n_columns)
    turn: dict[int, int] = field(default_factory=dict)  # of the network's run: devices take turns
    _pixels: dict[int, list[NDArray[np.uint8]]] = field(default_factory=dict)

    @property
    def n_pictures(self) -> int:
        """Number of pictures of the pass that has most."""
        return max(map(len, self.keys.values()), default=0)

    def add(self, loaded: Loaded[ItemT], start: int, stop: int) -> None:
        """Add some of an image's views."""
        for number, views in loaded.views.items():
            keys = self.keys.setdefault(number, [])
            keys.extend((loaded.content_hash, view) for view in views[start:stop])
            self._pixels.setdefault(number, []).extend(loaded.pixels[number][start:stop])

    def take_pixels(self, number: int) -> NDArray[np.uint8] | None:
        """Return a pass's batch and forget it."""
        pixels = self._pixels.pop(number, None)
        return np.stack(pixels) if pixels else None


def stream_images(
    items: Iterable[ItemT],
    passes: Sequence[Pass],
    *,
    n_views: int = 1,
    together: bool = True,
    workers: int | None = None,
) -> Iterator[Group[ItemT]]:
    """Pass images through networks in order, as they arrive, in groups of about a batch.

    With ``together`` all views of an image are in one group, and each pass wants all of them or none.
    Without, a group is a full batch, and an image's views may begin in one and end in another.
    """
    # Only a few batches of pixels are in memory before the first image's rows are yielded.
    size = min(one.network.batch_size for one in passes)
    n_images = max(1, size // n_views)
    if together:
        size = n_images * n_views
    else:
        n_images = size
    loaded = load_images(
        items,
        passes,
        n_views=n_views,
        views_at_once=n_views if together else VIEWS_AT_ONCE,
        ahead=2 * size,
        workers=workers,
    )
    groups = _groups(_claimed(loaded, passes), size, 2 * n_images)
    for number, one in enumerate(passes):
        groups = _through(groups, number, one.network)
    return groups


def _claimed(images: Iterator[Loaded[ItemT]], passes: Sequence[Pass]) -> Iterator[Loaded[ItemT]]:
    """Drop the views that an image with the same content has claimed since this one was loaded."""
    for loaded in images:
        for number, one in enumerate(passes):
            views = loaded.views.get(number)
            if views and one.claim is not None and not one.claim(loaded.content_hash, views):
                del loaded.views[number], loaded.pixels[number]
        yield loaded


def _groups(images: Iterator[Loaded[ItemT]], size: int, most: int) -> Iterator[Group[ItemT]]:
    """Gather batches of ``size`` pictures, or runs of ``most`` images with fewer."""
    group = Group[ItemT]()
    for loaded in images:
        start, stop = 0, size - group.n_pictures
        n_views = max(map(len, loaded.views.values()), default=0)
        while stop < n_views:
            group.add(loaded, start, stop)
            yield group
            group = Group()
            start, stop = stop, stop + size
        group.add(loaded, start, stop)
        loaded.pixels = {}
        if loaded.rest is None:
            group.images.append(loaded)
        if group.n_pictures == size or len(group.images) == most:
            yield group
            group = Group()
    if group.images or group.keys:
        yield group


def _through(groups: Iterator[Group[ItemT]], number: int, network: Network) -> Iterator[Group[ItemT]]:
    """Run one network's pass over the groups as they arrive."""
    waiting: deque[Group[ItemT]] = deque()
    more = True

    def batches() -> Iterator[NDArray[np.uint8]]:
        """Yield the batches to compute, until groups without any have to be passed on."""
        nonlocal more
        idle = 0
        for group in groups:
            waiting.append(group)
            if (pixels := group.take_pixels(number)) is not None:
                yield pixels
            else:
                idle += 1
                if idle == _MAX_IDLE:
                    return
        more = False

    while more:
        for turn, rows in enumerate(network.run(batches())):
            while number not in waiting[0].keys:
                yield waiting.popleft()
            group = waiting.popleft()
            group.rows[number], group.turn[number] = rows, turn
            yield group
        while waiting:
            yield waiting.popleft()

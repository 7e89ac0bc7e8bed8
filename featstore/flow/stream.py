"""Streaming of images through networks: reading, decoding and forward passes overlap."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.spec import BackboneSpec
from featstore.errors import ImageError
from featstore.hashing import content_hash
from featstore.images.decode import decode_views
from featstore.images.in_memory import GivenImage, content_of, path_of
from featstore.images.reading import default_workers, map_ahead

__all__ = ["ImageGroup", "Network", "Pass", "StreamedImage", "decode_for", "stream_images"]

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
class Pass:
    """One network, and which views of each image it gets.

    Parameters
    ----------
    network : Network
    spec : BackboneSpec
        Its ``size_px``, ``resize`` and ``views`` determine the pixels of an image.
    is_known : callable, optional
        Called with a content hash, from several threads: an image for which it returns True gets no rows.
    """

    network: Network
    spec: BackboneSpec
    is_known: Callable[[bytes], bool] | None = None


@dataclass(slots=True)
class StreamedImage:
    """One image after a worker thread has read it.

    Attributes
    ----------
    path : str or None
        As it was given; None for an image that is no file.
    content_hash : bytes
        32 bytes; empty if not needed or if the image could not be read.
    pictures : dict of int to list of ndarray of shape (height, width, 3), uint8
        The image's views, by the number of the pass that is to see them, and has not yet.
    computed : tuple of int
        The numbers of the passes that have rows for it.
    reason : str or None
        Why it could not be decoded.
    """

    path: str | None
    content_hash: bytes = b""
    pictures: dict[int, list[NDArray[np.uint8]]] = field(default_factory=dict)
    computed: tuple[int, ...] = ()
    reason: str | None = None


@dataclass(slots=True)
class ImageGroup:
    """Consecutive images, and the rows that the networks computed for them.

    Attributes
    ----------
    images : list of StreamedImage
    rows : dict of int to ndarray of shape (n_computed, n_views, n_columns), float32
        By the number of the pass, of the images that it is in ``computed`` of, in their order; none where
        there are no such images.
    """

    images: list[StreamedImage] = field(default_factory=list)
    rows: dict[int, NDArray[np.float32]] = field(default_factory=dict)


def stream_images(
    images: Iterable[GivenImage],
    passes: Sequence[Pass],
    *,
    n_views: int = 1,
    once: bool = False,
    workers: int | None = None,
) -> Iterator[ImageGroup]:
    """Pass images through networks in order, as they arrive."""
    # An image is read once, and decoded once for all passes that need the same pixels. Only a few batches
    # of pixels are in memory before the first image's rows are yielded.
    n_workers = workers or default_workers()
    is_hashed = n_views > 1 or any(one.is_known is not None for one in passes)
    passed: set[bytes] = set()

    def load(image: GivenImage) -> StreamedImage:
        loaded = StreamedImage(path_of(image))
        try:
            content = content_of(image)
            if is_hashed:
                loaded.content_hash = content_hash(content)
            if once and loaded.content_hash in passed:
                return loaded
            loaded.pictures = _pictures(content, loaded.content_hash, passes, n_views)
        except ImageError as error:
            loaded.reason = str(error)
        return loaded

    def settled() -> Iterator[StreamedImage]:
        ahead = 2 * n_images + n_workers
        for loaded in map_ahead(load, images, workers=n_workers, ahead=ahead):
            if once and loaded.pictures:
                # Another with the same content may have gone ahead since it was loaded.
                if loaded.content_hash in passed:
                    loaded.pictures = {}
                passed.add(loaded.content_hash)
            loaded.computed = tuple(loaded.pictures)
            yield loaded

    n_images = max(1, min(one.network.batch_size for one in passes) // n_views)
    groups = _groups(settled(), n_images)
    for number, one in enumerate(passes):
        groups = _through(groups, number, one.network, n_views)
    return groups


def decode_for(
    spec: BackboneSpec, content: bytes, *, content_hash: bytes = bytes(32), n_views: int = 1
) -> list[NDArray[np.uint8]]:
    """Decode an image for a backbone: one uint8 array (height, width, 3) for each view."""
    return decode_views(
        content,
        size_px=spec.size_px,
        resize=spec.resize,
        recipe=spec.views,
        content_hash=content_hash,
        views=range(n_views),
    )


def _pictures(
    content: bytes, content_hash: bytes, passes: Sequence[Pass], n_views: int
) -> dict[int, list[NDArray[np.uint8]]]:
    """Decode an image for the passes that lack it, once for those with the same input."""
    decoded: dict[object, list[NDArray[np.uint8]]] = {}
    pictures = {}
    for number, one in enumerate(passes):
        if one.is_known is not None and one.is_known(content_hash):
            continue
        seen = one.spec.size_px, one.spec.resize, one.spec.views
        if seen not in decoded:
            decoded[seen] = decode_for(one.spec, content, content_hash=content_hash, n_views=n_views)
        pictures[number] = decoded[seen]
    return pictures


def _groups(images: Iterator[StreamedImage], n_images: int) -> Iterator[ImageGroup]:
    """Group images into batches, or runs of the same length with nothing to compute."""
    group, n_computed = ImageGroup(), 0
    for image in images:
        group.images.append(image)
        n_computed += bool(image.computed)
        if n_computed == n_images or len(group.images) == 2 * n_images:
            yield group
            group, n_computed = ImageGroup(), 0
    if group.images:
        yield group


def _through(
    groups: Iterator[ImageGroup], number: int, network: Network, n_views: int
) -> Iterator[ImageGroup]:
    """Run one network's pass over the groups as they arrive."""
    waiting: deque[ImageGroup] = deque()
    more = True

    def batches() -> Iterator[NDArray[np.uint8]]:
        """Yield the batches to compute, until groups without any have to be passed on."""
        nonlocal more
        idle = 0
        for group in groups:
            waiting.append(group)
            pictures = [picture for image in group.images for picture in image.pictures.pop(number, ())]
            if pictures:
                yield np.stack(pictures)
            else:
                idle += 1
                if idle == _MAX_IDLE:
                    return
        more = False

    while more:
        for rows in network.run(batches()):
            while not any(number in image.computed for image in waiting[0].images):
                yield waiting.popleft()
            group = waiting.popleft()
            group.rows[number] = rows.reshape(-1, n_views, rows.shape[1])
            yield group
        while waiting:
            yield waiting.popleft()

"""Images through a network as they come: reading, decoding and forward pass at once, in bounded memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ImageError
from featstore.hashing import content_hash
from featstore.images.decode import decode_image
from featstore.images.given import GivenImage, content_of, path_of
from featstore.images.reading import default_workers, map_ahead

__all__ = ["Network", "PassedImage", "PassedImages", "stream_images"]

# Groups without a picture to compute that may wait for the network to be done with those before them.
_MAX_IDLE = 8


class Network(Protocol):
    """What images are passed through: a backbone, or an exported model."""

    @property
    def batch_size(self) -> int:
        """Images in a batch that keeps the device busy."""

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Compute the rows of batch after batch, in order, while the caller prepares the next ones."""


@dataclass(slots=True)
class PassedImage:
    """One image after a worker thread has dealt with it.

    Attributes
    ----------
    path : str or None
        As it was given; None for an image that is no file.
    content_hash : bytes
        32 bytes; empty where nobody asked for it or the image could not be read.
    pixels : ndarray of shape (height, width, 3), uint8, or None
        What the network is to see; None where it has not to look, and once it has.
    is_computed : bool
        Whether there is a row for it.
    reason : str or None
        Why it could not be decoded.
    """

    path: str | None
    content_hash: bytes = b""
    pixels: NDArray[np.uint8] | None = None
    is_computed: bool = False
    reason: str | None = None


@dataclass(slots=True)
class PassedImages:
    """Some consecutive images, and the network's rows of those of them that it has looked at.

    Attributes
    ----------
    images : list of PassedImage
    rows : ndarray of shape (n_computed, n_columns), float32, or None
        Of the images with ``is_computed``, in their order; None where there are none.
    """

    images: list[PassedImage] = field(default_factory=list)
    rows: NDArray[np.float32] | None = None


def stream_images(
    images: Iterable[GivenImage],
    network: Network,
    *,
    size_px: tuple[int, int],
    resize: str,
    is_known: Callable[[bytes], bool] | None = None,
    once: bool = False,
    workers: int | None = None,
) -> Iterator[PassedImages]:
    """Pass images through a network, in their order, while they are still coming.

    At most some batches of images are drawn before the first one's row is out.

    Parameters
    ----------
    images : iterable of path, bytes, PIL.Image.Image or ndarray
        See :func:`~featstore.images.given.content_of`.
    network : Network
    size_px, resize
        As for :func:`~featstore.images.decode.decode_image`.
    is_known : callable, optional
        Called with a content hash, from several threads: an image of which it says true gets no row.
    once : bool
        Whether, with ``is_known``, images of the same content get one row in all, which the first one has.
    workers : int, optional
        Threads that read and decode; by default one for each core.

    Yields
    ------
    PassedImages
        Of at least one image. Together, all images in their order.
    """
    n_workers = workers or default_workers()
    passed: set[bytes] = set()

    def load(image: GivenImage) -> PassedImage:
        loaded = PassedImage(path_of(image))
        try:
            content = content_of(image)
            if is_known is not None:
                loaded.content_hash = content_hash(content)
                if loaded.content_hash in passed or is_known(loaded.content_hash):
                    return loaded
            loaded.pixels = decode_image(content, size_px=size_px, resize=resize)
        except ImageError as error:
            loaded.reason = str(error)
        return loaded

    def settled() -> Iterator[PassedImage]:
        ahead = 2 * network.batch_size + n_workers
        for loaded in map_ahead(load, images, workers=n_workers, ahead=ahead):
            if once and loaded.pixels is not None:
                # Another with the same content may have gone ahead since it was loaded.
                if loaded.content_hash in passed:
                    loaded.pixels = None
                passed.add(loaded.content_hash)
            loaded.is_computed = loaded.pixels is not None
            yield loaded

    groups = _groups(settled(), network.batch_size)
    waiting: deque[PassedImages] = deque()
    more = True

    def batches() -> Iterator[NDArray[np.uint8]]:
        """Yield what the network is to see, until it has to catch up with those that it need not see."""
        nonlocal more
        idle = 0
        for group in groups:
            waiting.append(group)
            pixels = [image.pixels for image in group.images if image.pixels is not None]
            if pixels:
                for image in group.images:
                    image.pixels = None
                yield np.stack(pixels)
            else:
                idle += 1
                if idle == _MAX_IDLE:
                    return
        more = False

    while more:
        for rows in network.run(batches()):
            while not any(image.is_computed for image in waiting[0].images):
                yield waiting.popleft()
            group = waiting.popleft()
            group.rows = rows
            yield group
        while waiting:
            yield waiting.popleft()


def _groups(images: Iterator[PassedImage], batch_size: int) -> Iterator[PassedImages]:
    """Gather images until they make a batch, or are as many without anything to compute."""
    group, n_computed = PassedImages(), 0
    for image in images:
        group.images.append(image)
        n_computed += image.is_computed
        if n_computed == batch_size or len(group.images) == 2 * batch_size:
            yield group
            group, n_computed = PassedImages(), 0
    if group.images:
        yield group

"""What the trained part of a network is fed with: stored activation maps, or pixels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ImageError, NotInStoreError, TuningError
from featstore.hashing import content_hash
from featstore.images.decode import decode_views
from featstore.images.reading import default_workers, map_ahead, read_image

if TYPE_CHECKING:
    from featstore.backbones import BackboneSpec
    from featstore.store import Space

__all__ = ["Inputs", "PhotoInputs", "StoredMaps"]


class Inputs(Protocol):
    """Inputs of images, by their rows in a table."""

    def batches(self, images: NDArray[np.intp], views: NDArray[np.intp], size: int) -> Iterator[NDArray[Any]]:
        """Yield the inputs of one view of each image in batches, the next ones read meanwhile."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredMaps:
    """Activation maps in a space, read from its memory map as they are needed."""

    space: "Space"
    shape: tuple[int, ...]  # of the map of one view
    rows: NDArray[np.int64]  # (n_images, n_views): -1 for those that are not wanted

    @classmethod
    def of(
        cls, space: "Space", shape: tuple[int, ...], hashes: NDArray[np.uint8], n_views: int
    ) -> "StoredMaps":
        """Look up the views of images."""
        rows = np.stack([space.lookup(hashes, view) for view in range(n_views)], axis=1)
        return cls(space=space, shape=shape, rows=rows)

    def batches(
        self, images: NDArray[np.intp], views: NDArray[np.intp], size: int
    ) -> Iterator[NDArray[np.float32]]:
        """Yield float32 maps, of the cut's shape each; see :class:`Inputs`."""
        wanted = self.rows[images, views]
        if (wanted < 0).any():
            raise NotInStoreError(f"{int((wanted < 0).sum()):,} maps are missing in {self.space.name}")

        def read(start: int) -> NDArray[np.float32]:
            # The space gathers rows in the order in which they lie.
            rows = self.space.rows(wanted[start : start + size])
            return np.asarray(rows, np.float32).reshape(len(rows), *self.shape)

        yield from map_ahead(read, range(0, len(images), size), workers=1, ahead=2)


@dataclass(frozen=True, kw_only=True, eq=False)
class PhotoInputs:
    """Pixels, decoded as they are needed; the spec says how they are resized and their views drawn."""

    spec: "BackboneSpec"
    paths: Sequence[str]
    hashes: NDArray[np.uint8]  # (n_images, 32)
    workers: int | None = None

    def batches(
        self, images: NDArray[np.intp], views: NDArray[np.intp], size: int
    ) -> Iterator[NDArray[np.uint8]]:
        """Yield uint8 pixels of shape (n, height, width, 3); see :class:`Inputs`."""
        workers = self.workers or default_workers()
        pairs = zip(images.tolist(), views.tolist(), strict=True)
        pixels = map_ahead(self._decoded, pairs, workers=workers, ahead=size + workers)
        batch: list[NDArray[np.uint8]] = []
        for picture in pixels:
            batch.append(picture)
            if len(batch) == size:
                yield np.stack(batch)
                batch = []
        if batch:
            yield np.stack(batch)

    def _decoded(self, wanted: tuple[int, int]) -> NDArray[np.uint8]:
        image, view = wanted
        path, expected = self.paths[image], self.hashes[image].tobytes()
        try:
            data = read_image(path)
            if content_hash(data) != expected:
                raise TuningError(f"{path} has changed since its features were extracted; extract it again")
            return decode_views(
                data,
                **self.spec.picture,
                recipe=self.spec.views,
                content_hash=expected,
                views=[view],
            )[0]
        except ImageError as error:
            raise TuningError(f"{path} cannot be used any more: {error}") from error

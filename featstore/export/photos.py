"""The photos of a table's rows, if they are unchanged."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ImageError
from featstore.flow.loading import Input, load_images
from featstore.hashing import content_hash
from featstore.images.reading import read_image

if TYPE_CHECKING:
    from featstore.splits import SplitRule
    from featstore.store.tables.table import FeatureTable

__all__ = ["Photo", "choose", "read_photos"]

_AHEAD = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Photo:
    """One photo of a table."""

    row: int  # in the table
    data: bytes
    pixels: NDArray[np.uint8]  # (height, width, 3)


def choose(table: "FeatureTable", split: str, rule: "SplitRule", *, limit: int) -> "FeatureTable":
    """Return labelled rows of a split, or of all: at most ``limit``, those of the smallest content hashes."""
    # These are as good as a random sample, and reproducible.
    chosen = np.asarray(table.is_labelled)
    if split != "all":
        chosen = chosen & (table.splits(rule) == split)
    table = table.select(chosen)
    if len(table) > limit:
        table = table.select(np.sort(np.lexsort(table.content_hash_bytes.T[::-1])[:limit]))
    return table


def read_photos(table: "FeatureTable") -> Iterator[Photo]:
    """Read and decode those photos of a table that exist and still have their content hash."""
    # Of several spaces, decode for the first one's network.
    inputs = [Input(spec=table.spec.parts[0])]
    hashes = table.content_hash_bytes
    items = (_TablePhoto(row, path, hashes[row].tobytes()) for row, path in enumerate(table.paths.tolist()))
    for image in load_images(items, inputs, ahead=_AHEAD):
        if image.reason is None:
            (pixels,) = image.pixels[0]
            yield Photo(row=image.item.row, data=image.item.data, pixels=pixels)


@dataclass(slots=True, eq=False)
class _TablePhoto:
    """A photo to read, and its data once it is read."""

    row: int
    path: str
    content_hash: bytes
    data: bytes = b""

    def read(self) -> bytes:
        data = read_image(self.path)
        if content_hash(data) != self.content_hash:
            raise ImageError("the photo has changed")
        self.data = data
        return data

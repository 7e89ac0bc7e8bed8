"""Reading, hashing and decoding of images on threads: each image once, for all networks that see it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.spec import BackboneSpec
from featstore.errors import ImageError
from featstore.flow.fetching import fetch_ahead
from featstore.hashing import content_hash
from featstore.images.decode import iter_views
from featstore.images.in_memory import GivenImage, content_of, path_of
from featstore.images.reading import default_workers, map_ahead
from featstore.images.reasons import NotDecodableHereError

if TYPE_CHECKING:
    from featstore.images.photo import Photo

__all__ = ["GivenItem", "Input", "Item", "Loaded", "load_images"]

# Most views of one image that are drawn before the network has taken some.
VIEWS_AT_ONCE = 32

_Pixels: TypeAlias = NDArray[np.uint8]


class Item(Protocol):
    """An image that can be read, and what its reader wants to know of it afterwards."""

    @property
    def path(self) -> str | None:
        """Its path or URL; None for an image in memory."""

    def read(self) -> bytes:
        """Return the image's content, or raise ImageError; called once, on any thread."""


ItemT = TypeVar("ItemT", bound=Item)


class GivenItem:
    """An image that the caller holds or names; its pixels or bytes are released once read."""

    def __init__(self, image: GivenImage) -> None:
        self.path = path_of(image)
        self._image: Any = image

    def read(self) -> bytes:
        """Return the bytes that identify the image and from which it is decoded."""
        image, self._image = self._image, None
        return content_of(image)


@dataclass(frozen=True, kw_only=True)
class Input:
    """What one network sees: pixels by its spec, and the views that ``wanted`` returns, or all."""

    spec: BackboneSpec
    wanted: Callable[[bytes], Sequence[int]] | None = None


@dataclass(slots=True, kw_only=True)
class Loaded(Generic[ItemT]):
    """An image, or some of its views, after a thread has read it; both dicts are by the input's number."""

    item: ItemT
    content_hash: bytes = b""  # empty where it is not needed or the image cannot be read
    views: dict[int, list[int]] = field(default_factory=dict)  # those that are decoded here
    pixels: dict[int, list[_Pixels]] = field(default_factory=dict)  # of these views: (height, width, 3)
    reason: str | None = None  # why it could not be decoded
    is_transient: bool = False  # the image itself is not at fault
    rest: "_Drawing | None" = None  # further views that are still to be drawn


def load_images(
    items: Iterable[ItemT],
    inputs: Sequence[Input],
    *,
    n_views: int = 1,
    views_at_once: int = VIEWS_AT_ONCE,
    ahead: int,
    workers: int | None = None,
) -> Iterator[Loaded[ItemT]]:
    """Read, hash and decode images on threads, in order, about ``ahead`` pictures in advance."""
    n_workers = workers or default_workers()
    # For no network at all they are read and hashed, and not decoded.
    is_hashed = not inputs or n_views > 1 or any(one.wanted is not None for one in inputs)
    leads = _leads(inputs)

    def load(reading: tuple[ItemT, Callable[[], bytes]]) -> Loaded[ItemT]:
        item, read = reading
        loaded = Loaded(item=item)
        try:
            content = read()
        except ImageError as error:
            loaded.reason = str(error)
            return loaded
        if is_hashed:
            loaded.content_hash = content_hash(content)
        wanted = {
            number: range(n_views) if one.wanted is None else one.wanted(loaded.content_hash)
            for number, one in enumerate(inputs)
        }
        if not any(map(len, wanted.values())):
            return loaded
        return draw(loaded, _Drawing(content, loaded.content_hash, inputs, leads, wanted))

    def draw(loaded: Loaded[ItemT], drawing: _Drawing) -> Loaded[ItemT]:
        try:
            views, pixels = drawing.next(views_at_once)
        except ImageError as error:
            is_transient = isinstance(error, NotDecodableHereError)
            return replace(
                loaded, views={}, pixels={}, reason=str(error), is_transient=is_transient, rest=None
            )
        return replace(loaded, views=views, pixels=pixels, rest=None if drawing.is_done else drawing)

    def more(loaded: Loaded[ItemT]) -> Callable[[], Loaded[ItemT]] | None:
        rest = loaded.rest
        return None if rest is None else lambda: draw(loaded, rest)

    images_ahead = max(n_workers + 1, -(-(ahead + n_workers) // min(n_views, views_at_once)))
    # Closed at an error here, so that nothing is requested any more.
    with closing(fetch_ahead(items)) as readings:
        yield from map_ahead(load, readings, workers=n_workers, ahead=images_ahead, more=more)


class _Drawing:
    """The views of one image that are still to be drawn, each once for all inputs that are alike."""

    def __init__(
        self,
        content: bytes,
        content_hash: bytes,
        inputs: Sequence[Input],
        leads: Sequence[int],
        wanted: dict[int, Sequence[int]],
    ) -> None:
        self._leads = leads
        self._wanted = {number: frozenset(views) for number, views in wanted.items()}
        self._left = sorted(frozenset[int]().union(*self._wanted.values()))
        self._n_drawn = 0
        self._seen: dict[int, tuple[frozenset[int], Iterator[_Pixels]]] = {}
        # What is decoded for the smallest size often does for the others.
        decoded: list[Photo] = []
        for lead in sorted({*leads}, key=lambda number: inputs[number].spec.size_px):
            views = frozenset[int]().union(*(self._wanted[n] for n, of in enumerate(leads) if of == lead))
            spec = inputs[lead].spec
            pixels = iter_views(
                content,
                **spec.picture,
                recipe=spec.views,
                content_hash=content_hash,
                views=sorted(views),
                decoded=decoded,
            )
            self._seen[lead] = views, pixels

    @property
    def is_done(self) -> bool:
        return self._n_drawn >= len(self._left)

    def next(self, n_views: int) -> tuple[dict[int, list[int]], dict[int, list[_Pixels]]]:
        """Return the next views by input, and their pixels."""
        now = self._left[self._n_drawn : self._n_drawn + n_views]
        self._n_drawn += n_views
        drawn = {}
        for lead, (wanted, pixels) in self._seen.items():
            views = [view for view in now if view in wanted]
            drawn[lead] = dict(zip(views, islice(pixels, len(views)), strict=True))
        by_input = {}
        for number, wanted in self._wanted.items():
            if views := [view for view in now if view in wanted]:
                by_input[number] = views
        pixels_by_input = {
            number: [drawn[self._leads[number]][view] for view in views] for number, views in by_input.items()
        }
        return by_input, pixels_by_input


def _leads(inputs: Sequence[Input]) -> list[int]:
    """Return, for each input, the first one that sees the same pixels."""
    seen = [(one.spec.picture, one.spec.views) for one in inputs]
    return [seen.index(pixels) for pixels in seen]

"""Views of an image: reproducible crops, scalings, brightness changes and flips."""

import hashlib
import operator
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ViewError

__all__ = ["MAX_VIEWS", "WHOLE", "View", "ViewRecipe", "checked_n_views"]

# A view's number is stored in 16 bits.
MAX_VIEWS = 2**16

_SALT = b"featstore view"


@dataclass(frozen=True, kw_only=True)
class View:
    """One view of an image; lengths are fractions of the upright picture's."""

    left: float = 0.0  # of the upper left corner, in [0, 1 - size]
    top: float = 0.0
    size: float = 1.0  # of each side, in (0, 1]
    brightness: float = 1.0  # factor of all channels, before rounding and clipping
    flip: bool = False

    def finish(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Apply brightness and flip to cropped and resized pixels."""
        if self.brightness != 1:
            table = np.rint(np.arange(256) * self.brightness).clip(0, 255).astype(np.uint8)
            brightened = pixels.tobytes().translate(table.tobytes())
            pixels = np.frombuffer(brightened, np.uint8).reshape(pixels.shape)
        if self.flip:
            # In a third of the time that a copy of pixels[:, ::-1] takes.
            pixels = pixels.take(np.arange(pixels.shape[1])[::-1], axis=1)
        return pixels


WHOLE = View()


@dataclass(frozen=True, kw_only=True)
class ViewRecipe:
    """How to draw random views of an image, with the distortions of TensorFlow's ``retrain.py`` in percent.

    View 0 is the image itself. Every other view is drawn by a generator that is seeded by the content hash
    and the view's number: the same on every machine, in any order, however many there are. With SHA-512 over
    ``b"featstore view"``, the content hash's 32 bytes and the view's number as a big-endian 16-bit integer,
    and each ``u`` in [0, 1) the upper 53 bits of 8 of its bytes, big-endian, over 2**53:

    - the sides of what is seen are ``1 / ((1 + random_crop / 100) (1 + u0 random_scale / 100))`` of the
      picture's, that is, of what the resize rule would show;
    - it lies at ``u1`` and ``u2`` of the room that this leaves to its left and above it, once the picture is
      upright;
    - brightness is ``1 + (2 u3 - 1) random_brightness / 100``;
    - with ``flip``, views with odd numbers are mirrored. Not by chance, so that any number of views has as
      many of either kind as can be.

    Parameters
    ----------
    flip : bool
    random_crop : float
        By how many percent the picture is larger than what is seen of it: in [0, 1000].
    random_scale : float
        By how many percent, at most, it is enlarged on top of that: in [0, 1000].
    random_brightness : float
        By how many percent, at most, brightness goes up or down: in [0, 100].

    Raises
    ------
    ViewError
        A strength is out of its range, or all are 0.

    Examples
    --------
    >>> recipe = ViewRecipe(flip=True, random_crop=10)
    >>> recipe.draw(bytes(32), 0) == View()
    True
    >>> view = recipe.draw(bytes(32), 1)
    >>> round(view.size, 4), view.flip, view.brightness
    (0.9091, True, 1.0)
    """

    flip: bool = False
    random_crop: float = 0.0
    random_scale: float = 0.0
    random_brightness: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.flip, bool):
            raise ViewError(f"flip must be True or False; found {self.flip!r}")
        for name, largest in (("random_crop", 1000), ("random_scale", 1000), ("random_brightness", 100)):
            percent = getattr(self, name)
            is_number = isinstance(percent, int | float) and not isinstance(percent, bool)
            if not is_number or not 0 <= percent <= largest:
                raise ViewError(f"{name} must be a percentage from 0 to {largest}; found {percent!r}")
            object.__setattr__(self, name, float(percent))
        if not self.to_dict():
            raise ViewError(
                "a view recipe does nothing: choose flip, or a percentage above 0 for random_crop, "
                "random_scale or random_brightness"
            )

    def __str__(self) -> str:
        return ", ".join(
            name if value is True else f"{name} {value:g}%" for name, value in self.to_dict().items()
        )

    @property
    def n_distinct(self) -> int:
        """Number of distinct views: 2 where the recipe only flips."""
        only_flips = self.to_dict() == {"flip": True}
        return 2 if only_flips else MAX_VIEWS

    @property
    def magnification(self) -> float:
        """Largest factor by which a view enlarges the picture."""
        return (1 + self.random_crop / 100) * (1 + self.random_scale / 100)

    def draw(self, content_hash: bytes, view: int) -> View:
        """Draw one view of an image.

        Parameters
        ----------
        content_hash : bytes
            32 bytes.
        view : int
            In [0, 65536).

        Returns
        -------
        View
        """
        if not 0 <= view < MAX_VIEWS:
            raise ViewError(f"a view is a number from 0 to {MAX_VIEWS - 1}; found {view}")
        if view == 0:
            return WHOLE
        digest = hashlib.sha512(_SALT + content_hash + view.to_bytes(2, "big")).digest()
        drawn = np.frombuffer(digest, ">u8")[:4] >> np.uint64(11)
        scale, left, top, brightness = (drawn / 2**53).tolist()
        size = 1 / ((1 + self.random_crop / 100) * (1 + scale * self.random_scale / 100))
        return View(
            left=left * (1 - size),
            top=top * (1 - size),
            size=size,
            brightness=1 + (2 * brightness - 1) * self.random_brightness / 100,
            flip=self.flip and view % 2 == 1,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that do something, as JSON values."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name))}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild a recipe from :meth:`to_dict`.

        Raises
        ------
        ViewError
            A field is unknown or has a value that it cannot have.
        """
        known = {field.name for field in fields(cls)}
        if not isinstance(data, Mapping) or (set(data) - known):
            raise ViewError(f"a view recipe has the fields {', '.join(sorted(known))}; found {data!r}")
        return cls(**data)


def checked_n_views(n_views: int, recipe: ViewRecipe | None) -> int:
    """Return the number of views of each image, or raise ViewError if the recipe does not allow it."""
    try:
        wanted = operator.index(n_views)
    except TypeError:
        wanted = 0
    if not 1 <= wanted <= MAX_VIEWS:
        raise ViewError(f"an image has from 1 to {MAX_VIEWS:,} views; found {n_views!r}")
    if recipe is None:
        if wanted > 1:
            raise ViewError(
                f"{wanted:,} views need a recipe that makes them differ; choose one or more of "
                "flip, random_crop, random_scale and random_brightness (--flip, --random-crop, …)"
            )
    elif wanted == 1:
        raise ViewError(
            f"the view recipe ({recipe}) is for views beyond the image itself, and 1 view is wanted; ask for "
            "2 or more (--views), or leave the recipe out"
        )
    elif wanted > recipe.n_distinct:
        raise ViewError(
            f"{wanted:,} views were requested, but only {recipe.n_distinct:,} are distinct: the recipe "
            f"({recipe}) has no more; ask for {recipe.n_distinct:,}, or add random_crop, random_scale or "
            "random_brightness (--random-crop, …)"
        )
    return wanted

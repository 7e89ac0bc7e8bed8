"""From the colours that an image file has to 8-bit RGB, converted once however often it is resized."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featstore.errors import ImageError

__all__ = ["resizable"]

_Pixels = NDArray[np.uint8]

_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


def resizable(image: Image.Image) -> tuple[Image.Image, Callable[[Image.Image], _Pixels]]:
    """Bring an image into a mode in which it can be resized, any number of times, without an error.

    See :func:`~featstore.images.decode.decode_image` for what becomes of which mode.

    Parameters
    ----------
    image : PIL.Image.Image
        Decoded.

    Returns
    -------
    PIL.Image.Image
    callable
        Turns the few pixels that a resize leaves into RGB, uint8 of shape (height, width, 3).

    Raises
    ------
    ImageError
        It holds values that are not finite; the callable raises it too.
    """
    mode = image.mode
    if mode.startswith("I;16") or mode in ("I", "F"):
        return _resizable_deep(image)
    if image.has_transparency_data:
        # Premultiplied, colours may be averaged: what is transparent does not bleed into its neighbours.
        image = image if mode == "RGBA" else image.convert("RGBA")
        return image.convert("RGBa"), _on_white
    if mode not in ("L", "RGB"):
        image = image.convert("L" if mode == "1" else "RGB")
    return image, _rgb


def _rgb(resized: Image.Image) -> _Pixels:
    return np.asarray(resized if resized.mode == "RGB" else resized.convert("RGB"))


def _on_white(resized: Image.Image) -> _Pixels:
    pixels: _Pixels = np.asarray(resized)
    return pixels[..., :3] + (255 - pixels[..., 3:])


def _resizable_deep(image: Image.Image) -> tuple[Image.Image, Callable[[Image.Image], _Pixels]]:
    """Convert an image of 16 or 32 bits a pixel, whose values are brought to 0..255 once it is resized."""
    tags = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16") or image.format == "PPM":
        low, high = 0.0, 4095.0 if tags.get(_BITS_PER_SAMPLE) == (12,) else 65535.0
        image = image if image.mode in ("I;16", "I") else image.convert("I")
    else:
        low, high = _range(image)
    inverted = image.mode == "I;16" and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO

    def to_rgb(resized: Image.Image) -> _Pixels:
        values = np.asarray(resized).astype(np.float64)
        if not np.isfinite(values).all():
            raise ImageError("the image holds values that are not finite")
        gray = np.rint((values - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)
        return np.repeat((255 - gray if inverted else gray)[..., np.newaxis], 3, axis=2)

    return image, to_rgb


def _range(image: Image.Image) -> tuple[float, float]:
    """Return the values that are to become black and white."""
    low, high = np.asarray(image.getextrema(), np.float64).tolist()
    if not np.isfinite((low, high)).all():
        raise ImageError("the image holds values that are not finite")
    if low >= 0:
        for white in (1.0, 255.0, 65535.0):
            if high <= white and (white > 1 or image.mode == "F"):
                return 0.0, white
    return low, high if high > low else low + 1

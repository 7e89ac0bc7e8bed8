"""Small copies of images, as WebP files."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featstore.errors import ImageError
from featstore.hashing import content_hash as hash_of
from featstore.images.decode import decode_fitted
from featstore.images.reading import read_image

__all__ = ["read_thumbnail", "webp"]


def read_thumbnail(path: str, content_hash: bytes, size_px: int) -> NDArray[np.uint8]:
    """Read an image as pixels of at most ``size_px`` on its longer side."""
    data = read_image(path)
    if hash_of(data) != content_hash:
        raise ImageError("the file has changed since its features were extracted")
    return decode_fitted(data, size_px=size_px)


def webp(pixels: NDArray[np.uint8], *, size_px: int, quality: int) -> bytes:
    """Return pixels as a WebP file of at most ``size_px`` on the longer side."""
    picture, file = Image.fromarray(pixels), BytesIO()
    picture.thumbnail((size_px, size_px))
    picture.save(file, "WEBP", quality=quality, method=3)
    return file.getvalue()

"""Images in memory (paths, bytes, PIL images, arrays) and their content."""

import os
import threading
from io import BytesIO
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featstore.errors import ImageError
from featstore.images.formats import ignore_header_warnings
from featstore.images.photo import deep_values, forget_deep_transparency, orientation
from featstore.images.reading import read_image
from featstore.images.reasons import reason_of

__all__ = ["GivenImage", "content_of", "is_one_image", "path_of"]

GivenImage: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[np.uint8]
)
"""What is taken for one image."""

_ORIENTATION = 0x0112

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_WRITABLE = frozenset(("1", "CMYK", "F", "I", "L", "LAB", "P", "RGB", "YCbCr"))

# A picture that Pillow has only opened is read at the first use, which two threads must not do at once.
_loading = threading.Lock()


def path_of(image: GivenImage) -> str | None:
    """Return an image's path as given, or None if it is not a file."""
    return os.fspath(image) if isinstance(image, str | os.PathLike) else None


def is_one_image(images: object) -> bool:
    """Return whether an argument that should be several images is a single one."""
    if isinstance(images, np.ndarray):
        return images.ndim == 3 and images.shape[2] == 3
    return isinstance(images, str | os.PathLike | bytes | bytearray | memoryview | Image.Image)


def content_of(image: GivenImage) -> bytes:
    """Return the bytes that identify an image and from which it is decoded."""
    # A file's own bytes; pixels (uint8, RGB or grayscale) as the binary PPM or PGM file, so that an
    # array, a PIL image and such a file are one image; PIL images in other modes as Pillow's uncompressed
    # TIFF.
    if isinstance(image, str | os.PathLike):
        return read_image(os.fspath(image))
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, np.ndarray):
        return _pixels_content(image)
    if isinstance(image, Image.Image):
        return _picture_content(image)
    raise TypeError(
        f"an image is a path, a file's bytes, a PIL image or an array of pixels; found {type(image).__name__}"
    )


def _pixels_content(pixels: NDArray[Any]) -> bytes:
    shape = pixels.shape[:2] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels.shape
    if pixels.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)):
        raise ImageError(
            f"pixels are uint8 in [0, 255] of shape (height, width, 3) or (height, width); "
            f"found {pixels.dtype} of shape {pixels.shape}"
        )
    if 0 in shape:
        raise ImageError(f"the image has no pixels: its shape is {pixels.shape}")
    kind = b"P5" if len(shape) == 2 else b"P6"
    return b"%s %d %d 255 %s" % (kind, shape[1], shape[0], pixels.tobytes())


def _picture_content(picture: Image.Image) -> bytes:
    try:
        forget_deep_transparency(picture)
        with _loading:
            picture.load()
        turn = _TURNS.get(_orientation(picture))
        mode = picture.mode
        if mode.startswith("I;16") or (mode == "I" and picture.format == "PPM"):
            plain = _sixteen_bits(picture)
        elif mode not in ("I", "F") and picture.has_transparency_data:
            plain = picture.convert("RGBA")
        else:
            plain = picture.convert("RGB") if mode not in _WRITABLE else picture.copy()
        upright = plain if turn is None else plain.transpose(turn)
        if upright.mode in ("L", "RGB"):
            return _pixels_content(np.asarray(upright))
        # Without the colour profile and the like, which decide nothing here.
        upright.info = {}
        file = BytesIO()
        upright.save(file, "TIFF")
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(
            f"the picture, of mode {picture.mode}, cannot be used: {reason_of(error, picture.format)}"
        ) from error
    return file.getvalue()


def _orientation(picture: Image.Image) -> int:
    """Return a picture's EXIF orientation, as its file or a program has set it."""
    ignore_header_warnings()
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    # Pillow's reader raises nearly every built-in exception on some broken EXIF, which ours passes over.
    except Exception:  # noqa: BLE001
        return orientation(picture)


def _sixteen_bits(picture: Image.Image) -> Image.Image:
    """Return values of 16 bits with 65535 for white, whatever the file's white was."""
    image, black, white = deep_values(picture)
    if image.mode == "I;16" and (black, white) == (0.0, 65535.0):
        return image
    values = (np.asarray(image, np.float64) - black) * (65535 / (white - black))
    return Image.fromarray(np.rint(values).clip(0, 65535).astype(np.uint16))

"""Decoding of image files into the pixels that a backbone takes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile

from featstore.errors import ImageError, ViewError
from featstore.images.formats import format_name, open_image
from featstore.images.photo import RESIZE_RULES, Box, Photo, UnusablePhotoError, check_rule
from featstore.images.reasons import NotDecodableHereError, image_error
from featstore.images.views import WHOLE, View, ViewRecipe

__all__ = ["RESIZE_RULES", "decode_fitted", "decode_image", "decode_views", "iter_views"]

_Pixels = NDArray[np.uint8]

_LEAST_PX = 64


def decode_image(
    data: bytes,
    *,
    size_px: tuple[int, int],
    resize: str = "stretch",
    interpolation: str = "bilinear",
    crop_fraction: float = 1.0,
) -> _Pixels:
    """Decode an image file into RGB pixels, uint8 of shape (height, width, 3), 0 to 255.

    The format is recognised by the file's first bytes and not by its name: JPEG, PNG, GIF, BMP, TIFF, WebP,
    AVIF, JPEG 2000, TGA, DDS or PPM; and HEIC, with the package pillow-heif (``featstore[heif]``).
    Of several frames the first is taken. It is turned upright by its EXIF or, without one,
    its XMP; broken EXIF is disregarded. Colours become 8-bit RGB as follows; embedded colour profiles are not
    applied, as in Keras:

    - Grayscale, palette, CMYK (as Adobe writes it, inverted in JPEG), YCbCr and LAB are converted.
    - Transparency is laid over white, the paper on which most cut-out pictures are meant to lie.
    - 16-bit grayscale is divided by 257 and rounded: 0..65535 becomes 0..255; 12-bit likewise from 0..4095.
      Of 16-bit colours Pillow keeps the high byte.
    - 32-bit integers and floats state no white. It is taken to be the smallest of 1 (floats only), 255 and
      65535 that no value in the image exceeds; where values are larger or negative, the image's own range
      from the smallest to the largest value becomes 0..255. NaN and infinity are refused.

    It is resized bilinearly or bicubically, with a kernel that widens when it shrinks (antialiased; Pillow's
    ``BILINEAR`` and ``BICUBIC``).

    A JPEG at least four times as large as requested is decoded at 1/2, 1/4 or 1/8 of its size from its DCT
    coefficients, as long as twice the pixels requested are left on both sides, so that the resize still
    decides. Measured at 224 px on photos of 12 megapixels, this changes the pixels by 0.2 of 255 on average
    and by 10 at most (PSNR 50 dB or better), and on mosaics of 192 small photos, full of detail, by 0.8 and
    14 (45 dB); it decodes two to five times as many a second.

    ``resize`` is ``"stretch"``, which disregards the aspect ratio; ``"crop"``, the largest centred part of
    the right one; or ``"pad"``, the whole image centred on black, as TensorFlow's ``resize_with_pad`` does
    (black has no edges of its own in networks trained with zero padding). Of what the first two show,
    ``crop_fraction`` leaves the centre: 0.875 is a resize to 256 pixels of which 224 are cut out.
    """
    (pixels,) = iter_views(
        data,
        size_px=size_px,
        resize=resize,
        interpolation=interpolation,
        crop_fraction=crop_fraction,
        recipe=None,
        content_hash=b"",
        views=[0],
    )
    return pixels


def decode_fitted(data: bytes, *, size_px: int) -> _Pixels:
    """Decode a whole image to ``size_px`` on its longer side; tiny ones are enlarged to 64 at most."""
    opened: list[ImageFile] = []
    with _explained(data, opened):
        image = open_image(data)
        opened.append(image)
        longest = min(size_px, max(_LEAST_PX, *image.size))
        return np.ascontiguousarray(Photo.of(image, size_px=(longest, longest), resize="pad").part())


def decode_views(
    data: bytes,
    *,
    recipe: ViewRecipe | None,
    content_hash: bytes,
    views: Sequence[int],
    **picture: Any,
) -> list[_Pixels]:
    """Decode an image file once and return the pixels of several of its views, as of :func:`decode_image`."""
    # How far a large JPEG is decoded at a fraction of its size depends on the recipe and not on the views
    # wanted, so a view has the same pixels whichever others are decoded with it.
    return list(iter_views(data, recipe=recipe, content_hash=content_hash, views=views, **picture))


def iter_views(
    data: bytes,
    *,
    size_px: tuple[int, int],
    resize: str = "stretch",
    interpolation: str = "bilinear",
    crop_fraction: float = 1.0,
    recipe: ViewRecipe | None,
    content_hash: bytes,
    views: Sequence[int],
    decoded: list[Photo] | None = None,
) -> Iterator[_Pixels]:
    """Decode an image file once and yield its views one by one."""
    # `decoded` holds the same file as it was decoded for other sizes, and takes up what is decoded here: the
    # smallest size first, since what is enough for it may not be for others.
    height, width = size_px
    if height < 1 or width < 1:
        raise ValueError(f"size_px must be (height, width), each at least 1; found {size_px!r}")
    check_rule(resize, interpolation, crop_fraction)
    if recipe is None and any(view != 0 for view in views):
        raise ViewError(f"without a recipe there is only view 0; found {list(views)}")
    drawn = [WHOLE if recipe is None else recipe.draw(content_hash, view) for view in views]
    picture = {
        "size_px": (height, width),
        "resize": resize,
        "interpolation": interpolation,
        "crop_fraction": crop_fraction,
        "magnification": 1.0 if recipe is None else recipe.magnification,
    }
    return _pictures(data, picture, views=drawn, decoded=[] if decoded is None else decoded)


def _pictures(
    data: bytes, picture: dict[str, Any], *, views: Sequence[View], decoded: list[Photo]
) -> Iterator[_Pixels]:
    opened: list[ImageFile] = []
    with _explained(data, opened):
        photo = next(filter(None, (one.at(**picture) for one in decoded)), None)
        if photo is None:
            opened.append(open_image(data))
            photo = Photo.of(opened[0], **picture)
            decoded.append(photo)
        for view in views:
            yield _view(photo, view)


@contextmanager
def _explained(data: bytes, opened: list[ImageFile]) -> Iterator[None]:
    """Turn whatever decoding raises into an ImageError."""
    try:
        yield
    except ImageError:
        raise
    except UnusablePhotoError as error:
        raise ImageError(str(error)) from error
    except MemoryError as error:
        size = f", {opened[0].width} x {opened[0].height} pixels," if opened else ""
        raise NotDecodableHereError(f"the image{size} does not fit into memory") from error
    except Exception as error:
        # Pillow's plugins raise nearly every built-in exception on some malformed file.
        raise image_error(error, format_name(data)) from error


def _view(photo: Photo, view: View) -> _Pixels:
    part = _part(photo.box, view, photo.orientation)
    return photo.framed(view.finish(photo.part(part)), mirrored=view.flip)


def _part(box: Box, view: View, orientation: int) -> Box:
    """Return the box in stored orientation that a view shows of the upright image."""
    if view.size == 1:
        return box
    across, down = view.left, view.top
    # As _upright, the other way round.
    if orientation in (2, 3, 6, 7):
        across = 1 - view.size - across
    if orientation in (3, 4, 7, 8):
        down = 1 - view.size - down
    if orientation >= 5:
        across, down = down, across
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    # Rounded to nearest, none of these sums lies beyond the box: see the tests.
    return (
        left + across * width,
        top + down * height,
        left + (across + view.size) * width,
        top + (down + view.size) * height,
    )

"""From the bytes of an image file to the pixels that a backbone sees."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featstore.errors import ImageError, ViewError
from featstore.images.exif import exif_orientation
from featstore.images.formats import MAX_PIXELS, TRUNCATED, format_name, open_image
from featstore.images.modes import resizable
from featstore.images.views import WHOLE, View, ViewRecipe

__all__ = ["RESIZE_RULES", "decode_image", "decode_views", "iter_views"]

RESIZE_RULES = ("crop", "pad", "stretch")

_Box = tuple[float, float, float, float]
_Pixels = NDArray[np.uint8]

# A JPEG is decoded at 1/2, 1/4 or 1/8 only while this many pixels are left for each that is asked for.
_DRAFT_MARGIN = 2

# Pixels between the two passes of a resize, above which it is done in two steps. No photo comes near.
_MAX_BETWEEN = 2**22


def decode_image(data: bytes, *, size_px: tuple[int, int], resize: str = "stretch") -> _Pixels:
    r"""Decode an image file into RGB pixels of a given size.

    The format is told by the file's first bytes and not by its name: JPEG, PNG, GIF, BMP, TIFF, WebP or PPM.
    Of several frames the first is taken. It is turned upright as its EXIF orientation says; broken EXIF is
    disregarded. Colours become 8-bit RGB as follows; embedded colour profiles are not applied, as in Keras:

    - Grayscale, palette, CMYK (as Adobe writes it, inverted in JPEG), YCbCr and LAB are converted.
    - Transparency is laid over white, the paper on which most cut-out pictures are meant to lie.
    - 16-bit grayscale is divided by 257 and rounded: 0..65535 becomes 0..255; 12-bit likewise from 0..4095.
      Of 16-bit colours Pillow keeps the high byte.
    - 32-bit integers and floats state no white. It is taken to be the smallest of 1 (floats only), 255 and
      65535 that no value in the image exceeds; where values are larger or negative, the image's own range
      from the smallest to the largest value becomes 0..255. NaN and infinity are refused.

    It is resized bilinearly with a kernel that widens when it shrinks (antialiased; Pillow's ``BILINEAR``).

    A JPEG at least four times as large as asked for is decoded at 1/2, 1/4 or 1/8 of its size from its DCT
    coefficients, as long as twice the pixels asked for are left on both sides, so that the resize still
    decides. Measured at 224 px on photos of 12 megapixels, this changes the pixels by 0.2 of 255 on average
    and by 10 at most (PSNR 50 dB or better), and on mosaics of 192 small photos, full of detail, by 0.8 and
    14 (45 dB); it decodes two to five times as many a second.

    Parameters
    ----------
    data : bytes
        The whole file.
    size_px : tuple of int
        Height and width of the result, in pixels.
    resize : {"stretch", "crop", "pad"}
        ``"stretch"`` disregards the aspect ratio; ``"crop"`` keeps the largest centred part that has the
        right one; ``"pad"`` fits the whole image inside and centres it on black, as TensorFlow's
        ``resize_with_pad`` does: black has no edges of its own after the first layers of networks that were
        trained with zero padding.

    Returns
    -------
    ndarray of shape (height, width, 3), uint8
        Channels red, green, blue, each 0..255; C-contiguous, perhaps read-only.

    Raises
    ------
    ImageError
        The data cannot be decoded; the message is one line that says why, without a file's name.
    ValueError
        ``size_px`` or ``resize`` has a value that it cannot have.

    Notes
    -----
    Safe to call from many threads at once; decoding and resizing release the interpreter's lock.

    Examples
    --------
    >>> decode_image(b"P6 1 1 255 \xff\x80\x00", size_px=(1, 2)).tolist()
    [[[255, 128, 0], [255, 128, 0]]]
    """
    (pixels,) = _pictures(data, size_px=size_px, resize=resize, views=[WHOLE], magnification=1.0)
    return pixels


def decode_views(
    data: bytes,
    *,
    size_px: tuple[int, int],
    resize: str = "stretch",
    recipe: ViewRecipe | None,
    content_hash: bytes,
    views: Sequence[int],
) -> list[_Pixels]:
    """Decode an image file once, into the pixels of several of its views.

    As :func:`decode_image`, but that a large JPEG is decoded at a fraction of its size only where that leaves
    enough pixels for the smallest part that the recipe may show: which it is depends on the recipe and not on
    the views asked for, so a view has the same pixels whichever others are decoded with it.

    Parameters
    ----------
    data, size_px, resize
        As for :func:`decode_image`.
    recipe : ViewRecipe or None
        None where there is but view 0, which is then what :func:`decode_image` gives.
    content_hash : bytes
        Of ``data``, 32 bytes.
    views : sequence of int
        Each in [0, 65536).

    Returns
    -------
    list of ndarray of shape (height, width, 3), uint8
        In the order of ``views``.

    Raises
    ------
    ImageError, ValueError
        As :func:`decode_image`.
    ViewError
        A number is that of no view.
    """
    return list(
        iter_views(
            data, size_px=size_px, resize=resize, recipe=recipe, content_hash=content_hash, views=views
        )
    )


def iter_views(
    data: bytes,
    *,
    size_px: tuple[int, int],
    resize: str = "stretch",
    recipe: ViewRecipe | None,
    content_hash: bytes,
    views: Sequence[int],
) -> Iterator[_Pixels]:
    """Decode an image file once, and draw its views one after the other, as they are asked for.

    Parameters
    ----------
    data, size_px, resize, recipe, content_hash, views
        As for :func:`decode_views`.

    Returns
    -------
    iterator of ndarray of shape (height, width, 3), uint8
        Decodes at the first step, and raises :class:`ImageError` there or later. Holds the decoded picture
        until it has ended.

    Raises
    ------
    ViewError
        A number is that of no view.
    """
    if recipe is not None:
        drawn = [recipe.draw(content_hash, view) for view in views]
        return _pictures(
            data, size_px=size_px, resize=resize, views=drawn, magnification=recipe.magnification
        )
    if any(view != 0 for view in views):
        raise ViewError(f"without a recipe there is but view 0; found {list(views)}")
    return _pictures(data, size_px=size_px, resize=resize, views=[WHOLE] * len(views), magnification=1.0)


def _pictures(
    data: bytes, *, size_px: tuple[int, int], resize: str, views: Sequence[View], magnification: float
) -> Iterator[_Pixels]:
    height, width = size_px
    if height < 1 or width < 1:
        raise ValueError(f"size_px is (height, width), each at least 1; found {size_px!r}")
    if resize not in RESIZE_RULES:
        raise ValueError(f"resize is one of {', '.join(RESIZE_RULES)}; found {resize!r}")
    image: Image.Image | None = None
    try:
        image = open_image(data)
        picture = _decode(image, (height, width), resize, magnification)
        for view in views:
            yield picture.pixels(view)
    except ImageError:
        raise
    except MemoryError as error:
        size = "" if image is None else f", {image.width} x {image.height} pixels,"
        raise ImageError(f"the image{size} does not fit into memory") from error
    except Exception as error:
        # Pillow's plugins raise nearly every built-in exception on some malformed file.
        raise ImageError(_reason(error, data)) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class _Picture:
    """A decoded image, in a mode in which a resize is exact, and what of it is to be seen.

    Parameters
    ----------
    image : PIL.Image.Image
    to_rgb : callable
        Turns the few pixels that a resize leaves into RGB.
    box : tuple of float
        What the resize rule shows of it, as its pixels lie.
    inner : tuple of int
        Width and height that this is resized to, as its pixels lie.
    orientation : int
        How its pixels lie: 1 to 8.
    size_px : tuple of int
        Height and width of the result.
    """

    image: Image.Image
    to_rgb: Callable[[Image.Image], _Pixels]
    box: _Box
    inner: tuple[int, int]
    orientation: int
    size_px: tuple[int, int]

    def pixels(self, view: View) -> _Pixels:
        """Return one view's pixels, upright and, where they do not fill the size, centred on black."""
        resized = _resized(self.image, _part(self.box, view, self.orientation), self.inner)
        pixels = view.finish(_upright(self.to_rgb(resized), self.orientation))
        if pixels.shape[:2] == self.size_px:
            return np.ascontiguousarray(pixels)
        padded = np.zeros((*self.size_px, 3), np.uint8)
        top, left = ((outer - own) // 2 for outer, own in zip(self.size_px, pixels.shape[:2], strict=True))
        if view.flip:
            # The mirror image of what the network sees, also where the margins differ by a pixel.
            left = self.size_px[1] - pixels.shape[1] - left
        padded[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
        return padded


def _decode(image: Image.Image, size_px: tuple[int, int], resize: str, magnification: float) -> _Picture:
    is_jpeg = image.format == "JPEG"
    if not is_jpeg:
        image.load()  # A PNG may carry its EXIF behind the pixels.
    orientation = _orientation(image)
    # Turning is left for last, when the picture is small; until then, what will be its height is its width.
    height, width = size_px if orientation < 5 else size_px[::-1]
    box, inner = _frame(image.size, (width, height), resize)
    if is_jpeg:
        box = _draft(image, box, inner, magnification)
        image.load()
    converted, to_rgb = resizable(image)
    return _Picture(
        image=converted, to_rgb=to_rgb, box=box, inner=inner, orientation=orientation, size_px=size_px
    )


def _part(box: _Box, view: View, orientation: int) -> _Box:
    """Return the part of a box, as the pixels lie, that a view shows of the upright picture."""
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


def _frame(size: tuple[int, int], target: tuple[int, int], resize: str) -> tuple[_Box, tuple[int, int]]:
    """Return which part of the image is wanted, and to what width and height it is to be resized."""
    (width, height), (target_width, target_height) = size, target
    if resize == "crop":
        scale = min(width / target_width, height / target_height)
        left = max(0.0, (width - target_width * scale) / 2)
        top = max(0.0, (height - target_height * scale) / 2)
        return (left, top, width - left, height - top), target
    if resize == "pad":
        scale = min(target_width / width, target_height / height)
        inner = max(1, round(width * scale)), max(1, round(height * scale))
        return (0.0, 0.0, width, height), inner
    return (0.0, 0.0, width, height), target


def _draft(image: Image.Image, box: _Box, inner: tuple[int, int], magnification: float) -> _Box:
    """Have a JPEG decoded at a fraction of its size where enough pixels are left; return the scaled box."""
    enough = [
        max(1, int(np.ceil(_DRAFT_MARGIN * magnification * wanted * whole / (high - low))))
        for wanted, whole, low, high in zip(inner, image.size, box[:2], box[2:], strict=True)
    ]
    width = image.width
    drafted = image.draft(None, (enough[0], enough[1]))
    if drafted is None:
        return box
    # The right and lower edges of the image may lie inside of the drafted image's last pixels.
    scale = width / drafted[1][2]
    left, top, right, bottom = (edge / scale for edge in box)
    return left, top, min(right, image.width), min(bottom, image.height)


def _resized(image: Image.Image, box: _Box, inner: tuple[int, int]) -> Image.Image:
    bilinear = Image.Resampling.BILINEAR
    if image.width < inner[0] and inner[0] * image.height > _MAX_BETWEEN:
        # Pillow widens first: a strip one pixel wide and a million high would grow a hundredfold in between.
        left, top, right, bottom = box
        image = image.resize((image.width, inner[1]), bilinear, (0, top, image.width, bottom))
        box = (left, 0, right, inner[1])
    return image.resize(inner, bilinear, box)


def _orientation(image: Image.Image) -> int:
    """Return how the pixels lie (1 to 8)."""
    # A TIFF has no such block and needs none: Pillow turns it upright by itself when it decodes it.
    exif = image.info.get("exif")
    if isinstance(exif, bytes):
        return exif_orientation(exif)
    legacy = image.info.get(
        "Raw profile type exif"
    )  # As ImageMagick writes it into a PNG: text, in hexadecimal.
    if isinstance(legacy, str):
        try:
            return exif_orientation(bytes.fromhex("".join(legacy.split("\n")[3:])))
        except ValueError:
            return 1
    return 1


def _upright(pixels: _Pixels, orientation: int) -> _Pixels:
    """Undo an EXIF orientation; 5 to 8 swap height and width."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _reason(error: Exception, data: bytes) -> str:
    """Put whatever Pillow raised into one short line."""
    said = "".join(letter if letter.isprintable() else " " for letter in str(error))
    said = " ".join(said.split())[:100]
    if isinstance(error, Image.DecompressionBombError):
        return f"a decompression bomb? the header claims more than {MAX_PIXELS:,} pixels"
    if isinstance(error, EOFError) or "truncated" in said.lower():
        return TRUNCATED
    return f"broken or unsupported {format_name(data)} image" + (f": {said}" if said else "")

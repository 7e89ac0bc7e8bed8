"""Decode a photo into a network's input. Needs only NumPy and Pillow.

featstore decodes with this module and writes a copy of it beside every exported model: a program that uses
read_photo gives the model the same pixels as featstore.
"""

import contextlib
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = [
    "INTERPOLATIONS",
    "RESIZE_RULES",
    "Box",
    "Photo",
    "UnusablePhotoError",
    "deep_values",
    "exif_orientation",
    "forget_deep_transparency",
    "orientation",
    "read_photo",
]

RESIZE_RULES = ("crop", "pad", "stretch")

INTERPOLATIONS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

Box = tuple[float, float, float, float]
_Pixels = NDArray[np.uint8]

_FORMATS = (*("AVIF", "BMP", "DDS", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP"),)

# EXIF 2.32, 4.6.4 A and 4.6.2: the tag, its types BYTE, SHORT and LONG, and TIFF's byte orders.
_ORIENTATION = 0x0112
_TYPES = {1: "B", 3: "H", 4: "L"}
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_XMP_ORIENTATION = r'tiff:Orientation(?:="|>)([0-9])'

_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0

# A JPEG is decoded at 1/2, 1/4 or 1/8 only while this many pixels are left for each that is asked for.
_DRAFT_MARGIN = 2

# Pixels between the two passes of a resize, above which it is done in two steps. No photo comes near.
_MAX_BETWEEN = 2**22


class UnusablePhotoError(ValueError):
    """A photo with pixel values that are no colours."""


def read_photo(
    path: Any,
    size_px: tuple[int, int],
    resize: str = "stretch",
    *,
    interpolation: str = "bilinear",
    crop_fraction: float = 1.0,
    magnification: float = 1.0,
) -> _Pixels:
    """Read a photo as model input: upright, on white where transparent, resized with antialiasing.

    HEIC photos need the package pillow-heif.

    Parameters
    ----------
    path : path_like or file
    size_px : tuple of int
        Height and width that the model takes, in pixels.
    resize : {"stretch", "crop", "pad"}
        How a photo of another shape is brought to that: as a whole, its centre, or whole and on black.
    interpolation : {"bilinear", "bicubic"}
    crop_fraction : float
        The centred part of what ``resize`` shows that is left, by its sides: in (0, 1].
    magnification : float
        By how much parts of it are enlarged at most, which decides at which fraction of its size a large JPEG
        is decoded.

    Returns
    -------
    ndarray of shape (height, width, 3), uint8
        Red, green and blue, each 0..255.
    """
    check_rule(resize, interpolation, crop_fraction)
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    Image.init()
    with Image.open(path, formats=[name for name in _FORMATS if name in Image.OPEN]) as image:
        height, width = size_px
        photo = Photo.of(
            image,
            size_px=(height, width),
            resize=resize,
            interpolation=interpolation,
            crop_fraction=crop_fraction,
            magnification=magnification,
        )
        return photo.framed(photo.part())


def check_rule(resize: str, interpolation: str, crop_fraction: float) -> None:
    """Raise ValueError unless pictures can be resized so."""
    if resize not in RESIZE_RULES:
        raise ValueError(f"resize must be one of {', '.join(RESIZE_RULES)}; found {resize!r}")
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}; found {interpolation!r}")
    if not 0 < crop_fraction <= 1:
        raise ValueError(f"crop_fraction must be in (0, 1]; found {crop_fraction!r}")
    if resize == "pad" and crop_fraction < 1:
        raise ValueError(f"resize='pad' shows the whole image; found a crop_fraction of {crop_fraction}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Photo:
    """A decoded image, in a mode that resizes exactly, and the part of it to show."""

    image: Image.Image
    to_rgb: Callable[[Image.Image], _Pixels]  # of the few pixels that a resize leaves
    box: Box  # what the resize rule shows, as its pixels lie
    inner: tuple[int, int]  # width and height that this is resized to
    orientation: int  # how its pixels lie: 1 to 8
    size_px: tuple[int, int]  # height and width of the result
    least: tuple[int, int] | None = (0, 0)
    interpolation: str = "bilinear"

    @classmethod
    def of(
        cls,
        image: Image.Image,
        *,
        size_px: tuple[int, int],
        resize: str,
        interpolation: str = "bilinear",
        crop_fraction: float = 1.0,
        magnification: float = 1.0,
    ) -> "Photo":
        """Decode an image that Pillow has opened; parts of it may be enlarged by ``magnification``."""
        forget_deep_transparency(image)
        is_jpeg = image.format in ("JPEG", "MPO")
        if not is_jpeg:
            image.load()  # A PNG may carry its EXIF behind the pixels.
        turn = orientation(image)
        # Turning is left for last, when the picture is small; until then, what will be its height is its
        # width.
        height, width = size_px if turn < 5 else size_px[::-1]
        box, inner = _frame(image.size, (width, height), resize, crop_fraction)
        least: tuple[int, int] | None = (0, 0)
        if is_jpeg:
            whole, least = image.size, _enough(image.size, box, inner, magnification)
            box = _draft(image, box, least)
            least = least if image.size == whole else None
            image.load()
        converted, to_rgb = _resizable(image)
        return cls(
            image=converted,
            to_rgb=to_rgb,
            box=box,
            inner=inner,
            orientation=turn,
            size_px=size_px,
            least=least,
            interpolation=interpolation,
        )

    def at(
        self,
        *,
        size_px: tuple[int, int],
        resize: str,
        interpolation: str = "bilinear",
        crop_fraction: float = 1.0,
        magnification: float = 1.0,
    ) -> "Photo | None":
        """Return this image at another size; None where it has to be decoded again for that."""
        height, width = size_px if self.orientation < 5 else size_px[::-1]
        box, inner = _frame(self.image.size, (width, height), resize, crop_fraction)
        enough = _enough(self.image.size, box, inner, magnification)
        if self.least is None or any(own < least for own, least in zip(enough, self.least, strict=True)):
            return None
        return replace(self, box=box, inner=inner, size_px=size_px, interpolation=interpolation)

    def part(self, box: Box | None = None) -> _Pixels:
        """Return the upright pixels of a box, by default of all that the resize rule shows."""
        filtering = INTERPOLATIONS[self.interpolation]
        resized = _resized(self.image, self.box if box is None else box, self.inner, filtering)
        return _upright(self.to_rgb(resized), self.orientation)

    def framed(self, pixels: _Pixels, *, mirrored: bool = False) -> _Pixels:
        """Centre pixels on black where they do not fill the size."""
        if pixels.shape[:2] == self.size_px:
            return np.ascontiguousarray(pixels)
        padded = np.zeros((*self.size_px, 3), np.uint8)
        top, left = ((outer - own) // 2 for outer, own in zip(self.size_px, pixels.shape[:2], strict=True))
        if mirrored:
            # The mirror image of what the network sees, also where the margins differ by a pixel.
            left = self.size_px[1] - pixels.shape[1] - left
        padded[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
        return padded


def orientation(image: Image.Image) -> int:
    """Return the orientation of an image, 1 to 8, by its EXIF or else its XMP."""
    # As PIL.ImageOps.exif_transpose, but only the first EXIF directory is searched, for one tag: parsing
    # everything takes longer than decoding a small photo, and fails on broken maker notes.
    # A TIFF, once decoded, lies upright: Pillow turns it, and takes its orientation out of what it says.
    exif = image.info.get("exif")
    if exif is None:
        # As ImageMagick writes it into a PNG: text, in hexadecimal.
        lines = str(image.info.get("Raw profile type exif", "")).split("\n")
        with contextlib.suppress(ValueError):
            exif = bytes.fromhex("".join(lines[3:]))
    found = exif_orientation(exif) if isinstance(exif, bytes) else None
    if found is None:
        xmp = image.info.get("XML:com.adobe.xmp") or image.info.get("xmp")
        text = xmp.decode("latin-1") if isinstance(xmp, bytes) else xmp
        declared = re.search(_XMP_ORIENTATION, text) if isinstance(text, str) else None
        found = int(declared[1]) if declared else 1
    return found if 1 <= found <= 8 else 1


def exif_orientation(exif: bytes) -> int | None:
    """Read the orientation from an EXIF block, with or without its ``Exif`` prefix."""
    block = re.sub(rb"^(Exif\0\0){1,2}", b"", exif)
    order = _BYTE_ORDERS.get(block[:4])
    if order is None:
        return None
    with contextlib.suppress(struct.error):
        (start,) = struct.unpack_from(f"{order}L", block, 4)
        (n_entries,) = struct.unpack_from(f"{order}H", block, start)
        for place in range(start + 2, start + 2 + 12 * n_entries, 12):
            tag, kind = struct.unpack_from(f"{order}HH", block, place)
            if tag == _ORIENTATION:
                (value,) = struct.unpack_from(order + _TYPES.get(kind, "H"), block, place + 8)
                return int(value)
    return None


def deep_values(image: Image.Image) -> tuple[Image.Image, float, float]:
    """Return a deep image in mode I;16, I or F, and its values for black and white."""
    tags = getattr(image, "tag_v2", {})
    if not image.mode.startswith("I;16") and image.format != "PPM":
        return image, *_range(image)
    high = 4095.0 if tags.get(_BITS_PER_SAMPLE) == (12,) else 65535.0
    is_inverted = image.mode == "I;16" and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    image = image if image.mode in ("I;16", "I") else image.convert("I")
    return (image, high, 0.0) if is_inverted else (image, 0.0, high)


def _range(image: Image.Image) -> tuple[float, float]:
    low, high = np.asarray(image.getextrema(), np.float64).tolist()
    if not np.isfinite((low, high)).all():
        raise UnusablePhotoError("the image holds values that are not finite")
    if low >= 0:
        for white in (1.0, 255.0, 65535.0):
            if high <= white and (white > 1 or image.mode == "F"):
                return 0.0, white
    return low, high if high > low else low + 1


def _resizable(image: Image.Image) -> tuple[Image.Image, Callable[[Image.Image], _Pixels]]:
    """Convert an image to a mode that can be resized repeatedly without an error."""
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
    # Bicubic overshoots at edges, and a premultiplied colour is never more than its alpha.
    return np.minimum(pixels[..., :3], pixels[..., 3:]) + (255 - pixels[..., 3:])


def _resizable_deep(image: Image.Image) -> tuple[Image.Image, Callable[[Image.Image], _Pixels]]:
    """Prepare an image of 16 or 32 bits a pixel, to be scaled to 0..255 after the resize."""
    image, black, white = deep_values(image)

    def to_rgb(resized: Image.Image) -> _Pixels:
        values = np.asarray(resized).astype(np.float64)
        if not np.isfinite(values).all():
            raise UnusablePhotoError("the image holds values that are not finite")
        gray = np.rint((values - black) * (255 / (white - black))).clip(0, 255).astype(np.uint8)
        return np.repeat(gray[..., np.newaxis], 3, axis=2)

    return image, to_rgb


def forget_deep_transparency(image: Image.Image) -> None:
    """Drop the transparent colour of 16-bit images: Pillow keeps 8 bits of each channel."""
    if image.format == "PNG" and isinstance(colour := image.info.get("transparency"), tuple | int):
        declared = colour if isinstance(colour, tuple) else (colour,)
        tiles = getattr(image, "tile", None) or []
        if image.mode in ("RGB", "L") and (max(declared) > 255 or any("16" in str(one[3]) for one in tiles)):
            del image.info["transparency"]


def _frame(
    size: tuple[int, int], target: tuple[int, int], resize: str, crop_fraction: float = 1.0
) -> tuple[Box, tuple[int, int]]:
    """Return the box to show, and the width and height to resize it to."""
    (width, height), (target_width, target_height) = size, target
    if resize == "crop":
        scale = crop_fraction * min(width / target_width, height / target_height)
        left = max(0.0, (width - target_width * scale) / 2)
        top = max(0.0, (height - target_height * scale) / 2)
        return (left, top, width - left, height - top), target
    if crop_fraction < 1:
        left, top = (side * (1 - crop_fraction) / 2 for side in size)
        return (left, top, width - left, height - top), target
    if resize == "pad":
        scale = min(target_width / width, target_height / height)
        inner = max(1, round(width * scale)), max(1, round(height * scale))
        return (0.0, 0.0, width, height), inner
    return (0.0, 0.0, width, height), target


def _enough(size: tuple[int, int], box: Box, inner: tuple[int, int], magnification: float) -> tuple[int, int]:
    """Return the width and height that an image needs to have for a box of it to be resized well."""
    width, height = (
        max(1, int(np.ceil(_DRAFT_MARGIN * magnification * wanted * whole / (high - low))))
        for wanted, whole, low, high in zip(inner, size, box[:2], box[2:], strict=True)
    )
    return width, height


def _draft(image: Image.Image, box: Box, enough: tuple[int, int]) -> Box:
    """Decode a JPEG at a fraction of its size if enough pixels are left; return the scaled box."""
    width = image.width
    drafted = image.draft(None, enough)
    if drafted is None:
        return box
    # The right and lower edges of the image may lie inside of the drafted image's last pixels.
    scale = width / drafted[1][2]
    left, top, right, bottom = (edge / scale for edge in box)
    return left, top, min(right, image.width), min(bottom, image.height)


def _resized(
    image: Image.Image, box: Box, inner: tuple[int, int], filtering: Image.Resampling
) -> Image.Image:
    if image.width < inner[0] and inner[0] * image.height > _MAX_BETWEEN:
        # Pillow widens first: a strip one pixel wide and a million high would grow a hundredfold in between.
        left, top, right, bottom = box
        image = image.resize((image.width, inner[1]), filtering, (0, top, image.width, bottom))
        box = (left, 0, right, inner[1])
    return image.resize(inner, filtering, box)


def _upright(pixels: _Pixels, turn: int) -> _Pixels:
    """Undo an EXIF orientation; 5 to 8 swap height and width."""
    if turn >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if turn in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels

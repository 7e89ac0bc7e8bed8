"""Which file formats are read, told by their first bytes, and how Pillow is kept to them.

The plugins are called by name, each for its own signature. ``Image.open`` would try others too (EPS runs
Ghostscript), would warn where we raise, and would take a photo with a second picture behind it for an album.
"""

import re
import warnings
from collections.abc import Callable
from io import BytesIO
from typing import Literal

from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from featstore.errors import ImageError

__all__ = ["MAX_PIXELS", "TRUNCATED", "format_name", "open_image"]

MAX_PIXELS = 2 * (1024**3 // 4 // 3)
"""The largest width x height that is decoded, 178,956,970: where Pillow itself refuses by default."""

TRUNCATED = "truncated: the file ends before the image does"

# Pixels x scans of a JPEG, five seconds' work: each scan of a few bytes goes over all pixels once more.
_MAX_SCANNED = 2**35

# Pillow fills what a BMP leaves out pixel by pixel in Python: so many take two seconds.
_MAX_LEFT_OUT = 2**24

# Pillow moves up to a megabyte for each comment of a PPM: so many take a second.
_MAX_COMMENTS = 10_000

_STRIPS = ((273, 279), (324, 325))
"""TIFF 6.0, sections 8 and 15: the tags of offsets and sizes, in bytes, of strips and tiles."""

_HEADER_READERS = r"PIL\.(Png|Tiff)ImagePlugin$"


def open_image(data: bytes) -> ImageFile:
    """Read the header of an image; its pixels are not decoded yet.

    Parameters
    ----------
    data : bytes
        A whole file of JPEG, PNG, GIF, BMP, TIFF, WebP or PPM (P1 to P6).

    Returns
    -------
    PIL.ImageFile.ImageFile
        At its first frame.

    Raises
    ------
    ImageError
        The data are empty, not of these formats, or end before what their header points to; or they claim
        more than :data:`MAX_PIXELS`, or are written so that few bytes would take minutes to decode.
    Exception
        Whatever Pillow raises over a broken header.
    """
    if not data:
        raise ImageError("the file is empty")
    name = format_name(data)
    if name is None:
        raise ImageError(
            f"not an image: {_describe(data)}; JPEG, PNG, GIF, BMP, TIFF, WebP and PPM files are read"
        )
    image = _FORMATS[name][1](data)
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError(f"the image has no pixels: its size is {width} x {height}")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"a decompression bomb? the header says {width} x {height} pixels; at most {MAX_PIXELS:,} are "
            "decoded"
        )
    if width * height > MAX_PIXELS // 2:
        _ignore_warnings(Image.DecompressionBombWarning, r"PIL\.Image$")
    return image


def format_name(data: bytes) -> str | None:
    """Tell the format by the file's first bytes.

    Examples
    --------
    >>> format_name(b"GIF89a..."), format_name(b"<html>")
    ('GIF', None)
    """
    for name, (signature, _) in _FORMATS.items():
        if signature.match(data):
            return name
    return None


class _Jpeg(JpegImageFile):
    """A JPEG whose EXIF is not parsed for its resolution: that is slow, and warns of broken tags."""

    def getexif(self) -> Image.Exif:
        return Image.Exif()


def _open_jpeg(data: bytes) -> ImageFile:
    file = BytesIO(data)
    image = _Jpeg(file)
    # Pillow has read up to the end of the first scan's header, which has two bytes for each component.
    all_at_once = data.startswith(b"\xff\xda", file.tell() - 8 - 2 * len(image.getbands()))
    if "progressive" in image.info or not all_at_once:
        n_scans = data.count(b"\xff\xda")
        if image.width * image.height * n_scans > _MAX_SCANNED:
            raise ImageError(
                f"a decompression bomb? {image.width} x {image.height} pixels in {n_scans:,} scans of a JPEG"
            )
    return image


def _open_png(data: bytes) -> ImageFile:
    if data.find(b"acTL", 0, max(data.find(b"IDAT"), 0)) >= 0:
        _ignore_warnings(UserWarning, _HEADER_READERS)
    image = PngImageFile(BytesIO(data))
    if data[24:25] == b"\x10":
        # A transparent colour of 16 bits a channel cannot be found among the 8 bits that Pillow keeps of it.
        image.info.pop("transparency", None)
    return image


def _open_tiff(data: bytes) -> ImageFile:
    _ignore_warnings(UserWarning, _HEADER_READERS)
    order: Literal["little", "big"] = "little" if data[:1] == b"I" else "big"
    directory = data[8:16] if 43 in data[2:4] else data[4:8]
    if int.from_bytes(directory, order) >= len(data):
        raise ImageError(TRUNCATED)
    image = TiffImageFile(BytesIO(data))
    if image.tile and image.tile[0].codec_name == "libtiff":
        # Of strips that are not there libtiff itself would write to stderr.
        for offsets, sizes in _STRIPS:
            ends = map(sum, zip(image.tag_v2.get(offsets, ()), image.tag_v2.get(sizes, ()), strict=False))
            if max(ends, default=0) > len(data):
                raise ImageError(TRUNCATED)
    return image


def _open_webp(data: bytes) -> ImageFile:
    if int.from_bytes(data[4:8], "little") + 8 > len(data):
        raise ImageError(TRUNCATED)
    return WebPImageFile(BytesIO(data))


def _open_bmp(data: bytes) -> ImageFile:
    image = BmpImageFile(BytesIO(data))
    n_pixels = image.width * image.height
    # Two bytes of run-length code make 255 pixels at most, but a few can leave out a million.
    if image.tile[0].codec_name == "bmp_rle" and n_pixels > max(_MAX_LEFT_OUT, 128 * len(data)):
        raise ImageError(
            f"a decompression bomb? {image.width} x {image.height} pixels in {len(data):,} bytes of a BMP"
        )
    return image


def _open_ppm(data: bytes) -> ImageFile:
    if data[1] in b"123" and (n_comments := data.count(b"#")) > _MAX_COMMENTS:
        raise ImageError(f"a PPM with {n_comments:,} comments; at most {_MAX_COMMENTS:,} are read")
    return PpmImageFile(BytesIO(data))


def _ignore_warnings(category: type[Warning], module: str) -> None:
    """Silence some of Pillow's modules for good.

    ``warnings.catch_warnings`` would do it for the time of a call, but it is not safe among threads. The
    filter is put back where something has removed it or put another before it, and only then, because each
    change makes Python forget which warnings it has shown.
    """
    wanted = ("ignore", None, category, re.compile(module), 0)
    if next(iter(warnings.filters), None) != wanted:
        warnings.filterwarnings("ignore", category=category, module=module)


_FORMATS: dict[str, tuple[re.Pattern[bytes], Callable[[bytes], ImageFile]]] = {
    "JPEG": (re.compile(rb"\xff\xd8\xff"), _open_jpeg),
    "PNG": (re.compile(rb"\x89PNG\r\n\x1a\n"), _open_png),
    "GIF": (re.compile(rb"GIF8[79]a"), lambda data: GifImageFile(BytesIO(data))),
    "WebP": (re.compile(rb"RIFF....WEBPVP8[ LX]", re.DOTALL), _open_webp),
    "TIFF": (re.compile(rb"II[*+]\0|MM\0[*+]"), _open_tiff),
    "BMP": (re.compile(rb"BM"), _open_bmp),
    "PPM": (re.compile(rb"P[1-6]\s"), _open_ppm),
}

_OTHERS = (
    (re.compile(rb"....ftyp(avif|avis)", re.DOTALL), "an AVIF picture, to be converted first"),
    (re.compile(rb"....ftyp(hei[cfsx]|hev[cx]|mif1)", re.DOTALL), "an HEIC picture, to be converted first"),
    (re.compile(rb"....ftyp", re.DOTALL), "a video or another MP4 container"),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "), "a JPEG XL picture, to be converted first"),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), "a JPEG 2000 picture, to be converted first"),
    (re.compile(rb"8BPS"), "a Photoshop document"),
    (re.compile(rb"%PDF|%!PS"), "a PDF or PostScript document"),
    (re.compile(rb"\s*<\?xml|\s*<svg", re.IGNORECASE), "an SVG or other XML document"),
    (re.compile(rb"\s*<(!doctype )?html", re.IGNORECASE), "a web page"),
    (re.compile(rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!"), "an archive"),
    (re.compile(rb"\x89HDF"), "an HDF5 file"),
    (re.compile(rb"\0\0[\1\2]\0"), "a Windows icon or cursor"),
)


def _describe(data: bytes) -> str:
    """Say what the file is instead, by its first bytes."""
    for signature, name in _OTHERS:
        if signature.match(data):
            return name
    head = data[:24]
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return f"text that begins {head.decode('ascii')!r}"
    return f"its first bytes are {head[:8].hex(' ')}"

"""Image formats: detection by signature, and opening with a fixed set of Pillow plugins.

Plugins are called by name, each for its own signature. Image.open would try others too (EPS runs
Ghostscript), would warn where we raise, and would take a photo with an embedded preview for an album.
"""

import ctypes
import logging
import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from io import BytesIO
from typing import Literal

import PIL._imaging
from PIL import Image
from PIL.AvifImagePlugin import SUPPORTED as READS_AVIF
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.DdsImagePlugin import DdsImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TgaImagePlugin import TgaImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from featstore.errors import ImageError
from featstore.images.reasons import MAX_PIXELS, TRUNCATED, NotDecodableHereError

__all__ = ["format_name", "ignore_header_warnings", "open_image"]

# Pixels x scans of a JPEG, five seconds' work: each scan of a few bytes goes over all pixels once more.
_MAX_SCANNED = 2**35

# Pillow fills what a BMP leaves out pixel by pixel in Python: this many take two seconds.
_MAX_LEFT_OUT = 2**24

# Pillow moves up to a megabyte for each comment of a PPM: this many take a second.
_MAX_COMMENTS = 10_000

# Pillow takes the masked colours of a DDS apart pixel by pixel in Python: this many take ten seconds.
_MAX_MASKED = 2**22

_AVIF_BRANDS = frozenset((b"avif", b"avis"))
_HEIC_BRANDS = frozenset(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
)

_STRIPS = ((273, 279), (324, 325))
"""TIFF 6.0, sections 8 and 15: the tags of offsets and sizes, in bytes, of strips and tiles."""

# Python prints what Pillow logs of a broken TIFF where no program has said what is to become of it.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_HEADER_READERS = r"PIL\.(Png|Tiff)ImagePlugin$"


def open_image(data: bytes) -> ImageFile:
    """Read the header of an image without decoding its pixels."""
    if not data:
        raise ImageError("the file is empty")
    name = format_name(data)
    if name is None:
        raise ImageError(
            f"not an image: {_describe(data)}; JPEG, PNG, GIF, BMP, TIFF, WebP, AVIF, HEIC, JPEG 2000, TGA, "
            "DDS and PPM files are read"
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
    """Return the format of a file by its signature, or None if it is not an image."""
    for name, (has_signature, _) in _FORMATS.items():
        if has_signature(data):
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
        ignore_header_warnings()
    return PngImageFile(BytesIO(data))


def _open_gif(data: bytes) -> ImageFile:
    try:
        return GifImageFile(BytesIO(data))
    except SyntaxError as error:
        if isinstance(error.__cause__, EOFError) and not data.endswith(b";"):
            raise ImageError(TRUNCATED) from error
        raise


def _open_tiff(data: bytes) -> ImageFile:
    ignore_header_warnings()
    order: Literal["little", "big"] = "little" if data[:1] == b"I" else "big"
    directory = data[8:16] if 43 in data[2:4] else data[4:8]
    if int.from_bytes(directory, order) >= len(data):
        raise ImageError(TRUNCATED)
    _silence_libtiff()
    image = TiffImageFile(BytesIO(data))
    if image.tile and image.tile[0].codec_name == "libtiff":
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


def _open_avif(data: bytes) -> ImageFile:
    if not READS_AVIF:
        raise NotDecodableHereError(
            "an AVIF picture, which the Pillow that is installed here does not read; convert it"
        )
    ignore_header_warnings()
    return AvifImageFile(BytesIO(data))


def _open_heic(data: bytes) -> ImageFile:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise NotDecodableHereError(
            'a HEIC picture, which needs the package pillow-heif; run: pip install "featstore[heif]"'
        ) from error
    ignore_header_warnings()
    image: ImageFile = HeifImageFile(BytesIO(data))  # type: ignore[no-untyped-call]
    return image


def _open_dds(data: bytes) -> ImageFile:
    image = DdsImageFile(BytesIO(data))
    if image.tile and image.tile[0].codec_name == "dds_rgb" and image.width * image.height > _MAX_MASKED:
        raise ImageError(
            f"a DDS of {image.width} x {image.height} pixels with masked colours; at most {_MAX_MASKED:,} "
            "pixels are read"
        )
    return image


def _brands(data: bytes) -> frozenset[bytes]:
    """Return the brands of an ISO base media file (ISO/IEC 14496-12, 4.3)."""
    if data[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(data[:4], "big"), len(data), 512)
    return frozenset((data[8:12], *(data[at : at + 4] for at in range(16, end, 4))))


def _is_tga(data: bytes) -> bool:
    """Recognise a TGA, which has no signature, by a consistent header."""
    if len(data) < 18 or any(is_other(data) for is_other, _ in _OTHERS):
        return False
    has_palette, kind, depth = data[1], data[2] & 7, data[16]
    fits = (has_palette, kind) == (1, 1) if kind == 1 else (has_palette == 0 and not any(data[3:8]))
    depths = {1: (8,), 2: (16, 24, 32), 3: (8, 16)}.get(kind, ())
    return fits and data[2] in (1, 2, 3, 9, 10, 11) and depth in depths and data[17] & 0xC0 == 0


@cache
def _silence_libtiff() -> None:
    """Stop libtiff from writing to stderr; Pillow raises its errors anyway."""
    # Its handlers are two process-wide pointers. Redirecting stderr would also catch other threads'
    # output.
    # Where Pillow is linked with libtiff statically, its names cannot be found, and it goes on writing.
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(PIL._imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            set_handler = getattr(library, name)
            set_handler.restype, set_handler.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
            set_handler(None)


def ignore_header_warnings() -> None:
    """Silence Pillow's warnings of broken headers and EXIF, which are ignored."""
    _ignore_warnings(UserWarning, _HEADER_READERS)


def _ignore_warnings(category: type[Warning], module: str) -> None:
    """Silence warnings of some of Pillow's modules for good."""
    # warnings.catch_warnings is not thread-safe. The filter is put back only where something removed or
    # overrode it, because each change makes Python forget which warnings it has shown.
    wanted = ("ignore", None, category, re.compile(module), 0)
    if next(iter(warnings.filters), None) != wanted:
        warnings.filterwarnings("ignore", category=category, module=module)


_Signature = Callable[[bytes], object]

_VIDEOS = "`featstore predict --every 1s` reads videos"
_OTHERS: tuple[tuple[_Signature, str], ...] = (
    (re.compile(rb"....ftyp", re.DOTALL).match, f"a video or another MP4 container ({_VIDEOS})"),
    (re.compile(rb"RIFF....AVI |\x1aE\xdf\xa3", re.DOTALL).match, f"a video ({_VIDEOS})"),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL ").match, "a JPEG XL picture, to be converted first"),
    (re.compile(rb"8BPS").match, "a Photoshop document"),
    (re.compile(rb"%PDF|%!PS").match, "a PDF or PostScript document"),
    (re.compile(rb"\s*<\?xml|\s*<svg", re.IGNORECASE).match, "an SVG or other XML document"),
    (re.compile(rb"\s*<(!doctype )?html", re.IGNORECASE).match, "a web page"),
    (re.compile(rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!").match, "an archive"),
    (re.compile(rb"\x89HDF").match, "an HDF5 file"),
    (re.compile(rb"\0\0[\1\2]\0[^\0]\0").match, "a Windows icon or cursor"),
)

_FORMATS: dict[str, tuple[_Signature, Callable[[bytes], ImageFile]]] = {
    "JPEG": (re.compile(rb"\xff\xd8\xff").match, _open_jpeg),
    "PNG": (re.compile(rb"\x89PNG\r\n\x1a\n").match, _open_png),
    "GIF": (re.compile(rb"GIF8[79]a").match, _open_gif),
    "WebP": (re.compile(rb"RIFF....WEBPVP8[ LX]", re.DOTALL).match, _open_webp),
    "TIFF": (re.compile(rb"II[*+]\0|MM\0[*+]").match, _open_tiff),
    "BMP": (re.compile(rb"BM").match, _open_bmp),
    "PPM": (re.compile(rb"P[1-6]\s").match, _open_ppm),
    "AVIF": (lambda data: _brands(data) & _AVIF_BRANDS, _open_avif),
    "HEIC": (lambda data: _brands(data) & _HEIC_BRANDS, _open_heic),
    "JPEG 2000": (
        re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51").match,
        lambda data: Jpeg2KImageFile(BytesIO(data)),
    ),
    "DDS": (re.compile(rb"DDS ").match, _open_dds),
    "TGA": (_is_tga, lambda data: TgaImageFile(BytesIO(data))),
}


def _describe(data: bytes) -> str:
    """Describe what the file is instead, by its first bytes."""
    for has_signature, name in _OTHERS:
        if has_signature(data):
            return name
    head = data[:24]
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return f"text that begins {head.decode('ascii')!r}"
    return f"its first bytes are {head[:8].hex(' ')}"

"""Plain explanations of why an image cannot be decoded."""

import re

from PIL import Image

from featstore.errors import ImageError

__all__ = ["MAX_PIXELS", "TRUNCATED", "NotDecodableHereError", "image_error", "reason_of"]

MAX_PIXELS = 2 * (1024**3 // 4 // 3)
"""The largest width x height that is decoded, 178,956,970: where Pillow itself refuses by default."""

TRUNCATED = "truncated: the file ends before the image does"

_ENDS_EARLY = re.compile(
    r"truncated|not enough image data|\beof\b|end of file|expected to read|insufficient input|incomplete "
    r"checksum|requires a buffer|outside of file",
    re.IGNORECASE,
)

# What they say where memory, a decoder or a descriptor is missing. An image may be whole all the same.
_LACKING = re.compile(
    r"out of memory|cannot allocate|decoder error -9\b|(de|en)coder \S+ not available|no codec available|"
    r"too many open files",
    re.IGNORECASE,
)

# Messages of Pillow and its libraries, and what is made of them.
_KNOWN = (
    (re.compile(r"no more images"), "it holds no picture"),
    (re.compile(r"(missing|invalid) dimensions", re.IGNORECASE), "it states no size"),
    (
        re.compile(
            r"unsupported|unimplemented|unknown|cannot handle|image mode|samples per pixel", re.IGNORECASE
        ),
        "a variant that is not read",
    ),
    (
        re.compile(
            r"broken|decoder|decoding|bad |invalid|malformed|unrecognized|overrun|failed|marker|parsing",
            re.IGNORECASE,
        ),
        "its data are damaged",
    ),
)


class NotDecodableHereError(ImageError):
    """An image that cannot be decoded here because a package or memory is missing: the file may be whole."""


def image_error(error: BaseException, kind: str | None) -> ImageError:
    """Return the error for whatever was raised over an image; parameters are those of :func:`reason_of`."""
    lacks = isinstance(error, ImportError) or _LACKING.search(str(error))
    if not lacks and not (isinstance(error, OSError) and error.errno):
        return ImageError(reason_of(error, kind))
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return NotDecodableHereError(f"the {kind} image cannot be decoded here: {lines[0]}")


def reason_of(error: BaseException, kind: str | None) -> str:
    """Convert any exception raised by an image into one short line."""
    if isinstance(error, Image.DecompressionBombError):
        return f"a decompression bomb? the header claims more than {MAX_PIXELS:,} pixels"
    message = str(error)
    if isinstance(error, EOFError) or _ENDS_EARLY.search(message):
        return TRUNCATED
    explanation = next((explanation for pattern, explanation in _KNOWN if pattern.search(message)), "")
    return f"broken or unsupported {kind} image" + (f": {explanation}" if explanation else "")

"""Files that nobody should meet, made on the spot, each with what is to become of it.

``IMAGES`` holds bytes, ``FILES`` what is more or less than a regular file with bytes. Their outcome is None where
there are features, and otherwise a regular expression for the reason.
"""

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from PIL import Image

TRUNCATED = "truncated: the file ends before the image does"
SIZE = (64, 48)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture(mode="RGB", size=SIZE):
    pixels = np.random.default_rng(5).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).convert(mode)


def exif(orientation=6):
    block = Image.Exif()
    block[0x0112] = orientation
    block[0x010F] = "A camera maker with a name too long to lie in the directory itself"
    return block.tobytes()


def png_chunk(name, body):
    return struct.pack(">L", len(body)) + name + body + struct.pack(">L", zlib.crc32(name + body))


def handmade_png(samples, *, bits, colour_type, before_pixels=b""):
    """Write what Pillow does not: 16 bits a channel, chunks of one's own."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2" if bits == 16 else "u1").tobytes() for row in samples)
    header = struct.pack(">LLBBBBB", width, height, bits, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + before_pixels
        + png_chunk(b"IDAT", zlib.compress(rows))
        + png_chunk(b"IEND", b"")
    )


def with_size(data, marker, skip, layout, width=60_000, height=60_000):
    """Change the size that a header states, which lies ``skip`` bytes after a marker."""
    at = data.index(marker) + skip
    size = struct.pack(layout, *((height, width) if layout == ">HH" else (width, height)))
    return data[:at] + size + data[at + len(size) :]


def png_header(width, height):
    header = png_chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(1000)))


def tiff(*entries, body=b""):
    """Write a TIFF of one strip, ``body``, with these tags: (tag, value)."""
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in entries)
    return b"II*\0" + struct.pack("<L", 8 + len(body)) + body + directory + bytes(4)


def jpeg_of_scans(number, width=65_500, height=2_700):
    """Write a progressive JPEG of hardly any data, which a decoder goes over once for each scan."""
    data = with_size(encoded(Image.new("L", (64, 64)), "JPEG", progressive=True), b"\xff\xc2", 5, ">HH")
    data = with_size(data, b"\xff\xc2", 5, ">HH", width, height)
    start = data.index(b"\xff\xda")
    tables = [at for at in range(start, len(data)) if data[at : at + 2] == b"\xff\xc4"]
    head = data[:start] + b"".join(data[at : at + 2 + int.from_bytes(data[at + 2 : at + 4])] for at in tables)
    scan = b"\xff\xda\0\x08\x01\x01\0\x01\x3f\0"
    return head + data[start : start + 10] + scan * (number - 1) + b"\xff\xd9"


def bmp_of_nothing(side):
    """Write a BMP whose run-length code leaves nearly all out."""
    head = struct.pack("<LllHHLLllLL", 40, side, side, 1, 8, 1, 0, 0, 0, 256, 256)
    return (
        b"BM" + struct.pack("<LHHL", 0, 0, 0, 54 + 1024) + head + bytes(1024) + b"\1\1\0\0" * side + b"\0\1"
    )


def heic(image, **options):
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, quality=90, **options)
    return file.getvalue()


VALID = {
    "jpeg": encoded(picture(), "JPEG", exif=exif()),
    "jpeg, progressive": encoded(picture(), "JPEG", progressive=True),
    "jpeg, CMYK": encoded(picture("CMYK"), "JPEG"),
    "jpeg, gray": encoded(picture("L"), "JPEG"),
    "png": encoded(picture(), "PNG", exif=exif()),
    "png, palette with alpha": encoded(picture("P"), "PNG", transparency=bytes(range(0, 256, 2))),
    "png, alpha": encoded(picture("RGBA"), "PNG"),
    "png, animated": encoded(picture(), "PNG", save_all=True, append_images=[picture("L").convert("RGB")]),
    "png, 16-bit gray": encoded(Image.fromarray(np.arange(0, 60_000, 150, np.uint16).reshape(20, 20)), "PNG"),
    "png, 16-bit colour": handmade_png(np.arange(0, 60_000, 50).reshape(20, 20, 3), bits=16, colour_type=2),
    "gif": encoded(picture("P"), "GIF"),
    "gif, animated": encoded(picture("P"), "GIF", save_all=True, append_images=[picture("L").convert("P")]),
    "bmp": encoded(picture(), "BMP"),
    "bmp, palette": encoded(picture("P"), "BMP"),
    "bmp, run-length code": bmp_of_nothing(9),
    "webp": encoded(picture(), "WEBP", exif=exif()),
    "webp, lossless": encoded(picture("RGBA"), "WEBP", lossless=True),
    "webp, animated": encoded(picture(), "WEBP", save_all=True, append_images=[picture("L").convert("RGB")]),
    "tiff": encoded(picture(), "TIFF"),
    "tiff, LZW": encoded(picture(), "TIFF", compression="tiff_lzw"),
    "tiff, CMYK": encoded(picture("CMYK"), "TIFF"),
    "tiff, float": encoded(picture("F"), "TIFF"),
    "tiff, 16-bit": encoded(Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20)), "TIFF"),
    "tiff, big": encoded(picture(), "TIFF", big_tiff=True),
    "avif": encoded(picture(), "AVIF", exif=exif()),
    "jpeg 2000": encoded(picture(), "JPEG2000"),
    "jpeg 2000, code stream": encoded(picture("L"), "JPEG2000", no_jp2=True),
    "tga": encoded(picture("RGBA"), "TGA"),
    "tga, run-length code": encoded(picture("P"), "TGA", compression="tga_rle"),
    "dds": encoded(picture("RGBA"), "DDS"),
    "dds, compressed": encoded(picture(), "DDS", pixel_format="DXT5"),
    "ppm": encoded(picture(), "PPM"),
    "pgm, as text": b"P2 3 2 255\n# six\n1 2 3\n4 5 6\n",
}
"""One small file of each kind, all of which are read."""

if find_spec("pillow_heif") is not None:
    VALID["heic"] = heic(picture(), exif=exif())
    VALID["heic, alpha"] = heic(picture("RGBA"))

BOMBS = {
    "png": png_header(60_000, 60_000),
    "jpeg": with_size(VALID["jpeg"], b"\xff\xc0", 5, ">HH"),
    "gif": with_size(VALID["gif"], b"GIF8", 6, "<HH"),
    "bmp": with_size(VALID["bmp"], b"BM", 18, "<LL"),
    "ppm": b"P6 60000 60000 255\n" + bytes(100),
    "pgm, as text": b"P2 60000 60000 255\n1 2 3",
    "webp": b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\x3f\0" * 2 + bytes(8),
    "tiff": tiff(
        *((256, 60_000), (257, 60_000), (258, 8), (259, 1), (262, 1)),
        *((273, 8), (277, 1), (278, 60_000), (279, 9)),
    ),
    "jpeg of 1,000 scans": jpeg_of_scans(1_000),
    "bmp that leaves all out": bmp_of_nothing(13_300),
}

BROKEN_EXIF = (
    b"Exif\0\0",
    b"Exif\0\0II*\0",
    b"Exif\0\0II*\0\xff\xff\xff\xff",
    b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\x03",
    b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0",
    b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x0f\0\x02\0\0\xff\xff\0\0\0\x99\x01\x12\0\x63",
    b"Exif\0\0" + bytes(range(256)),
)


def floats(*special):
    values = np.linspace(0, 1, 100, dtype=np.float32)
    values[: len(special)] = special
    return encoded(Image.fromarray(values.reshape(10, 10)), "TIFF")


_CUT = ("jpeg", "png", "gif", "bmp", "tiff", "tiff, LZW", "webp", "tga", "dds, compressed")

IMAGES: dict[str, tuple[bytes, str | None]] = {
    **{name: (data, None) for name, data in VALID.items()},
    **{f"bomb, {name}": (data, r"^a decompression bomb\? ") for name, data in BOMBS.items()},
    **{
        f"{name}, cut at {tenth}0%": (
            VALID[name][: len(VALID[name]) * tenth // 10],
            f"^{TRUNCATED}$",
        )
        for name in _CUT
        for tenth in range(1, 10)
    },
    **{
        f"{kind}, {width} x {height}": (encoded(Image.new("RGB", (width, height), (9, 90, 200)), kind), None)
        for kind in ("jpeg", "png", "bmp", "tiff")
        for width, height in ((1, 1), (1, 30_000), (30_000, 1))
    },
    **{f"jpeg, turned {way}": (encoded(picture(), "JPEG", exif=exif(way)), None) for way in range(1, 9)},
    **{
        f"{kind}, broken EXIF {number}": (encoded(picture(), kind, exif=block), None)
        for kind in ("jpeg", "png", "webp")
        for number, block in enumerate(BROKEN_EXIF)
    },
    "tiff, LZW behind the end": (
        tiff(
            *((256, 64), (257, 48), (258, 8), (259, 5), (262, 1), (273, 900), (277, 1), (278, 48), (279, 99)),
        ),
        f"^{TRUNCATED}$",
    ),
    "tiff, float with NaN": (floats(np.nan), "^the image holds values that are not finite$"),
    "tiff, float with infinity": (floats(0, -np.inf), "^the image holds values that are not finite$"),
    "pgm of comments": (
        b"P2 1 1 255\n" + b"#\n" * 20_000 + b"7",
        "^a PPM with 20,000 comments; at most 10,000",
    ),
    "png without width": (png_header(0, 10), "^the image has no pixels: its size is 0 x 10$|^broken"),
    "ppm without width": (b"P6 0 10 255\n", "^the image has no pixels: its size is 0 x 10$|^broken"),
    "jpeg, three bytes": (b"\xff\xd8\xff", "^truncated|^broken or unsupported JPEG"),
    "empty": (b"", "^the file is empty$"),
    "text": (b"Dear diary,\nno photo today.", "^not an image: text that begins 'Dear diary"),
    "escape codes": (b"\x1b[31m\x07 red alert", "^not an image: its first bytes are 1b 5b 33 31"),
    "web page": (b"<!DOCTYPE html><html>404", "^not an image: a web page; "),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1", "^not an image: text .*git-lfs"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "^not an image: an SVG "),
    "pdf": (b"%PDF-1.7 ...", "^not an image: a PDF "),
    "photoshop": (b"8BPS" + bytes(30), "^not an image: a Photoshop document"),
    "heic without a picture": (b"\0\0\0\x1cftypheic" + bytes(30), "^(truncated|broken or unsupported HEIC)"),
    "avif without a picture": (b"\0\0\0\x1cftypavif" + bytes(30), "^(truncated|broken or unsupported AVIF)"),
    "video": (b"\0\0\0\x1cftypisom" + bytes(30), "^not an image: a video "),
    "archive": (b"PK\x03\x04" + bytes(30), "^not an image: an archive"),
    "zeros": (bytes(100), "^not an image: its first bytes are 00 00 00 00"),
}
"""Name → bytes and outcome."""


@dataclass(frozen=True)
class File:
    """Something in a folder: how it is made at a path, and the reason that is given."""

    name: str
    make: Callable[[str], object]
    reason: str | None


def _written(data):
    def write(path):
        with open(path, "wb") as file:
            file.write(data)

    return write


def _without_permission(path):
    _written(VALID["png"])(path)
    os.chmod(path, 0)


def _locked_folder(path):
    os.mkdir(path)
    _written(VALID["png"])(os.path.join(path, "unseen.png"))
    os.chmod(path, 0)


def _socket(path):
    here = os.getcwd()
    os.chdir(os.path.dirname(path))  # A socket's path may have no more than 108 bytes.
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.basename(path))
    finally:
        os.chdir(here)


def _sparse(path):
    with open(path, "wb") as file:
        file.truncate(2**30 + 1)


NAMES = (
    "new\nline.png",
    "carriage\rreturn.png",
    "quo'te\".png",
    "comma, semicolon;.png",
    "🌹👩‍🌾.png",
    " spaced .png",
    "-rf.png",
    "back\\slash.png",
    "%s{0}.png",
    "=1+1.png",
    "\x1b[31m\x1b]0;title\x07.png",
    "right-to-left \u202egnp.png",
    os.fsdecode(b"latin \xe9\xff.png"),
)
"""Names that a file may have, of pictures that are read."""

FILES = (
    *(File(name, _written(VALID["png"]), None) for name in NAMES),
    File("jpeg by its bytes.png", _written(VALID["jpeg"]), None),
    File("without permission.png", _without_permission, "^permission denied$"),
    File("locked folder", _locked_folder, "^(the folder cannot be read: )?permission denied$"),
    File("dangling.png", lambda path: os.symlink("gone.png", path), "^a dangling link: |^no such file$"),
    File("loop.png", lambda path: os.symlink("loop.png", path), "^too many levels of symbolic links$"),
    File("pipe.png", os.mkfifo, "^a named pipe, not a regular file$"),
    File("socket.png", _socket, "^a socket, not a regular file$"),
    File("device.png", lambda path: os.symlink("/dev/zero", path), "^a device, not a regular file$"),
    File("over 1 GiB.png", _sparse, r"^the file has 1,073,741,825 bytes; an image may have 1,073,741,824$"),
)
"""What may lie in a folder of a POSIX system."""


def write_corpus(folder):
    """Make every image and file in one class folder of ``folder``; return path → outcome."""
    outcomes = {}
    os.makedirs(os.path.join(folder, "class"))
    for name, (data, reason) in IMAGES.items():
        path = f"class/{name.replace('/', '-')}.jpg"
        _written(data)(os.path.join(folder, path))
        outcomes[path] = reason
    for file in FILES:
        path = f"class/{file.name}"
        file.make(os.path.join(folder, path))
        outcomes[path] = file.reason
    return outcomes

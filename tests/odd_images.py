"""Images that programs disagree about: what is transparent, deep, inverted, turned or in a palette.

Their shape and colours are such that a reader that takes one of them otherwise sees another picture.
"""

import struct

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin

from corpus import VALID, encoded, exif, handmade_png, png_chunk

XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{}"/></rdf:RDF></x:xmpmeta>'
)
XMP_AS_ELEMENT = XMP.replace(
    ' tiff:Orientation="{}"/>', "><tiff:Orientation>{}</tiff:Orientation></rdf:Description>"
)


def scene(mode="RGB", size=(90, 60)):
    """A picture that is dark on the left, bright on the right and red on top."""
    across, down = np.linspace(0, 1, size[0]), np.linspace(1, 0, size[1])[:, np.newaxis]
    gray = 255 * np.broadcast_to(across, size[::-1])
    pixels = np.stack([np.maximum(gray, 255 * down * np.ones(size[0])), gray, gray], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


def cutout(mode="RGBA"):
    """The right half of the scene; where it is transparent, what it hides is black."""
    image = scene("RGBA")
    alpha = np.zeros((60, 90), np.uint8)
    alpha[:, 45:], alpha[20:40, 30:45] = 255, 128
    pixels = np.array(image)
    pixels[..., :3][alpha == 0] = 0
    pixels[..., 3] = alpha
    return Image.fromarray(pixels).convert(mode)


def deep(largest=65535, dtype=np.uint16):
    return (np.asarray(scene("L"), np.float64) * (largest / 255)).astype(dtype)


def png_with(text, data=None):
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", text)
    return encoded(scene(), "PNG", pnginfo=info, **(data or {}))


def behind_the_pixels(data):
    """Move the XMP of a PNG behind its pixels, as some programs write it."""
    start = data.index(b"iTXt") - 4
    length = 12 + int.from_bytes(data[start : start + 4], "big")
    chunk, end = data[start : start + length], data.rindex(b"IEND") - 4
    return data[:start] + data[start + length : end] + chunk + data[end:]


def tiff_with(values, **tags):
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for name, value in tags.items():
        directory[int(name.removeprefix("tag_"))] = value
    return encoded(Image.fromarray(values), "TIFF", tiffinfo=directory)


def tiff_of_12_bits():
    values = deep(4095).astype(int)
    pairs = values.reshape(len(values), -1, 2)
    rows = np.stack(
        [pairs[..., 0] >> 4, (pairs[..., 0] & 15) << 4 | pairs[..., 1] >> 8, pairs[..., 1] & 255], -1
    )
    body = rows.astype(np.uint8).tobytes()
    entries = [
        *((256, 4, 90), (257, 4, 60), (258, 3, 12), (259, 3, 1), (262, 3, 1)),
        *((273, 4, 8), (277, 3, 1), (278, 4, 60), (279, 4, len(body))),
    ]
    directory = struct.pack("<H", len(entries))
    for tag, kind, value in entries:
        directory += struct.pack("<HHLL", tag, kind, 1, value)
    return b"II*\0" + struct.pack("<L", 8 + len(body)) + body + directory + bytes(4)


def profile(orientation):
    text = PngImagePlugin.PngInfo()
    block = exif(orientation).hex()
    text.add_text("Raw profile type exif", f"\nexif\n{len(block) // 2:8}\n{block}\n")
    return encoded(scene(), "PNG", pnginfo=text)


def jpeg(**options):
    return encoded(scene(), "JPEG", quality=95, **options)


ODD = {
    **VALID,
    "rgb.jpg": jpeg(),
    "cutout.png": encoded(cutout(), "PNG"),
    "cutout-palette.png": encoded(cutout().quantize(64), "PNG"),
    "cutout.webp": encoded(cutout(), "WEBP", lossless=True),
    "cutout.gif": encoded(cutout(), "GIF"),
    "cutout.tif": encoded(cutout(), "TIFF"),
    "cutout.tga": encoded(cutout(), "TGA"),
    "cutout.dds": encoded(cutout(), "DDS"),
    "cutout.avif": encoded(cutout(), "AVIF", quality=95),
    "cutout.jp2": encoded(cutout(), "JPEG2000"),
    "la.png": encoded(cutout("LA"), "PNG"),
    "one-colour-transparent.png": encoded(scene(), "PNG", transparency=scene().getpixel((0, 59))),
    "one-gray-transparent.png": encoded(scene("L"), "PNG", transparency=0),
    "gray16.png": encoded(Image.fromarray(deep()), "PNG"),
    "gray16-dark.png": encoded(Image.fromarray(deep(3000)), "PNG"),
    "gray16-transparent.png": handmade_png(
        deep()[..., np.newaxis], bits=16, colour_type=0, before_pixels=png_chunk(b"tRNS", bytes(2))
    ),
    "rgb16-transparent.png": handmade_png(
        np.asarray(scene()).astype(int) * 257,
        bits=16,
        colour_type=2,
        before_pixels=png_chunk(b"tRNS", b"\xff" * 6),
    ),
    "gray16-dark.pgm": b"P5 90 60 65535\n" + deep(200).astype(">u2").tobytes(),
    "gray16.tif": tiff_with(deep()),
    "gray16-inverted.tif": tiff_with(deep(30_000), tag_262=0),
    "gray16-big-endian.tif": encoded(Image.fromarray(deep()).convert("I;16B"), "TIFF"),
    "gray12.tif": tiff_of_12_bits(),
    "gray32.tif": tiff_with(deep(40_000, np.int32)),
    "float.tif": tiff_with(deep(1, np.float32)),
    "one-bit.png": encoded(scene("1"), "PNG"),
    "one-bit.tif": encoded(scene("1"), "TIFF", compression="group4"),
    "palette.png": encoded(scene("P"), "PNG"),
    "cmyk.jpg": encoded(scene("CMYK"), "JPEG", quality=95),
    "cmyk.tif": encoded(scene("CMYK"), "TIFF"),
    "ycbcr.tif": encoded(scene("YCbCr"), "TIFF"),
    "lab.tif": encoded(scene("LAB"), "TIFF"),
    "gray.jpg": encoded(scene("L"), "JPEG", quality=95),
    "gray.jp2": encoded(scene("L"), "JPEG2000"),
    "animated.gif": encoded(scene(), "GIF", save_all=True, append_images=[Image.new("RGB", (90, 60))]),
    "animated.webp": encoded(
        scene(), "WEBP", lossless=True, save_all=True, append_images=[Image.new("RGB", (90, 60))]
    ),
    "animated.png": encoded(scene(), "PNG", save_all=True, append_images=[Image.new("RGB", (90, 60))]),
    "pages.tif": encoded(scene(), "TIFF", save_all=True, append_images=[Image.new("RGB", (90, 60))]),
    "two-pictures.jpg": encoded(scene(), "MPO", save_all=True, append_images=[Image.new("RGB", (90, 60))]),
    "large.jpg": encoded(scene(size=(1800, 1200)), "JPEG", quality=95, exif=exif(8)),
    **{f"exif-{way}.jpg": jpeg(exif=exif(way)) for way in range(1, 9)},
    **{f"xmp-{way}.jpg": jpeg(xmp=XMP.format(way).encode()) for way in (3, 6)},
    "xmp-element.jpg": jpeg(xmp=XMP_AS_ELEMENT.format(8).encode()),
    "xmp-nonsense.jpg": jpeg(xmp=XMP.format(9).encode()),
    "exif-before-xmp.jpg": jpeg(exif=exif(3), xmp=XMP.format(6).encode()),
    "exif-upright-before-xmp.jpg": jpeg(exif=exif(1), xmp=XMP.format(6).encode()),
    "exif-nonsense-before-xmp.jpg": jpeg(exif=exif(9), xmp=XMP.format(6).encode()),
    "exif-without-orientation.jpg": jpeg(exif=Image.Exif().tobytes(), xmp=XMP.format(6).encode()),
    "exif-broken.jpg": jpeg(exif=b"Exif\0\0II*\0\xff\xff\xff\xff", xmp=XMP.format(6).encode()),
    "xmp-6.png": png_with(XMP.format(6)),
    "xmp-behind.png": behind_the_pixels(png_with(XMP.format(6))),
    "exif-profile.png": profile(6),
    "exif.png": encoded(scene(), "PNG", exif=exif(5)),
    "xmp-6.webp": encoded(scene(), "WEBP", quality=95, xmp=XMP.format(6).encode()),
    "exif.webp": encoded(scene(), "WEBP", quality=95, exif=exif(7)),
    "xmp-6.avif": encoded(scene(), "AVIF", quality=95, xmp=XMP.format(6).encode()),
    "exif.avif": encoded(scene(), "AVIF", quality=95, exif=exif(8)),
    "exif.tif": tiff_with(np.asarray(scene()), tag_274=6),
    "xmp-6.tif": tiff_with(np.asarray(scene()), tag_700=XMP.format(6).encode()),
    "exif.tga": encoded(scene(), "TGA", orientation=1),
}
"""Name → bytes, all of which are read."""

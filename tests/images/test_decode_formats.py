"""Exact colours of flat images in every format and mode."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from corpus import encoded, handmade_png, png_chunk
from featstore.errors import ImageError
from featstore.images.decode import decode_image

ORANGE = (230, 120, 40)
SIZE = (20, 12)


def flat(mode, colour):
    return Image.new(mode, SIZE, colour)


def palette_image(*, transparency=None):
    image = Image.new("P", SIZE, 1)
    image.putpalette([0, 0, 0, *ORANGE])
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


def samples(value, channels):
    return np.full((SIZE[1], SIZE[0], channels), value)


def over_white(colour, alpha):
    return tuple(round((alpha * value + (255 - alpha) * 255) / 255) for value in colour)


def only_colour(data, **options):
    pixels = decode_image(data, size_px=(7, 9), **options)
    assert pixels.shape == (7, 9, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert (pixels == pixels[0, 0]).all()
    return tuple(pixels[0, 0].tolist())


TIFF_12_BIT = {258: 12, 262: 1}

CASES = {
    # name: (data, colour, tolerance)
    "jpeg": (encoded(flat("RGB", ORANGE), "JPEG", quality=95), ORANGE, 2),
    "jpeg, progressive": (encoded(flat("RGB", ORANGE), "JPEG", quality=95, progressive=True), ORANGE, 2),
    "jpeg, gray": (encoded(flat("L", 77), "JPEG"), (77, 77, 77), 1),
    "jpeg, CMYK": (encoded(flat("CMYK", (0, 100, 200, 30)), "JPEG", quality=95), (225, 137, 49), 3),
    "png": (encoded(flat("RGB", ORANGE), "PNG"), ORANGE, 0),
    "png, gray": (encoded(flat("L", 77), "PNG"), (77,) * 3, 0),
    "png, 1 bit": (encoded(flat("1", 1), "PNG"), (255,) * 3, 0),
    "png, palette": (encoded(palette_image(), "PNG"), ORANGE, 0),
    "png, palette with one transparent entry": (
        encoded(palette_image(transparency=1), "PNG"),
        (255,) * 3,
        0,
    ),
    "png, palette with alpha": (
        encoded(palette_image(transparency=b"\xff\x80"), "PNG"),
        over_white(ORANGE, 128),
        1,
    ),
    "png, gray with alpha": (encoded(flat("LA", (77, 100)), "PNG"), over_white((77,) * 3, 100), 1),
    "png, alpha": (encoded(flat("RGBA", (*ORANGE, 51)), "PNG"), over_white(ORANGE, 51), 1),
    "png, opaque alpha": (encoded(flat("RGBA", (*ORANGE, 255)), "PNG"), ORANGE, 0),
    "png, fully transparent": (encoded(flat("RGBA", (*ORANGE, 0)), "PNG"), (255,) * 3, 0),
    "png, transparent colour": (encoded(flat("RGB", ORANGE), "PNG", transparency=ORANGE), (255,) * 3, 0),
    "png, transparent gray": (encoded(flat("L", 77), "PNG", transparency=77), (255,) * 3, 0),
    "png, another gray transparent": (encoded(flat("L", 77), "PNG", transparency=78), (77,) * 3, 0),
    "png, 16-bit gray, white": (handmade_png(samples(65535, 1), bits=16, colour_type=0), (255,) * 3, 0),
    "png, 16-bit gray, dark": (handmade_png(samples(1000, 1), bits=16, colour_type=0), (4,) * 3, 0),
    "png, 16-bit gray, rounded up": (
        handmade_png(samples(257 * 90 + 129, 1), bits=16, colour_type=0),
        (91,) * 3,
        0,
    ),
    "png, 16-bit gray, rounded down": (
        handmade_png(samples(257 * 90 + 128, 1), bits=16, colour_type=0),
        (90,) * 3,
        0,
    ),
    "png, 16-bit colour": (
        handmade_png(samples([v * 257 for v in ORANGE], 3), bits=16, colour_type=2),
        ORANGE,
        0,
    ),
    "png, 16-bit colour, near a transparent one": (
        handmade_png(
            samples((3, 2, 1), 3), bits=16, colour_type=2, before_pixels=png_chunk(b"tRNS", bytes(6))
        ),
        (0, 0, 0),
        0,
    ),
    "png, 16-bit alpha": (
        handmade_png(samples([*(v * 257 for v in ORANGE), 51 * 257], 4), bits=16, colour_type=6),
        over_white(ORANGE, 51),
        1,
    ),
    "gif": (encoded(palette_image(), "GIF"), ORANGE, 0),
    "gif, transparent": (encoded(palette_image(), "GIF", transparency=1), (255,) * 3, 0),
    "gif, animated: the first frame": (
        encoded(flat("RGB", ORANGE), "GIF", save_all=True, append_images=[flat("RGB", (0, 0, 255))]),
        ORANGE,
        0,
    ),
    "bmp": (encoded(flat("RGB", ORANGE), "BMP"), ORANGE, 0),
    "bmp, palette": (encoded(palette_image(), "BMP"), ORANGE, 0),
    "bmp, gray": (encoded(flat("L", 77), "BMP"), (77,) * 3, 0),
    "webp, lossless": (encoded(flat("RGB", ORANGE), "WEBP", lossless=True), ORANGE, 0),
    "webp, lossy": (encoded(flat("RGB", ORANGE), "WEBP", quality=95), ORANGE, 4),
    "webp, alpha": (encoded(flat("RGBA", (*ORANGE, 51)), "WEBP", lossless=True), over_white(ORANGE, 51), 1),
    "webp, animated: the first frame": (
        encoded(
            flat("RGB", ORANGE),
            "WEBP",
            lossless=True,
            save_all=True,
            append_images=[flat("RGB", (0, 0, 255))],
        ),
        ORANGE,
        0,
    ),
    "ppm": (encoded(flat("RGB", ORANGE), "PPM"), ORANGE, 0),
    "pgm": (encoded(flat("L", 77), "PPM"), (77,) * 3, 0),
    "pbm": (encoded(flat("1", 0), "PPM"), (0,) * 3, 0),
    "pgm, 16-bit and dark": (b"P5 4 4 65535\n" + struct.pack(">H", 200) * 16, (1,) * 3, 0),
    "ppm, as text": (b"P3\n# flat\n2 2\n255\n" + b"230 120 40 " * 4, ORANGE, 0),
    "tiff": (encoded(flat("RGB", ORANGE), "TIFF"), ORANGE, 0),
    "tiff, LZW": (encoded(flat("RGB", ORANGE), "TIFF", compression="tiff_lzw"), ORANGE, 0),
    "tiff, JPEG": (encoded(flat("RGB", ORANGE), "TIFF", compression="jpeg", quality=95), ORANGE, 3),
    "tiff, two pages: the first": (
        encoded(flat("RGB", ORANGE), "TIFF", save_all=True, append_images=[flat("RGB", (0, 0, 255))]),
        ORANGE,
        0,
    ),
    "tiff, 1 bit": (encoded(flat("1", 1), "TIFF"), (255,) * 3, 0),
    "tiff, palette": (encoded(palette_image(), "TIFF"), ORANGE, 0),
    "tiff, alpha": (encoded(flat("RGBA", (*ORANGE, 51)), "TIFF"), over_white(ORANGE, 51), 1),
    "tiff, gray with alpha": (encoded(flat("LA", (77, 100)), "TIFF"), over_white((77,) * 3, 100), 1),
    "tiff, CMYK": (encoded(flat("CMYK", (0, 100, 200, 30)), "TIFF"), (225, 137, 49), 1),
    "tiff, YCbCr": (encoded(flat("RGB", ORANGE).convert("YCbCr"), "TIFF"), ORANGE, 2),
    "tiff, LAB, a light gray": (encoded(flat("LAB", (204, 128, 128)), "TIFF"), (198, 198, 198), 3),
    "tiff, 16-bit": (encoded(flat("I;16", 257 * 90), "TIFF"), (90,) * 3, 0),
    "tiff, 16-bit big-endian": (encoded(flat("I;16B", 257 * 90), "TIFF"), (90,) * 3, 0),
    "tiff, 32-bit integers up to 255": (encoded(flat("I", 90), "TIFF"), (90,) * 3, 0),
    "tiff, 32-bit integers up to 65535": (encoded(flat("I", 257 * 90), "TIFF"), (90,) * 3, 0),
    "tiff, 32-bit integers all zero": (encoded(flat("I", 0), "TIFF"), (0,) * 3, 0),
    "tiff, 32-bit integers all one": (encoded(flat("I", 1), "TIFF"), (1,) * 3, 0),
    "tiff, floats up to 1": (encoded(flat("F", 0.5), "TIFF"), (128,) * 3, 0),
    "tiff, floats up to 255": (encoded(flat("F", 90.4), "TIFF"), (90,) * 3, 0),
    "tiff, floats up to 65535": (encoded(flat("F", 257 * 90.0), "TIFF"), (90,) * 3, 0),
    "tiff, floats all negative and equal": (encoded(flat("F", -3.0), "TIFF"), (0,) * 3, 0),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_a_flat_image_keeps_its_colour(name, resize):
    data, expected, tolerance = CASES[name]
    assert np.abs(np.subtract(only_colour(data, resize=resize), expected)).max() <= tolerance


def test_16_bit_min_is_white_is_inverted():
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    values = np.full((4, 4), 257 * 90, np.uint16)
    data = encoded(Image.fromarray(values), "TIFF", tiffinfo=tags)
    assert Image.open(io.BytesIO(data)).tag_v2[262] == 0
    assert only_colour(data) == (165,) * 3


def test_12_bit_has_its_own_white():
    rows = bytes.fromhex("fff000") * 2  # 4095, 0
    entries = [
        *((256, 4, 4), (257, 4, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1)),
        *((273, 4, 8), (277, 3, 1), (278, 4, 1), (279, 4, len(rows))),
    ]
    directory = struct.pack("<H", len(entries))
    for tag, kind, value in entries:
        directory += struct.pack("<HHLL", tag, kind, 1, value)
    data = b"II*\0" + struct.pack("<L", 8 + len(rows)) + rows + directory + bytes(4)
    assert decode_image(data, size_px=(1, 4))[0, :, 0].tolist() == [255, 0, 255, 0]


def test_values_outside_every_white_are_stretched_over_their_own_range():
    values = np.linspace(-1000, 3000, 5, dtype=np.float32)[np.newaxis]
    data = encoded(Image.fromarray(values), "TIFF")
    assert decode_image(data, size_px=(1, 5))[0, :, 0].tolist() == [0, 64, 128, 191, 255]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (3, 2)])
def test_floats_that_are_not_finite_are_refused(bad, place):
    values = np.ones((6, 6), np.float32)
    values[place] = bad
    with pytest.raises(ImageError, match="not finite"):
        decode_image(encoded(Image.fromarray(values), "TIFF"), size_px=(3, 3))


def test_an_infinity_outside_the_part_that_is_seen_is_refused_too():
    values = np.ones((4, 12), np.float32)
    values[2, 11] = np.inf
    with pytest.raises(ImageError, match="not finite"):
        decode_image(encoded(Image.fromarray(values), "TIFF"), size_px=(3, 3), resize="crop")


def test_transparent_colours_do_not_bleed():
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :4] = (255, 0, 0, 0)
    pixels[:, 4:] = (0, 0, 255, 255)
    seen = decode_image(encoded(Image.fromarray(pixels), "PNG"), size_px=(4, 4)).astype(int)
    assert (seen[..., 0] == seen[..., 1]).all()
    assert (seen[..., 2] == 255).all()


def test_the_second_picture_of_an_album_is_not_looked_at():
    album = encoded(flat("RGB", ORANGE), "MPO", save_all=True, append_images=[flat("RGB", (0, 0, 255))])
    assert np.abs(np.subtract(only_colour(album), ORANGE)).max() <= 3


def test_a_format_is_recognised_by_its_bytes_and_ghostscript_is_never_reached():
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"
    with pytest.raises(ImageError, match="PostScript"):
        decode_image(postscript, size_px=(4, 4))


@pytest.mark.parametrize("kind", ["ICO", "PCX", "SGI", "ICNS", "MSP"])
def test_other_formats_of_pillow_are_refused(kind):
    image = Image.new("1" if kind == "MSP" else "RGB", (32, 32))
    with pytest.raises(ImageError, match="not an image"):
        decode_image(encoded(image, kind), size_px=(4, 4))

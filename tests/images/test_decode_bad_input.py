"""Whatever the bytes are: pixels of the right shape, or one line that says why not."""

import io
import struct
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, TiffImagePlugin

from featstore.errors import ImageError
from featstore.images.decode import decode_image
from featstore.images.exif import exif_orientation

FLOWERS = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "flowers"


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture(mode="RGB", size=(64, 48)):
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).convert(mode)


def with_exif(orientation=6):
    block = Image.Exif()
    block[0x0112] = orientation
    block[0x010F] = "A camera maker with a name too long to lie in the directory itself"
    return block.tobytes()


VALID = {
    "jpeg": encoded(picture(), "JPEG", exif=with_exif()),
    "jpeg, progressive": encoded(picture(), "JPEG", progressive=True),
    "jpeg, CMYK": encoded(picture("CMYK"), "JPEG"),
    "png": encoded(picture(), "PNG", exif=with_exif()),
    "png, palette": encoded(picture("P"), "PNG", transparency=3),
    "png, alpha": encoded(picture("RGBA"), "PNG"),
    "png, animated": encoded(picture(), "PNG", save_all=True, append_images=[picture()]),
    "gif": encoded(picture("P"), "GIF"),
    "gif, animated": encoded(picture("P"), "GIF", save_all=True, append_images=[picture("L").convert("P")]),
    "bmp": encoded(picture(), "BMP"),
    "bmp, palette": encoded(picture("P"), "BMP"),
    "webp": encoded(picture(), "WEBP", exif=with_exif()),
    "webp, lossless": encoded(picture("RGBA"), "WEBP", lossless=True),
    "tiff": encoded(picture(), "TIFF"),
    "tiff, LZW": encoded(picture(), "TIFF", compression="tiff_lzw"),
    "tiff, float": encoded(picture("F"), "TIFF"),
    "tiff, 16-bit": encoded(Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20)), "TIFF"),
    "tiff, big": encoded(picture(), "TIFF", big_tiff=True),
    "ppm": encoded(picture(), "PPM"),
    "pgm, as text": b"P2 3 2 255\n1 2 3\n4 5 6\n",
}


def pixels_or_reason(data, size_px=(10, 14), **options):
    try:
        pixels = decode_image(data, size_px=size_px, **options)
    except ImageError as error:
        reason = str(error)
        assert reason
        assert reason.isprintable()
        assert len(reason) < 200
        assert "object at" not in reason
        return reason
    assert pixels.shape == (*size_px, 3)
    assert pixels.dtype == np.uint8
    return pixels


def png_chunk(name, body):
    return struct.pack(">L", len(body)) + name + body + struct.pack(">L", zlib.crc32(name + body))


def png_header(width, height):
    header = png_chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(1000)))


def jpeg_claiming(width, height):
    data = VALID["jpeg"]
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


BOMBS = {
    "png": png_header(60_000, 60_000),
    "jpeg": jpeg_claiming(60_000, 60_000),
    "gif": b"GIF89a" + struct.pack("<HH", 60_000, 60_000) + VALID["gif"][10:],
    "bmp": VALID["bmp"][:18] + struct.pack("<LL", 60_000, 60_000) + VALID["bmp"][26:],
    "ppm": b"P6 60000 60000 255\n" + bytes(100),
    "webp": b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\x3f\0" * 2 + bytes(8),
    "tiff": b"II*\0\x08\0\0\0"
    + struct.pack("<H", 9)
    + b"".join(
        struct.pack("<HHLL", tag, 4, 1, value)
        for tag, value in [
            *((256, 60_000), (257, 60_000), (258, 8), (259, 1), (262, 1)),
            *((273, 8), (277, 1), (278, 60_000), (279, 9)),
        ]
    )
    + bytes(4),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_decompression_bomb_is_refused_by_its_header(kind, monkeypatch):
    def load(self):
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "load", load)
    assert len(BOMBS[kind]) < 20_000
    with pytest.raises(ImageError, match=r"^a decompression bomb"):
        decode_image(BOMBS[kind], size_px=(8, 8))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_large_image_that_pillow_would_warn_about_is_decoded(kind):
    assert 89_478_485 < 12_000 * 8000 < 178_956_970
    image = Image.new("1", (12_000, 8000), 1)
    data = encoded(image, kind, **({"compression": "group4"} if kind == "TIFF" else {}))
    with pytest.raises(Image.DecompressionBombWarning), Image.open(io.BytesIO(data)) as opened:
        opened.load()
    assert (decode_image(data, size_px=(4, 4)) == 255).all()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"Dear diary,\nno photo today.", "text that begins 'Dear diary"),
        (b"<!DOCTYPE html><html>404", "web page"),
        (b"version https://git-lfs.github.com/spec/v1", "git-lfs"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"8BPS" + bytes(30), "Photoshop"),
        (b"\0\0\0\x1cftypheic" + bytes(30), "HEIC"),
        (b"\0\0\0\x1cftypavif" + bytes(30), "AVIF"),
        (b"PK\x03\x04" + bytes(30), "archive"),
        (bytes(100), "first bytes are 00 00 00 00"),
        (b"\xff\xd8\xff", "JPEG|broken|truncated"),
        (png_header(0, 10), "pixel|broken"),
        (b"P6 0 10 255\n", "pixel|broken"),
        (VALID["jpeg"][: len(VALID["jpeg"]) // 2], "truncated"),
        (VALID["png"][: len(VALID["png"]) // 2], "truncated"),
        (VALID["bmp"][: len(VALID["bmp"]) // 2], "truncated"),
        (VALID["ppm"][: len(VALID["ppm"]) // 2], "truncated"),
        (VALID["tiff"][:200], "truncated|broken"),
    ],
)
def test_the_reason_says_what_is_wrong(data, reason):
    with pytest.raises(ImageError, match=reason) as caught:
        decode_image(data, size_px=(4, 4))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", VALID)
def test_what_is_cut_short_in_these_tests_is_valid(name):
    assert not isinstance(pixels_or_reason(VALID[name]), str)


@pytest.mark.parametrize("name", VALID)
def test_truncated_at_every_tenth(name):
    data = VALID[name]
    whole = decode_image(data, size_px=(10, 14))
    reasons = 0
    for tenth in range(10):
        found = pixels_or_reason(data[: len(data) * tenth // 10])
        if isinstance(found, str):
            reasons += 1
        else:
            assert (found == whole).all()
    assert reasons >= 1


def test_truncated_pictures_are_refused_though_half_of_them_could_be_shown():
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    for name in ("jpeg", "jpeg, progressive", "png", "gif", "bmp", "webp", "tiff", "ppm"):
        data = VALID[name]
        assert isinstance(pixels_or_reason(data[: len(data) * 6 // 10]), str), name
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize(
    "block",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\x03",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x0f\0\x02\0\0\xff\xff\0\0\0\x99\x01\x12\0\x63",
        b"Exif\0\0" + bytes(range(256)),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_is_disregarded(block, kind):
    plain = decode_image(encoded(picture(), kind), size_px=(10, 14))
    assert (decode_image(encoded(picture(), kind, exif=block), size_px=(10, 14)) == plain).all()


@given(st.binary(max_size=200))
def test_an_orientation_is_1_to_8_for_any_bytes(block):
    assert 1 <= exif_orientation(block) <= 8
    assert 1 <= exif_orientation(b"Exif\0\0II*\0\x08\0\0\0" + block) <= 8


def tiff_with_a_tag_that_pillow_warns_about():
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[305] = "A program with a long name, to be stored away from the directory"
    data = bytearray(encoded(picture(), "TIFF", tiffinfo=tags))
    at = data.index(struct.pack("<HH", 305, 2))
    data[at + 4 : at + 8] = struct.pack("<L", 10**6)
    return bytes(data)


def test_no_warning_leaks_and_none_stops_an_image():
    data = tiff_with_a_tag_that_pillow_warns_about()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning), Image.open(io.BytesIO(data)) as image:
            image.load()
        expected = decode_image(VALID["tiff"], size_px=(10, 14))
        assert (decode_image(data, size_px=(10, 14)) == expected).all()
        warnings.simplefilter("error")
        assert (decode_image(data, size_px=(10, 14)) == expected).all()


def test_the_warning_filters_are_not_touched_for_each_image(monkeypatch):
    with warnings.catch_warnings():
        data = tiff_with_a_tag_that_pillow_warns_about()
        decode_image(data, size_px=(4, 4))
        monkeypatch.setattr(warnings, "filterwarnings", lambda *args, **options: pytest.fail("touched"))
        for _ in range(5):
            decode_image(data, size_px=(4, 4))
            decode_image(VALID["png, animated"], size_px=(4, 4))


def test_an_animation_with_a_broken_header_is_its_first_frame():
    data = VALID["png, animated"]
    start = data.index(b"acTL") - 4
    body = png_chunk(b"acTL", struct.pack(">LL", 0, 0))
    broken = data[:start] + body + data[start + len(body) :]
    with pytest.raises(UserWarning), Image.open(io.BytesIO(broken)):
        pass
    assert (decode_image(broken, size_px=(9, 9)) == decode_image(data, size_px=(9, 9))).all()


def test_out_of_memory_is_the_images_fault(monkeypatch):
    def load(self):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(ImageError, match="64 x 48 pixels, does not fit into memory"):
        decode_image(VALID["png"], size_px=(4, 4))


def test_an_interrupt_is_not_taken_for_a_bad_image(monkeypatch):
    def load(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(KeyboardInterrupt):
        decode_image(VALID["png"], size_px=(4, 4))


def test_threads_decode_what_one_thread_does():
    expected = {name: decode_image(data, size_px=(10, 14)) for name, data in VALID.items()}
    jobs = list(VALID) * 20
    barrier = threading.Barrier(8)

    def work(part):
        barrier.wait(timeout=30)
        return [(name, decode_image(VALID[name], size_px=(10, 14))) for name in jobs[part::8]]

    with ThreadPoolExecutor(8) as pool:
        for results in pool.map(work, range(8)):
            for name, pixels in results:
                assert (pixels == expected[name]).all(), name


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", *(data[:24] for data in VALID.values())]))
def test_random_bytes_give_pixels_or_a_reason(data, head):
    pixels_or_reason(head + data)


MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["set", "cut", "insert", "double"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=6,
)


def mutated(data, mutations):
    for kind, place, body in mutations:
        # Half of them in the header, where they do the most.
        at = int(len(data) * place * 2) if place < 0.5 else int(100 * (place - 0.5))
        if kind == "set":
            data = data[:at] + body + data[at + len(body) :]
        elif kind == "cut":
            data = data[:at] + data[at + len(body) :]
        elif kind == "insert":
            data = data[:at] + body + data[at:]
        else:
            data = data[:at] + data[at : at + 50] + data[at:]
    return data


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(VALID)), MUTATIONS, st.sampled_from(["stretch", "crop", "pad"]))
def test_damaged_files_give_pixels_or_a_reason(name, mutations, rule):
    pixels_or_reason(mutated(VALID[name], mutations), resize=rule)


@pytest.mark.skipif(not FLOWERS.is_dir(), reason="the flower photos are not beside the checkout")
def test_real_photos_are_what_pillow_makes_of_them():
    paths = sorted(FLOWERS.glob("*/*.jpg"))[::125]
    assert paths
    for path in paths:
        with Image.open(path) as image:
            expected = image.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
        pixels = decode_image(path.read_bytes(), size_px=(224, 224))
        assert (pixels == np.asarray(expected)).all(), path.name

"""What decoding does not do over bad bytes: take long, warn, stop, or take another's fault for the image's."""

import io
import struct
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile, TiffImagePlugin

from corpus import BOMBS, BROKEN_EXIF, VALID, encoded, picture, png_chunk
from featstore.errors import ImageError
from featstore.images.decode import decode_image
from featstore.images.exif import exif_orientation

FLOWERS = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "flowers"


@pytest.mark.parametrize("kind", BOMBS)
def test_a_decompression_bomb_is_refused_by_its_header(kind, monkeypatch):
    def load(self):
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "load", load)
    assert len(BOMBS[kind]) < 60_000
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


@pytest.mark.parametrize("block", BROKEN_EXIF)
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


@pytest.mark.skipif(not FLOWERS.is_dir(), reason="the flower photos are not beside the checkout")
def test_real_photos_are_what_pillow_makes_of_them():
    paths = sorted(FLOWERS.glob("*/*.jpg"))[::125]
    assert paths
    for path in paths:
        with Image.open(path) as image:
            expected = image.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
        pixels = decode_image(path.read_bytes(), size_px=(224, 224))
        assert (pixels == np.asarray(expected)).all(), path.name

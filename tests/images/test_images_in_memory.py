import hashlib

import numpy as np
import pytest
from PIL import Image

from featstore.errors import ImageError
from featstore.images.decode import decode_image
from featstore.images.in_memory import content_of, path_of

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def test_pixels_are_the_ppm_file_that_holds_them(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.ppm")
    own, written = content_of(PIXELS), (tmp_path / "a.ppm").read_bytes()
    assert own.split(maxsplit=4) == written.split(maxsplit=4)
    np.testing.assert_array_equal(decode_image(own, size_px=(5, 7)), PIXELS)


def test_the_content_of_pixels_stays_the_same_in_later_versions():
    digest = hashlib.sha256(content_of(np.arange(24, dtype=np.uint8).reshape(2, 4, 3))).hexdigest()
    assert digest == hashlib.sha256(b"P6 4 2 255 " + bytes(range(24))).hexdigest()
    digest = hashlib.sha256(content_of(np.arange(8, dtype=np.uint8).reshape(2, 4))).hexdigest()
    assert digest == hashlib.sha256(b"P5 4 2 255 " + bytes(range(8))).hexdigest()


def test_pixels_count_and_not_how_they_lie_in_memory():
    assert content_of(np.asfortranarray(PIXELS)) == content_of(PIXELS)
    assert content_of(np.repeat(PIXELS, 2, axis=1)[:, ::2]) == content_of(PIXELS)


def test_a_picture_is_its_pixels_turned_upright():
    picture = Image.fromarray(PIXELS)
    assert content_of(picture) == content_of(PIXELS)
    picture.getexif()[0x0112] = 6
    assert content_of(picture) == content_of(np.rot90(PIXELS, -1))


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK", "I", "F", "I;16"])
def test_a_picture_of_any_mode_looks_as_its_file_does(tmp_path, mode):
    picture = Image.fromarray(PIXELS)
    if mode == "I;16":
        picture = picture.convert("I").point(lambda value: value * 257)
    picture = picture.convert(mode)
    picture.save(tmp_path / "a.tif")
    from_file = decode_image((tmp_path / "a.tif").read_bytes(), size_px=(5, 7))
    np.testing.assert_array_equal(decode_image(content_of(picture), size_px=(5, 7)), from_file)


def test_what_is_transparent_is_white():
    picture = Image.fromarray(PIXELS).convert("P")
    picture.info["transparency"] = picture.getpixel((0, 0))
    assert decode_image(content_of(picture), size_px=(5, 7))[0, 0].tolist() == [255, 255, 255]


def test_bytes_are_a_files_and_a_path_names_one(tmp_path):
    (tmp_path / "a.png").write_bytes(b"bytes")
    given = (tmp_path / "a.png", str(tmp_path / "a.png"), b"bytes", bytearray(b"bytes"), memoryview(b"bytes"))
    assert {content_of(image) for image in given} == {b"bytes"}
    assert [path_of(image) for image in given] == [str(tmp_path / "a.png")] * 2 + [None] * 3


def test_a_picture_that_is_cut_off_has_a_reason(tmp_path):
    Image.fromarray(np.repeat(PIXELS, 20, axis=0)).save(tmp_path / "a.bmp")
    (tmp_path / "cut.bmp").write_bytes((tmp_path / "a.bmp").read_bytes()[:500])
    with Image.open(tmp_path / "cut.bmp") as picture, pytest.raises(ImageError, match="cannot be used"):
        content_of(picture)


def test_other_things_are_no_images():
    with pytest.raises(TypeError, match="found int"):
        content_of(3)

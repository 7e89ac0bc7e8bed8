"""One image is one picture: by its path, its bytes, as a PIL picture, and for the programs that are handed out."""

import io
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageOps

import featstore.images.photo as photo_module
from featstore.images.decode import decode_image, iter_views
from featstore.images.in_memory import content_of
from featstore.images.photo import read_photo
from odd_images import ODD, XMP, encoded, jpeg, scene

SIZE_PX = (32, 48)

# Pillow warns of broken EXIF where it opens a file.
pytestmark = pytest.mark.filterwarnings("ignore:Corrupt EXIF")


def differs(first, second):
    return np.abs(first.astype(int) - second.astype(int)).max()


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("name", ODD)
def test_a_program_sees_the_pixels_that_featstore_sees(name, resize):
    wanted = decode_image(ODD[name], size_px=SIZE_PX, resize=resize)
    found = read_photo(io.BytesIO(ODD[name]), SIZE_PX, resize)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("is_loaded", [False, True], ids=["opened", "loaded"])
@pytest.mark.parametrize("name", ODD)
def test_a_picture_is_what_its_file_is(name, is_loaded):
    wanted = decode_image(ODD[name], size_px=SIZE_PX)
    with Image.open(io.BytesIO(ODD[name])) as picture:
        if is_loaded:
            picture.load()
        found = decode_image(content_of(picture), size_px=SIZE_PX)
    # Of a large JPEG a picture has all pixels, and of a file a fraction is decoded.
    assert differs(found, wanted) <= (12 if name == "large.jpg" else 1)


@pytest.mark.parametrize("name", [name for name in ODD if "xmp" in name or "exif" in name])
def test_an_image_lies_as_pillow_has_it(name):
    with Image.open(io.BytesIO(ODD[name])) as picture:
        if name == "exif-broken.jpg":
            turned = ImageOps.exif_transpose(Image.open(io.BytesIO(jpeg(xmp=XMP.format(6).encode()))))
        else:
            turned = ImageOps.exif_transpose(picture)
        wanted = np.asarray(turned.convert("RGB").resize(SIZE_PX[::-1], Image.Resampling.BILINEAR))
    assert differs(decode_image(ODD[name], size_px=SIZE_PX), wanted) <= 8


def test_an_orientation_in_xmp_alone_turns_the_picture():
    upright = decode_image(jpeg(), size_px=SIZE_PX)
    for name in ("xmp-6.jpg", "xmp-6.png", "xmp-behind.png", "xmp-6.webp", "xmp-6.avif", "xmp-6.tif"):
        turned = decode_image(ODD[name], size_px=SIZE_PX)
        assert differs(turned, upright) > 100, name
        assert turned[0, 0].max() < 80 < turned[-1, 0].min(), name


def test_a_picture_lies_as_a_program_has_set_it():
    picture = scene()
    picture.getexif()[0x0112] = 6
    with Image.open(io.BytesIO(ODD["xmp-6.jpg"])) as lying:
        lying.load()
        turned = decode_image(content_of(picture), size_px=SIZE_PX)
        assert differs(decode_image(content_of(lying), size_px=SIZE_PX), turned) <= 8


@pytest.mark.parametrize("mode", ["HSV", "RGBX", "I;16L", "PA"])
def test_a_picture_of_a_mode_that_no_file_has_is_used_too(mode):
    picture = scene("I").convert("I;16").convert("I;16L") if mode == "I;16L" else scene(mode)
    found = decode_image(content_of(picture), size_px=SIZE_PX)
    assert found.shape == (*SIZE_PX, 3)


def test_the_file_needs_numpy_and_pillow_alone(tmp_path):
    shutil.copy(photo_module.__file__, tmp_path / "photo.py")
    (tmp_path / "a.jpg").write_bytes(ODD["xmp-6.jpg"])
    code = "import sys, photo; print(photo.read_photo('a.jpg', (2, 3)).tolist()); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300
    )
    pixels, modules = done.stdout.splitlines()
    assert pixels == str(decode_image(ODD["xmp-6.jpg"], size_px=(2, 3)).tolist())
    assert not re.findall(r"\bfeatstore\S*", modules)
    assert os.listdir(tmp_path)


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("name", ODD)
def test_pixels_at_several_sizes_are_those_of_each_size_alone(name, resize):
    decoded = []
    for size_px in ((8, 8), (32, 48), (200, 150)):
        (found,) = iter_views(
            ODD[name],
            size_px=size_px,
            resize=resize,
            recipe=None,
            content_hash=b"",
            views=[0],
            decoded=decoded,
        )
        np.testing.assert_array_equal(found, decode_image(ODD[name], size_px=size_px, resize=resize))


def test_a_photo_is_decoded_once_for_sizes_that_take_all_of_it():
    data, decoded = encoded(scene(size=(400, 300)), "JPEG"), []
    sizes = {(size, size): [] for size in (224, 320, 448)}
    for size_px in sizes:
        [*iter_views(data, size_px=size_px, recipe=None, content_hash=b"", views=[0], decoded=decoded)]

    assert len(decoded) == 1


def test_a_jpeg_that_was_decoded_at_a_fraction_is_decoded_again_for_a_larger_size():
    data, decoded = encoded(scene(size=(1600, 1200)), "JPEG"), []
    for side in (64, 800):
        [*iter_views(data, size_px=(side, side), recipe=None, content_hash=b"", views=[0], decoded=decoded)]

    assert [photo.least is None for photo in decoded] == [True, False]

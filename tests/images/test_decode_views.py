"""What of a picture its views show, exactly."""

import dataclasses
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

import featstore.images.decode as decode_module
import featstore.images.photo as photo_module
from corpus import encoded, exif, picture
from featstore.errors import ImageError, ViewError
from featstore.images.decode import RESIZE_RULES, decode_image, decode_views, iter_views
from featstore.images.views import View, ViewRecipe

RECIPE = ViewRecipe(flip=True, random_crop=20, random_scale=30, random_brightness=10)
CROP = ViewRecipe(random_crop=50)
CONTENT = bytes(range(32))
PHOTO = encoded(picture(size=(61, 37)))


def views_of(data, views, *, recipe=RECIPE, size_px=(24, 20), resize="stretch"):
    return decode_views(
        data, size_px=size_px, resize=resize, recipe=recipe, content_hash=CONTENT, views=views
    )


def difference(first, second):
    return np.abs(np.asarray(first).astype(int) - np.asarray(second).astype(int))


def test_a_view_is_pillows_resize_of_the_part_drawn():
    image = picture(size=(61, 37))
    for view in range(1, 6):
        drawn = CROP.draw(CONTENT, view)
        left, top = 61 * drawn.left, 37 * drawn.top
        box = left, top, left + 61 * drawn.size, top + 37 * drawn.size
        [pixels] = views_of(PHOTO, [view], recipe=CROP)
        expected = image.resize((20, 24), Image.Resampling.BILINEAR, box)
        assert difference(pixels, expected).max() == 0


@pytest.mark.parametrize("rule", RESIZE_RULES)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_view_shows_the_same_part_however_the_pixels_lie_in_the_file(rule, orientation):
    data = encoded(picture(size=(60, 40)), exif=exif(orientation))
    with Image.open(io.BytesIO(data)) as image:
        upright = encoded(ImageOps.exif_transpose(image))
    for found, expected in zip(
        views_of(data, range(4), resize=rule), views_of(upright, range(4), resize=rule), strict=True
    ):
        # Resizing before turning runs the two passes in the other order and rounds in between.
        assert difference(found, expected).max() <= 2


@given(views=st.lists(st.integers(0, 40), max_size=6))
@settings(max_examples=30)
def test_a_view_is_the_same_whichever_others_are_decoded_with_it(views):
    for view, pixels in zip(views, views_of(PHOTO, views), strict=True):
        np.testing.assert_array_equal(pixels, views_of(PHOTO, [view])[0])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_images_of_every_mode_are_the_same_whichever_views_are_decoded_together(mode):
    if mode in ("I;16", "I", "F"):
        values = np.linspace(0, 60_000, 61 * 37).reshape(37, 61)
        image = Image.fromarray(values.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    else:
        image = picture("RGBA" if mode in ("LA", "PA") else "RGB", (61, 37)).convert(mode)
    data = encoded(image, "TIFF" if mode in ("CMYK", "I;16", "I", "F", "PA") else "PNG")
    together = views_of(data, range(4))
    assert together[0].tobytes() == decode_image(data, size_px=(24, 20)).tobytes()
    for view, pixels in enumerate(together):
        np.testing.assert_array_equal(pixels, views_of(data, [view])[0])
    assert len({pixels.tobytes() for pixels in together}) == 4


def test_a_large_jpeg_is_decoded_as_finely_as_the_recipe_may_need_whichever_views_are_asked_for(monkeypatch):
    data = encoded(picture(size=(960, 720)), "JPEG", quality=95)
    seen = []
    resized = photo_module._resized
    monkeypatch.setattr(
        photo_module, "_resized", lambda image, *rest: (seen.append(image.size), resized(image, *rest))[1]
    )
    decode_image(data, size_px=(80, 100))
    assert seen == [(240, 180)]
    seen.clear()
    first = views_of(data, [0], size_px=(80, 100))
    together = views_of(data, [3, 0], size_px=(80, 100))
    assert seen == [(480, 360)] * 3
    np.testing.assert_array_equal(first[0], together[1])


def test_an_image_is_opened_once_for_all_its_views(monkeypatch):
    opened = []
    real = decode_module.open_image
    monkeypatch.setattr(decode_module, "open_image", lambda data: (opened.append(1), real(data))[1])
    assert len(views_of(PHOTO, range(50))) == 50
    assert len(opened) == 1


def test_a_recipe_that_only_flips_mirrors_view_1():
    whole, mirrored = views_of(PHOTO, [0, 1], recipe=ViewRecipe(flip=True))
    np.testing.assert_array_equal(mirrored, whole[:, ::-1])
    np.testing.assert_array_equal(whole, decode_image(PHOTO, size_px=(24, 20)))


def test_brightness_is_a_factor_that_is_rounded_and_clipped():
    gray = encoded(Image.new("RGB", (9, 9), (0, 100, 250)))
    recipe = ViewRecipe(random_brightness=50)
    for view, pixels in enumerate(views_of(gray, range(12), recipe=recipe)):
        factor = recipe.draw(CONTENT, view).brightness
        expected = [0, round(100 * factor), min(255, round(250 * factor))]
        assert (pixels == expected).all()


def test_padding_stays_black_and_where_it_was():
    image = encoded(Image.new("RGB", (80, 40), (200, 100, 50)))
    for pixels in views_of(image, range(6), resize="pad", size_px=(20, 20)):
        assert pixels[:5].max() == pixels[15:].max() == 0
        assert pixels[5:15].min() > 0


# The largest number that a draw can hold is that of all bits set.
shares = st.sampled_from([0.0, 1 - 2**-53]) | st.floats(0, 1 - 2**-53)


@given(
    size=st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
    target=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    rule=st.sampled_from(RESIZE_RULES),
    orientation=st.integers(1, 8),
    magnification=st.floats(1, 121),
    left=shares,
    top=shares,
)
@settings(max_examples=500)
def test_what_a_view_shows_lies_inside_of_the_image(
    size, target, rule, orientation, magnification, left, top
):
    side = 1 / magnification
    drawn = View(left=left * (1 - side), top=top * (1 - side), size=side)
    whole, _ = photo_module._frame(size, target, rule)
    seen = decode_module._part(whole, drawn, orientation)
    assert whole[0] <= seen[0] < seen[2] <= whole[2]
    assert whole[1] <= seen[1] < seen[3] <= whole[3]
    assert 0 <= seen[0] < seen[2] <= size[0]
    assert 0 <= seen[1] < seen[3] <= size[1]


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (3, 2)])
@pytest.mark.parametrize("rule", RESIZE_RULES)
def test_views_of_extreme_shapes_by_an_extreme_recipe(size, rule):
    data = encoded(Image.new("RGB", size, (200, 100, 50)))
    recipe = ViewRecipe(random_crop=1000, random_scale=1000)
    for pixels in views_of(data, range(8), recipe=recipe, resize=rule, size_px=(33, 21)):
        assert difference(pixels[pixels.any(axis=2)], (200, 100, 50)).max() <= 1


def test_views_are_drawn_as_they_are_asked_for(monkeypatch):
    finished = []
    finish = View.finish
    monkeypatch.setattr(View, "finish", lambda view, pixels: (finished.append(view), finish(view, pixels))[1])
    pixels = iter_views(PHOTO, size_px=(8, 8), recipe=RECIPE, content_hash=CONTENT, views=range(1, 1000))
    assert finished == []
    next(pixels)
    next(pixels)
    assert finished == [RECIPE.draw(CONTENT, 1), RECIPE.draw(CONTENT, 2)]


def test_bad_bytes_are_refused():
    with pytest.raises(ImageError, match="truncated"):
        views_of(PHOTO[:100], [0, 1])


def test_without_a_recipe_there_is_but_the_image_itself():
    [pixels] = views_of(PHOTO, [0], recipe=None)
    np.testing.assert_array_equal(pixels, decode_image(PHOTO, size_px=(24, 20)))
    with pytest.raises(ViewError, match=r"without a recipe there is only view 0; found \[0, 1\]"):
        views_of(PHOTO, [0, 1], recipe=None)


def test_a_view_is_whole_by_default():
    assert dataclasses.asdict(View()) == {
        "left": 0.0,
        "top": 0.0,
        "size": 1.0,
        "brightness": 1.0,
        "flip": False,
    }

"""Which part of a picture is seen, which way up, and at what size."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

import featstore.images.photo as photo_module
from corpus import encoded, exif
from featstore.images.decode import decode_image, decode_views
from featstore.images.views import ViewRecipe

QUADRANTS = np.array([[[250, 10, 10], [10, 250, 10]], [[10, 10, 250], [240, 240, 240]]], np.uint8)


def picture(width, height, seed=0):
    """Smooth, with no symmetry: each corner has its own colour."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    coarse[:2, :2] = QUADRANTS
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def difference(first, second):
    return np.abs(first.astype(int) - np.asarray(second).astype(int))


@pytest.mark.parametrize("size_px", [(24, 24), (20, 50), (50, 20), (1, 1), (300, 7)])
def test_stretch_is_pillows_bilinear_resize(size_px):
    image = picture(61, 37)
    expected = image.resize(size_px[::-1], Image.Resampling.BILINEAR)
    assert difference(decode_image(encoded(image), size_px=size_px), expected).max() == 0


@pytest.mark.parametrize(("width", "height", "box"), [(80, 40, (20, 0, 60, 40)), (40, 80, (0, 20, 40, 60))])
def test_crop_takes_the_middle(width, height, box):
    image = picture(width, height)
    expected = image.resize((16, 16), Image.Resampling.BILINEAR, box)
    assert difference(decode_image(encoded(image), size_px=(16, 16), resize="crop"), expected).max() == 0


def test_crop_keeps_the_aspect_ratio_of_the_result():
    image = picture(80, 40)
    expected = image.resize((10, 30), Image.Resampling.BILINEAR, (40 - 20 / 3, 0, 40 + 20 / 3, 40))
    assert difference(decode_image(encoded(image), size_px=(30, 10), resize="crop"), expected).max() == 0


@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_a_crop_fraction_takes_the_middle_of_what_is_shown_and_bicubic_is_pillows(resize):
    box = {"stretch": (10, 5, 70, 35), "crop": (25, 5, 55, 35)}[resize]
    image = picture(80, 40)
    expected = image.resize((16, 16), Image.Resampling.BICUBIC, box)
    pixels = decode_image(
        encoded(image), size_px=(16, 16), resize=resize, interpolation="bicubic", crop_fraction=0.75
    )
    assert difference(pixels, expected).max() == 0


def test_bicubic_overshoot_at_the_edge_of_a_cut_out_stays_a_colour():
    cut_out = Image.new("RGBA", (40, 40), (255, 255, 255, 0))
    cut_out.paste((250, 250, 250, 255), (11, 11, 29, 29))
    pixels = decode_image(encoded(cut_out), size_px=(90, 90), interpolation="bicubic")
    assert pixels.min() >= 240


def test_pad_fits_inside_and_centres_on_black():
    image = Image.new("RGB", (80, 40), (200, 100, 50))
    pixels = decode_image(encoded(image), size_px=(21, 20), resize="pad")
    assert (pixels[5:15] == (200, 100, 50)).all()
    assert (pixels[:5] == 0).all()
    assert (pixels[15:] == 0).all()


def test_pad_of_a_high_picture():
    image = picture(10, 40)
    pixels = decode_image(encoded(image), size_px=(20, 30), resize="pad")
    expected = image.resize((5, 20), Image.Resampling.BILINEAR)
    assert difference(pixels[:, 12:17], expected).max() == 0
    assert pixels[:, :12].max() == pixels[:, 17:].max() == 0


@pytest.mark.parametrize("rule", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("width", [9, 10, 40])
def test_a_mirrored_view_is_the_mirror_image_of_all_that_the_network_sees(rule, width):
    whole, mirrored = decode_views(
        encoded(picture(width, 40)),
        size_px=(20, 30),
        resize=rule,
        recipe=ViewRecipe(flip=True),
        content_hash=bytes(32),
        views=[0, 1],
    )
    np.testing.assert_array_equal(mirrored, whole[:, ::-1])


@pytest.mark.parametrize("rule", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG", {"quality": 95}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})]
)
def test_exif_orientation_is_honoured_eight_ways(rule, orientation, kind, options):
    data = encoded(picture(60, 40), kind, exif=exif(orientation), **options)
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image)
    expected = decode_image(encoded(upright), size_px=(18, 25), resize=rule)
    pixels = decode_image(data, size_px=(18, 25), resize=rule)
    assert pixels.shape == (18, 25, 3)
    assert pixels.flags.c_contiguous
    # Resizing before turning runs the two passes in the other order and rounds in between.
    assert difference(pixels, expected).max() <= 2


def test_the_eight_orientations_differ():
    turned = {
        decode_image(encoded(picture(60, 40), exif=exif(way)), size_px=(9, 9)).tobytes()
        for way in range(1, 9)
    }
    assert len(turned) == 8


def test_each_orientation_puts_the_corners_where_exif_says():
    # Where the stored first row and first column belong: EXIF 2.32, 4.6.4 A, "Orientation".
    red, green, blue, white = range(4)
    corners = {
        1: [red, green, blue, white],
        2: [green, red, white, blue],
        3: [white, blue, green, red],
        4: [blue, white, red, green],
        5: [red, blue, green, white],
        6: [blue, red, white, green],
        7: [white, green, blue, red],
        8: [green, white, red, blue],
    }
    image = Image.fromarray(QUADRANTS).resize((40, 20), Image.Resampling.NEAREST)
    colours = QUADRANTS.reshape(4, 3)
    for orientation, order in corners.items():
        pixels = decode_image(encoded(image, exif=exif(orientation)), size_px=(16, 16))
        assert difference(pixels[::15, ::15].reshape(4, 3), colours[order]).max() == 0, orientation


def test_orientation_in_imagemagicks_text_is_honoured():
    from PIL import PngImagePlugin

    block = exif(6)
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", f"\nexif\n{len(block):8}\n{block.hex()}\n")
    image = picture(60, 40)
    seen = decode_image(encoded(image, pnginfo=text), size_px=(30, 20))
    assert difference(seen, decode_image(encoded(image, exif=block), size_px=(30, 20))).max() == 0
    assert difference(seen, decode_image(encoded(image), size_px=(30, 20))).max() > 10


@pytest.mark.parametrize("rule", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_scaled_jpeg_decoding_is_close_to_full_decoding(rule, orientation, monkeypatch):
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 12, (701, 997, 3))
    noisy = np.clip(np.asarray(picture(997, 701)) + noise, 0, 255).astype(np.uint8)
    data = encoded(Image.fromarray(noisy), "JPEG", quality=90, exif=exif(orientation))
    drafts = []
    draft = photo_module._draft

    def watched(image, box, enough):
        result = draft(image, box, enough)
        drafts.append(image.size)
        return result

    monkeypatch.setattr(photo_module, "_draft", watched)
    scaled = decode_image(data, size_px=(60, 80), resize=rule)
    monkeypatch.setattr(photo_module, "_draft", lambda image, box, *_: box)
    full = decode_image(data, size_px=(60, 80), resize=rule)
    assert drafts[0][0] < 997 / 2 + 1
    assert difference(scaled, full).mean() < 1
    assert difference(scaled, full).max() <= 12


@pytest.mark.parametrize(
    ("size", "size_px", "rule", "decoded"),
    [
        ((800, 600), (100, 100), "stretch", (400, 300)),
        ((800, 600), (151, 100), "stretch", (800, 600)),
        ((801, 601), (100, 100), "stretch", (401, 301)),
        ((3200, 600), (100, 100), "crop", (1600, 300)),
        ((3200, 600), (100, 100), "pad", (400, 75)),
        ((200, 200), (100, 100), "stretch", (200, 200)),
    ],
)
def test_scaled_decoding_leaves_twice_the_pixels_asked_for(size, size_px, rule, decoded, monkeypatch):
    seen = []
    resized = photo_module._resized
    monkeypatch.setattr(
        photo_module,
        "_resized",
        lambda image, *rest: (seen.append(image.size), resized(image, *rest))[1],
    )
    decode_image(encoded(Image.new("RGB", size), "JPEG"), size_px=size_px, resize=rule)
    assert seen == [decoded]


def test_scaled_decoding_minds_the_last_pixels_that_are_not_whole():
    ramp = np.linspace(0, 255, 33).astype(np.uint8)[np.newaxis].repeat(33, axis=0)
    data = encoded(Image.fromarray(ramp), "JPEG", quality=95)
    expected = Image.fromarray(ramp).resize((4, 4), Image.Resampling.BILINEAR).convert("RGB")
    # Decoded at 1/4 it is 9 pixels wide, of which 8.25 are the picture.
    assert difference(decode_image(data, size_px=(4, 4)), expected).max() <= 4


@pytest.mark.parametrize("size", [(1, 1), (1, 30_000), (30_000, 1), (2, 2)])
@pytest.mark.parametrize("rule", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_extreme_shapes_are_decoded_without_artefacts(size, rule, kind):
    data = encoded(
        Image.new("RGB", size, (200, 100, 50)), kind, **({"quality": 95} if kind == "JPEG" else {})
    )
    pixels = decode_image(data, size_px=(224, 192), resize=rule)
    assert pixels.shape == (224, 192, 3)
    seen = pixels[pixels.any(axis=2)]
    assert len(seen) > 0
    assert difference(seen, np.array((200, 100, 50))).max() <= 3


def test_a_needle_is_resized_without_growing_in_between(monkeypatch):
    needle = np.linspace(0, 255, 60_000).astype(np.uint8)[:, np.newaxis]
    data = encoded(Image.fromarray(needle), "PNG")
    made = []
    resize = Image.Image.resize

    def watched(self, size, *args, **options):
        made.append((self.size, size))
        return resize(self, size, *args, **options)

    monkeypatch.setattr(Image.Image, "resize", watched)
    pixels = decode_image(data, size_px=(100, 90))
    assert made == [((1, 60_000), (1, 100)), ((1, 100), (90, 100))]
    assert difference(pixels[:, 0, 0], np.linspace(1, 254, 100)).max() <= 2


@pytest.mark.parametrize("size_px", [(0, 5), (5, -1)])
def test_a_size_without_pixels_is_a_wrong_argument(size_px):
    with pytest.raises(ValueError, match="at least 1"):
        decode_image(encoded(picture(4, 4)), size_px=size_px)


def test_an_unknown_resize_rule_is_a_wrong_argument():
    with pytest.raises(ValueError, match="crop, pad, stretch"):
        decode_image(encoded(picture(4, 4)), size_px=(2, 2), resize="squash")

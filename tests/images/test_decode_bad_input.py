"""What decoding does not do over bad bytes: take long, warn, stop, or take another's fault for the image's."""

import contextlib
import io
import re
import struct
import subprocess
import sys
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
from featstore.images.in_memory import content_of
from featstore.images.photo import exif_orientation, orientation, read_photo

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
    for whole in (block, b"Exif\0\0II*\0\x08\0\0\0" + block):
        image = Image.new("L", (1, 1))
        image.info = {"exif": whole, "xmp": block}
        assert 1 <= orientation(image) <= 8
        assert exif_orientation(whole) is None or exif_orientation(whole) >= 0


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
        barrier.wait(timeout=300)
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


def damaged_tiffs():
    """TIFFs of libtiff's compressions with tags that it does not know, and damaged data."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[33550], tags.tagtype[33550] = (1.0, 1.0, 0.0), 12
    tags[65280], tags.tagtype[65280] = 7, 3
    for compression in ("tiff_lzw", "jpeg", "tiff_deflate", "packbits", "group4"):
        image = picture("1" if compression == "group4" else "RGB")
        data = bytearray(encoded(image, "TIFF", compression=compression, tiffinfo=tags))
        yield bytes(data)
        random = np.random.default_rng(0)
        for place in random.integers(8, len(data) - 200, 60):
            data[place] = random.integers(256)
        yield bytes(data)


def test_bad_files_write_nothing_to_stderr_without_a_program_around_them():
    changed = VALID["tiff"].replace(struct.pack("<HHLH", 277, 3, 1, 3), struct.pack("<HHLH", 277, 3, 1, 9))
    code = (
        "import sys\n"
        "from featstore.images import decode_image\n"
        "try:\n    decode_image(sys.stdin.buffer.read(), size_px=(8, 8))\n"
        "except ValueError as error:\n    print(error)"
    )
    for data in (changed, VALID["avif"].replace(b"MM\0*\0\0\0\x08", b"MM\0*\0\0\0\0")):
        done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, timeout=300)
        assert done.stderr == b""
        assert (b"a variant that is not read" in done.stdout) is (data == changed)
    assert changed != VALID["tiff"]


def test_libtiff_writes_nothing_to_stderr(capfd):
    def read(data):
        with contextlib.suppress(ImageError):
            decode_image(data, size_px=(8, 8))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read, [*damaged_tiffs()] * 4))
    assert capfd.readouterr().err == ""


REASONS = re.compile(
    r"truncated: the file ends before the image does"
    r"|broken or unsupported (JPEG|PNG|GIF|BMP|TIFF|WebP|AVIF|HEIC|JPEG 2000|TGA|DDS|PPM) image"
    r"(: (it holds no picture|it states no size|a variant that is not read|its data are damaged))?"
    r"|a decompression bomb\? [\w ,;]+"
    r"|not an image: .+ files are read"
    r"|the image has no pixels: its size is \d+ x \d+"
    r"|the image holds values that are not finite"
    r"|a (DDS of|PPM with) [\w ,;]+"
)


def damaged(data, rng):
    changed = bytearray(data)
    way = rng.integers(4)
    if way == 0:
        return bytes(changed[: rng.integers(1, len(changed))])
    if way == 1:
        place = rng.integers(len(changed))
        changed[place:place] = rng.bytes(8)
        return bytes(changed)
    within = min(len(changed), 200) if way == 2 else len(changed)
    for place in rng.integers(within, size=4):
        changed[place] = rng.choice([0, 1, 128, 255, rng.integers(256)])
    return bytes(changed)


@pytest.mark.parametrize("name", VALID)
def test_every_reason_is_in_the_words_of_users(name):
    rng, reasons = np.random.default_rng(len(name)), set()
    for _ in range(60):
        try:
            decode_image(damaged(VALID[name], rng), size_px=(8, 8))
        except ImageError as error:
            reasons.add(str(error))
    assert [reason for reason in reasons if not REASONS.fullmatch(reason)] == []


def test_a_broken_picture_has_a_reason_in_these_words_too():
    data = VALID["tiff, LZW"]
    with (
        Image.open(io.BytesIO(data[:8] + bytes(40) + data[48:])) as broken,
        pytest.raises(ImageError) as caught,
    ):
        content_of(broken)
    told = str(caught.value).removeprefix(f"the picture, of mode {broken.mode}, cannot be used: ")
    assert REASONS.fullmatch(told), told


def test_a_heic_photo_is_read_where_its_package_is_installed():
    heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    heif.from_pillow(picture()).save(file, quality=90)
    data = file.getvalue()
    pixels = decode_image(data, size_px=(48, 64)).astype(int)
    assert np.abs(pixels - np.asarray(picture())).mean() < 8
    (read, given) = read_photo(io.BytesIO(data), (48, 64)), heif.open_heif(file).to_pillow()
    assert (read == pixels).all()
    assert (decode_image(content_of(given), size_px=(48, 64)) == pixels).all()


def test_without_it_the_reason_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = b"\0\0\0\x18ftypmif1\0\0\0\0heicmif1" + bytes(30)
    with pytest.raises(ImageError, match=r'pillow-heif; run: pip install "featstore\[heif\]"'):
        decode_image(data, size_px=(8, 8))

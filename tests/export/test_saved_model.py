"""The signatures of a SavedModel, and its own way from a file to pixels."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import featstore
from featstore.export.saved_model import _decoded, _resized
from featstore.images.decode import decode_image


def encoded(pixels, kind, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def picture():
    coarse = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((131, 97), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size_px", [(50, 50), (40, 64), (150, 70)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF"])
def test_files_become_the_pixels_that_featstore_sees(picture, kind, size_px, resize):
    data = encoded(picture, kind)
    wanted = decode_image(data, size_px=size_px, resize=resize).astype(int)
    found = _resized(_decoded(tf.constant(data)), size_px=size_px, resize=resize).numpy().astype(int)
    assert np.abs(found - wanted).max() <= 1


@pytest.mark.parametrize("resize", ["stretch", "crop"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_part_of_them_interpolated_as_asked_too(picture, interpolation, resize):
    shown = {"size_px": (40, 64), "resize": resize, "interpolation": interpolation, "crop_fraction": 0.8}
    data = encoded(picture, "PNG")
    found = _resized(_decoded(tf.constant(data)), **shown).numpy().astype(int)
    assert np.abs(found - decode_image(data, **shown).astype(int)).max() <= 1


def test_transparency_is_laid_over_white():
    pixels = np.zeros((20, 20, 4), np.uint8)
    pixels[:10, :, 3] = 255
    found = _decoded(tf.constant(encoded(pixels, "PNG"))).numpy()
    assert (found[:10] == 0).all()
    assert (found[10:] == 255).all()


def test_gray_pictures_become_colours(picture):
    found = _decoded(tf.constant(encoded(picture[..., 0], "PNG"))).numpy()
    np.testing.assert_array_equal(found, np.repeat(picture[..., :1], 3, axis=2))


def test_encoded_files_are_answered_with_label_and_probabilities(exported, head, shared_table):
    model = tf.saved_model.load(exported("saved_model").path)
    files = [Path(path).read_bytes() for path in shared_table.paths[:6]]
    told = model.signatures["serving_default"](image_bytes=tf.constant(files))
    wanted = head.predict_proba(shared_table.X[:6])
    np.testing.assert_allclose(told["probabilities"].numpy(), wanted, atol=0.01)
    labels, _ = head.answer(shared_table.X[:6])
    assert [label.decode() for label in told["label"].numpy()] == labels.tolist()


def test_an_answer_below_the_heads_threshold_is_empty(head, tmp_path):
    unsure = replace(head, reject={"below": 0.999, "validation": {}, "test": {}})
    featstore.export_head(unsure, tmp_path / "out")
    model = tf.saved_model.load(str(tmp_path / "out"))
    told = model.signatures["serving_images"](images=tf.zeros((1, 16, 20, 3), tf.uint8))
    assert told["probabilities"].numpy().max() < 0.999
    assert told["label"].numpy().tolist() == [b""]


def test_what_its_own_decoding_costs_is_measured(exported):
    told = exported("saved_model").description.verification
    assert (told["encoded"]["n"], told["encoded"]["n_undecoded"]) == (told["n"], 0)
    assert told["largest_difference"] < told["encoded"]["largest_difference"] < 0.05

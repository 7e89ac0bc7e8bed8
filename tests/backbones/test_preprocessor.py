"""What Hugging Face's and timm's files say about preprocessing, as their libraries follow it."""

import json

import pytest

from featstore.backbones import read_preprocessor
from featstore.errors import BackboneError

_MEAN = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}

# From the repositories of the networks named.
_DINOV2 = {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "image_processor_type": "BitImageProcessor",
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 256},
    **_MEAN,
}
_SIGLIP = {
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "image_processor_type": "SiglipImageProcessor",
    "resample": 3,
    "size": {"height": 384, "width": 384},
}
_CLIP = {"crop_size": 224, "do_center_crop": True, "resample": 3, "size": 224, **_MEAN}
_CONVNEXT = {"crop_pct": 0.875, "resample": 3, "size": {"shortest_edge": 224}, **_MEAN}
_CONVNEXT_384 = {"crop_pct": None, "resample": 3, "size": 384, **_MEAN}
_MOBILENET = {"size": {"height": 224, "width": 224}, "do_normalize": False, "do_rescale": False}
_TIMM = {
    "architecture": "vit_small_patch16_224",
    "pretrained_cfg": {
        "input_size": [3, 224, 224],
        "interpolation": "bicubic",
        "crop_pct": 0.9,
        "crop_mode": "center",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    },
}


def read(folder, stated, name="preprocessor_config.json"):
    (folder / "model.onnx").write_bytes(b"")
    (folder / name).write_text(json.dumps(stated))
    return read_preprocessor(folder)


@pytest.mark.parametrize(
    ("stated", "size", "resize", "fraction", "interpolation", "scaling"),
    [
        (_DINOV2, 224, "crop", 0.875, "bicubic", "torch"),
        (_SIGLIP, 384, "stretch", None, "bicubic", "tf"),
        (_CLIP, 224, "crop", None, "bicubic", "torch"),
        (_CONVNEXT, 224, "crop", 0.875, "bicubic", "torch"),
        (_CONVNEXT_384, 384, "stretch", None, "bicubic", "torch"),
        (_MOBILENET, 224, "stretch", None, "bilinear", "none"),
    ],
)
def test_image_processors_of_hugging_face(tmp_path, stated, size, resize, fraction, interpolation, scaling):
    found = read(tmp_path, stated)
    assert (found.size_px, found.resize, found.crop_fraction) == ((size, size), resize, fraction)
    assert (found.interpolation, str(found.scaling)) == (interpolation, scaling)


def test_pretrained_cfg_of_timm(tmp_path):
    found = read(tmp_path, _TIMM, "config.json")
    assert (found.size_px, found.resize, found.interpolation) == ((224, 224), "crop", "bicubic")
    # It resizes to 248 pixels, the integer below 224 / 0.9.
    assert found.crop_fraction == 224 / 248
    assert str(found) == "224 x 224 px, crop, crop fraction 0.9032, bicubic, scaling tf"


def test_a_config_of_something_else_is_passed_over(tmp_path):
    assert read(tmp_path, {"model_type": "dinov2", "hidden_size": 384}, "config.json") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resample": 1}, "lanczos"),
        ({"size": {"longest_edge": 512}, "do_center_crop": False}, "shapes of their own"),
        ({"size": {"shortest_edge": 200}}, "cuts 224 pixels out of 200"),
        ({"image_std": [0, 0, 0]}, "greater than 0"),
    ],
)
def test_what_cannot_be_followed_is_named(tmp_path, change, message):
    with pytest.raises(BackboneError, match=message):
        read(tmp_path, {**_DINOV2, **change})

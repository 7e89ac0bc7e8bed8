from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featstore.backbones import BackboneSpec
from featstore.backbones.spec import digest_values
from featstore.errors import BackboneError
from featstore.images import ViewRecipe


def spec(**changes):
    fields = {
        "architecture": "mobilenet_v2",
        "weights_digest": "ab" * 32,
        "layer": "out_relu",
        "size_px": (224, 224),
        "preprocessing": "tf",
    }
    return BackboneSpec(**{**fields, **changes})


def test_fingerprint_is_the_same_in_every_version():
    assert spec().fingerprint == "1b977e567877ffda7ed1b76aa8007e179f3c2d9b1adefe680de19f78a18dc051"


def test_name_is_architecture_and_twelve_digits():
    assert spec().name == f"mobilenet_v2-{spec().fingerprint[:12]}"


_CHANGES = {
    "architecture": "mobilenet",
    "weights_digest": "cd" * 32,
    "layer": "block_13_expand_relu",
    "pooling": "max",
    "size_px": (192, 224),
    "resize": "crop",
    "preprocessing": "caffe",
    "alpha": 0.5,
    "precision": "bfloat16",
    "dtype": "float16",
    "views": ViewRecipe(flip=True),
    "mean": (1, 2, 3),
    "std": (4, 5, 6),
    "interpolation": "bicubic",
    "crop_fraction": 0.875,
    "input_name": "pixels",
    "layout": "nchw",
}
_CUSTOM = {"preprocessing": "custom", "mean": (0.5,) * 3, "std": (2,) * 3}


@pytest.mark.parametrize("field", [field.name for field in fields(BackboneSpec)])
def test_each_field_changes_the_fingerprint(field):
    before = _CUSTOM if field in ("mean", "std") else {}
    changed = spec(**{**before, field: _CHANGES[field]})
    assert changed.fingerprint != spec(**before).fingerprint
    assert BackboneSpec.from_dict(changed.to_dict()) == changed


def test_round_trip_through_a_dictionary_keeps_the_fingerprint():
    original = spec(alpha=0.35, size_px=(96, 128))
    assert BackboneSpec.from_dict(original.to_dict()) == original


def test_a_field_of_a_newer_version_is_refused():
    with pytest.raises(BackboneError, match="newer version"):
        BackboneSpec.from_dict({**spec().to_dict(), "rotation": 90})


@pytest.mark.parametrize(
    "change",
    [
        {"pooling": "mean"},
        {"dtype": "int8"},
        {"size_px": (0, 10)},
        {"mean": (0, 0, 0), "std": (1, 1, 1)},
        {**_CUSTOM, "std": (1, 0, 1)},
        {**_CUSTOM, "mean": (float("nan"),) * 3},
        {"resize": "pad", "crop_fraction": 0.5},
        {"crop_fraction": 1.5},
    ],
)
def test_a_value_that_cannot_be_is_refused(change):
    with pytest.raises(BackboneError, match="found"):
        spec(**change)


@given(st.lists(st.lists(st.floats(width=32, allow_nan=False), max_size=4), max_size=4))
def test_digest_does_not_depend_on_the_machines_byte_order(rows):
    little = [np.array(row, dtype="<f4") for row in rows]
    big = [np.array(row, dtype=">f4") for row in rows]
    assert digest_values(little) == digest_values(big)


def test_digest_depends_on_shapes_types_order_and_salt():
    one, two = np.arange(6, dtype=np.float32), np.ones(6, dtype=np.float32)
    digests = {
        digest_values([one, two]),
        digest_values([two, one]),
        digest_values([one.reshape(2, 3), two]),
        digest_values([one.astype(np.float64), two]),
        digest_values([one, two], salt=b"x"),
        digest_values([np.concatenate([one, two])]),
    }
    assert len(digests) == 6


def test_digest_does_not_depend_on_the_memory_layout():
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert digest_values([np.asfortranarray(matrix)]) == digest_values([matrix])

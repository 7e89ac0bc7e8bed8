import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from featstore.backbones import BackboneSpec, backbone_from_spec, load_backbone
from featstore.errors import (
    BackboneError,
    FingerprintMismatchError,
    UnknownBackboneError,
    WeightsError,
)

MOBILENET = {"alpha": 0.25, "image_size": 64}


def test_the_spec_says_what_was_asked_for(mobilenet_files):
    backbone = load_backbone(
        "mobilenet",
        weights=mobilenet_files["no_top.h5"],
        layer="conv_pw_6_relu",
        pooling="max",
        image_size=(32, 48),
        resize="crop",
        dtype="float16",
        alpha=0.25,
    )
    spec = backbone.spec
    assert (spec.architecture, spec.layer, spec.pooling, spec.size_px) == (
        "mobilenet",
        "conv_pw_6_relu",
        "max",
        (32, 48),
    )
    assert (spec.resize, spec.dtype, spec.alpha, spec.preprocessing) == ("crop", "float16", 0.25, "tf")
    assert backbone.feature_dim == 128
    assert backbone.weights == mobilenet_files["no_top.h5"]
    assert BackboneSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    ("options", "warns"),
    [
        ({}, False),
        ({"preprocess": "tf"}, False),
        ({"mean": 0.5, "std": 0.5}, False),
        ({"preprocess": "caffe"}, True),
        ({"mean": 0.4, "std": 0.5}, True),
    ],
)
def test_another_scaling_than_the_networks_own_is_warned_of(options, warns, mobilenet_files, caplog):
    load_backbone("mobilenet", weights=mobilenet_files["no_top.h5"], **MOBILENET, **options)
    assert ("mobilenet expects pixels scaled as tf" in caplog.text) == warns


def test_an_alpha_of_one_is_none(keras, tmp_path, monkeypatch):
    from featstore.backbones.request import request_network

    assert request_network("mobilenet", alpha=1.0) == request_network("mobilenet")


def test_the_same_weights_in_another_file_are_the_same_backbone(mobilenet_files):
    specs = [
        load_backbone("mobilenet", weights=mobilenet_files[f], **MOBILENET).spec
        for f in ("no_top.h5", "top.keras")
    ]
    assert specs[0].fingerprint == specs[1].fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "mean"}, "pooling must be one of"),
        ({"resize": "squash"}, "resize must be one of"),
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"precision": "float16"}, "precision must be one of"),
        ({"image_size": 0}, "at least 1 pixel"),
        ({"image_size": 31}, "at least 32x32"),
        ({"preprocessing": "vgg"}, "preprocessing must be one of"),
    ],
)
def test_wrong_options_are_refused_before_any_weights_are_looked_for(options, message, monkeypatch):
    monkeypatch.setattr(
        "featstore.backbones.loading.network_facts", lambda _: pytest.fail("weights were looked for")
    )
    with pytest.raises(BackboneError, match=message):
        load_backbone("vgg16", **options)


def test_a_text_file_is_refused_as_weights_without_keras(tmp_path):
    path = tmp_path / "notes.h5"
    path.write_text("these are no weights")
    with pytest.raises(WeightsError, match="no weights file"):
        load_backbone("vgg16", weights=path)


SECOND_LOAD = """
import json, sys
import numpy as np
from featstore.backbones import backbone_from_spec, load_backbone
name, options, n_pixels = json.loads(sys.argv[1])
backbone = load_backbone(name, **options)
known = [backbone.spec.fingerprint, backbone.feature_dim]
rows = backbone.forward(np.full((1, *backbone.spec.size_px, 3), n_pixels, np.uint8))
again = backbone_from_spec(backbone.spec, weights=backbone.weights)
rows_again = again.forward(np.full((1, *backbone.spec.size_px, 3), n_pixels, np.uint8))
heavy = sorted({"keras", "tensorflow", "sklearn", "h5py"} & set(sys.modules))
print(json.dumps([*known, rows[0].tolist(), bool((rows == rows_again).all()), heavy]))
"""


@pytest.mark.parametrize("name", ["mobilenet", "own", "scattering"])
def test_what_is_known_runs_in_a_new_process_without_keras(name, mobilenet_files, tiny_keras_file):
    name, options = {
        "mobilenet": ("mobilenet", {"weights": mobilenet_files["no_top.h5"], **MOBILENET}),
        "own": (tiny_keras_file, {"preprocessing": "unit"}),
        "scattering": ("scattering", {}),
    }[name]
    backbone = load_backbone(name, engine="openvino", **options)
    rows = backbone.forward(np.full((1, *backbone.spec.size_px, 3), 77, np.uint8))
    arguments = json.dumps([name, {**options, "engine": "openvino"}, 77])
    done = subprocess.run(
        [sys.executable, "-c", SECOND_LOAD, arguments], capture_output=True, text=True, check=True
    )
    fingerprint, feature_dim, found, same, heavy = json.loads(done.stdout)
    assert (fingerprint, feature_dim) == (backbone.spec.fingerprint, backbone.feature_dim)
    np.testing.assert_array_equal(np.float32(found), rows[0])
    assert same
    assert heavy == []
    assert done.stderr == ""


def test_importing_the_room_imports_no_network_library():
    code = "import sys, featstore.backbones.loading; print({'keras','tensorflow','openvino','h5py'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


class TestFromSpec:
    def test_it_gives_the_same_features(self, mobilenet_files, pixels):
        first = load_backbone("mobilenet", weights=mobilenet_files["no_top.h5"], **MOBILENET)
        second = backbone_from_spec(first.spec, weights=mobilenet_files["top.h5"])
        assert second.spec == first.spec
        np.testing.assert_array_equal(second.forward(pixels), first.forward(pixels))

    def test_other_weights_are_refused(self, mobilenet_files, keras, tmp_path):
        from .conftest import randomize, save_legacy

        network = keras.applications.MobileNet(
            alpha=0.25, weights=None, include_top=False, input_shape=(64, 64, 3)
        )
        save_legacy(randomize(network, seed=9), tmp_path / "other.h5")
        spec = load_backbone("mobilenet", weights=mobilenet_files["no_top.h5"], **MOBILENET).spec
        with pytest.raises(FingerprintMismatchError, match="are not those of mobilenet-") as caught:
            backbone_from_spec(spec, weights=tmp_path / "other.h5")
        assert spec.weights_digest[:12] in str(caught.value)

    def test_a_converted_network_needs_no_weights(self, mobilenet_files, tmp_path, pixels):
        moved = shutil.copy(mobilenet_files["no_top.h5"], tmp_path / "weights.h5")
        first = load_backbone("mobilenet", weights=moved, engine="openvino", **MOBILENET)
        rows = first.forward(pixels)
        os.unlink(moved)
        for weights in (moved, None, ""):
            np.testing.assert_array_equal(
                backbone_from_spec(first.spec, weights=weights).forward(pixels), rows
            )

    def test_a_missing_file_is_an_error_where_nothing_was_converted(self, cache, mobilenet_files):
        spec = load_backbone("mobilenet", weights=mobilenet_files["no_top.h5"], **MOBILENET).spec
        with pytest.raises(WeightsError, match=r"no weights file at .*gone\.h5"):
            backbone_from_spec(spec, weights="gone.h5")

    def test_a_model_of_the_users_own_is_found_under_any_name(self, cache, tiny_keras_file, tmp_path):
        spec = load_backbone(tiny_keras_file, preprocessing="unit").spec
        with pytest.raises(BackboneError, match=r"'tiny'; name its file with --weights"):
            backbone_from_spec(spec)
        renamed = shutil.copy(tiny_keras_file, tmp_path / "renamed.keras")
        assert backbone_from_spec(spec, weights=renamed).spec == spec

    def test_a_spec_of_a_name_that_is_no_more_is_refused(self, cache):
        spec = replace(load_backbone("scattering").spec, architecture="gone_net")
        with pytest.raises((BackboneError, UnknownBackboneError)):
            backbone_from_spec(spec)


def test_real_weights_give_what_keras_applications_gives(real_weights, keras):
    weights = real_weights("mobilenet_v2_1.0_224_no_top.h5")
    pixels = np.random.default_rng(5).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    reference = keras.applications.MobileNetV2(
        weights=weights, include_top=False, pooling="avg", input_shape=(224, 224, 3)
    )
    expected = np.asarray(
        reference(keras.applications.mobilenet_v2.preprocess_input(pixels.astype(np.float32)), training=False)
    )
    backbone = load_backbone("mobilenet_v2", weights=weights)
    found = backbone.forward(pixels)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.linalg.norm(found - expected) <= 5e-6 * np.linalg.norm(expected)
    with_top = load_backbone("mobilenet_v2", weights=real_weights("mobilenet_v2_1.0_224.h5"))
    assert with_top.spec == backbone.spec


def test_real_mobilenet_weights_load_and_say_which_alpha_they_need(real_weights, pixels):
    weights = real_weights("mobilenet_0.25_224_no_top.h5")
    with pytest.raises(WeightsError, match=r"they fit with --alpha 0\.25"):
        load_backbone("mobilenet", weights=weights)
    with pytest.raises(WeightsError, match="does not hold the weights of mobilenet_v2"):
        load_backbone("mobilenet_v2", weights=weights)
    assert load_backbone("mobilenet", weights=weights, **MOBILENET).forward(pixels).shape == (5, 256)

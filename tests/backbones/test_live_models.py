"""Keras models that a program holds, as backbones."""

import os
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

import featstore
from featstore.backbones import backbone_from_spec, load_backbone
from featstore.errors import BackboneError


@pytest.fixture
def model(keras):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    hidden = keras.layers.Conv2D(4, 3, name="conv", activation="relu")(inputs)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(hidden))


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)


def loaded(model, **options):
    return load_backbone(model, **{"preprocess": "unit", **options})


def test_its_features_are_the_model_s(cache, model, pixels):
    expected = model(pixels / np.float32(255)).numpy()
    np.testing.assert_allclose(loaded(model).forward(pixels), expected, atol=1e-5)


def test_training_on_does_not_change_what_was_loaded(cache, model, pixels):
    backbone = loaded(model)
    before = model(pixels / np.float32(255)).numpy()
    model.set_weights([weight + 1 for weight in model.get_weights()])
    np.testing.assert_allclose(backbone.forward(pixels), before, atol=1e-5)
    assert loaded(model).spec.fingerprint != backbone.spec.fingerprint


def test_it_is_the_backbone_of_its_file(cache, model, tmp_path):
    model.save(tmp_path / "keras_model.keras")
    from_file = load_backbone(tmp_path / "keras_model.keras", preprocessing="unit")
    assert loaded(model).spec == from_file.spec


def test_it_can_be_cut_and_is_found_by_its_specification_in_another_program(cache, model, pixels, tmp_path):
    backbone = loaded(model, layer="conv", pooling="max")
    np.save(tmp_path / "expected.npy", backbone.forward(pixels))
    (tmp_path / "spec.txt").write_text(backbone.weights)
    program = (
        "import numpy as np, featstore\n"
        f"found = featstore.load_backbone({backbone.weights!r}, preprocess='unit', layer='conv', pooling='max')\n"
        f"assert found.spec.fingerprint == {backbone.spec.fingerprint!r}\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "FEATSTORE_CACHE": cache})
    found = backbone_from_spec(backbone.spec, weights=backbone.weights)
    np.testing.assert_allclose(found.forward(pixels), np.load(tmp_path / "expected.npy"), atol=1e-5)


def test_layers_of_the_programs_own_are_no_hindrance(cache, keras, pixels):
    class Twice(keras.layers.Layer):
        def call(self, values):
            return 2 * values

    inputs = keras.Input((16, 16, 3))
    model = keras.Sequential([inputs, Twice(), keras.layers.GlobalAveragePooling2D()])
    expected = 2 * (pixels / 255).mean(axis=(1, 2))
    np.testing.assert_allclose(loaded(model).forward(pixels), expected, atol=1e-5)


def test_images_are_extracted_and_heads_predict(cache, model, tmp_path):
    for number in range(8):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16, 3), 30 * number, np.uint8)).save(path)
    report = featstore.extract(tmp_path / "photos", tmp_path / "s.fstore", backbone=model, preprocess="unit")
    assert (report.extracted, report.space.rpartition("-")[0]) == (8, "keras_model")
    table = featstore.FeatureStore(tmp_path / "s.fstore").table()
    head = featstore.fit(table, rule=featstore.SplitRule(validation=0, test=0), params={"C": 1.0})
    assert featstore.Predictor(head).predict(path).label in ("a", "b")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"preprocess": None}, BackboneError, "does not define how its pixels .* preprocess="),
        ({"preprocessing": "tf"}, TypeError, "one option; found 'unit' and 'tf'"),
        ({"weights": "x.h5"}, BackboneError, "whole model"),
    ],
)
def test_what_is_missing_or_too_much_is_named(cache, model, options, error, message):
    with pytest.raises(error, match=message):
        loaded(model, **options)


def test_a_model_that_is_no_graph_is_refused(cache, keras):
    class Own(keras.Model):
        def call(self, values):
            return values

    with pytest.raises(BackboneError, match="functional or sequential"):
        loaded(Own())
    with pytest.raises(BackboneError, match="functional or sequential"):
        loaded(keras.Sequential([keras.layers.Conv2D(4, 3)]))


def test_both_names_of_the_scaling_mean_the_same(cache, model):
    assert loaded(model).spec == load_backbone(model, preprocessing="unit").spec
    assert loaded(model, preprocessing="unit").spec == loaded(model).spec


def test_what_is_no_backbone_is_named():
    with pytest.raises(TypeError, match=r"keras\.Model or what load_backbone returned; found dict"):
        featstore.load_backbone({})


@pytest.mark.parametrize("seconds", [10**8, 5 * 10**9])
def test_a_wrong_clock_is_no_hindrance(cache, model, pixels, monkeypatch, seconds):
    monkeypatch.setattr(zipfile, "time", time)
    monkeypatch.setattr(time, "time", lambda: seconds)
    assert np.isfinite(loaded(model).forward(pixels)).all()

"""A head on a network: in float32 as exact as the head's own double precision."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from featstore.export.fusing import fuse
from featstore.export.head_forms import head_form
from featstore.heads.calibration import softmax
from featstore.heads.forms.linear import LinearForm

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)


def network(slope, level):
    """Give the mean of each colour, times a slope, around a level."""
    inputs = keras.Input((4, 4, 3), dtype="uint8")
    means = keras.layers.GlobalAveragePooling2D()(keras.ops.cast(inputs, "float32"))
    features = keras.layers.Rescaling(slope, level)(means)
    # TensorFlow would add up the constants of two layers in a row.
    return keras.Model(inputs, keras.ops.maximum(features, -1e6))


def check(model, form, centre, temperature=1.0):
    features = model.predict(PIXELS, verbose=0)
    fused = fuse(model, form, centre=centre, temperature=temperature)
    found = fused.predict(PIXELS, verbose=0)
    np.testing.assert_allclose(found, softmax(form.scores(features) / temperature), atol=2e-5)
    assert found.std(axis=0).min() > 0.01


@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_scaling_and_temperature_are_folded_in(temperature):
    form = LinearForm(coef=np.eye(3), intercept=np.array([1.0, -0.5, 0.0]))
    check(network(0.1, 0.0), form, np.zeros(3), temperature)


def test_features_of_unit_length_are_layers():
    form = LinearForm(
        coef=4 * np.eye(3), intercept=np.zeros(3), mean=np.full(3, 127.0), scale=np.full(3, 20.0)
    )
    check(network(1.0, 0.0), form, np.full(3, 127.0))


def test_features_that_hardly_vary_keep_their_digits():
    level = np.full(3, -4.6051702)
    form = LinearForm(coef=1e5 * np.eye(3), intercept=1e5 * -level)
    check(network(1e-6, -4.6051702), form, level)


def test_features_that_hardly_vary_keep_their_digits_at_unit_length():
    level = np.full(3, -4.60505)
    form = LinearForm(coef=4 * np.eye(3), intercept=np.zeros(3), mean=level, scale=np.full(3, 1e-5))
    check(network(1e-6, -4.6051702), form, level)


def test_an_estimator_of_features_that_hardly_vary_is_met_as_scikit_learn_computes_it():
    random = np.random.default_rng(0)
    y = np.array(["fen", "moor", "wood"])[np.arange(300) % 3]
    X = np.column_stack([random.normal(size=(300, 5)), -4.6051702 + 2e-7 * random.normal(size=(300, 3))])
    X = X.astype(np.float32)
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    head = SimpleNamespace(form=None, estimator=estimator, feature_dim=8, temperature=None)
    form = head_form(head)
    np.testing.assert_allclose(softmax(form.scores(X)), estimator.predict_proba(X), atol=1e-5)

"""A network's own classifier, as one linear layer on the backbone's features."""

import numpy as np
import pytest

from featstore.backbones import load_backbone
from featstore.errors import BackboneError, WeightsError

from .conftest import save_legacy

pytestmark = pytest.mark.usefixtures("cache_of_this_file")

WIDTH = {"alpha": 0.25, "image_size": 64}


@pytest.fixture(scope="module")
def cache_of_this_file(tmp_path_factory):
    """What is known of a network's weights is found out once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATSTORE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def own(keras, tmp_path):
    """Return a function that saves a model of the user's own: a convolution, pooled, and some layers on it."""

    def save(*layers):
        keras.utils.set_random_seed(3)
        inputs = keras.Input((16, 16, 3))
        x = keras.layers.Conv2D(6, 3, strides=2, activation="relu", name="maps")(inputs)
        x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
        for layer in layers:
            x = layer(x)
        keras.Model(inputs, x).save(tmp_path / "own.keras")
        return str(tmp_path / "own.keras")

    return save


def classifier_of(path, layer="pooled", **options):
    return load_backbone(path, layer=layer, preprocessing="unit", **options).classifier()


@pytest.mark.parametrize("name", ["top.h5", "top.weights.h5", "top.keras"])
def test_the_matrix_and_the_vector_are_the_network_s(name, mobilenet_files, keras):
    classifier = load_backbone("mobilenet", weights=mobilenet_files[name], **WIDTH).classifier()
    layer = keras.models.load_model(mobilenet_files["top.keras"]).get_layer("conv_preds")
    kernel, bias = (np.asarray(variable) for variable in layer.weights)
    np.testing.assert_array_equal(classifier.kernel, kernel.reshape(256, 7))
    np.testing.assert_array_equal(classifier.bias, bias)
    assert classifier.layer == "conv_preds"
    assert classifier.largest_difference < 1e-5


def test_other_image_sizes_have_the_same_classifier(mobilenet_files):
    options = {"weights": mobilenet_files["top.h5"], "alpha": 0.25}
    small, large = (
        load_backbone("mobilenet", image_size=size, **options).classifier() for size in (64, (96, 64))
    )
    np.testing.assert_array_equal(small.kernel, large.kernel)


def test_it_is_the_same_where_the_backbone_is_remembered(mobilenet_files, tmp_path, monkeypatch):
    monkeypatch.setenv("FEATSTORE_CACHE", str(tmp_path))
    backbones = [load_backbone("mobilenet", weights=mobilenet_files["top.h5"], **WIDTH) for _ in range(2)]
    first, second = (backbone.classifier() for backbone in backbones)
    np.testing.assert_array_equal(first.kernel, second.kernel)


@pytest.mark.parametrize("name", ["no_top.h5", "no_top.weights.h5", "no_top.keras"])
def test_a_file_without_the_classifier_is_refused_by_its_name(name, mobilenet_files):
    backbone = load_backbone("mobilenet", weights=mobilenet_files[name], **WIDTH)
    with pytest.raises(
        WeightsError, match=rf"{name} holds mobilenet without its classifier; expected a file"
    ):
        backbone.classifier()


def test_other_pooling_is_refused(mobilenet_files):
    backbone = load_backbone("mobilenet", weights=mobilenet_files["top.h5"], pooling="max", **WIDTH)
    with pytest.raises(BackboneError, match="pooled in another way; leave out --layer and --pooling"):
        backbone.classifier()


def test_a_cut_further_up_says_what_stands_between(mobilenet_files):
    backbone = load_backbone("mobilenet", weights=mobilenet_files["top.h5"], layer="conv_pw_12_relu", **WIDTH)
    with pytest.raises(BackboneError, match=r"conv_pw_13_relu \(ReLU\), global_average_pooling2d"):
        backbone.classifier()


def test_where_a_layer_stands_between_its_name_is_where_to_cut(keras, tmp_path):
    keras.utils.set_random_seed(0)
    keras.layers.ReLU()  # so that Keras' own numbers are not the network's
    network = keras.applications.MobileNetV3Small(weights=None, input_shape=(64, 64, 3), classes=5)
    save_legacy(network, tmp_path / "v3.h5")
    options = {"weights": tmp_path / "v3.h5", "image_size": 64}
    with pytest.raises(BackboneError, match=r"cut at --layer activation_\d+, here") as refused:
        load_backbone("mobilenet_v3_small", **options).classifier()
    layer = str(refused.value).split("--layer ")[1].split(",")[0]
    assert f"conv_2 (Conv2D), {layer} (Activation)" in str(refused.value)
    assert load_backbone("mobilenet_v3_small", layer=layer, **options).classifier().kernel.shape == (1024, 5)


def test_a_model_of_ones_own_is_cut_before_its_classifier(own, keras):
    path = own(keras.layers.Dropout(0.5), keras.layers.Dense(3, activation="softmax", name="classes"))
    with pytest.raises(BackboneError, match="not taken on the way to it; cut at --layer pooled, here"):
        classifier_of(path, layer=None)
    classifier = classifier_of(path)
    layer = keras.models.load_model(path).get_layer("classes")
    np.testing.assert_array_equal(classifier.kernel, np.asarray(layer.kernel))


def test_softmax_may_be_a_layer_and_the_bias_missing(own, keras):
    path = own(keras.layers.Dense(3, use_bias=False), keras.layers.Softmax())
    assert classifier_of(path).bias.tolist() == [0, 0, 0]


def test_a_model_within_a_model_may_be_the_backbone(keras, tmp_path):
    inner_inputs = keras.Input((16, 16, 3))
    maps = keras.layers.Conv2D(6, 3, activation="relu")(inner_inputs)
    inner = keras.Model(inner_inputs, maps, name="base")
    layers = [
        keras.Input((16, 16, 3)),
        inner,
        keras.layers.GlobalAveragePooling2D(name="pooled"),
        keras.layers.Dense(4, activation="softmax"),
    ]
    keras.Sequential(layers).save(tmp_path / "own.keras")
    assert classifier_of(str(tmp_path / "own.keras")).kernel.shape == (6, 4)


def test_a_hidden_layer_says_where_to_cut(own, keras):
    path = own(
        keras.layers.Dense(8, activation="relu", name="hidden"), keras.layers.Dense(3, activation="softmax")
    )
    with pytest.raises(BackboneError, match=r"hidden \(Dense\); cut at --layer hidden, here"):
        classifier_of(path)
    assert classifier_of(path, layer="hidden").kernel.shape == (8, 3)


@pytest.mark.parametrize(
    ("activation", "says"),
    [
        ("sigmoid", r"ends in last \(Dense\) with sigmoid; .* expected one Dense with softmax"),
        (None, r"last \(Dense\) without softmax, so that its outputs are no probabilities"),
    ],
)
def test_what_does_not_end_in_softmax_is_refused(activation, says, own, keras):
    with pytest.raises(BackboneError, match=says):
        classifier_of(own(keras.layers.Dense(3, activation=activation, name="last")))


def test_what_ends_in_no_classifier_is_refused(own, keras):
    with pytest.raises(BackboneError, match=r"ends in .* \(UnitNormalization\); expected one Dense"):
        classifier_of(own(keras.layers.Dense(3), keras.layers.UnitNormalization()))


def test_a_known_networks_file_with_another_end_is_refused(keras, tmp_path):
    options = {"alpha": 0.25, "weights": None, "input_shape": (64, 64, 3), "classes": 7}
    keras.applications.MobileNet(**options, classifier_activation="sigmoid").save(tmp_path / "other.keras")
    backbone = load_backbone("mobilenet", weights=tmp_path / "other.keras", **WIDTH)
    with pytest.raises(BackboneError, match=r"other.keras ends in predictions \(Activation\) with sigmoid"):
        backbone.classifier()


def test_softmax_of_another_axis_is_refused(own, keras):
    layers = (keras.layers.Dense(6), keras.layers.Reshape((2, 3)), keras.layers.Softmax(axis=1))
    path = own(*layers, keras.layers.Flatten())
    with pytest.raises(BackboneError, match="does not give the network's own probabilities: on 4 random"):
        classifier_of(path)


def test_a_formula_has_no_classifier():
    with pytest.raises(BackboneError, match="scattering is a formula and has no classifier"):
        load_backbone("scattering").classifier()

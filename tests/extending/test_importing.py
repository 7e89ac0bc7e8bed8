"""A network's own classifier as a head."""

from pathlib import Path

import keras
import numpy as np
import pytest

import featstore
from featstore.errors import HeadError, WeightsUnavailableError
from featstore.extending.imagenet import imagenet_classes
from featstore.images.decode import decode_image

OPTIONS = {"layer": "pooled", "preprocessing": "unit"}


def import_land(network, **options):
    return featstore.import_head(
        network / "land.keras", **({"classes": network / "names.txt"} | OPTIONS | options)
    )


@pytest.fixture(scope="module")
def store(network, photos, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "land.fstore"
    featstore.extract(photos, path, backbone=str(network / "land.keras"), **OPTIONS)
    return featstore.FeatureStore(path)


def test_its_probabilities_are_the_networks_own(network, store):
    head, table = import_land(network), store.table()
    pixels = np.stack([decode_image(Path(path).read_bytes(), size_px=(16, 16)) for path in table.paths])
    wanted = keras.models.load_model(network / "land.keras").predict(pixels / np.float32(255), verbose=0)
    names = (network / "names.txt").read_text().split()
    assert head.classes.tolist() == sorted(names)
    found = head.predict_proba(table.X)[:, [head.classes.tolist().index(name) for name in names]]
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_saved_head_is_the_same_with_and_without_scikit_learn(network, store, tmp_path):
    head = import_land(network)
    head.save(tmp_path / "land.head")
    loaded, X = featstore.Head.load(tmp_path / "land.head"), store.table().X
    np.testing.assert_array_equal(loaded.predict_proba(X), head.predict_proba(X))
    assert type(loaded.estimator).__name__ == "LogisticRegression"
    np.testing.assert_allclose(loaded.estimator.predict_proba(X), head.predict_proba(X), atol=1e-6)
    assert loaded.estimator.predict(X).tolist() == head.predict(X).tolist()


def test_it_says_that_nothing_was_fitted_or_measured(network):
    head = import_land(network)
    told = head.to_dict()
    assert (head.name, head.catalog, head.space, head.temperature) == ("imported", "", "", None)
    assert [told[name] for name in ("n_train", "n_validation", "n_test")] == [0, 0, 0]
    assert head.test == head.validation == {"n": 0, "top1": None, "top1_ci": None}
    assert head.choice["fitted_on"] == []
    assert head.weights == str(network / "land.keras")


def test_it_finds_its_network_again_to_predict(network, photos, tmp_path):
    import_land(network).save(tmp_path / "land.head")
    (prediction,) = featstore.predict(tmp_path / "land.head", [photos / "fen" / "02.png"], top=4)
    assert sum(probability for _, probability in prediction.top) == pytest.approx(1)


def test_a_loaded_backbone_serves_too(network):
    backbone = featstore.load_backbone(network / "land.keras", **OPTIONS)
    head = featstore.import_head(backbone, classes=["moor", "heath", "fen", "bog"])
    np.testing.assert_array_equal(head.linear.coef, import_land(network).linear.coef)
    with pytest.raises(TypeError, match="leave out: weights, layer"):
        featstore.import_head(backbone, weights="a.h5", layer="pooled")


def test_two_classes_have_one_row_in_scikit_learn(tmp_path, store):
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(inputs)
    keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x)).save(tmp_path / "two.keras")
    head = featstore.import_head(tmp_path / "two.keras", classes=["b", "a"], **OPTIONS)
    head.save(tmp_path / "two.head")
    loaded, X = featstore.Head.load(tmp_path / "two.head"), np.random.default_rng(0).random((5, 3))
    assert loaded.estimator.coef_.shape == (1, 3)
    np.testing.assert_allclose(loaded.estimator.predict_proba(X), loaded.predict_proba(X), atol=1e-12)


@pytest.mark.parametrize("classes", [["a", "b", "c"], "names.txt"])
def test_too_few_names_are_an_error_with_both_numbers(classes, network, tmp_path):
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    given = tmp_path / classes if isinstance(classes, str) else classes
    with pytest.raises(HeadError, match=r"has 4 classes, but there are 3 names.*; expected one for each"):
        import_land(network, classes=given)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["a", "b", "a", "c"], "'a' more than once"),
        (["a", "", "b", "c"], "name 2 of the classes is empty"),
        (["a"], "at least 2 classes"),
    ],
)
def test_names_that_cannot_be_classes_are_refused(names, says, network):
    with pytest.raises(HeadError, match=says):
        import_land(network, classes=names)


@pytest.mark.parametrize(
    ("content", "says"), [(None, "cannot be read from .*names.txt: No such file"), (b"\xff\xfe", "UTF-8")]
)
def test_a_file_of_names_that_cannot_be_read_is_refused_by_its_name(content, says, network, tmp_path):
    if content is not None:
        (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(HeadError, match=says):
        import_land(network, classes=tmp_path / "names.txt")


def test_other_classes_than_imagenets_have_to_be_named(network):
    with pytest.raises(HeadError, match="has 4 classes, but ImageNet has 1,000: name them"):
        import_land(network, classes=None)


def test_a_model_of_ones_own_with_a_thousand_classes_may_have_imagenets(tmp_path):
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(inputs)
    keras.Model(inputs, keras.layers.Dense(1000, activation="softmax")(x)).save(tmp_path / "own.keras")
    with pytest.raises(HeadError, match=r"your own model with 1,000 classes: .* or --classes imagenet"):
        featstore.import_head(tmp_path / "own.keras", **OPTIONS)
    head = featstore.import_head(tmp_path / "own.keras", classes="imagenet", **OPTIONS)
    assert head.classes.tolist() == sorted(imagenet_classes())


def test_a_known_network_may_have_classes_of_its_own(tmp_path):
    options = {"alpha": 0.25, "input_shape": (64, 64, 3), "weights": None}
    keras.applications.MobileNet(classes=3, **options).save_weights(tmp_path / "three.weights.h5")
    head = featstore.import_head(
        "mobilenet", weights=tmp_path / "three.weights.h5", alpha=0.25, image_size=64, classes=["c", "a", "b"]
    )
    assert head.classes.tolist() == ["a", "b", "c"]
    assert head.linear.coef.shape == (3, 256)


def test_without_a_file_it_says_that_nothing_can_be_downloaded(monkeypatch):
    build = keras.applications.MobileNetV2

    def offline(*, weights, **options):
        if weights == "imagenet":
            raise OSError("no route to host")
        return build(weights=weights, **options)

    monkeypatch.setattr(keras.applications, "MobileNetV2", offline)
    with pytest.raises(WeightsUnavailableError, match=r"cannot be fetched: .* --weights FILE"):
        featstore.import_head("mobilenet_v2", image_size=32)

import pickle
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks

import featstore
from fakes import CountingBackbone
from featstore.errors import BackboneError, FingerprintMismatchError, ImageError, StoreError
from featstore.flow import transformer

DIM = CountingBackbone().feature_dim


@pytest.fixture
def backbone(monkeypatch):
    """The network that every name stands for."""
    backbone = CountingBackbone()
    monkeypatch.setattr(transformer, "_networks", {})
    monkeypatch.setattr(transformer, "load_backbone", lambda name, **options: backbone)
    return backbone


@pytest.fixture
def photos(tmp_path):
    """Twelve dark and twelve bright pictures, and their labels."""
    generator = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    paths = [str(tmp_path / "photos" / f"{number:02d}.png") for number in range(24)]
    for number, path in enumerate(paths):
        low = 150 * (number % 2)
        Image.fromarray(generator.integers(low, low + 100, (8, 8, 3), np.uint8)).save(path)
    return paths, ["bright" if number % 2 else "dark" for number in range(24)]


def pixels_of(paths):
    return np.stack([np.asarray(Image.open(path)) for path in paths])


def test_features_are_those_that_the_backbone_gives(backbone, photos):
    paths, _ = photos
    X = featstore.BackboneFeatures().fit_transform(paths)
    assert (X.shape, X.dtype) == ((24, DIM), np.float32)
    np.testing.assert_array_equal(X, backbone.forward(pixels_of(paths)))


def test_images_come_as_whatever_holds_images(backbone, photos):
    paths, _ = photos
    pixels = pixels_of(paths)
    expected = featstore.BackboneFeatures().fit_transform(paths)
    data = []
    for path in paths:
        with open(path, "rb") as file:
            data.append(file.read())
    for images in (
        np.array(paths),
        np.array(paths, object)[:, None],
        pd.Series(paths),
        pd.DataFrame({"path": paths}),
        data,
        [Image.open(path) for path in paths],
        pixels,
        list(pixels),
    ):
        np.testing.assert_array_equal(featstore.BackboneFeatures().fit_transform(images), expected)


def test_a_column_of_a_table_is_turned_into_features(backbone, photos):
    paths, _ = photos
    table = pd.DataFrame({"path": paths, "age": np.arange(24.0)})
    both = ColumnTransformer(
        [("image", featstore.BackboneFeatures(), "path"), ("age", "passthrough", ["age"])]
    )
    assert both.fit_transform(table).shape == (24, DIM + 1)


@pytest.mark.parametrize("form", ["paths", "pixels"])
def test_the_store_computes_each_content_once(backbone, photos, tmp_path, form):
    paths, _ = photos
    images = paths if form == "paths" else pixels_of(paths)
    features = featstore.BackboneFeatures(store=tmp_path / "a.fstore").fit(images)
    first = features.transform(images[:10])
    assert backbone.images == 10
    shuffled = [*images[5:], *images[:7], *images[20:]]
    np.testing.assert_array_equal(features.transform(shuffled)[-4 - 7 : -4], first[:7])
    assert backbone.images == 24
    assert featstore.FeatureStore(tmp_path / "a.fstore").space().n_rows == 24


def test_one_content_under_many_paths_passes_once(backbone, photos, tmp_path):
    paths, _ = photos
    X = featstore.BackboneFeatures(store=tmp_path / "a.fstore", workers=3).fit_transform(paths[:2] * 40)
    assert backbone.images == 2
    np.testing.assert_array_equal(X[:2], X[-2:])


def test_what_extract_has_stored_is_found_and_the_other_way_round(backbone, photos, tmp_path):
    paths, _ = photos
    featstore.extract(tmp_path / "photos", tmp_path / "a.fstore", backbone=CountingBackbone())
    X = featstore.BackboneFeatures(store=tmp_path / "a.fstore").fit_transform(paths)
    assert backbone.images == 0
    np.testing.assert_array_equal(X, backbone.forward(pixels_of(paths)))
    featstore.BackboneFeatures(store=tmp_path / "b.fstore").fit_transform(paths)
    report = featstore.extract(tmp_path / "photos", tmp_path / "b.fstore", backbone=CountingBackbone())
    assert (report.extracted, report.reused) == (0, 24)


def test_rows_are_sealed_as_they_come_and_stay_when_the_network_fails(monkeypatch, photos, tmp_path):
    def fail(number):
        if number == 4:
            raise RuntimeError("the network broke")

    failing = CountingBackbone(before_batch=fail)
    monkeypatch.setattr(transformer, "_networks", {})
    monkeypatch.setattr(transformer, "load_backbone", lambda name, **options: failing)
    features = featstore.BackboneFeatures(store=tmp_path / "a.fstore").fit(photos[0])
    with pytest.raises(RuntimeError, match="broke"):
        features.transform(photos[0])
    assert featstore.FeatureStore(tmp_path / "a.fstore").space().n_rows == 16


def test_features_are_kept_where_there_is_no_room_to_compact_them(backbone, photos, tmp_path, monkeypatch):
    def fail(self, *arguments, **options):
        raise StoreError("no space left on device")

    monkeypatch.setattr(featstore.FeatureStore, "compact", fail)
    X = featstore.BackboneFeatures(store=tmp_path / "a.fstore").fit_transform(photos[0])
    np.testing.assert_array_equal(X, backbone.forward(pixels_of(photos[0])))


def test_bad_images_are_named_and_the_others_kept(backbone, photos, tmp_path):
    paths, _ = photos
    features = featstore.BackboneFeatures(store=tmp_path / "a.fstore").fit(paths)
    with pytest.raises(
        ImageError, match=r"2 of 6 images .* nowhere\.png: no such file; image 5: not an image"
    ):
        features.transform([*paths[:2], "nowhere.png", *paths[2:4], b"nothing"])
    assert featstore.FeatureStore(tmp_path / "a.fstore").space().n_rows == 4


def test_many_bad_images_are_counted(backbone):
    with pytest.raises(ImageError, match=r"9 of 9 images .*: image 0: .*; image 4: [^;]*; [^;]*; and 4 more"):
        featstore.BackboneFeatures().fit([]).transform([b"nothing"] * 9)


@pytest.mark.parametrize(
    ("images", "error"),
    [
        ("a.png", TypeError),
        (b"bytes", TypeError),
        (Image.new("RGB", (8, 8)), TypeError),
        (np.zeros((8, 8, 3), np.uint8), TypeError),
        (np.zeros((4, 8, 8, 3)), ValueError),
        (np.zeros((4, 8)), ValueError),
        (np.array([["a.png", "b.png"]]), ValueError),
        (np.array([b"bytes"]), ValueError),
        (iter(["a.png"]), TypeError),
    ],
)
def test_what_is_no_sequence_of_images_is_refused(backbone, images, error):
    with pytest.raises(error, match="X must be a sequence of images"):
        featstore.BackboneFeatures().fit(images)


def test_no_images_are_no_rows(backbone, tmp_path):
    for store in (None, tmp_path / "a.fstore"):
        assert featstore.BackboneFeatures(store=store).fit_transform([]).shape == (0, DIM)


@pytest.mark.parametrize("params", [{"store": 3}, {"workers": 0}])
def test_an_unfit_parameter_is_refused_when_it_is_fitted(backbone, params):
    features = featstore.BackboneFeatures(**params)
    with pytest.raises((TypeError, ValueError), match=next(iter(params))):
        features.fit([])


def test_an_unknown_backbone_is_refused_when_it_is_fitted():
    with pytest.raises(BackboneError, match="no_such_net"):
        featstore.BackboneFeatures("no_such_net").fit([])


def test_a_transformer_is_fitted_before_it_is_used(backbone):
    with pytest.raises(NotFittedError):
        featstore.BackboneFeatures().transform([])


def test_pipelines_cross_validate_on_features_computed_once(backbone, photos, tmp_path):
    paths, labels = photos
    pipeline = make_pipeline(featstore.BackboneFeatures(store=tmp_path / "a.fstore"), LogisticRegression())
    assert cross_val_score(pipeline, paths, labels, cv=4).mean() == 1
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1, 10]}, cv=3).fit(paths, labels)
    assert search.score(paths, labels) == 1
    assert backbone.images == 24


def test_a_search_runs_in_two_processes(photos, tmp_path):
    paths, labels = photos
    features = featstore.BackboneFeatures("scattering", image_size=32, store=tmp_path / "a.fstore")
    # Converted here, so that the workers need not do it both.
    features.fit_transform(paths[:1])
    pipeline = make_pipeline(features, LogisticRegression())
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1]}, cv=2, n_jobs=2)
    assert search.fit(paths, labels).score(paths, labels) == 1
    store = featstore.FeatureStore(tmp_path / "a.fstore")
    assert len(np.unique(store.space().content_hash, axis=0)) == 24
    assert store.verify().damaged == ()


def test_a_clone_and_a_pickle_carry_no_network(backbone, photos, tmp_path):
    paths, labels = photos
    pipeline = make_pipeline(featstore.BackboneFeatures(), LogisticRegression()).fit(paths, labels)
    assert clone(pipeline).get_params()["backbonefeatures__store"] is None
    joblib.dump(pipeline, tmp_path / "a.joblib")
    assert (tmp_path / "a.joblib").stat().st_size < 10_000
    assert joblib.load(tmp_path / "a.joblib").predict(paths).tolist() == labels


def test_making_and_cloning_load_nothing(monkeypatch):
    def load(name, **options):
        raise AssertionError("a network was loaded")

    monkeypatch.setattr(transformer, "load_backbone", load)
    features = clone(featstore.BackboneFeatures("vgg19").set_params(layer="block3_pool"))
    assert (features.backbone, features.layer) == ("vgg19", "block3_pool")


def test_equal_backbones_are_one_network(monkeypatch, photos):
    loaded = []

    def load(name, **options):
        loaded.append(CountingBackbone())
        return loaded[-1]

    monkeypatch.setattr(transformer, "_networks", {})
    monkeypatch.setattr(transformer, "load_backbone", load)
    for _ in range(3):
        featstore.BackboneFeatures().fit_transform(photos[0])
    assert [backbone.images for backbone in loaded] == [72, 0, 0]


def test_a_pickled_transformer_refuses_other_weights(tmp_path, monkeypatch, photos):
    features = featstore.BackboneFeatures("scattering", image_size=32).fit(photos[0])
    from dataclasses import replace

    features.spec_ = replace(features.spec_, weights_digest="0" * 64)
    with pytest.raises(FingerprintMismatchError):
        pickle.loads(pickle.dumps(features)).transform(photos[0])


def test_features_have_names_and_come_as_a_table(backbone, photos):
    features = featstore.BackboneFeatures().set_output(transform="pandas").fit(photos[0])
    table = features.transform(pd.DataFrame({"path": photos[0]}, index=range(100, 124)))
    assert table.columns.tolist() == features.get_feature_names_out().tolist()
    assert table.columns[0] == "backbonefeatures0"
    assert table.index[0] == 100


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_estimator_cloneable,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_estimator_tags_renamed,
        estimator_checks.check_do_not_raise_errors_in_init_or_set_params,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_mixin_order,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_set_params,
        estimator_checks.check_valid_tag_types,
    ],
    ids=lambda check: check.__name__,
)
def test_scikit_learns_conventions_hold(check):
    check("BackboneFeatures", featstore.BackboneFeatures())


def test_fitting_changes_no_parameter(backbone, photos):
    features = featstore.BackboneFeatures(image_size=(8, 8))
    before = features.get_params()
    assert features.fit(photos[0], photos[1]) is features
    assert features.get_params() == before


def test_a_network_converted_before_needs_no_tensorflow(photos, tmp_path):
    code = (
        "import sys, featstore\n"
        "features = featstore.BackboneFeatures('scattering', image_size=32)\n"
        "features.fit_transform(sys.argv[1:])\n"
        "print(*sys.modules)"
    )
    featstore.BackboneFeatures("scattering", image_size=32).fit_transform(photos[0][:1])
    done = subprocess.run(
        [sys.executable, "-c", code, *photos[0]], capture_output=True, text=True, check=True
    )
    assert not {"tensorflow", "keras"} & set(done.stdout.split())

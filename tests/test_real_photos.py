"""The main job on real photos with real weights, where they lie beside the checkout."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import LinearSVC

import featstore
from featstore.errors import FingerprintMismatchError
from featstore.images.decode import decode_image

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
WEIGHTS = DATA / "weights" / "mobilenet_v2_1.0_224_no_top.h5"

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="needs the real photos and weights beside the checkout"
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("real") / "flowers.fstore"
    report = featstore.extract(DATA / "flowers", path, backbone="mobilenet_v2", weights=WEIGHTS)
    assert (report.extracted + report.reused, report.failed) == (1250, 0)
    return featstore.FeatureStore(path)


def test_the_features_are_those_of_keras_on_the_same_pixels(store):
    import keras

    table = store.table()
    rows = np.arange(0, 1250, 100)
    pixels = np.stack([decode_image(Path(table.paths[row]).read_bytes(), size_px=(224, 224)) for row in rows])
    network = keras.applications.MobileNetV2(include_top=False, weights=WEIGHTS, pooling="avg")
    scaled = keras.applications.mobilenet_v2.preprocess_input(pixels.astype(np.float32))
    np.testing.assert_allclose(table.X[rows], network.predict(scaled, verbose=0), atol=1e-4)


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)),
        make_pipeline(StandardScaler(), Normalizer(), LinearSVC(C=1, random_state=0)),
    ],
    ids=["logistic", "svm"],
)
def test_ten_fold_accuracy_on_the_flowers(store, estimator):
    table = store.table()
    scores = cross_val_score(
        clone(estimator), table.X, table.y, groups=table.content_hash, cv=featstore.HashKFold(10)
    )
    assert scores.mean() >= 0.87


@pytest.mark.parametrize("name", ["logistic", "svm"])
def test_a_head_predicts_photos_in_a_new_process(store, name, tmp_path):
    head = featstore.fit(store.table(), head=name)
    head.save(store.head_path(name))
    test = store.table().split("test")
    expected = head.predict_proba(test.X[:5])
    done = subprocess.run(
        [sys.executable, "-m", "featstore_cli", "predict", store.head_path(name), *test.paths[:5], "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    assert [entry["label"] for entry in told] == head.predict(test.X[:5]).tolist()
    np.testing.assert_allclose([entry["probability"] for entry in told], expected.max(axis=1), atol=1e-3)


def test_the_same_weights_in_another_file_are_the_same_backbone(store):
    head = featstore.fit(store.table(), head="svm", params={"C": 1.0})
    photo = store.table().paths[0]
    with_top = DATA / "weights" / "mobilenet_v2_1.0_224.h5"
    (told,) = featstore.predict(head, [photo], weights=with_top)
    assert told.label in head.classes


def test_other_weights_than_the_heads_own_are_refused(store, tmp_path):
    import keras

    head = featstore.fit(store.table(), head="svm", params={"C": 1.0})
    other = tmp_path / "other.weights.h5"
    keras.applications.MobileNetV2(include_top=False, weights=None).save_weights(other)
    with pytest.raises(FingerprintMismatchError):
        list(featstore.predict(head, [store.table().paths[0]], weights=other))

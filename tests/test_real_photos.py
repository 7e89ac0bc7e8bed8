"""The main job on real photos with real weights, where they lie beside the checkout."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
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
def store(real_features, tmp_path_factory):
    path = tmp_path_factory.mktemp("real") / "flowers.fstore"
    shutil.copytree(real_features, path)
    report = featstore.extract(DATA / "flowers", path, backbone="mobilenet_v2", weights=WEIGHTS)
    assert (report.extracted, report.reused, report.failed) == (0, 1250, 0)
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


def _planted(photo, kind):
    """Return a copy of a photo as it goes around: encoded again, smaller, cropped, mirrored or brighter."""
    picture = Image.open(photo).convert("RGB")
    width, height = picture.size
    if kind == "smaller":
        picture = picture.resize((int(0.7 * width), int(0.7 * height)), Image.Resampling.LANCZOS)
    elif kind == "cropped":
        edge = (0.05 * width, 0.05 * height, 0.95 * width, 0.95 * height)
        picture = picture.crop(tuple(int(side) for side in edge))
    elif kind == "mirrored":
        picture = ImageOps.mirror(picture)
    elif kind == "brighter":
        picture = ImageEnhance.Brightness(picture).enhance(1.1)
    return picture


def test_planted_copies_are_found_and_no_two_others_taken_for_copies(store, tmp_path):
    photos = store.table(catalog="flowers").paths[::50]
    kinds = ("encoded", "smaller", "cropped", "mirrored", "brighter")
    for kind in kinds:
        (tmp_path / "copies" / kind).mkdir(parents=True)
        for photo in photos:
            quality = 60 if kind == "encoded" else 90
            _planted(photo, kind).save(tmp_path / "copies" / kind / Path(photo).name, quality=quality)
    scratch = featstore.FeatureStore(tmp_path / "scratch.fstore", create=True)
    scratch.merge(store)
    featstore.extract(tmp_path / "copies", scratch, backbone="mobilenet_v2", weights=WEIGHTS)
    found = featstore.find_duplicates(scratch.table(catalog=["flowers", "copies"]))

    paired = {frozenset(Path(path).name for path in pair.paths) for pair in found.pairs}
    together = [{Path(image.path).name for image in group.images} for group in found.groups]
    planted = [Path(photo).name for photo in photos]
    hits = sum(
        any(Path(image.path) == tmp_path / "copies" / kind / name for image in group.images)
        for kind in kinds
        for name in planted
        for group in found.groups
        if name in {Path(image.path).name for image in group.images if "copies" not in image.path}
    )
    assert hits >= 0.92 * len(kinds) * len(planted)
    # Seven pairs of these flowers are the same scene; each may have copies of its own.
    assert len({pair for pair in paired if len(pair) == 2}) <= 10
    assert max(map(len, together)) <= 2


def test_planted_label_errors_are_among_the_first_suspects(store):
    table = store.table(catalog="flowers")
    random = np.random.default_rng(0)
    wrong = random.choice(len(table), 62, replace=False)
    labels = table.y.copy()
    for row in wrong:
        labels[row] = random.choice(table.classes[table.classes != table.y[row]])
    table.__dict__["y"] = labels
    found = featstore.find_suspects(table, params={"C": 0.003}, folds=5)
    first = {suspect.row for suspect in found.suspects[:62]}
    assert len(first & set(wrong.tolist())) >= 36
    assert len({suspect.row for suspect in found.suspects} & set(wrong.tolist())) >= 56

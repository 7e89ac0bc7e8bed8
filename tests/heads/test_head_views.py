import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featstore.backbones.spec import JoinedSpec
from featstore.errors import FingerprintMismatchError, HeadError
from featstore.heads import Head, fit
from featstore.heads.calibration import fit_temperature, mean_over_views, softmax
from featstore.images.views import ViewRecipe

PARAMS = {
    "centroid": None,
    "knn": {"n_neighbors": 5},
    "logistic": {"C": 0.1},
    "ridge": {"alpha": 10.0},
    "svm": {"C": 0.1},
}


@pytest.fixture(params=list(PARAMS))
def head(request, table):
    return fit(table, head=request.param, params=PARAMS[request.param])


@pytest.fixture
def X(table):  # noqa: N802
    random = np.random.default_rng(0)
    return (table.X[:50, None] + random.normal(size=(50, 4, 12))).astype(np.float32)


def by_hand(head, X):
    return np.mean([head.predict_proba(X[:, view]) for view in range(X.shape[1])], axis=0)


def test_probabilities_of_views_are_averaged(head, X):
    np.testing.assert_allclose(head.predict_proba(X), by_hand(head, X), rtol=1e-9)
    np.testing.assert_array_equal(head.predict(X), head.classes[by_hand(head, X).argmax(axis=1)])
    labels, probabilities = head.top(X, 2)
    assert labels.shape == probabilities.shape == (50, 2)
    np.testing.assert_array_equal(labels[:, 0], head.predict(X))
    answers, sureness = head.answer(X, reject=0.5)
    np.testing.assert_allclose(sureness, by_hand(head, X).max(axis=1))
    np.testing.assert_array_equal(answers, np.where(sureness < 0.5, "", head.predict(X)))


def test_the_softmax_of_the_scores_of_views_is_the_mean_probability(head, X):
    scores = head.scores(X) / (head.temperature or 1.0)
    np.testing.assert_allclose(softmax(scores), head.predict_proba(X), rtol=1e-9)


def test_blocks_of_views_end_between_images(head, X, monkeypatch):
    whole = head.predict_proba(X)
    monkeypatch.setattr("featstore.heads.classifier._BLOCK_ROWS", 10)
    np.testing.assert_allclose(head.predict_proba(X), whole, rtol=1e-9)


def test_one_view_is_the_image(head, X):
    one = np.ascontiguousarray(X[:, 0])
    for method in ("predict", "predict_proba", "scores"):
        np.testing.assert_array_equal(getattr(head, method)(X[:, :1]), getattr(head, method)(one))


@pytest.mark.parametrize("shape", [(3, 0, 12), (3, 2, 11), (3, 2, 2, 12)])
def test_views_of_another_shape_are_refused(shape, table):
    head = fit(table, head="centroid")
    with pytest.raises(HeadError, match=r"takes features of shape \(n"):
        head.predict(np.zeros(shape, np.float32))


def test_no_images_with_views_give_nothing(table):
    head = fit(table, head="centroid")
    assert head.predict_proba(np.empty((0, 4, 12), np.float32)).shape == (0, 3)


@given(n=st.integers(1, 20), n_views=st.integers(1, 5), seed=st.integers(0, 99))
def test_the_mean_over_views_is_that_of_each_images_rows(n, n_views, seed):
    probabilities = np.random.default_rng(seed).random((n * n_views, 3))
    expected = [probabilities[at * n_views : (at + 1) * n_views].mean(axis=0) for at in range(n)]
    np.testing.assert_allclose(mean_over_views(probabilities, n_views), expected)


def mean_cross_entropy(scores, y, temperature, n_views):
    means = mean_over_views(softmax(scores / temperature), n_views)
    return -np.log(means[np.arange(len(y)), y]).mean()


@pytest.mark.parametrize("sureness", [0.2, 1.0, 30.0])
def test_the_temperature_calibrates_the_mean_of_the_views(sureness):
    random = np.random.default_rng(1)
    y = random.integers(0, 3, 2000)
    image = 1.5 * np.eye(3)[y] + random.normal(size=(2000, 3))
    scores = sureness * (image[:, None] + 1.5 * random.normal(size=(2000, 6, 3))).reshape(-1, 3)
    classes = np.array(["a", "b", "c"])
    found = fit_temperature(scores, classes[y], classes, n_views=6)
    tried = found * np.geomspace(0.25, 4, 81)
    losses = [mean_cross_entropy(scores, y, temperature, 6) for temperature in tried]
    assert abs(np.log(tried[np.argmin(losses)] / found)) < 0.1
    # Each view alone is calibrated by another one.
    alone = fit_temperature(scores, np.repeat(classes[y], 6), classes)
    assert mean_cross_entropy(scores, y, found, 6) < mean_cross_entropy(scores, y, alone, 6) - 0.005


def test_a_file_keeps_the_numbers_of_views_and_joined_backbones(table, make_spec, tmp_path):
    parts = JoinedSpec((make_spec(), make_spec(size_px=(128, 128), views=ViewRecipe(flip=True))))
    head = fit(table.but(spec=parts, weights=("a.h5", "b.h5")), head="centroid")
    replace(head, train_views=8, test_views=4).save(tmp_path / "views.head")
    loaded = Head.load(tmp_path / "views.head")
    assert (loaded.train_views, loaded.test_views) == (8, 4)
    assert (loaded.spec, loaded.fingerprint) == (parts, parts.fingerprint)
    assert loaded.weights == ("a.h5", "b.h5")
    assert json.loads(json.dumps(loaded.to_dict()))["spec"]["parts"][1]["size_px"] == [128, 128]


def test_a_file_of_an_earlier_version_has_one_view(table, tmp_path):
    path = tmp_path / "old.head"
    fit(table, head="centroid").save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members["manifest.json"])
    assert manifest["format_version"] == 4
    del manifest["train_views"], manifest["test_views"]
    members["manifest.json"] = json.dumps(manifest | {"format_version": 2})
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    loaded = Head.load(path)
    assert (loaded.train_views, loaded.test_views) == (1, 1)


def refusal(head, spec):
    with pytest.raises(FingerprintMismatchError) as caught:
        head.check_fingerprint(spec.fingerprint, spec=spec)
    return str(caught.value)


def test_another_recipe_is_reported_in_words(table, make_spec):
    recipe = ViewRecipe(flip=True, random_crop=12.5)
    head = fit(table.but(spec=make_spec(views=recipe)), head="centroid")
    assert "views is flip, random_crop 12.5 in the head and none here" in refusal(head, make_spec())
    other = make_spec(views=ViewRecipe(random_scale=10))
    assert "12.5 in the head and random_scale 10 here" in refusal(head, other)


def test_joined_backbones_are_distinguished_part_by_part(table, make_spec):
    one, two = make_spec(), make_spec(size_px=(128, 128))
    three = make_spec(size_px=(160, 160))
    head = fit(table.but(spec=JoinedSpec((one, two))), head="centroid")
    told = refusal(head, JoinedSpec((one, three)))
    assert "in part 2, size_px is [128, 128] in the head and [160, 160] here" in told
    assert "in part 1" not in told
    assert "the head joins 2 backbones, and here is one" in refusal(head, one)
    assert "and here are 3" in refusal(head, JoinedSpec((one, two, three)))
    assert "the same and joined in another order" in refusal(head, JoinedSpec((two, one)))

"""Each head by its name: what it comes to, against plain scikit-learn on the same arrays."""

import json
import tracemalloc
import zipfile

import numpy as np
import pytest
import skops.io
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from fake_tables import SHORT_TRAINING
from featstore.errors import HeadError
from featstore.heads import Head, fit, known_heads
from featstore.heads.calibration import smoothed_votes
from featstore.heads.data.blocks import Rows
from featstore.heads.solvers.neighbors import neighbor_scores
from featstore.splits import SplitRule

NAMES = [info.name for info in known_heads()]
LINEAR = [name for name in NAMES if name not in ("knn", "mlp", "rbf")]


@pytest.fixture
def hard(make_table, make_blobs):
    """Five classes that overlap, in several thousand images."""
    return make_table(*make_blobs(n=3000, n_classes=5, feature_dim=20, spread=1.6))


def training(table):
    chosen = table.splits(SplitRule()) == "train"
    return table.X[chosen], table.y[chosen]


@pytest.mark.parametrize("name", NAMES)
def test_digits_are_distinguished(make_table, name):
    X, y = load_digits(return_X_y=True)
    head = fit(make_table(X.astype(np.float32), y.astype(str)), head=name)

    assert head.test["top1"] > (0.85 if name == "centroid" else 0.9)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("mlp", "rbf")])
def test_a_head_comes_back_without_trust_or_pickle(hard, tmp_path, caplog, name):
    head = fit(hard, head=name, params=SHORT_TRAINING.get(name))
    head.save(tmp_path / "a.head")
    loaded = Head.load(tmp_path / "a.head")
    with zipfile.ZipFile(tmp_path / "a.head") as archive:
        data = archive.read("estimator.skops")

    assert skops.io.get_untrusted_types(data=data) == []
    assert b"pickle" not in data
    assert not caplog.records
    np.testing.assert_array_equal(loaded.predict_proba(hard.X), head.predict_proba(hard.X))
    np.testing.assert_array_equal(loaded.estimator.predict(hard.X), head.predict(hard.X))
    assert loaded.to_dict() == json.loads(json.dumps(head.to_dict()))


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("n_classes", [2, 4])
def test_a_linear_head_has_its_linear_form(make_table, make_blobs, name, n_classes):
    table = make_table(*make_blobs(n_classes=n_classes, spread=2.0))
    head = fit(table, head=name, params=SHORT_TRAINING.get(name))

    assert head.linear is not None
    assert head.linear.coef.shape == (n_classes, 12)
    np.testing.assert_array_equal(head.predict(table.X), head.estimator.predict(table.X))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "logistic"])
def test_probabilities_are_as_sure_as_they_are_right(hard, name):
    head = fit(hard, head=name, rule=SplitRule(test=0.4, validation=0.2))
    chosen = hard.splits(head.split_rule) == "test"
    probabilities = head.predict_proba(hard.X[chosen])

    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(head.classes[probabilities.argmax(axis=1)], head.predict(hard.X[chosen]))
    assert probabilities.max(axis=1).mean() == pytest.approx(head.test["top1"], abs=0.05)


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("k", [1, 4, 20])
def test_knn_is_that_of_scikit_learn(hard, k, weights):
    head = fit(hard, head="knn", params={"n_neighbors": k, "weights": weights}, refit=False)
    plain = make_pipeline(Normalizer(), KNeighborsClassifier(k, weights=weights, algorithm="brute"))
    plain.fit(*training(hard))

    np.testing.assert_array_equal(head.predict(hard.X), plain.predict(hard.X))
    np.testing.assert_array_equal(head.estimator.predict_proba(hard.X), plain.predict_proba(hard.X))


def test_one_search_for_neighbours_serves_every_setting(hard):
    head = fit(hard, head="knn")
    chosen = hard.splits(SplitRule()) == "validation"
    for step in head.sweep:
        plain = make_pipeline(Normalizer(), KNeighborsClassifier(algorithm="brute", **step["params"]))
        plain.fit(*training(hard))
        assert step["top1"] == (plain.predict(hard.X[chosen]) == hard.y[chosen]).mean()


def test_neighbours_without_distance_have_all_the_votes(make_table):
    X = np.eye(6, dtype=np.float32)[[0, 0, 0, 1, 2, 3, 4, 5]]
    y = np.array(list("bbaaaaaa"))
    plain = KNeighborsClassifier(7, weights="distance", algorithm="brute").fit(X, y)
    rows = Rows(make_table(X, y), np.arange(8), name="all")
    [scores] = neighbor_scores(Normalizer().fit(X), [plain], np.searchsorted(["a", "b"], y), rows)

    np.testing.assert_allclose(scores, smoothed_votes(plain.predict_proba(X), 7))
    np.testing.assert_allclose(plain.predict_proba(X)[0], [1 / 3, 2 / 3])


def test_so_many_neighbours_as_there_are_no_images_are_not_tried(make_table, make_blobs):
    head = fit(make_table(*make_blobs(n=30)), head="knn")

    assert max(step["params"]["n_neighbors"] for step in head.sweep) == 20


def test_more_neighbours_than_images_are_refused(make_table, make_blobs):
    with pytest.raises(HeadError, match=r"has n_neighbors=50, but is fitted on \d+ rows"):
        fit(make_table(*make_blobs(n=30)), head="knn", params={"n_neighbors": 50, "weights": "uniform"})


@pytest.mark.parametrize("shrink_threshold", [None, 0.5])
def test_centroid_is_that_of_scikit_learn(hard, shrink_threshold):
    head = fit(hard, head="centroid", params={"shrink_threshold": shrink_threshold}, refit=False)
    plain = make_pipeline(Normalizer(), NearestCentroid(shrink_threshold=shrink_threshold))
    plain.fit(*training(hard))

    np.testing.assert_allclose(head.estimator[-1].centroids_, plain[-1].centroids_, atol=1e-6)
    np.testing.assert_array_equal(head.predict(hard.X), plain.predict(hard.X))


def test_sgd_is_partial_fit_over_shuffled_blocks(hard):
    head = fit(hard, head="sgd", params={"alpha": 0.001, "max_iter": 2}, seed=5, refit=False)
    X, y = training(hard)
    scaled = make_pipeline(StandardScaler(), Normalizer()).fit_transform(X)
    plain = SGDClassifier(alpha=0.001, average=True, shuffle=False, random_state=5)
    generator = np.random.default_rng(5)
    for _ in range(2):
        # 2,400 rows are one block, whose runs are put back into order before its rows are shuffled.
        generator.permutation(np.arange(0, len(X), 32))
        order = generator.permutation(len(X))
        plain.partial_fit(scaled[order], y[order], classes=np.unique(y))

    np.testing.assert_allclose(head.estimator[-1].coef_, plain.coef_, rtol=1e-5, atol=1e-7)


def test_sgd_sees_every_row_once_in_each_pass(hard, monkeypatch):
    monkeypatch.setattr("featstore.heads.solvers.descent._BLOCK_RUNS", 7)
    seen = []
    partial_fit = SGDClassifier.partial_fit
    monkeypatch.setattr(
        SGDClassifier,
        "partial_fit",
        lambda self, X, y, **more: seen.append(X) or partial_fit(self, X, y, **more),
    )
    fit(hard, head="sgd", params={"alpha": 0.001, "max_iter": 1}, refit=False)
    X, _ = training(hard)
    scaled = make_pipeline(StandardScaler(), Normalizer()).fit_transform(X)

    assert max(map(len, seen)) == 7 * 32
    order = np.lexsort(scaled.T), np.lexsort(np.concatenate(seen).T)
    np.testing.assert_allclose(np.concatenate(seen)[order[1]], scaled[order[0]], atol=1e-6)


def test_sgd_mixes_the_classes_of_a_sorted_store(make_table, make_blobs, monkeypatch):
    monkeypatch.setattr("featstore.heads.solvers.descent._BLOCK_RUNS", 8)
    X, y = make_blobs(n=3000, n_classes=5, feature_dim=20, spread=1.0)
    order = np.argsort(y, kind="stable")
    head = fit(make_table(X[order], y[order]), head="sgd", params={"alpha": 0.001})

    assert head.test["top1"] > 0.95


def test_sgd_of_many_classes_updates_them_on_all_cores_to_the_same_coefficients(hard, monkeypatch):
    settings = {"alpha": 0.001, "max_iter": 1}
    one = fit(hard, head="sgd", params=settings)
    jobs = []
    partial_fit = SGDClassifier.partial_fit
    monkeypatch.setattr("featstore.heads.solvers.descent._ALL_CORES_FROM", 1)
    monkeypatch.setattr(
        SGDClassifier,
        "partial_fit",
        lambda self, *rows, **more: jobs.append(self.n_jobs) or partial_fit(self, *rows, **more),
    )
    many = fit(hard, head="sgd", params=settings)

    assert {*jobs} == {-1}
    assert many.estimator[-1].n_jobs is None
    np.testing.assert_array_equal(many.estimator[-1].coef_, one.estimator[-1].coef_)


def test_sgd_says_how_many_passes_it_made(hard):
    assert fit(hard, head="sgd", params={"alpha": 0.001}).params == {"alpha": 0.001, "max_iter": 20}


@pytest.mark.parametrize("name", ["lda", "logistic", "mlp", "ridge", "sgd", "softmax", "svm"])
def test_balanced_classes_count_alike(make_table, make_blobs, name):
    X, y = make_blobs(n=3000, n_classes=2, feature_dim=4, spread=3.0)
    rare = np.flatnonzero(y == "class 1")[100:]
    keep = np.setdiff1d(np.arange(len(y)), rare)
    table = make_table(X[keep], y[keep])

    def predicted_rare(head):
        return (head.predict(X) == "class 1").mean()

    plain, balanced = fit(table, head=name), fit(table, head=name, class_weight="balanced")
    assert balanced.params["class_weight"] == "balanced"
    assert predicted_rare(plain) < 0.3 < predicted_rare(balanced)


@pytest.mark.parametrize("name", ["centroid", "knn"])
def test_class_weights_that_a_head_has_not_are_refused(table, name):
    with pytest.raises(
        HeadError, match=f"{name} does not support class weights; heads that do are lda, logistic"
    ):
        fit(table, head=name, class_weight="balanced")


@pytest.mark.parametrize("class_weight", ["even", {"class 0": 0}, {"class 0": "much"}, 3])
def test_unfit_class_weights_are_refused(table, class_weight):
    with pytest.raises(HeadError, match="class weights must be"):
        fit(table, class_weight=class_weight)


def test_class_weights_of_labels_that_no_image_has_are_refused(table):
    with pytest.raises(HeadError, match="given for daisy, rose, but no image has such a label"):
        fit(table, class_weight={"rose": 2, "daisy": 3, "class 1": 1})


def test_class_weights_given_twice_are_refused(table):
    with pytest.raises(HeadError, match="given twice"):
        fit(table, params={"class_weight": "balanced"}, class_weight="balanced")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"loss": "squared"}, "sgd cannot be fitted: The 'loss' parameter"),
        ({"alpha": -1.0}, "sgd cannot be fitted: The 'alpha' parameter"),
        ({"learning_rate": "adaptive"}, "does not support an adaptive learning rate"),
        ({"tol": 0.1}, "sgd has no parameter tol"),
    ],
)
def test_unfit_parameters_of_sgd_are_refused(table, params, message):
    with pytest.raises(HeadError, match=message):
        fit(table, head="sgd", params=params)


def test_the_seed_goes_to_what_is_drawn(hard):
    def coefficients(seed):
        return fit(hard, head="sgd", params={"alpha": 1e-3, "max_iter": 1}, seed=seed)

    first, other = coefficients(1), coefficients(2)
    assert (first.seed, first.to_dict()["seed"], first.estimator[-1].random_state) == (1, 1, 1)
    assert not np.array_equal(first.linear.coef, other.linear.coef)
    np.testing.assert_array_equal(first.linear.coef, coefficients(1).linear.coef)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, True, "x"])
def test_an_unfit_seed_is_refused(table, seed):
    with pytest.raises(HeadError, match="seed must be an integer"):
        fit(table, seed=seed)


@pytest.mark.parametrize("name", NAMES)
def test_one_image_of_a_class_is_enough(make_table, make_blobs, name):
    X, y = make_blobs()
    y = y.copy()
    y[0] = "lonely"
    given = np.full(len(y), "", dtype="<U10")
    given[0] = "train"
    head = fit(make_table(X, y, given=given), head=name, params=SHORT_TRAINING.get(name))

    assert head.counts["train"]["lonely"] == 1
    assert np.isfinite(head.predict_proba(X)).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_features_that_are_no_numbers_are_refused_by_every_head(table, name, split):
    table.X[np.flatnonzero(table.splits(SplitRule()) == split)[0], 3] = np.inf
    with pytest.raises(HeadError, match=f"in {split}, 1 of .* rows of features contain NaN"):
        fit(table, head=name, params=SHORT_TRAINING.get(name))


@pytest.mark.parametrize("name", ["lda", "mlp", "ridge", "sgd", "softmax"])
def test_features_are_never_in_memory_at_once(make_table, make_blobs, tmp_path, monkeypatch, name):
    monkeypatch.setattr("featstore.heads.data.blocks._BLOCK_BYTES", 2**18)
    X, y = make_blobs(n=16_000, feature_dim=256)
    X.tofile(tmp_path / "X")
    mapped = np.memmap(tmp_path / "X", dtype=np.float32, mode="r", shape=X.shape)
    table = make_table(mapped, y)
    params = {"sgd": {"alpha": 0.001, "max_iter": 1}, "softmax": {"alpha": 0.001, "epochs": 1}}.get(name)
    params = {"alpha": 0.001, "epochs": 2, "hidden_units": 16} if name == "mlp" else params

    # Once before, for what is imported.
    fit(make_table(X[:300], y[:300]), head=name, params=params)
    tracemalloc.start()
    try:
        head = fit(table, head=name, params=params)
        found = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert head.test["top1"] > 0.95
    # Most of it are the labels, hashes and scores of 16,000 images.
    assert found < 0.5 * X.nbytes

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import LinearSVC

import featstore
from featstore.errors import HeadError
from featstore.heads import Head, fit
from featstore.splits import SplitRule

RULE = SplitRule(validation=0.2, test=0.2)
ABLE = {
    "logistic": {"C": 1.0},
    "mlp": {"alpha": 0.0, "steps": 300, "hidden_units": 8},
    "rbf": {"gamma": 1.0, "alpha": 1e-3},
    "ridge": {"alpha": 10.0},
    "sgd": {"alpha": 1e-3},
    "softmax": {"alpha": 0.0, "steps": 300},
    "svm": {"C": 1.0},
}


@pytest.fixture
def weighted(make_table, make_blobs):
    """Images of which most have the label of the next class, and next to no weight."""
    X, y = make_blobs(n=360, spread=0.5)
    is_wrong = np.arange(360) // 3 % 9 < 6
    number = np.array([int(label[-1]) for label in y])
    y = np.where(is_wrong, [f"class {(one + 1) % 3}" for one in number], y)
    table = make_table(X, y)
    return table.but(sample_weight=np.where(is_wrong, 1e-4, 2.0)), is_wrong


@pytest.mark.parametrize("folds", [None, 2])
@pytest.mark.parametrize("name", ABLE)
def test_images_of_little_weight_count_little(name, folds, weighted):
    table, is_wrong = weighted
    is_new = table.splits(RULE) == "test"
    chosen = is_new & ~is_wrong
    scores = {}
    for given in (table, table.without_weights()):
        head = fit(given, head=name, params=ABLE[name], rule=RULE, folds=folds)
        assert head.weighted == (given is table)
        scores[head.weighted] = (head.predict(given.X[chosen]) == given.y[chosen]).mean()

    assert scores[True] > 0.8 > 0.4 > scores[False]


@pytest.mark.parametrize(
    ("name", "classifier", "steps"),
    [
        ("logistic", LogisticRegression(C=0.5, max_iter=2000, tol=1e-8), [StandardScaler()]),
        ("ridge", RidgeClassifier(alpha=10.0), [StandardScaler()]),
        ("svm", LinearSVC(C=0.5, max_iter=10**6, tol=1e-8, dual=False), [StandardScaler(), Normalizer()]),
    ],
)
@pytest.mark.parametrize("feature_dim", [12, 400])
@pytest.mark.parametrize("class_weight", [None, {"class 0": 3.0}])
def test_weights_are_those_of_scikit_learn(
    name, classifier, steps, feature_dim, class_weight, make_table, make_blobs
):
    X, y = make_blobs(n=300, spread=2.0, feature_dim=feature_dim)
    weights = np.random.default_rng(0).uniform(0.1, 3, 300)
    table = make_table(X.astype(np.float64), y).but(sample_weight=weights)
    given = {"C": 0.5} if hasattr(classifier, "C") else {"alpha": 10.0}
    tight = {} if name == "ridge" else {"tol": 1e-8}
    head = fit(table, head=name, params={**given, **tight}, rule=RULE, class_weight=class_weight, refit=False)

    train = table.splits(RULE) == "train"
    pipeline = make_pipeline(*steps, classifier.set_params(class_weight=class_weight))
    own = {f"{type(classifier).__name__.lower()}__sample_weight": (weights / weights.mean())[train]}
    pipeline.fit(table.X[train], y[train], **own)
    wanted, found = pipeline.decision_function(table.X), head.scores(table.X)
    if name == "logistic":
        # Softmax regression is free up to a term common to all classes.
        wanted, found = (one - one.mean(axis=1, keepdims=True) for one in (wanted, found))
    np.testing.assert_allclose(found, wanted, atol=2e-3 * np.abs(wanted).max())


def test_only_ratios_of_weights_matter(weighted):
    table, _ = weighted
    heads = [
        fit(given, head="ridge", params={"alpha": 10.0}, rule=RULE)
        for given in (table, table.but(sample_weight=8 * table.sample_weight))
    ]

    assert (heads[0].scores(table.X) == heads[1].scores(table.X)).all()


def test_scores_count_all_images_alike(weighted):
    table, _ = weighted
    head = fit(table, head="ridge", params={"alpha": 10.0}, rule=RULE)
    is_test = table.splits(RULE) == "test"

    assert head.test["n"] == is_test.sum()
    assert head.test["top1"] == (head.predict(table.X[is_test]) == table.y[is_test]).mean()


@pytest.mark.parametrize("name", ["centroid", "knn", "lda"])
def test_heads_that_take_no_weights_refuse_them_by_name(name, weighted):
    with pytest.raises(
        HeadError, match=f"{name} does not take the weights .*: choose logistic, .*without_weights"
    ):
        fit(weighted[0], head=name)
    assert not fit(weighted[0].without_weights(), head=name, folds=2).weighted


def test_classifiers_of_ones_own_get_weights_if_they_take_them(weighted):
    table, is_wrong = weighted
    for one in (GaussianNB(), make_pipeline(StandardScaler(), GaussianNB())):
        head = fit(table, head=one, rule=RULE)
        is_right = head.predict(table.X) == table.y
        assert is_right[~is_wrong].mean() > 0.9
    with pytest.raises(HeadError, match="kneighborsclassifier does not take the weights"):
        fit(table, head=KNeighborsClassifier(), rule=RULE)


def test_views_have_the_weights_of_their_images(make_viewed_table):
    table = make_viewed_table(n=240, n_views=2)
    weights = np.where(np.arange(240) % 2, 1.0, 3.0)
    options = {"head": "ridge", "params": {"alpha": 10.0}, "rule": RULE, "views": {"train": 2}}
    head = fit(table.but(sample_weight=weights), **options)

    assert head.weighted
    assert not np.allclose(head.scores(table.X), fit(table, **options).scores(table.X))


def test_whether_images_were_weighted_is_kept(tmp_path, weighted):
    head = fit(weighted[0], head="ridge", params={"alpha": 10.0})
    head.save(tmp_path / "a.head")

    assert Head.load(tmp_path / "a.head").weighted
    assert head.to_dict()["weighted"] is True


def test_auto_leaves_out_heads_that_take_no_weights(weighted):
    choice = featstore.choose_head(weighted[0], heads=["ridge", "knn"], folds=2, rule=RULE)

    assert choice.head == "ridge"
    assert choice.skipped == [{"head": "knn", "reason": "it takes no weights"}]

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_digits
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from featstore.errors import HeadError, SplitError, UnknownHeadError
from featstore.heads import find_head, fit
from featstore.splits import HashKFold, SplitRule

NAMES = ["logistic", "svm"]


@pytest.mark.parametrize("name", NAMES)
def test_digits_are_distinguished(make_table, name):
    X, y = load_digits(return_X_y=True)
    head = fit(make_table(X.astype(np.float32), y.astype(str)), head=name)

    assert head.test["top1"] > 0.93
    assert head.test["top1_ci"][0] < head.test["top1"] < head.test["top1_ci"][1]
    assert head.classes.tolist() == [str(digit) for digit in range(10)]


@pytest.mark.parametrize("name", NAMES)
def test_coefficients_are_those_of_the_plain_pipeline(table, name):
    head = fit(table, head=name, params={"tol": 1e-9}, refit=False)
    train = table.splits(SplitRule()) == "train"
    plain = find_head(name).make()
    plain[-1].set_params(**head.params)
    plain.fit(table.X[train], table.y[train])

    # The svm's solver is our own.
    atol = {"logistic": 0, "svm": 1e-6}[name]
    np.testing.assert_allclose(head.estimator[-1].coef_, plain[-1].coef_, rtol=0, atol=atol)
    np.testing.assert_array_equal(head.predict(table.X), plain.predict(table.X))


@pytest.mark.parametrize("name", NAMES)
def test_fitting_twice_gives_the_same_bits(table, name):
    first, second = fit(table, head=name), fit(table, head=name)

    assert first.estimator[-1].coef_.tobytes() == second.estimator[-1].coef_.tobytes()
    assert first.estimator[-1].intercept_.tobytes() == second.estimator[-1].intercept_.tobytes()
    assert (first.params, first.temperature) == (second.params, second.temperature)


@pytest.mark.parametrize("name", NAMES)
def test_the_best_setting_on_validation_is_kept_and_the_first_of_equals(table, name):
    head = fit(table, head=name)
    best = min(step["cross_entropy"] for step in head.sweep)
    first = next(step for step in head.sweep if step["cross_entropy"] == best)

    assert [step["params"]["C"] for step in head.sweep] == list(find_head(name).grid["C"])
    assert head.params == first["params"]
    assert head.choice["by"] == "cross_entropy"
    assert head.validation["top1"] == first["top1"]


def test_validation_and_test_never_reach_the_fit(table):
    splits = table.splits(SplitRule())
    shuffled = table.X.copy()
    shuffled[splits == "test"] = 7
    reference = fit(table, params={"C": 0.1}, refit=False)

    other = fit(table.but(X=shuffled), params={"C": 0.1}, refit=False)
    np.testing.assert_array_equal(other.estimator[-1].coef_, reference.estimator[-1].coef_)
    shuffled[splits == "validation"] = -7
    other = fit(table.but(X=shuffled), params={"C": 0.1}, refit=False)
    np.testing.assert_array_equal(other.estimator[-1].coef_, reference.estimator[-1].coef_)


def test_counts_add_up_to_the_labelled_images(table):
    table.y[:5] = ""
    head = fit(table, params={"C": 0.1})
    splits = table.splits(SplitRule())

    assert head.unlabelled == 5
    assert head.estimator.classes_.tolist() == head.classes.tolist() == ["class 0", "class 1", "class 2"]
    for split, counts in head.counts.items():
        chosen = (splits == split) & (table.y != "")
        assert counts == {label: int((table.y[chosen] == label).sum()) for label in head.classes}


def test_a_fixed_parameter_is_not_swept(table):
    head = fit(table, params={"C": np.float32(0.5)})

    assert (head.params, head.sweep) == ({"C": 0.5}, [])


def test_what_is_not_fixed_is_still_chosen(table):
    head = fit(table, params={"class_weight": "balanced"})

    assert len(head.sweep) == 9
    assert head.params["class_weight"] == "balanced"
    assert head.estimator[-1].class_weight == "balanced"


def test_each_setting_is_reported_as_it_is_done(table):
    seen = []
    head = fit(table, head="svm", progress=lambda done, total, step: seen.append((done, total, step)))

    steps = len(find_head("svm").grid["C"])
    assert [entry[:2] for entry in seen] == [(number, steps) for number in range(1, steps + 1)]
    assert [entry[2] for entry in seen] == [
        {"params": step["params"], "top1": step["top1"]} for step in head.sweep
    ]


def test_half_precision_features_are_fitted_in_single(table):
    half = table.X.astype(np.float16)
    head = fit(table.but(X=half), params={"C": 0.1})
    single = fit(table.but(X=half.astype(np.float32)), params={"C": 0.1})

    np.testing.assert_array_equal(head.estimator[-1].coef_, single.estimator[-1].coef_)


def test_a_memory_map_is_fitted_like_an_array(table, tmp_path):
    table.X.tofile(tmp_path / "X")
    mapped = np.memmap(tmp_path / "X", dtype=np.float32, mode="r", shape=table.X.shape)

    np.testing.assert_array_equal(
        fit(table.but(X=mapped)).estimator[-1].coef_, fit(table).estimator[-1].coef_
    )


@pytest.mark.parametrize("name", NAMES)
def test_two_classes_have_probabilities_that_agree_with_the_prediction(make_table, make_blobs, name):
    table = make_table(*make_blobs(n_classes=2, spread=2.0))
    head = fit(table, head=name)
    probabilities = head.predict_proba(table.X)

    assert probabilities.shape == (240, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(head.classes[probabilities.argmax(axis=1)], head.predict(table.X))


def test_the_svm_has_calibrated_probabilities(make_table, make_blobs):
    table = make_table(*make_blobs(n=4000, n_classes=4, spread=2.5))
    rule = SplitRule(test=0.4, validation=0.4)
    head = fit(table, head="svm", params={"C": 1.0}, rule=rule)
    chosen = table.splits(rule) == "test"
    probabilities = head.predict_proba(table.X[chosen])

    np.testing.assert_array_equal(head.classes[probabilities.argmax(axis=1)], head.predict(table.X[chosen]))
    assert probabilities.max(axis=1).mean() == pytest.approx(head.test["top1"], abs=0.05)


def test_a_classifier_of_ones_own_is_copied_and_fitted_as_it_is(table):
    mine = KNeighborsClassifier(n_neighbors=3)
    head = fit(table, head=mine)

    assert head.name == "kneighborsclassifier"
    assert head.params["n_neighbors"] == 3
    assert not hasattr(mine, "classes_")
    assert head.test["top1"] > 0.8


def test_a_classifier_with_decisions_alone_gets_probabilities(table):
    head = fit(table, head=make_pipeline(StandardScaler(), RidgeClassifier()))

    assert head.temperature is not None
    np.testing.assert_allclose(head.predict_proba(table.X).sum(axis=1), 1)


def test_a_search_gets_the_content_hashes_as_groups(table):
    search = GridSearchCV(LogisticRegression(), {"C": [0.01, 1.0]}, cv=HashKFold(3))
    head = fit(table, head=search, refit=False)
    train = table.splits(SplitRule()) == "train"
    search.fit(table.X[train], table.y[train], groups=table.content_hash[train])

    assert head.params == search.best_params_
    np.testing.assert_array_equal(head.estimator.coef_, search.best_estimator_.coef_)


def test_what_scikit_learn_warns_about_is_logged(table, caplog):
    fit(table, params={"C": 1.0, "max_iter": 1})

    assert "logistic with {'C': 1.0, 'max_iter': 1}: lbfgs failed to converge" in caplog.text


def test_nothing_is_warned_about_in_the_plain_case(table, caplog):
    fit(table)

    assert not caplog.records


def test_a_split_without_some_class_is_warned_about(table, caplog):
    given = np.where(table.y == "class 0", "train", "").astype("<U10")
    fit(table.but(given_splits=given), params={"C": 0.1})

    assert "no image is in validation for class 0" in caplog.text
    assert "no image is in test for class 0" in caplog.text


def test_an_empty_test_split_gives_no_score(table, caplog):
    head = fit(table, rule=SplitRule(test=0))

    assert head.test == {"n": 0, "top1": None, "top1_ci": None}
    assert "no labelled image is in test" in caplog.text


def test_fixed_parameters_need_no_validation(table, caplog):
    head = fit(table, head="svm", params={"C": 1.0}, rule=SplitRule(validation=0))

    assert head.temperature == 1
    assert head.validation["n"] == 0
    assert "not calibrated" in caplog.text


def test_copies_in_several_splits_are_counted_as_leaks(table, caplog):
    hashes = table.content_hash_bytes.copy()
    hashes[[1, 3]] = hashes[[0, 2]]
    given = table.given_splits.copy()
    given[:4] = ["train", "test", "train", "train"]
    head = fit(table.but(content_hash_bytes=hashes, given_splits=given), params={"C": 0.1})

    assert head.leaks == 1
    assert "1 images have identical copies in more than one split" in caplog.text


def test_copies_with_two_labels_are_counted_as_conflicts(table, caplog):
    hashes = table.content_hash_bytes.copy()
    hashes[[1, 3]] = hashes[[0, 0]]
    head = fit(table.but(content_hash_bytes=hashes), params={"C": 0.1})

    assert (head.leaks, head.label_conflicts) == (0, 1)
    assert "1 images have identical copies with another label" in caplog.text


class Silent(ClassifierMixin, BaseEstimator):
    """Not a classifier that says how sure it is."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (Ridge(), "instance of a scikit-learn classifier; found Ridge"),
        (LogisticRegression, "found the class LogisticRegression"),
        (3, "found int"),
        (None, "found NoneType"),
        (Silent(), "neither predict_proba nor decision_function"),
        (VotingClassifier([("ridge", RidgeClassifier())]), "neither predict_proba nor decision_function"),
        (LogisticRegression(C=-1), "logisticregression cannot be fitted: The 'C' parameter"),
    ],
)
def test_an_unfit_head_is_refused(table, head, message):
    with pytest.raises(HeadError, match=message):
        fit(table, head=head)


def test_an_unknown_head_is_refused(table):
    with pytest.raises(UnknownHeadError, match="centroid, knn, lda, logistic"):
        fit(table, head="forest")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"c": 1}, "logistic has no parameter c; it has C, class_weight"),
        ({"C": -1.0}, "logistic cannot be fitted: The 'C' parameter"),
        ({"C": object()}, "numbers, strings"),
        ({"C": float("nan")}, "numbers, strings"),
    ],
)
def test_unfit_parameters_are_refused(table, params, message):
    with pytest.raises(HeadError, match=message):
        fit(table, params=params)


def test_parameters_are_for_heads_by_name(table):
    with pytest.raises(HeadError, match="set C on the LogisticRegression itself"):
        fit(table, head=clone(LogisticRegression()), params={"C": 1.0})


def test_a_table_without_labels_is_refused(table):
    with pytest.raises(HeadError, match="photos has no labels"):
        fit(table.but(y=np.full(240, "")))


def test_a_single_class_is_refused(table):
    with pytest.raises(HeadError, match="only one class, rose"):
        fit(table.but(y=np.full(240, "rose")))


def test_a_class_without_images_in_train_is_named(table):
    given = np.where(table.y == "class 1", "test", "").astype("<U10")
    with pytest.raises(SplitError, match=r"no image is in train for class 1 \(80 in all\)"):
        fit(table.but(given_splits=given))


def test_an_empty_training_split_is_refused(table):
    with pytest.raises(SplitError, match="no image is in train for class 0"):
        fit(table.but(given_splits=np.full(240, "test", dtype="<U10")))


def test_a_sweep_without_validation_is_refused(table):
    with pytest.raises(SplitError, match=r"larger than 0, choose with --folds, or fix them with --param C=…"):
        fit(table, rule=SplitRule(validation=0))


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_features_that_are_no_numbers_are_refused(table, split):
    row = np.flatnonzero(table.splits(SplitRule()) == split)[0]
    table.X[row, 3] = np.nan
    with pytest.raises(HeadError, match=f"in {split}, 1 of .* rows of features contain NaN"):
        fit(table)

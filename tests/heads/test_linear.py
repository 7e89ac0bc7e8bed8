import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler
from sklearn.svm import SVC, LinearSVC

from featstore.heads.calibration import class_scores, softmax
from featstore.heads.forms.linear import LinearForm, linear_form


def data_of(n_classes, seed=0):
    random = np.random.default_rng(seed)
    X = random.normal(3.0, 2.0, size=(120, 7)).astype(np.float32)
    return X, np.array(["daisy", "rose", "tulip", "oak"])[np.arange(120) % n_classes]


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        make_pipeline(StandardScaler(), LogisticRegression(C=0.01)),
        make_pipeline(StandardScaler(with_mean=False), LogisticRegression(fit_intercept=False)),
        make_pipeline(StandardScaler(with_std=False), LinearSVC()),
        make_pipeline(Normalizer(), LinearSVC()),
        make_pipeline(StandardScaler(), Normalizer(), LinearSVC(random_state=0)),
        make_pipeline(StandardScaler(), RidgeClassifier()),
        make_pipeline(StandardScaler(), LinearDiscriminantAnalysis()),
    ],
    ids=lambda estimator: " ".join(str(estimator).split()),
)
def test_the_form_says_what_the_estimator_says(estimator, n_classes):
    X, y = data_of(n_classes)
    estimator.fit(X, y)
    form = linear_form(estimator, feature_dim=7)
    wide = X.astype(np.float64)

    np.testing.assert_allclose(form.scores(wide), class_scores(estimator, wide), atol=1e-10)
    np.testing.assert_array_equal(estimator.classes_[form.scores(X).argmax(axis=1)], estimator.predict(X))
    if hasattr(estimator, "predict_proba"):
        np.testing.assert_allclose(softmax(form.scores(wide)), estimator.predict_proba(wide), atol=1e-10)


def test_a_row_without_length_stays_as_it_is():
    X, y = data_of(3)
    estimator = make_pipeline(Normalizer(), LinearSVC()).fit(X, y)
    nothing = np.zeros((1, 7))

    np.testing.assert_allclose(
        linear_form(estimator, feature_dim=7).scores(nothing), estimator.decision_function(nothing)
    )


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestClassifier(3, random_state=0),
        make_pipeline(MinMaxScaler(), LogisticRegression()),
        make_pipeline(Normalizer(norm="l1"), LinearSVC()),
        make_pipeline(StandardScaler(), SVC(kernel="linear")),
        OneVsRestClassifier(LogisticRegression()),
        SGDClassifier(loss="log_loss", random_state=0),
    ],
    ids=lambda estimator: " ".join(str(estimator).split()),
)
def test_what_is_not_linear_or_has_other_probabilities_has_no_form(estimator):
    assert linear_form(estimator.fit(*data_of(4)), feature_dim=7) is None


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
@settings(max_examples=25)
def test_the_scale_of_the_features_does_not_matter(seed, factor, shift):
    X, y = data_of(3, seed)
    wide = X.astype(np.float64) * factor + shift
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(wide, y)

    form = linear_form(estimator, feature_dim=7)
    np.testing.assert_allclose(form.scores(wide), estimator.decision_function(wide), atol=1e-6)


def test_a_form_of_some_classes_gives_their_scores_in_the_order_asked_for():
    random = np.random.default_rng(0)
    form = LinearForm(
        coef=random.normal(size=(4, 3)),
        intercept=random.normal(size=4),
        mean=np.ones(3),
        scale=np.full(3, 2.0),
    )
    X, at = random.normal(size=(5, 3)), np.array([3, 0])
    np.testing.assert_allclose(form.with_classes(at).scores(X), form.scores(X)[:, at], rtol=1e-12)

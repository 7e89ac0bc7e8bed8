import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import LinearSVC

from featstore.errors import HeadError
from featstore.heads import fit
from featstore.heads.solvers.margins import svm_path
from featstore.splits import SplitRule

TIGHT = 1e-9


def scaled(X):
    return Normalizer().fit_transform(StandardScaler().fit_transform(X.astype(np.float64)))


def solve(X, y, *settings, class_weight=None, tol=TIGHT, **params):
    classes, counts = np.unique(y, return_counts=True)
    weights = np.ones(len(classes))
    if class_weight == "balanced":
        weights = len(y) / (len(classes) * counts)
    return list(svm_path(LinearSVC(tol=tol, **params), X, y, settings, weights))


@pytest.mark.parametrize("C", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("n_classes", [2, 3, 11])
@pytest.mark.parametrize("feature_dim", [12, 700])
def test_it_is_what_liblinear_finds(make_blobs, C, n_classes, feature_dim):
    X, y = make_blobs(n=2100 if feature_dim == 12 else 300, n_classes=n_classes, feature_dim=feature_dim)
    X = scaled(X)
    [found] = solve(X, y, {"C": C})
    wanted = LinearSVC(C=C, tol=TIGHT, dual=False, max_iter=10_000).fit(X, y)

    np.testing.assert_allclose(found.coef_, wanted.coef_, atol=1e-6 * np.abs(wanted.coef_).max())
    np.testing.assert_allclose(found.intercept_, wanted.intercept_, atol=1e-6)
    assert found.decision_function(X).shape == wanted.decision_function(X).shape
    assert (found.predict(X) == wanted.predict(X)).all()


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_weighted_classes_count_as_in_liblinear(make_blobs, n_classes, fit_intercept):
    X, y = make_blobs(n=400, n_classes=n_classes, spread=2.0)
    used = (y != "class 1") | (np.arange(400) < 100)
    X, y = scaled(X[used]), y[used]
    params = {"class_weight": "balanced", "fit_intercept": fit_intercept}
    [found] = solve(X, y, {"C": 1.0}, **params)
    wanted = LinearSVC(C=1.0, tol=TIGHT, dual=False, max_iter=10_000, **params).fit(X, y)
    [plain] = solve(X, y, {"C": 1.0}, fit_intercept=fit_intercept)

    np.testing.assert_allclose(found.coef_, wanted.coef_, atol=1e-6)
    np.testing.assert_allclose(found.intercept_, wanted.intercept_, atol=1e-6)
    assert np.abs(found.coef_ - plain.coef_).max() > 0.01


def test_each_setting_of_a_path_is_what_it_is_alone(make_blobs):
    X, y = make_blobs(n=500, spread=2.0)
    settings = [{"C": 0.01}, {"C": 10.0}, {"C": 0.1}]
    for one, setting in zip(solve(scaled(X), y, *settings), settings, strict=True):
        [alone] = solve(scaled(X), y, setting)

        np.testing.assert_allclose(one.coef_, alone.coef_, atol=1e-6)
        assert setting["C"] == one.C


def test_single_precision_features_cost_no_more_than_their_rounding(make_blobs):
    X, y = make_blobs(n=500, spread=2.0)
    [wide], [narrow] = (solve(scaled(X).astype(dtype), y, {"C": 1.0}) for dtype in (np.float64, np.float32))

    assert 0 < np.abs(wide.coef_ - narrow.coef_).max() < 1e-5


def test_steps_that_do_not_do_are_warned_about(make_blobs):
    X, y = make_blobs(n=500, spread=2.0)
    with pytest.warns(ConvergenceWarning, match="has not converged after 2 steps"):
        solve(scaled(X), y, {"C": 10.0}, max_iter=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        [found] = solve(scaled(X), y, {"C": 10.0})
    assert found.n_iter_ > 2


def test_a_tolerance_below_rounding_comes_to_an_end(make_blobs):
    X, y = make_blobs(n=500, spread=2.0)
    [tight], [tightest] = (solve(scaled(X), y, {"C": 1.0}, tol=tol) for tol in (TIGHT, 1e-300))

    np.testing.assert_allclose(tightest.coef_, tight.coef_, atol=1e-6)
    assert tightest.n_iter_ < 100


@pytest.mark.parametrize("params", [{"loss": "hinge"}, {"dual": True}])
def test_what_it_does_not_minimise_is_left_to_liblinear(table, params):
    C = {"C": 1.0, "tol": 1e-6}
    head = fit(table, head="svm", params={**C, **params}, seed=0, refit=False)
    train = table.splits(SplitRule()) == "train"
    plain = LinearSVC(**C, **params, max_iter=10_000, random_state=0)
    plain.fit(scaled(table.X[train]), table.y[train])

    np.testing.assert_allclose(head.estimator[-1].coef_, plain.coef_, atol=1e-3)
    assert head.estimator[-1].get_params()["loss"] == plain.loss


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"C": -1.0}, "svm cannot be fitted: The 'C' parameter"),
        ({"tol": "low"}, "svm cannot be fitted: The 'tol'"),
    ],
)
def test_unfit_parameters_are_refused(table, params, message):
    with pytest.raises(HeadError, match=message):
        fit(table, head="svm", params=params)

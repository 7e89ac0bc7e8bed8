from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import featstore.heads
from featstore.errors import HeadError
from featstore.heads.data.blocks import ArrayTable, Rows
from featstore.heads.solvers.moments import targets_path
from featstore.splits import SplitRule

fit = partial(featstore.heads.fit, refit=False)  # On the training rows alone, as scikit-learn is fitted here.

SHAPES = [(240, 12, 3), (240, 12, 2), (60, 90, 3), (60, 90, 2), (400, 150, 7)]


def plain_fit(table, estimator):
    """scikit-learn's own fit on the same training rows, in double precision and in memory."""
    train = table.splits(SplitRule()) == "train"
    return make_pipeline(StandardScaler(), estimator).fit(table.X[train].astype(np.float64), table.y[train])


def assert_same(head, plain, *, rtol=1e-6):
    for name in ("coef_", "intercept_"):
        found, wanted = getattr(head.estimator[-1], name), getattr(plain[-1], name)
        assert np.shape(found) == np.shape(wanted)
        assert np.linalg.norm(found - wanted) <= rtol * np.linalg.norm(wanted)


@pytest.fixture(params=SHAPES, ids=str)
def table(request, make_table, make_blobs, monkeypatch):
    n, feature_dim, n_classes = request.param
    # Several blocks, which do not end where the table does.
    monkeypatch.setattr("featstore.heads.data.blocks._BLOCK_BYTES", 37 * 4 * feature_dim)
    X, y = make_blobs(n=n, n_classes=n_classes, feature_dim=feature_dim, spread=2.0)
    X = 100 + 3 * X
    X[:, 3] = 5
    y[: n // 10] = y[0]
    return make_table(X, y)


@pytest.mark.parametrize("alpha", [0.1, 30.0, 10_000.0])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_ridge_is_what_scikit_learn_computes_in_memory(table, alpha, class_weight):
    head = fit(table, head="ridge", params={"alpha": alpha}, class_weight=class_weight)

    assert_same(head, plain_fit(table, RidgeClassifier(alpha=alpha, class_weight=class_weight)))


def test_ridge_without_intercept_is_what_scikit_learn_computes(table):
    head = fit(table, head="ridge", params={"alpha": 30.0, "fit_intercept": False})
    plain = plain_fit(table, RidgeClassifier(alpha=30.0, fit_intercept=False))

    np.testing.assert_allclose(head.estimator[-1].coef_, plain[-1].coef_, rtol=1e-6, atol=1e-12)
    assert head.estimator[-1].intercept_ == plain[-1].intercept_ == 0


@pytest.mark.parametrize("shrinkage", [0.01, 0.5, 1.0])
def test_lda_is_what_scikit_learn_computes_in_memory(table, shrinkage):
    head = fit(table, head="lda", params={"shrinkage": shrinkage})
    plain = plain_fit(table, LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage))

    assert_same(head, plain)
    np.testing.assert_allclose(head.estimator[-1].priors_, plain[-1].priors_)
    np.testing.assert_allclose(head.estimator[-1].means_, plain[-1].means_, atol=1e-6)


def test_balanced_lda_has_equal_priors(table):
    head = fit(table, head="lda", params={"shrinkage": 0.3}, class_weight="balanced")
    n_classes = len(head.classes)
    priors = np.full(n_classes, 1 / n_classes)

    assert_same(
        head, plain_fit(table, LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3, priors=priors))
    )


def test_weights_of_single_classes_count_like_copies(make_table, make_blobs):
    X, y = make_blobs(spread=2.0)
    given = np.full(len(y), "train", dtype="<U10")
    weighted = fit(
        make_table(X, y, given=given), head="lda", params={"shrinkage": 0.3}, class_weight={"class 1": 2}
    )
    twice = np.concatenate([np.arange(len(y)), np.flatnonzero(y == "class 1")])
    # The scaling is not weighted: it is taken from the first.
    plain = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3)
    plain.fit(weighted.estimator[:-1].transform(X.astype(np.float64))[twice], y[twice])

    np.testing.assert_allclose(weighted.estimator[-1].coef_, plain.coef_, rtol=1e-6)


def test_all_settings_of_a_sweep_cost_one_pass(table, monkeypatch):
    from featstore.heads.solvers import moments

    passes = []
    gather = moments._gather
    monkeypatch.setattr(moments, "_gather", lambda *arguments: passes.append(1) or gather(*arguments))
    head = fit(table, head="ridge")

    assert len(head.sweep) == 9
    assert len(passes) == 1


@pytest.mark.parametrize("name", ["ridge", "lda"])
def test_no_penalty_on_singular_features_gives_the_shortest_solution(make_table, make_blobs, name):
    X, y = make_blobs()
    table = make_table(np.column_stack([X, X[:, :3]]), y)
    params = {"ridge": {"alpha": 0.0}, "lda": {"shrinkage": 0.0}}[name]
    head = fit(table, head=name, params=params)

    assert np.isfinite(head.estimator[-1].coef_).all()
    np.testing.assert_allclose(head.linear.coef[:, :3], head.linear.coef[:, 12:], rtol=1e-4)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 1.0, 1e3]), st.floats(-1e4, 1e4))
@settings(max_examples=15)
def test_the_scale_and_place_of_the_features_do_not_matter(make_table, make_blobs, seed, factor, shift):
    X, y = make_blobs(spread=2.0, seed=seed)
    wide = X.astype(np.float64)
    first = fit(make_table(wide, y), head="ridge", params={"alpha": 10.0})
    other = fit(make_table(wide * factor + shift, y), head="ridge", params={"alpha": 10.0})

    np.testing.assert_allclose(other.scores(wide * factor + shift), first.scores(wide), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("ridge", {"alpha": -1.0}, "ridge cannot be fitted: The 'alpha' parameter"),
        ("ridge", {"solver": "svd"}, "ridge has no parameter solver"),
        ("lda", {"shrinkage": 2.0}, "lda cannot be fitted: The 'shrinkage' parameter"),
        ("lda", {"shrinkage": "auto"}, "shrinkage of lda must be a number from 0 to 1; found 'auto'"),
    ],
)
def test_unfit_parameters_are_refused(table, name, params, message):
    with pytest.raises(HeadError, match=message):
        fit(table, head=name, params=params)


@pytest.mark.parametrize("shape", [(240, 12), (60, 90)], ids=str)
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("is_weighted", [True, False])
def test_targets_are_fitted_for_all_settings_in_one_pass(shape, fit_intercept, is_weighted, monkeypatch):
    """Several labels of an image, and numbers: in parts of 64 rows, with a feature that is constant."""
    random = np.random.default_rng(0)
    X = (100 + 3 * random.normal(size=shape)).astype(np.float32)
    X[:, 3] = 5
    targets = np.stack([X[:, 0] > 100, X[:, 1] > 103, random.normal(size=len(X))], axis=1)
    weights = random.uniform(0.5, 2, len(X)) if is_weighted else None
    monkeypatch.setattr("featstore.heads.data.blocks._BLOCK_BYTES", 32 * X[0].nbytes)
    monkeypatch.setattr("featstore.heads.data.parts._PART_BYTES", 64 * X[0].nbytes)
    blocks = []
    rows = Rows(ArrayTable(X), np.arange(len(X)), name="rows")
    take = Rows.take
    monkeypatch.setattr(Rows, "take", lambda self, at: blocks.append(at) or take(self, at))
    alphas = [0.1, 30.0, 10_000.0]
    found = targets_path(
        RidgeClassifier(fit_intercept=fit_intercept), rows, targets, [{"alpha": a} for a in alphas], weights
    )
    scaled = StandardScaler().fit_transform(X.astype(np.float64))
    for alpha, (scaler, coef, intercept) in zip(alphas, found, strict=True):
        plain = Ridge(alpha=alpha, fit_intercept=fit_intercept).fit(scaled, targets, sample_weight=weights)
        np.testing.assert_allclose(scaler.mean_, X.mean(axis=0, dtype=np.float64))
        np.testing.assert_allclose(coef, plain.coef_, rtol=1e-7, atol=1e-10)
        np.testing.assert_allclose(intercept, np.broadcast_to(plain.intercept_, 3), rtol=1e-7, atol=1e-10)
    # One block before for the shift; with fewer rows than features, all of them once more.
    n_blocks = -(-len(X) // 32)
    assert len(blocks) == 1 + n_blocks * (2 if shape[0] < shape[1] else 1)

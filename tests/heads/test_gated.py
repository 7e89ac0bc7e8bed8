"""The form of a head with a gate between old classes and new ones."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone, is_classifier
from sklearn.metrics import get_scorer

from featstore.errors import HeadError
from featstore.heads.calibration import softmax
from featstore.heads.forms.estimator import form_estimator
from featstore.heads.forms.gated import GatedForm, evidence, neighbor_cosine, unit_rows
from featstore.heads.forms.linear import LinearForm

DIM = 5


def linear(n_classes, seed):
    random = np.random.default_rng(seed)
    return LinearForm(coef=random.normal(size=(n_classes, DIM)), intercept=random.normal(size=n_classes))


def gated(n_old=4, n_new=2, *, seed=0, n_neighbors=7, n_old_neighbors=0, members=None, old=None):
    random = np.random.default_rng(seed)
    old = linear(n_old, seed) if old is None else old
    columns = np.arange(old.n_classes + n_new)[:, np.newaxis]
    return GatedForm(
        old=old,
        new=linear(n_new, seed + 1),
        temperatures=np.array([0.8, 1.5]),
        weights=np.array([3.0, -0.5, -1.0 if n_old_neighbors else 0.0]),
        offset=np.array(-0.5),
        neighbors=unit_rows(random.normal(size=(n_neighbors, DIM))),
        old_neighbors=unit_rows(random.normal(size=(n_old_neighbors, DIM))),
        members=columns if members is None else np.array(members),
    )


ROWS = np.random.default_rng(9).normal(size=(20, DIM))


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 9), st.integers(0, 9), st.integers(0, 99))
def test_probabilities_sum_to_one_and_some_classes_are_those_renormalised(n_old, n_new, n_near, n_far, seed):
    form = gated(n_old, n_new, seed=seed, n_neighbors=n_near, n_old_neighbors=n_far)
    probabilities = softmax(form.scores(ROWS))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    at = np.random.default_rng(seed).permutation(n_old + n_new)[: max(1, n_old)]
    some = softmax(form.with_classes(at).scores(ROWS))
    kept = probabilities[:, at]
    np.testing.assert_allclose(some, kept / kept.sum(axis=1, keepdims=True), rtol=1e-9, atol=1e-12)


def test_the_scores_are_those_of_the_formula():
    form = gated(n_old_neighbors=4)
    x = ROWS[0]
    direction = x / np.linalg.norm(x)
    near, far = (np.sort(bank @ direction)[-3:].mean() for bank in (form.neighbors, form.old_neighbors))
    z, v = form.old.scores(ROWS[:1])[0], form.new.scores(ROWS[:1])[0]
    gate = form.weights @ [near, z.max(), far] + form.offset
    new = np.log(softmax(v[np.newaxis] / 1.5)[0]) + z.max() / 0.8 + gate
    np.testing.assert_allclose(form.scores(ROWS[:1])[0], [*(z / 0.8), *new], rtol=1e-6)


def test_an_old_head_of_some_columns_does_not_see_the_others():
    plain = gated(n_old_neighbors=4)
    at = np.array([4, 0, 1, 3, 6])
    new = LinearForm(coef=np.ones((2, 8)), intercept=np.zeros(2))
    form = replace(plain, old_columns=at, new=new)
    X = np.random.default_rng(1).normal(size=(6, 8))
    np.testing.assert_array_equal(form.sides(X)[0], plain.sides(X[:, at])[0])
    assert (form.sides(X)[1] != plain.sides(X[:, at])[1]).all()
    assert form.feature_dim == 8
    np.testing.assert_array_equal(GatedForm.from_arrays(form.arrays()).scores(X), form.scores(X))
    with pytest.raises(HeadError, match="inconsistent shapes"):
        replace(form, old_columns=None)


def test_where_the_gate_is_zero_new_classes_together_are_as_likely_as_the_likeliest_old_one():
    form = gated()
    gate = form.gate(ROWS[:1], form.old.scores(ROWS[:1]))
    even = replace(form, offset=form.offset - gate[0])
    probabilities = softmax(even.scores(ROWS[:1]))[0]
    assert probabilities[4:].sum() == pytest.approx(probabilities[:4].max())


def test_a_class_that_is_old_and_new_takes_the_larger_score():
    apart, joined = gated(), gated(members=[[0, 4], [1, -1], [2, -1], [3, -1], [5, -1]])
    scores = apart.scores(ROWS)
    np.testing.assert_array_equal(joined.scores(ROWS)[:, 0], scores[:, [0, 4]].max(axis=1))
    np.testing.assert_array_equal(joined.scores(ROWS)[:, 1:], scores[:, [1, 2, 3, 5]])


def test_fewer_rows_than_three_are_the_nearest():
    bank = unit_rows(ROWS[:1])
    np.testing.assert_allclose(
        neighbor_cosine(unit_rows(ROWS[:4]), bank), unit_rows(ROWS[:4]) @ bank[0], rtol=1e-6
    )
    assert neighbor_cosine(bank, bank, own=np.array([0])).tolist() == [0.0]


def test_an_images_own_row_is_passed_over():
    bank = unit_rows(ROWS)
    own = neighbor_cosine(bank, bank, own=np.arange(20))
    without = [neighbor_cosine(bank[[n]], np.delete(bank, n, axis=0))[0] for n in range(20)]
    np.testing.assert_allclose(own, without, rtol=1e-6)


def test_evidence_is_nearness_and_the_largest_old_score():
    form = gated()
    told = evidence(ROWS, form.old.scores(ROWS), form.neighbors, form.old_neighbors)
    np.testing.assert_array_equal(told[:, 1], form.old.scores(ROWS).max(axis=1))
    assert (told[:, 2] == 0).all()


def test_arrays_rebuild_a_form_and_the_one_inside():
    form = gated(old=gated(n_old_neighbors=3), seed=5)
    again = GatedForm.from_arrays(form.arrays())
    np.testing.assert_array_equal(again.scores(ROWS), form.scores(ROWS))
    assert isinstance(again.old, GatedForm)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"weights": np.zeros(2)}, "inconsistent shapes"),
        ({"offset": np.array(np.nan)}, "finite"),
        ({"temperatures": np.array([1.0, 0.0])}, "above 0"),
        ({"temperatures": np.ones(2, np.float32)}, "float64"),
        ({"neighbors": np.zeros((0, DIM), np.float32)}, "inconsistent shapes"),
        ({"neighbors": np.zeros((2, DIM + 1), np.float32)}, "inconsistent shapes"),
        ({"neighbors": np.full((2, DIM), np.inf, np.float32)}, "finite"),
        ({"members": np.array([[6]])}, "must be below 6"),
        ({"members": np.array([[-2]])}, "must be below 6"),
        ({"members": np.array([[-1]])}, "has no column"),
        ({"members": np.zeros((0, 1), np.int64)}, "must be below 6"),
        ({"members": np.zeros((2, 1))}, "int64"),
        ({"new.more": np.zeros(2)}, "unexpected arrays of a linear classifier"),
        ({"older.coef": np.zeros(2)}, "no array 'older.coef'"),
        ({"more": np.zeros(2)}, "unexpected arrays"),
        ({"old_columns": np.arange(DIM - 1)}, "must be 5 int64 numbers"),
        ({"old_columns": np.arange(DIM, dtype=np.int32)}, "must be 5 int64 numbers"),
        ({"old_columns": np.arange(DIM) + 1}, "different and below 5"),
        ({"old_columns": np.arange(DIM) - 1}, "different and below 5"),
        ({"old_columns": np.array([0, 1, 2, 3, 3])}, "different and below 5"),
    ],
)
def test_unfit_arrays_are_refused(change, reason):
    with pytest.raises(HeadError, match=reason):
        GatedForm.from_arrays({**gated().arrays(), **change})


def test_too_deep_a_nest_is_refused():
    arrays = gated().arrays()
    for _ in range(20):
        inside = {f"old.{name}": array for name, array in arrays.items()}
        outside = {name: array for name, array in gated().arrays().items() if not name.startswith("old.")}
        arrays = inside | outside
    with pytest.raises(HeadError, match="more than 16 times"):
        GatedForm.from_arrays(arrays)


@pytest.mark.parametrize("n_new", [1, 3])
def test_its_estimator_is_a_classifier_of_scikit_learn(n_new):
    form = gated(1, n_new)
    classes = np.array(["daisy", "moss", "rose", "tulip"][: 1 + n_new])
    estimator = form_estimator(form, classes, 0.7)
    y = classes[form.scores(ROWS).argmax(axis=1)]
    y[: len(classes)] = classes

    assert is_classifier(estimator)
    assert get_scorer("accuracy")(estimator, ROWS, y) == (estimator.predict(ROWS) == y).mean()
    assert np.isfinite(get_scorer("neg_log_loss")(estimator, ROWS, y))
    assert np.isfinite(get_scorer("roc_auc_ovr")(estimator, ROWS, y))
    np.testing.assert_array_equal(clone(estimator).predict(ROWS), estimator.predict(ROWS))
    with pytest.raises(HeadError, match="cannot be fitted again"):
        estimator.fit(ROWS, y)

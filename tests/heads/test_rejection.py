import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featstore.errors import HeadError
from featstore.heads import Head, fit, rejection_score
from featstore.splits import SplitRule

CLASSES = np.array(["a", "b", "c"])


@pytest.fixture
def hard(make_table, make_blobs):
    return make_table(*make_blobs(n=900, spread=2.5))


def test_only_sure_answers_are_counted():
    probabilities = np.array([[0.8, 0.1, 0.1], [0.4, 0.35, 0.25], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6]])
    scored = rejection_score(np.array(["a", "b", "b", "a"]), probabilities, CLASSES, below=0.6)

    assert (scored["n"], scored["n_answered"], scored["coverage"]) == (4, 3, 0.75)
    assert scored["top1"] == 2 / 3
    assert scored["top1_ci"][0] < 2 / 3 < scored["top1_ci"][1]


def test_nothing_answered_has_no_accuracy():
    scored = rejection_score(np.array(["a"]), np.full((1, 3), 1 / 3), CLASSES, below=0.9)

    assert scored == {"n": 1, "n_answered": 0, "coverage": 0.0, "top1": None, "top1_ci": None}


def test_no_image_has_no_coverage():
    scored = rejection_score(CLASSES[:0], np.empty((0, 3)), CLASSES, below=0.9)

    assert scored == {"n": 0, "n_answered": 0, "coverage": None, "top1": None, "top1_ci": None}


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.999), st.floats(0, 0.999))
def test_the_more_is_asked_the_less_is_answered(seed, one, other):
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(3), 20)
    labels = CLASSES[random.integers(0, 3, 20)]
    low, high = (
        rejection_score(labels, probabilities, CLASSES, below=below)["n_answered"]
        for below in sorted([one, other])
    )

    assert low >= high


def test_a_head_reports_what_its_threshold_costs_and_brings(hard):
    rule = SplitRule(test=0.3, validation=0.3)
    head = fit(hard, head="svm", params={"C": 1.0}, reject=0.8, rule=rule, refit=False)
    splits = hard.splits(rule)

    for split in ("validation", "test"):
        chosen = splits == split
        probabilities = head.predict_proba(hard.X[chosen])
        wanted = rejection_score(hard.y[chosen], probabilities, head.classes, below=0.8)
        assert head.reject[split] == wanted
        assert wanted["top1"] > getattr(head, split)["top1"]
    assert head.to_dict()["reject"]["below"] == 0.8


def test_by_folds_rejection_is_scored_on_all_that_were_held_out(hard):
    head = fit(hard, head="ridge", folds=3, reject=0.6)

    assert head.reject["validation"]["n"] == head.validation["n"] == (hard.splits() != "test").sum()
    assert (
        fit(hard, head="ridge", folds=3, reject=0.0).reject["validation"]["top1"] == head.validation["top1"]
    )


def test_the_answer_is_empty_where_the_head_is_not_sure(hard, tmp_path):
    fit(hard, params={"C": 1.0}, reject=0.7).save(tmp_path / "a.head")
    head = Head.load(tmp_path / "a.head")
    labels, probabilities = head.answer(hard.X)
    sure = head.predict_proba(hard.X).max(axis=1) >= 0.7

    assert head.rejects_below == 0.7
    assert 0 < sure.sum() < len(sure)
    np.testing.assert_array_equal(labels, np.where(sure, head.predict(hard.X), ""))
    np.testing.assert_array_equal(probabilities, head.predict_proba(hard.X).max(axis=1))
    np.testing.assert_array_equal(head.answer(hard.X, reject=0)[0], head.predict(hard.X))


def test_a_head_without_a_threshold_always_answers(table):
    head = fit(table, params={"C": 1.0})

    assert (head.reject, head.rejects_below) == (None, 0.0)
    np.testing.assert_array_equal(head.answer(table.X)[0], head.predict(table.X))


def test_no_rows_have_no_answers(table):
    labels, probabilities = fit(table, params={"C": 1.0}).answer(np.empty((0, 12), np.float32))

    assert labels.shape == probabilities.shape == (0,)


@pytest.mark.parametrize("below", [1, -0.1, float("nan"), True, "0.5"])
def test_what_is_no_probability_is_refused(table, below):
    head = fit(table, params={"C": 1.0})
    with pytest.raises(HeadError, match="reject must be a probability of at least 0 and below 1"):
        fit(table, reject=below)
    with pytest.raises(HeadError, match="reject must be a probability"):
        head.answer(table.X, reject=below)

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from featstore.stats.metrics import (
    balanced_accuracy,
    brier_score,
    calibration_bins,
    confusion_counts,
    expected_calibration_error,
    f1_scores,
    log_loss,
    macro_f1,
    top_k_accuracy,
)


@st.composite
def cases(draw):
    """Labels, predictions and probabilities of 2 to 8 classes; some classes may occur nowhere."""
    n_classes, n_images = draw(st.integers(2, 8)), draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    occurring = random.choice(n_classes, size=draw(st.integers(1, n_classes)), replace=False)
    true = random.choice(occurring, size=n_images)
    probabilities = random.dirichlet(
        np.full(n_classes, draw(st.sampled_from([0.01, 0.3, 3.0]))), size=n_images
    )
    return true, probabilities.argmax(axis=1), probabilities


def counts_of(true, predicted, n_classes):
    confusion = confusion_counts(true, predicted, n_classes)
    return confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)


@given(cases())
def test_confusion_is_that_of_scikit_learn(case):
    true, predicted, probabilities = case
    labels = range(probabilities.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = reference.confusion_matrix(true, predicted, labels=labels)

    np.testing.assert_array_equal(confusion_counts(true, predicted, len(labels)), expected)


@given(cases())
def test_f1_is_that_of_scikit_learn(case):
    true, predicted, probabilities = case
    n_classes = probabilities.shape[1]
    counts = counts_of(true, predicted, n_classes)
    expected = reference.f1_score(
        true, predicted, labels=range(n_classes), average=None, zero_division=np.nan
    )

    np.testing.assert_allclose(f1_scores(*counts), expected)
    assert macro_f1(*counts) == pytest.approx(
        reference.f1_score(true, predicted, average="macro", zero_division=0)
    )


@given(cases())
def test_balanced_accuracy_is_that_of_scikit_learn(case):
    true, predicted, probabilities = case
    right, n_true, _ = counts_of(true, predicted, probabilities.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = reference.balanced_accuracy_score(true, predicted)

    assert balanced_accuracy(right, n_true) == pytest.approx(expected)


@given(cases())
def test_log_loss_is_that_of_scikit_learn(case):
    true, _, probabilities = case
    expected = reference.log_loss(true, probabilities, labels=range(probabilities.shape[1]))

    assert log_loss(probabilities, true) == pytest.approx(expected)


@given(cases())
def test_brier_score_is_that_of_scikit_learn_over_all_classes(case):
    true, _, probabilities = case
    n_classes = probabilities.shape[1]
    if n_classes == 2:
        # Of two classes scikit-learn takes one column.
        expected = 2 * np.mean((probabilities[:, 1] - true) ** 2)
    else:
        expected = reference.brier_score_loss(
            true, probabilities, labels=range(n_classes), scale_by_half=False
        )

    assert brier_score(probabilities, true) == pytest.approx(expected)


@given(cases(), st.integers(1, 8))
def test_top_k_is_that_of_scikit_learn(case, k):
    true, _, probabilities = case
    n_classes = probabilities.shape[1]
    if k >= n_classes or n_classes == 2:
        assert top_k_accuracy(probabilities, true, max(k, n_classes)) == 1
        return
    if len(np.unique(np.round(probabilities, 12))) < probabilities.size:
        return  # ties are broken in another way
    expected = reference.top_k_accuracy_score(true, probabilities, k=k, labels=range(n_classes))
    assert top_k_accuracy(probabilities, true, k) == pytest.approx(expected)


@given(cases())
def test_calibration_error_is_the_sum_over_bins_written_out(case):
    true, predicted, probabilities = case
    confidence, is_right = probabilities.max(axis=1), true == predicted
    bins = calibration_bins(confidence, is_right)
    expected = 0.0
    for number in range(15):
        inside = (confidence > bins[number]["low"]) & (confidence <= bins[number]["high"])
        assert bins[number]["n"] == inside.sum()
        if inside.any():
            expected += inside.mean() * abs(is_right[inside].mean() - confidence[inside].mean())

    assert expected_calibration_error(bins) == pytest.approx(expected)


@settings(max_examples=20)
@given(st.integers(2, 9))
def test_a_guess_of_all_classes_alike_has_the_scores_that_are_known_for_it(n_classes):
    probabilities, true = np.full((n_classes, n_classes), 1 / n_classes), np.arange(n_classes)

    assert log_loss(probabilities, true) == pytest.approx(np.log(n_classes))
    assert brier_score(probabilities, true) == pytest.approx(1 - 1 / n_classes)


def test_a_sure_mistake_is_dear_but_not_infinite():
    assert 36 < log_loss(np.array([[1.0, 0.0]]), np.array([1])) < 37


def test_the_ends_of_the_scale_are_in_the_first_and_the_last_bin():
    bins = calibration_bins(np.array([0.0, 1.0]), np.array([False, True]))

    assert [one["n"] for one in bins] == [1, *[0] * 13, 1]
    assert bins[1] == {
        "low": 1 / 15,
        "high": pytest.approx(2 / 15),
        "n": 0,
        "confidence": None,
        "accuracy": None,
    }
    assert expected_calibration_error(bins) == 0


def test_a_probability_on_an_edge_is_in_the_bin_below():
    edges = np.array([one["high"] for one in calibration_bins(np.array([1.0]), np.array([True]))])
    assert [one["n"] for one in calibration_bins(edges, np.ones(15, np.bool_))] == [1] * 15

import numpy as np
import pytest

from featstore.errors import HeadError
from featstore.heads.calibration import (
    class_scores,
    fit_temperature,
    helpful_temperature,
    smoothed_votes,
    softmax,
)

CLASSES = np.array(["a", "b", "c"])


class Deciding:
    """A classifier whose decisions are its features."""

    def decision_function(self, X):
        return X[:, 0] if X.shape[1] == 1 else X


def labels_drawn_from(logits, seed=0):
    random = np.random.default_rng(seed)
    return CLASSES[[random.choice(3, p=row) for row in softmax(logits)]]


@pytest.mark.parametrize("temperature", [0.2, 1.0, 5.0])
def test_the_temperature_that_made_the_labels_is_found(temperature):
    logits = np.random.default_rng(1).normal(scale=2, size=(4000, 3))
    found = fit_temperature(logits * temperature, labels_drawn_from(logits), CLASSES)

    assert found == pytest.approx(temperature, rel=0.1)


def test_a_faultless_validation_split_makes_nobody_certain():
    scores = np.eye(3)[np.arange(30) % 3]
    temperature = fit_temperature(scores, CLASSES[np.arange(30) % 3], CLASSES)

    assert 0.9 < softmax(scores / temperature).max() < 0.999


def test_an_empty_validation_split_gives_one_and_a_warning(caplog):
    assert fit_temperature(np.empty((0, 3)), CLASSES[:0], CLASSES) == 1
    assert "not calibrated" in caplog.text


def test_a_binary_decision_becomes_the_logistic_function():
    scores = class_scores(Deciding(), np.array([[-2.0], [0.0], [3.0]]))

    np.testing.assert_allclose(softmax(scores)[:, 1], 1 / (1 + np.exp([2.0, 0.0, -3.0])))


def test_softmax_stands_large_scores():
    np.testing.assert_allclose(softmax(np.array([[1e4, 0.0], [-1e4, -1e4]])), [[1, 0], [0.5, 0.5]])


def test_another_number_of_decisions_is_refused():
    with pytest.raises(HeadError, match="gives 2 decisions for 3 classes"):
        fit_temperature(np.zeros((4, 2)), CLASSES[np.arange(4) % 3], CLASSES)


def test_smoothed_votes_leave_no_class_without_a_chance():
    scores = smoothed_votes(np.array([[1.0, 0.0, 0.0], [0.6, 0.4, 0.0]]), 5)

    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1)
    np.testing.assert_allclose(np.exp(scores[0]), [(5 + 1 / 3) / 6, 1 / 18, 1 / 18])
    assert scores.argmax(axis=1).tolist() == [0, 0]


def drawn(n, n_classes=4):
    """Scores, and labels drawn with the probabilities that their softmax is."""
    rng = np.random.default_rng(0)
    scores = rng.normal(scale=2, size=(n, n_classes))
    codes = [rng.choice(n_classes, p=row) for row in softmax(scores)]
    return scores, np.array(list("abcd"))[codes]


def test_scores_that_are_too_sure_get_a_temperature():
    scores, labels = drawn(500)

    assert helpful_temperature(3 * scores, labels, np.array(list("abcd"))) == pytest.approx(3, rel=0.2)


def test_probabilities_that_no_temperature_betters_stay_as_they_are():
    scores, labels = drawn(500)
    at_its_best = scores / fit_temperature(scores, labels, np.array(list("abcd")))

    assert helpful_temperature(at_its_best, labels, np.array(list("abcd"))) is None


def test_a_few_images_give_no_temperature_to_probabilities():
    scores, labels = drawn(9)

    assert helpful_temperature(9 * scores, labels, np.array(list("abcd"))) is None

import json

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_score, recall_score, top_k_accuracy_score

from featstore.errors import FingerprintMismatchError, HeadError, SplitError
from featstore.heads import evaluate, fit, wilson_interval
from featstore.splits import SplitRule


@pytest.fixture
def noisy(make_table, make_blobs):
    """Seven classes that overlap."""
    return make_table(*make_blobs(n=700, n_classes=7, spread=2.0))


@pytest.mark.parametrize("name", ["logistic", "svm"])
def test_the_figures_are_those_of_scikit_learn(noisy, name):
    head = fit(noisy, head=name)
    found = evaluate(head, noisy)
    chosen = noisy.splits(SplitRule()) == "test"
    true, guess = noisy.y[chosen], head.predict(noisy.X[chosen])

    assert found.n == chosen.sum()
    assert found.top1 == head.test["top1"] == (true == guess).mean()
    assert found.confusion == confusion_matrix(true, guess).tolist()
    assert [entry["recall"] for entry in found.classes] == pytest.approx(
        recall_score(true, guess, average=None)
    )
    assert [entry["precision"] for entry in found.classes] == pytest.approx(
        precision_score(true, guess, average=None)
    )
    assert found.top5 == pytest.approx(top_k_accuracy_score(true, head.predict_proba(noisy.X[chosen]), k=5))


def test_the_misclassified_are_named_with_the_surest_first(noisy):
    head = fit(noisy)
    found = evaluate(head, noisy, split="all")
    wrong = np.flatnonzero(head.predict(noisy.X) != noisy.y)
    sureness = [entry["probability"] for entry in found.misclassified]

    assert {entry["path"] for entry in found.misclassified} == set(noisy.paths[wrong])
    assert sureness == sorted(sureness, reverse=True)
    assert all(entry["label"] != entry["predicted"] for entry in found.misclassified)


def test_each_split_is_scored_by_the_heads_own_rule(noisy):
    rule = SplitRule(test=0.3, validation=0.2, salt="other")
    head = fit(noisy, rule=rule)
    splits = noisy.splits(rule)

    for split in ("train", "validation", "test"):
        assert evaluate(head, noisy, split=split).n == (splits == split).sum()
    assert evaluate(head, noisy, split="all").n == 700
    assert evaluate(head, noisy, split="validation").top1 == head.validation["top1"]


def test_five_classes_or_fewer_have_no_top5(table):
    found = evaluate(fit(table), table)

    assert found.top5 is None
    assert "top5" not in found.to_dict()


def test_an_evaluation_is_json_with_stable_keys(noisy):
    found = json.loads(json.dumps(evaluate(fit(noisy), noisy).to_dict()))

    assert list(found) == ["split", "n", "top1", "top1_ci", "top5", "classes", "confusion", "misclassified"]
    assert list(found["classes"][0]) == ["label", "n", "precision", "recall"]
    assert list(found["misclassified"][0]) == ["path", "label", "predicted", "probability"]


def test_a_class_that_no_image_has_gets_no_recall(table):
    head = fit(table)
    found = evaluate(head, table.but(y=np.where(table.y == "class 0", "", table.y)), split="all")

    assert (found.classes[0]["n"], found.classes[0]["recall"]) == (0, None)


def test_labels_that_the_head_does_not_know_are_named(table):
    head = fit(table)
    with pytest.raises(HeadError, match=r"80 of 240 images .* does not know: tulip"):
        evaluate(head, table.but(y=np.where(table.y == "class 0", "tulip", table.y)), split="all")


def test_an_empty_split_is_refused(table):
    head = fit(table, rule=SplitRule(test=0))
    with pytest.raises(SplitError, match="photos has no labelled image in test"):
        evaluate(head, table)


def test_an_unknown_split_is_refused(table):
    with pytest.raises(SplitError, match="train, validation, test or all; found 'holdout'"):
        evaluate(fit(table), table, split="holdout")


def test_features_of_another_backbone_are_refused(table, make_spec):
    with pytest.raises(FingerprintMismatchError, match="pooling is avg in the head and max here"):
        evaluate(fit(table), table.but(spec=make_spec(pooling="max")))


@pytest.mark.parametrize(("correct", "n"), [(95, 100), (0, 10), (10, 10), (1, 2), (999, 1000)])
@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_intervals_are_those_of_scipy(correct, n, confidence):
    expected = binomtest(correct, n).proportion_ci(confidence_level=confidence, method="wilson")

    assert wilson_interval(correct, n, confidence) == pytest.approx(tuple(expected), abs=1e-12)


@pytest.mark.parametrize(("correct", "n"), [(1, 0), (-1, 10), (11, 10)])
def test_impossible_counts_are_refused(correct, n):
    with pytest.raises(HeadError, match="correct"):
        wilson_interval(correct, n)

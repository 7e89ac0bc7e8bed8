import json

import numpy as np
import pytest
from sklearn.metrics import (
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    top_k_accuracy_score,
)

from featstore.errors import FingerprintMismatchError, HeadError, SplitError
from featstore.heads import fit
from featstore.scoring import evaluate
from featstore.splits import SplitRule


@pytest.fixture
def noisy(make_table, make_blobs):
    """Seven classes that overlap."""
    return make_table(*make_blobs(n=700, n_classes=7, spread=2.0))


@pytest.mark.parametrize("name", ["logistic", "svm"])
def test_the_scores_are_those_of_scikit_learn(noisy, name):
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
    found = evaluate(head, noisy, split="train")
    wrong = np.flatnonzero((head.predict(noisy.X) != noisy.y) & (noisy.splits() == "train"))
    sureness = [entry["probability"] for entry in found.misclassified]

    assert {entry["path"] for entry in found.misclassified} == set(noisy.paths[wrong])
    assert sureness == sorted(sureness, reverse=True)
    assert all(entry["label"] != entry["predicted"] for entry in found.misclassified)


def test_each_split_is_scored_by_the_heads_own_rule(noisy):
    rule = SplitRule(test=0.3, validation=0.2, salt="other")
    head = fit(noisy, rule=rule, refit=False)
    splits = noisy.splits(rule)

    for split in ("train", "validation", "test"):
        assert evaluate(head, noisy, split=split).n == (splits == split).sum()
    assert evaluate(head, noisy, split="all").n == (splits != "train").sum()
    assert evaluate(head, noisy, split="validation").top1 == head.validation["top1"]


def test_five_classes_or_fewer_have_no_top5(table):
    found = evaluate(fit(table), table)

    assert found.top5 is None
    assert not {"top5", "top5_ci", "recall@5"} & set(found.to_dict())


def test_an_evaluation_is_json_with_stable_keys(noisy):
    found = json.loads(json.dumps(evaluate(fit(noisy), noisy).to_dict()))

    assert set(found) == {
        *("split", "n", "top1", "top1_ci", "top5", "classes", "confusion", "misclassified", "sets", "levels"),
        *("precision@1", "recall@5", "top5_ci", "top1_bootstrap_ci", "macro_f1", "macro_f1_ci"),
        *("balanced_accuracy", "balanced_accuracy_ci", "log_loss", "brier_score", "calibration_error"),
        *("calibration", "baseline", "resampling", "test_views", "parts", "scored", "seen_by", "folds"),
        *("unjudged", "together"),
    }
    assert list(found["classes"][0]) == ["label", "n", "precision", "recall", "recall_ci", "f1"]
    assert list(found["calibration"][0]) == ["low", "high", "n", "confidence", "accuracy"]
    assert list(found["resampling"]) == ["unit", "n", "replicates", "seed"]
    assert list(found["misclassified"][0]) == ["path", "label", "predicted", "probability"]


def test_a_class_that_no_image_has_gets_no_recall(table):
    head = fit(table)
    found = evaluate(head, table.but(y=np.where(table.y == "class 0", "", table.y)), split="all")

    assert (found.classes[0]["n"], found.classes[0]["recall"]) == (0, None)


def test_inceptions_names_are_other_names_of_the_same_figures(noisy):
    told = evaluate(fit(noisy), noisy).to_dict()

    assert told["precision@1"] == told["top1"]
    assert told["recall@5"] == told["top5"] > told["top1"]
    assert told["top5_ci"][0] < told["top5"]


def test_the_other_scores_are_those_of_scikit_learn(noisy):
    head = fit(noisy)
    found = evaluate(head, noisy)
    chosen = noisy.splits() == "test"
    true, X = noisy.y[chosen], noisy.X[chosen]

    assert found.macro_f1 == pytest.approx(f1_score(true, head.predict(X), average="macro"))
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(true, head.predict(X)))
    probabilities = head.predict_proba(X)
    probabilities /= probabilities.sum(axis=1, keepdims=True)  # they are of single precision
    assert found.log_loss == pytest.approx(log_loss(true, probabilities, labels=head.classes))
    assert sum(one["n"] for one in found.calibration) == found.n


def test_intervals_hold_their_scores_and_are_the_same_every_time(noisy):
    head = fit(noisy)
    found, again = evaluate(head, noisy), evaluate(head, noisy)

    for name in ("top1", "macro_f1", "balanced_accuracy"):
        low, high = getattr(found, f"{name}_ci")
        assert low < getattr(found, name) < high
    assert found == again


def test_the_baseline_says_the_class_with_the_most_training_images(table):
    rare = np.flatnonzero(table.y != "class 1")[:80]
    table = table.select(np.setdiff1d(np.arange(len(table.y)), rare))
    found = evaluate(fit(table), table)

    assert found.baseline["label"] == "class 1"
    assert found.baseline["top1"] == found.classes[1]["n"] / found.n


def test_a_class_without_images_spoils_no_figure(table):
    head = fit(table)
    found = evaluate(head, table.but(y=np.where(table.y == "class 0", "", table.y)), split="all")

    assert found.classes[0]["recall_ci"] is None
    assert 0 < found.macro_f1 <= 1
    assert found.balanced_accuracy == np.mean([one["recall"] for one in found.classes[1:]])


def test_images_of_a_group_are_resampled_together(make_table, make_blobs):
    """Ten copies of each image in a group of its own tell what one of each tells."""
    alone = make_table(*make_blobs(n=600, n_classes=3, spread=2.0))
    alone = alone.but(groups=np.array([f"group {number}" for number in range(600)]))
    rule = SplitRule(by="group")
    head = fit(alone, rule=rule)
    tenfold = alone.select(np.repeat(np.arange(600), 10))
    hashes = np.random.default_rng(0).integers(0, 256, size=(6000, 32), dtype=np.uint8)
    one, ten = evaluate(head, alone), evaluate(head, tenfold.but(content_hash_bytes=hashes))

    assert (one.resampling["unit"], one.resampling["n"]) == ("group", one.n)
    assert (ten.n, ten.resampling["n"]) == (10 * one.n, one.n)
    assert ten.macro_f1_ci == pytest.approx(one.macro_f1_ci, abs=0.02)
    assert ten.top1_bootstrap_ci == pytest.approx(one.top1_bootstrap_ci, abs=0.02)
    assert ten.top1_ci[1] - ten.top1_ci[0] < 0.5 * (one.top1_ci[1] - one.top1_ci[0])


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


def test_scores_on_images_that_the_head_was_refitted_on_are_warned_of(table, caplog):
    head = fit(table, params={"C": 0.1}, refit=True)
    evaluate(head, table)
    assert not caplog.records
    evaluate(head, table, split="validation")
    assert "images in validation: scores on them are optimistic" in caplog.text


def test_images_that_the_head_was_fitted_on_are_left_out_whatever_their_catalog_is_called(noisy):
    head = fit(noisy, refit=False)
    splits = noisy.splits()
    for table in (noisy, noisy.but(catalog_name="a copy")):
        found = evaluate(head, table, split="all")
        assert found.n == (splits != "train").sum()
        assert [(part["part"], part["n"]) for part in found.parts] == [
            ("held_out", (splits == "test").sum()),
            ("chosen_on", (splits == "validation").sum()),
            ("fitted_on", (splits == "train").sum()),
        ]
        assert found.scored == ["held_out", "chosen_on"]
        assert found.parts[0]["top1"] == head.test["top1"]
    given = np.full(len(splits), "test")
    assert evaluate(head, noisy.but(given_splits=given)).n == (splits != "train").sum()


def test_training_images_are_scored_where_they_are_asked_for_and_said_to_be_such(noisy, caplog):
    head = fit(noisy, refit=False)
    n_train = (noisy.splits() == "train").sum()
    found = evaluate(head, noisy, split="train")
    assert (found.n, found.scored) == (n_train, ["fitted_on"])
    assert f"was fitted on {n_train} of the {n_train} images in train" in caplog.text


def test_a_catalog_of_training_images_alone_is_no_test(noisy):
    head = fit(noisy, refit=False)
    alone = noisy.select(noisy.splits() == "train").but(catalog_name="a copy")
    with pytest.raises(
        SplitError, match=r"was fitted on all .* labelled images in all of the catalog a copy"
    ):
        evaluate(head, alone, split="all")


@pytest.mark.parametrize("name", ["logistic", "svm", "knn", "lda"])
def test_an_image_is_scored_once(noisy, name, monkeypatch):
    head = fit(noisy, head=name)
    n_scored = []
    of = type(head)._scores
    monkeypatch.setattr(type(head), "_scores", lambda self, X: n_scored.append(len(X)) or of(self, X))
    labels, probabilities = head.predict_with_proba(noisy.X)
    assert sum(n_scored) == len(noisy)
    assert labels.tolist() == head.predict(noisy.X).tolist()
    np.testing.assert_array_equal(probabilities, head.predict_proba(noisy.X))

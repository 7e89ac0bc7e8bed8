"""Classes of a few images stop nothing, and can be left out."""

import numpy as np
import pytest

from featstore.errors import HeadError
from featstore.heads import fit, load_head
from featstore.scoring import evaluate, learning_curve
from featstore.splits import SplitRule


@pytest.fixture
def make_small(make_table, make_blobs):
    """Return a table with classes of so few images beside two of 30."""

    def make(*sizes):
        X, y = make_blobs(n=60 + sum(sizes), n_classes=2)
        names = [f"small {number}" for number, size in enumerate(sizes) for _ in range(size)]
        return make_table(X, np.array([*names, *y[len(names) :]]))

    return make


@pytest.mark.parametrize("salt", "01234567")
def test_no_salt_stops_a_fit(make_small, salt):
    head = fit(make_small(1, 2, 3), head="ridge", rule=SplitRule(salt=salt))

    told = {split: [counts[f"small {n}"] for n in range(3)] for split, counts in head.counts.items()}
    assert told == {"train": [1, 1, 1], "test": [0, 1, 1], "validation": [0, 0, 1]}


def test_what_small_classes_lack_is_reported_in_one_warning(make_small, caplog):
    fit(make_small(1, 2, 3), head="ridge", rule=SplitRule(salt="3"))

    [record] = caplog.records
    assert record.getMessage() == (
        "no image is in validation for small 0 (1), small 1 (2); no image is in test for small 0 (1); "
        "use --min-images to leave out small classes"
    )


def test_classes_of_fewer_images_are_left_out_by_name(make_small, caplog):
    head = fit(make_small(1, 2, 3), head="ridge", min_images=3)

    assert head.classes.tolist() == ["class 0", "class 1", "small 2"]
    assert head.unlabelled == 0
    [record] = caplog.records
    assert record.getMessage() == "2 classes with fewer than 3 images are left out: small 0 (1), small 1 (2)"


def test_a_head_is_scored_without_the_classes_that_it_was_fitted_without(make_small, caplog, tmp_path):
    table = make_small(1, 20)
    head = fit(table, head="ridge", min_images=2)
    assert "1 class with fewer than 2 images is left out: small 0 (1)" in caplog.text
    head.save(tmp_path / "a.head")
    result = evaluate(load_head(tmp_path / "a.head"), table, split="all")

    assert "left out 1 image of classes that the head was fitted without" in caplog.text
    assert [one["label"] for one in result.classes] == ["class 0", "class 1", "small 1"]


@pytest.mark.parametrize(("min_images", "says"), [(6, "only one class has"), (500, "no class has")])
def test_of_fewer_than_two_classes_nothing_is_fitted(make_table, make_blobs, min_images, says):
    X, _ = make_blobs(n=70, n_classes=2)
    table = make_table(X, np.array(["few"] * 5 + ["many"] * 65))
    with pytest.raises(
        HeadError, match=rf"{says} at least {min_images} images; a head needs two: give a small"
    ):
        fit(table, min_images=min_images)


@pytest.mark.parametrize("min_images", [0, 1.5, True])
def test_an_unfit_number_of_images_is_refused(make_small, min_images):
    with pytest.raises(HeadError, match="min_images must be an integer of at least 1"):
        fit(make_small(), min_images=min_images)


@pytest.mark.parametrize("name", ["logistic", "knn", "svm", "lda", "centroid"])
def test_one_image_of_each_class_is_enough(make_table, make_blobs, caplog, name):
    X, _ = make_blobs(n=5, n_classes=5)
    head = fit(make_table(X, np.array(list("abcde"))), head=name)

    assert head.counts["train"] == dict.fromkeys("abcde", 1)
    assert head.sweep == []
    if name == "logistic":
        assert "using C=0.01, the middle of the range" in caplog.text
        assert head.params == {"C": 0.01}


@pytest.mark.parametrize("folds", [2, 5])
def test_folds_are_not_stopped_by_a_class_of_one(make_small, folds):
    head = fit(make_small(1, 2, 3), head="ridge", folds=folds)

    assert set(head.counts["train"]) == {"class 0", "class 1", "small 0", "small 1", "small 2"}


def test_a_head_is_evaluated_on_the_test_images_that_it_was_assigned(make_small):
    table = make_small(2, 3)
    head = fit(table, head="ridge", rule=SplitRule(salt="1"))

    assert evaluate(head, table).n == head.test["n"]


def test_a_learning_curve_keeps_test_images_out_of_every_fit(make_small, monkeypatch):
    import featstore.scoring.curves as curves

    table = make_small(4, 5, 6, 7)
    dealt = []

    def watched(part, **options):
        head = fit_one(part, **options)
        dealt.append(part.content_hash[head.was_fitted_on(part)])
        return head

    fit_one = curves.fit
    monkeypatch.setattr(curves, "fit", watched)
    for salt in map(str, range(4)):
        rule = SplitRule(salt=salt)
        learning_curve(table, head="centroid", rule=rule, fractions=(0.5,), repeats=3)
        train = {*table.content_hash[table.splits(rule) == "train"]}
        assert all({*seen} <= train for seen in dealt)
        dealt.clear()

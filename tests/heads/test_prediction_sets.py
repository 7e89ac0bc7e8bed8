import logging

import numpy as np
import pytest

from featstore.errors import HeadError
from featstore.extending import edit_classes
from featstore.heads import Head, fit
from featstore.heads.prediction_sets import held_out_probabilities, in_sets, set_thresholds
from featstore.scoring import evaluate
from featstore.splits import SplitRule

CLASSES = np.array(["a", "b", "c", "d"])
HALF = SplitRule(validation=0.4, test=0.4)


def drawn(random, n):
    """Labels, the last of them rare, and probabilities that are too sure of themselves."""
    true = random.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])
    scores = 3 * random.normal(size=(n, 4))
    scores[np.arange(n), true] += 3 + 2 * (true == 3)
    powers = np.exp(scores)
    return CLASSES[true], powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9])
def test_sets_have_the_coverage_over_seeds(coverage, by_class):
    options = {"coverage": coverage, "by_class": by_class, "name": "it"}
    hit = np.zeros(4)
    met = np.zeros(4)
    for seed in range(300):
        random = np.random.default_rng(seed)
        held_out = held_out_probabilities(CLASSES, *drawn(random, 200))
        labels, probabilities = drawn(random, 200)
        chosen = in_sets(probabilities, set_thresholds(held_out, CLASSES.tolist(), **options))
        true = np.searchsorted(CLASSES, labels)
        met += np.bincount(true, minlength=4)
        hit += np.bincount(true, weights=chosen[np.arange(200), true], minlength=4)

    found = hit / met if by_class else hit.sum() / met.sum()
    # A class of 20 held-out images can be off by a twentieth upwards, and the best class is always in.
    assert np.all(found > coverage - 0.01)
    if coverage > 0.5:
        assert np.all(found < coverage + (0.07 if by_class else 0.02))


def test_without_classes_of_their_own_some_are_covered_less():
    random = np.random.default_rng(0)
    held_out = held_out_probabilities(CLASSES, *drawn(random, 20_000))
    labels, probabilities = drawn(random, 20_000)
    true = np.searchsorted(CLASSES, labels)
    covered = {}
    for by_class in (False, True):
        options = {"coverage": 0.9, "by_class": by_class, "name": "it"}
        chosen = in_sets(probabilities, set_thresholds(held_out, CLASSES.tolist(), **options))
        is_covered = chosen[np.arange(len(true)), true]
        covered[by_class] = [is_covered[true == number].mean() for number in range(4)]

    assert max(covered[False]) - min(covered[False]) > 0.03
    assert max(covered[True]) - min(covered[True]) < 0.02


@pytest.mark.parametrize("options", [{"refit": False}, {"refit": True}, {"folds": 3}])
def test_sets_of_a_head_cover_new_images_over_seeds(options, make_table, make_blobs):
    n_covered = n = 0
    for seed in range(12):
        table = make_table(*make_blobs(n=400, spread=2.5, seed=seed))
        head = fit(table, head="ridge", params={"alpha": 100.0}, rule=HALF, **options)
        sets = evaluate(head, table, coverage=0.8).sets
        n_covered += round(sets["covered"] * sets["n"])
        n += sets["n"]

    error = (0.8 * 0.2 / n + 0.8 * 0.2 / (12 * 120)) ** 0.5
    assert n > 1500
    assert abs(n_covered / n - 0.8) < 3 * error + 0.01


def test_a_smaller_threshold_is_the_one_that_the_held_out_images_allow():
    held_out = {"a": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]}

    thresholds = [
        set_thresholds(held_out, ["a"], coverage=coverage, by_class=False, name="it")[0]
        for coverage in (0.9, 0.8, 0.7, 0.5, 0.11)
    ]

    assert thresholds == [0.1, 0.2, 0.3, 0.5, 0.8]


def test_no_set_is_empty():
    chosen = in_sets(np.array([[0.4, 0.35, 0.25], [0.1, 0.1, 0.8]]), np.full(3, 0.7))

    assert chosen.tolist() == [[True, False, False], [False, False, True]]


def test_too_few_held_out_images_are_refused_and_counted():
    held_out = {"a": [0.5] * 18, "b": []}

    with pytest.raises(HeadError, match=r"0\.95 takes at least 19 held-out images; it was fitted with 18"):
        set_thresholds(held_out, ["a", "b"], coverage=0.95, by_class=False, name="it")
    with pytest.raises(HeadError, match=r"at least 19 held-out .* fewer of each class: a \(18\), b \(0\)"):
        set_thresholds(held_out, ["a", "b"], coverage=0.95, by_class=True, name="it")


def test_a_class_with_too_few_held_out_images_is_in_every_set(caplog):
    held_out = {"a": [0.5] * 30, "b": [0.9] * 3}
    with caplog.at_level(logging.WARNING):
        thresholds = set_thresholds(held_out, ["a", "b"], coverage=0.9, by_class=True, name="it")

    assert thresholds.tolist() == [0.5, 0.0]
    assert "a coverage of 0.9 takes 9 held-out images of a class: in every set is b (3)" in caplog.text


@pytest.mark.parametrize("coverage", [0, 1, 1.5, -1, True, "much", float("nan")])
def test_a_coverage_is_a_fraction(coverage, make_table, make_blobs):
    head = fit(make_table(*make_blobs()), head="ridge")

    with pytest.raises(HeadError, match="coverage must be above 0 and below 1"):
        head.prediction_sets(np.zeros((1, head.feature_dim)), coverage=coverage)


def test_what_sets_are_calibrated_on_is_kept_with_the_head(tmp_path, make_table, make_blobs):
    table = make_table(*make_blobs(n=300, spread=2.0))
    head = fit(table, head="ridge", rule=HALF)
    head.save(tmp_path / "a.head")
    loaded = Head.load(tmp_path / "a.head")

    assert loaded.held_out == head.held_out
    assert sum(map(len, head.held_out.values())) == head.validation["n"]
    chosen, probabilities = loaded.prediction_sets(table.X, coverage=0.9)
    assert (chosen == head.prediction_sets(table.X, coverage=0.9)[0]).all()
    assert (probabilities == head.predict_proba(table.X)).all()


def test_renamed_classes_keep_their_sets_and_removed_ones_end_them(make_table, make_blobs):
    head = fit(make_table(*make_blobs(n=300)), head="ridge", rule=HALF)
    first = head.classes.tolist()[0]

    renamed = edit_classes(head, rename={first: "zz"})
    assert renamed.held_out["zz"] == head.held_out[first]
    assert [*renamed.held_out] == renamed.classes.tolist()
    with pytest.raises(HeadError, match="holds nothing to calibrate"):
        edit_classes(head, remove=[first]).set_thresholds(coverage=0.9)

"""Choosing among kinds of heads: nested folds, a budget, and the cheapest of equals."""

import itertools
import json

import numpy as np
import pytest

from featstore.errors import HeadError, SplitError, UnknownHeadError
from featstore.scoring import choose_head, choosing, cross_evaluate
from featstore.scoring.choosing import _equals
from featstore.splits import SplitRule

RULE = SplitRule()


@pytest.fixture
def hard(make_table, make_blobs):
    return make_table(*make_blobs(n=240, n_classes=3, feature_dim=6, spread=1.5))


@pytest.fixture
def seconds(monkeypatch):
    """A clock that each look at it moves on by these seconds."""
    steps = {"a look": 0.0}
    count = itertools.count()
    monkeypatch.setattr(choosing.time, "monotonic", lambda: next(count) * steps["a look"])
    return steps


def test_heads_are_scored_as_cross_evaluate_scores_them_without_test(hard):
    choice = choose_head(hard, heads=["centroid", "ridge"], folds=3, budget_s=1000)
    outside = hard.select(np.flatnonzero(hard.splits(RULE) != "test"))

    assert choice.n == len(outside)
    for one in choice.tried:
        known = cross_evaluate(outside, head=one["head"], folds=3)
        assert one["top1"] == known.top1
        assert one["log_loss"] == pytest.approx(known.log_loss)


def test_test_images_have_no_part_in_it(hard):
    before = choose_head(hard, heads=["centroid", "ridge"], folds=3)
    hard.X[hard.splits(RULE) == "test"] = 7
    after = choose_head(hard, heads=["centroid", "ridge"], folds=3)

    unchanging = [{**one, "seconds": 0} for one in before.tried]
    assert unchanging == [{**one, "seconds": 0} for one in after.tried]


def test_the_most_accurate_comes_first_and_the_others_are_compared_with_it(make_table, make_blobs):
    X, y = make_blobs(n=300, n_classes=2, feature_dim=8, spread=0.5)
    # Of another length, to which the angle to a mean is blind.
    X[y == "class 1"] = 3 * X[y == "class 0"]
    choice = choose_head(make_table(X, y), heads=["centroid", "knn", "lda"], folds=3, budget_s=1000)
    worst = choice.tried[-1]

    assert (choice.best, choice.head) == ("lda", "lda")
    assert [one["top1"] for one in choice.tried] == sorted(
        (one["top1"] for one in choice.tried), reverse=True
    )
    assert worst["difference"] == pytest.approx(worst["top1"] - choice.tried[0]["top1"])
    assert worst["p"] <= worst["p_adjusted"] < 0.05
    assert not worst["is_equal"]
    assert "lda is the most accurate, significantly better than" in choice.verdict
    assert choice.nested["heads"] == {"lda": 3}
    assert choice.nested["top1"] == choice.tried[0]["top1"]
    json.dumps(choice.to_dict())


def test_of_equals_the_cheapest_is_chosen():
    random = np.random.default_rng(0)
    best = random.random(1000) < 0.9
    nearly, worse, few = best.copy(), best.copy(), best.copy()
    nearly[np.flatnonzero(best)[:5]] = False
    worse[np.flatnonzero(best)[:60]] = False
    # Not significant, but by more than a point.
    few[np.flatnonzero(best)[:30]] = False
    few[np.flatnonzero(~best)[:18]] = True
    right = {"nearly": nearly, "best": best, "worse": worse, "few": few}
    taken = {"nearly": 1.0, "best": 9.0, "worse": 0.1, "few": 0.1}
    name, pairs, equal = _equals(right, taken, np.arange(1000), "image")

    assert name == "best"
    assert equal == ["best", "nearly"]
    assert pairs["worse"]["p_adjusted"] < 0.05 < pairs["few"]["p_adjusted"]


def test_the_cheapest_equal_is_chosen_by_the_seconds_of_its_fits(hard, monkeypatch):
    now = [0.0]
    of = choosing.CrossFolds.predict

    def predict(self, fold, *, head, **options):
        now[0] += {"ridge": 9, "lda": 5, "centroid": 7}[head]
        return of(self, fold, head=head, **options)

    monkeypatch.setattr(choosing.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(choosing.CrossFolds, "predict", predict)
    monkeypatch.setattr(choosing, "_LEAST_DIFFERENCE", 1.0)
    monkeypatch.setattr(choosing, "_CHANCE", 0.0)
    choice = choose_head(hard, heads=["ridge", "lda", "centroid"], folds=3, budget_s=1000)

    assert {one["head"]: one["seconds"] for one in choice.tried} == {"ridge": 9, "lda": 5, "centroid": 7}
    assert choice.head == "lda"
    assert choice.seconds == 63


def test_a_tie_goes_to_the_cheaper():
    right = np.ones(10, bool)
    assert _equals({"a": right, "b": right}, {"a": 2.0, "b": 1.0}, np.arange(10), "image")[0] == "b"


def test_the_choice_is_scored_on_folds_that_it_was_made_without(hard, monkeypatch):
    made_on = []
    equals = choosing._equals
    monkeypatch.setattr(
        choosing, "_equals", lambda right, *more: made_on.append(right) or equals(right, *more)
    )
    choice = choose_head(hard, heads=["centroid", "ridge"], folds=3)

    sizes = [len(right["ridge"]) for right in made_on]
    assert sizes[0] == choice.n
    assert sum(choice.n - size for size in sizes[1:]) == choice.n
    assert sum(choice.nested["heads"].values()) == 3


def test_a_head_that_would_exceed_the_budget_is_given_up(hard, seconds):
    # A fold takes a second, and so does each look at what is left.
    seconds["a look"] = 1.0
    choice = choose_head(hard, heads=["ridge", "centroid", "lda"], folds=3, budget_s=11)

    assert [one["head"] for one in choice.tried] == ["ridge"]
    assert [one["head"] for one in choice.skipped] == ["centroid", "lda"]
    assert "3 folds would take about 3 s" in choice.skipped[0]["reason"]
    assert choice.head == "ridge"


def test_the_first_head_is_tried_whatever_it_takes(hard, seconds):
    seconds["a look"] = 100.0
    choice = choose_head(hard, folds=2, budget_s=1)

    assert [one["head"] for one in choice.tried] == ["ridge"]
    assert {one["reason"] for one in choice.skipped} == {"the budget was spent"}
    assert choice.verdict == "ridge is the most accurate; ridge is chosen"


def test_heads_without_class_weights_are_skipped_if_there_are_some(hard):
    choice = choose_head(hard, heads=["knn", "ridge"], folds=2, class_weight="balanced")
    assert choice.skipped == [{"head": "knn", "reason": "it has no class weights"}]
    with pytest.raises(HeadError, match="no head is left to try"):
        choose_head(hard, heads=["knn"], folds=2, class_weight="balanced")


def test_small_classes_are_left_out(hard):
    hard.y[:3] = "rare"
    assert "rare" not in str(choose_head(hard, heads=["ridge"], folds=2, min_images=5).to_dict())


def test_progress_is_reported_after_each_fold(hard):
    told = []
    choose_head(hard, heads=["ridge", "centroid"], folds=2, progress=lambda *now: told.append(now))

    assert [(done, total, more["params"]["head"]) for done, total, more in told] == [
        (1, 4, "ridge"),
        (2, 4, "ridge"),
        (3, 4, "centroid"),
        (4, 4, "centroid"),
    ]


@pytest.mark.parametrize("budget_s", [0, -1, True, "60s", float("inf")])
def test_an_unfit_budget_is_refused(hard, budget_s):
    with pytest.raises(HeadError, match="budget_s must be a number of seconds above 0"):
        choose_head(hard, budget_s=budget_s)


def test_unknown_heads_and_too_few_folds_are_refused_before_anything_is_fitted(hard):
    with pytest.raises(UnknownHeadError, match="no head 'forest'"):
        choose_head(hard, heads=["ridge", "forest"])
    with pytest.raises(SplitError, match="folds must be an integer of at least 2"):
        choose_head(hard, folds=1)

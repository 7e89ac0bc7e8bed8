"""Scores of heads that are trained on, and judge images by, several views."""

import numpy as np
import pytest

from featstore.errors import HeadError
from featstore.heads import fit
from featstore.scoring import compare, evaluate, find_suspects, learning_curve
from featstore.splits import HashKFold

VIEWS = {"train": 2, "test": 4}


@pytest.fixture
def table(make_viewed_table):
    return make_viewed_table(300, 4, spread=2.0, blur=3.0)


@pytest.fixture
def head(table):
    return fit(table, head="svm", params={"C": 0.1}, views=VIEWS)


def test_an_evaluation_judges_images_by_the_mean_over_their_views(head, table):
    rows = np.flatnonzero(table.splits() == "test")
    each = [head.predict_proba(table.bank[rows, view]) for view in range(4)]
    means, y = np.mean(each, axis=0), table.y[rows]
    found = evaluate(head, table)
    assert (found.n, found.test_views) == (len(rows), 4)
    assert found.top1 == np.mean(head.classes[means.argmax(axis=1)] == y) == head.test["top1"]
    own = means[np.arange(len(rows)), np.searchsorted(head.classes, y)]
    assert found.log_loss == pytest.approx(-np.log(own).mean())
    assert len(found.misclassified) == round((1 - found.top1) * len(rows))


def test_an_evaluation_looks_at_more_than_the_image_itself(head, table):
    assert evaluate(head, table).to_dict() != evaluate(head, table.but(bank=table.bank[:, [0] * 4])).to_dict()


def test_blocks_smaller_than_the_split_give_the_same_scores(head, table, monkeypatch):
    whole = evaluate(head, table)
    monkeypatch.setattr("featstore.heads.data.blocks._BLOCK_BYTES", 9 * 4 * table.feature_dim)
    parts = evaluate(head, table)
    assert (parts.top1, parts.confusion) == (whole.top1, whole.confusion)
    assert parts.log_loss == pytest.approx(whole.log_loss)


def test_heads_of_different_views_are_compared_on_the_same_images(head, table):
    plain = fit(table, head="svm", params={"C": 0.1})
    found = compare([plain, head], table)
    assert found.n == (table.splits() == "test").sum()
    assert [one["top1"] for one in found.heads] == [plain.test["top1"], head.test["top1"]]
    assert [one["test_views"] for one in found.heads] == [1, 4]


def test_a_curve_ends_at_the_head_that_fit_gives(head, table):
    found = learning_curve(table, head="svm", params={"C": 0.1}, views=VIEWS, fractions=(0.5, 1), repeats=1)
    assert found.n == (table.splits() == "test").sum()
    assert found.points[-1]["top1"] == head.test["top1"]
    assert found.points[-1]["n_train"] == (table.splits() == "train").sum()


def test_suspects_are_scored_by_views_that_no_fit_has_seen(table):
    found = find_suspects(table, head="ridge", params={"alpha": 10.0}, views=VIEWS, folds=4)
    assert found.n_images == len(table)
    is_right = np.zeros(len(table), bool)
    for inside, outside in HashKFold(4).split(table.y, groups=table.content_hash):
        pipeline = fit(
            table.select(inside), head="ridge", params={"alpha": 10.0}, views=VIEWS
        ).estimator  # only its kind: fitted again, on all of these images
        pipeline.fit(table.bank[inside, :2].reshape(-1, table.feature_dim), np.repeat(table.y[inside], 2))
        scores = pipeline.decision_function(table.bank[outside].reshape(-1, table.feature_dim))
        # Scores of a ridge regression lie within a few units: their mean nearly decides as that of what
        # their softmax is.
        guess = scores.reshape(len(outside), 4, -1).mean(axis=1).argmax(axis=1)
        is_right[outside] = pipeline.classes_[guess] == table.y[outside]
    told = np.ones(len(table), bool)
    told[[suspect.row for suspect in found.suspects]] = False
    assert np.mean(told == is_right) > 0.97
    alone = find_suspects(table, head="ridge", params={"alpha": 10.0}, folds=4)
    assert {suspect.row for suspect in alone.suspects} != {suspect.row for suspect in found.suspects}


@pytest.mark.parametrize("views", [8, {"train": 0}])
def test_views_that_cannot_be_are_refused(table, views):
    for score in (find_suspects, learning_curve):
        with pytest.raises(HeadError, match="views"):
            score(table, views=views)


def test_rows_that_are_views_are_not_scored_as_images(head, table):
    views = table.with_views(2)
    for score in (
        lambda: evaluate(head, views),
        lambda: compare([head, head], views),
        lambda: find_suspects(views),
    ):
        with pytest.raises(HeadError, match="rows of this table are views"):
            score()
    with pytest.raises(HeadError, match="rows of this table are views"):
        learning_curve(views)

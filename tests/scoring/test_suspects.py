import json

import numpy as np
import pytest

from featstore.errors import HeadError, SplitError, UnknownHeadError
from featstore.heads import find_head
from featstore.scoring import find_suspects
from featstore.splits import HashKFold


@pytest.fixture
def planted(make_table, make_blobs):
    """600 images of four classes that overlap a little, and the rows of 30 with a wrong label."""
    X, y = make_blobs(600, n_classes=4, feature_dim=32, spread=1.6)
    random = np.random.default_rng(7)
    wrong = random.choice(600, 30, replace=False)
    classes = np.unique(y)
    right = y.copy()
    for row in wrong:
        y[row] = random.choice(classes[classes != y[row]])
    return make_table(X, y), wrong, right


@pytest.mark.parametrize("head", ["logistic", "svm"])
def test_planted_errors_come_first_and_their_labels_are_restored(planted, head):
    table, wrong, right = planted
    found = find_suspects(table, head=head)
    first = [suspect.row for suspect in found.suspects[:30]]
    assert len(set(first) & set(wrong.tolist())) >= 24
    assert len({suspect.row for suspect in found.suspects} & set(wrong.tolist())) >= 28
    planted_suspects = [suspect for suspect in found.suspects if suspect.row in wrong]
    restored = [suspect.suggested == right[suspect.row] for suspect in planted_suspects]
    assert np.mean(restored) >= 0.9


@pytest.mark.parametrize("head", ["logistic", "svm"])
def test_the_ranking_is_by_margin_and_each_margin_is_that_of_its_probabilities(planted, head):
    found = find_suspects(planted[0], head=head)
    margins = [suspect.margin for suspect in found.suspects]
    assert margins == sorted(margins)
    for suspect in found.suspects:
        assert suspect.margin == pytest.approx(suspect.label_probability - suspect.probability)
        assert -1 <= suspect.margin < 0
        assert suspect.suggested != suspect.label


def test_probabilities_are_those_of_a_plain_pipeline_fitted_on_the_other_folds(planted):
    table, _, _ = planted
    found = find_suspects(table, params={"C": 0.01}, folds=4)
    expected = np.empty((600, 4))
    for train, test in HashKFold(4).split(table.X, groups=table.content_hash):
        plain = find_head("logistic").make()
        plain[-1].set_params(C=0.01)
        expected[test] = plain.fit(table.X[train], table.y[train]).predict_proba(table.X[test])
    classes = np.unique(table.y)
    for suspect in found.suspects:
        own, guess = np.searchsorted(classes, [suspect.label, suspect.suggested])
        assert suspect.label_probability == pytest.approx(expected[suspect.row, own], abs=1e-6)
        assert suspect.probability == pytest.approx(expected[suspect.row, guess], abs=1e-6)
    assert found.top1 == pytest.approx((classes[expected.argmax(axis=1)] == table.y).mean())


def test_an_images_own_label_does_not_move_its_probabilities(planted):
    table, wrong, right = planted
    row = int(wrong[0])
    found = find_suspects(table, params={"C": 0.01})
    relabelled = table.y.copy()
    relabelled[row] = min(set(np.unique(table.y).tolist()) - {table.y[row], right[row]})
    again = find_suspects(table.but(y=relabelled), params={"C": 0.01})
    before = next(suspect for suspect in found.suspects if suspect.row == row)
    after = next(suspect for suspect in again.suspects if suspect.row == row)
    assert (after.suggested, after.probability) == (before.suggested, before.probability)


def test_twice_the_same_table_gives_the_same_result(planted):
    assert find_suspects(planted[0]) == find_suspects(planted[0])


def test_images_of_one_group_are_scored_together(planted):
    table, wrong, _ = planted
    row = int(wrong[0])
    X = table.X.copy()
    X[:40] = X[row]
    y = table.y.copy()
    y[:40] = y[row]
    alone = find_suspects(table.but(X=X, y=y), params={"C": 1.0})
    groups = np.array(["same"] * 40 + [""] * 560)
    groups[row] = "same"
    together = find_suspects(table.but(X=X, y=y, groups=groups), params={"C": 1.0})
    assert row not in {suspect.row for suspect in alone.suspects}
    assert row in {suspect.row for suspect in together.suspects}


def test_images_without_a_label_are_left_out(planted):
    table, _, _ = planted
    y = table.y.copy()
    y[:100] = ""
    found = find_suspects(table.but(y=y))
    assert found.n_images == 500
    assert all(suspect.row >= 100 for suspect in found.suspects)


def test_a_class_that_is_in_one_fold_only_is_not_scored(planted):
    table, _, _ = planted
    y = table.y.astype("<U20")
    y[5] = "once"
    found = find_suspects(table.but(y=y))
    assert (found.n_images, found.n_unjudged) == (599, 1)
    assert 5 not in {suspect.row for suspect in found.suspects}


def test_the_parameters_are_chosen_from_the_grid_once(planted):
    seen = []
    found = find_suspects(planted[0], folds=3, progress=lambda *told: seen.append(told))
    grid = find_head("logistic").grid["C"]
    assert found.params["C"] in grid
    assert seen[-1] == (len(grid) + 2, len(grid) + 2)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_the_result_is_json(planted):
    told = json.loads(json.dumps(find_suspects(planted[0], params={"C": 0.01}).to_dict()))
    assert told["params"] == {"C": 0.01}
    assert set(told["suspects"][0]) == {
        *("row", "path", "label", "suggested", "label_probability", "probability", "margin", "content_hash")
    }


def test_what_cannot_be_scored_is_refused(planted):
    table, _, _ = planted
    with pytest.raises(UnknownHeadError):
        find_suspects(table, head="forest")
    with pytest.raises(HeadError, match="no parameter D"):
        find_suspects(table, params={"D": 1})
    with pytest.raises(HeadError, match="cannot be fitted"):
        find_suspects(table, params={"C": -1})
    with pytest.raises(SplitError, match="at least 2"):
        find_suspects(table, folds=1)
    with pytest.raises(HeadError, match="at least 2"):
        find_suspects(table.but(y=np.array(["a"] * 600)))


def test_classes_may_count_alike(planted):
    table, _, _ = planted
    few = table.select(np.flatnonzero((table.y != "class 0") | (np.arange(600) % 8 == 0)))
    found = find_suspects(few, params={"C": 0.01}, class_weight="balanced", folds=4)
    plain = find_suspects(few, params={"C": 0.01}, folds=4)
    assert found.params["class_weight"] == "balanced"
    assert len(found.suspects) != len(plain.suspects)
    with pytest.raises(HeadError, match="class weights are given for moss"):
        find_suspects(few, class_weight={"moss": 2.0})


def test_copies_of_a_file_in_different_groups_are_scored_together(planted, monkeypatch):
    table, _, _ = planted
    hashes = table.content_hash_bytes.copy()
    hashes[300:] = hashes[:300]
    groups = np.array([f"group {number}" for number in range(600)])
    told = []
    of = HashKFold.split

    def spied(self, X, y=None, groups=None):
        told.extend(groups)
        return of(self, X, y, groups)

    monkeypatch.setattr(HashKFold, "split", spied)
    find_suspects(table.but(content_hash_bytes=hashes, groups=groups), params={"C": 0.01}, folds=3)
    assert told[:300] == told[300:600]

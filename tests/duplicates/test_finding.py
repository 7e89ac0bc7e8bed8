import json

import numpy as np
import pytest

import featstore
from featstore.errors import DuplicatesError
from featstore.splits import SplitRule


def names(group):
    return [image.row for image in group.images]


def test_planted_copies_are_found_and_nothing_else(make_store, make_scenes, make_nearly):
    X, y = make_scenes(600)
    planted = np.arange(0, 600, 6)
    store = make_store(np.concatenate([X, make_nearly(X[planted], noise=0.4)]), [*y, *y[planted]])
    found = featstore.find_duplicates(store.table())
    wanted = {(int(row), 600 + number) for number, row in enumerate(planted)}
    told = {tuple(names(group)) for group in found.groups}
    assert len(told & wanted) >= 0.97 * len(wanted)
    assert len(told - wanted) <= 1


def test_equal_files_are_a_group_whatever_the_threshold(make_store, make_scenes):
    X, y = make_scenes(60)
    store = make_store(X, y, contents=[f"image {number % 50}" for number in range(60)])
    found = featstore.find_duplicates(store.table(), threshold=1)
    assert (found.n_images, found.n_copies, found.n_pairs) == (60, 10, 0)
    assert sorted(map(names, found.groups)) == [[number, number + 50] for number in range(10)]
    assert all(group.is_identical and group.similarity == 1 for group in found.groups)


def test_different_files_with_equal_features_have_similarity_one(make_store, make_scenes):
    X, y = make_scenes(100)
    X[40] = X[70]
    (group,) = featstore.find_duplicates(make_store(X, y).table(), threshold=1).groups
    assert names(group) == [40, 70]
    assert not group.is_identical
    assert group.similarity == pytest.approx(1, abs=1e-5)


def test_label_conflicts_come_first_then_groups_that_straddle_splits(make_store, make_scenes, make_nearly):
    X, y = make_scenes(100)
    copies, of = make_nearly(X[[3, 9, 12]], noise=0.1), [3, 9, 12]
    labels = [*y, *y[of]]
    labels[100 + 1] = "weed"
    splits = [None] * 103
    splits[3] = splits[100] = splits[9] = splits[101] = "train"
    splits[12], splits[102] = "train", "test"
    found = featstore.find_duplicates(make_store(np.concatenate([X, copies]), labels, splits=splits).table())
    assert [names(group) for group in found.groups] == [[9, 101], [12, 102], [3, 100]]
    marks = [(group.has_label_conflict, group.straddles_splits) for group in found.groups]
    assert marks == [(True, False), (False, True), (False, False)]


def test_an_image_without_a_label_conflicts_with_none(make_store, make_scenes):
    X, y = make_scenes(30)
    X[5] = X[4]
    labels = [None if number == 5 else label for number, label in enumerate(y)]
    (group,) = featstore.find_duplicates(make_store(X, labels).table()).groups
    assert group.labels == (y[4],)


def test_the_rule_says_what_straddles(make_store, make_scenes):
    X, y = make_scenes(100)
    X[50:] = X[:50]
    found = featstore.find_duplicates(make_store(X, y).table(), rule=SplitRule(test=0, validation=0))
    assert len(found.groups) == 50
    assert not any(group.straddles_splits for group in found.groups)


def test_pairs_that_are_cut_are_counted_and_stay_in_their_groups(make_store, make_scenes, make_nearly):
    X, y = make_scenes(100)
    store = make_store(np.concatenate([X, make_nearly(X[:20])]), [*y, *y[:20]])
    found = featstore.find_duplicates(store.table(), max_pairs=5)
    assert (len(found.pairs), found.n_pairs, found.n_pairs_cut) == (5, 20, 15)
    assert len(found.groups) == 20
    best = [pair.similarity for pair in found.pairs]
    assert best == sorted(best, reverse=True)


def test_the_result_is_json(make_store, make_scenes):
    X, y = make_scenes(30)
    X[5] = X[4]
    found = featstore.find_duplicates(make_store(X, y).table())
    told = json.loads(json.dumps(found.to_dict()))
    assert told["groups"][0]["images"][1]["path"] == "/data/00005.jpg"
    assert told["pairs"][0]["rows"] == [4, 5]
    assert (told["n_pairs"], told["n_pairs_cut"]) == (1, 0)


def test_twice_the_same_table_gives_the_same_result(make_store, make_scenes, make_nearly):
    X, y = make_scenes(100)
    table = make_store(np.concatenate([X, make_nearly(X[:20])]), [*y, *y[:20]]).table()
    assert featstore.find_duplicates(table) == featstore.find_duplicates(table)


@pytest.mark.parametrize(("n", "n_groups"), [(1, 0), (2, 0)])
def test_hardly_any_images_are_no_error(make_store, make_scenes, n, n_groups):
    X, y = make_scenes(n)
    assert len(featstore.find_duplicates(make_store(X, y).table()).groups) == n_groups


@pytest.mark.parametrize("unfit", [{"threshold": 0}, {"threshold": 1.1}, {"max_pairs": -1}])
def test_a_setting_out_of_its_range_is_refused(make_store, make_scenes, unfit):
    with pytest.raises(DuplicatesError, match="found"):
        featstore.find_duplicates(make_store(*make_scenes(5)).table(), **unfit)

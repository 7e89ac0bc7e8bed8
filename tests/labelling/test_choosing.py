import numpy as np
import pytest

import featstore
from featstore.errors import SearchError
from featstore.heads import find_head

PARAMS = {"C": 0.03}


@pytest.fixture
def half(table):
    """The table with labels of every other image."""
    y = table.y.copy()
    y[1::2] = ""
    return table.but(y=y)


def probabilities_of(table):
    """By a head that is fitted on what is labelled, of all rows."""
    labelled = table.select(np.flatnonzero(table.y != ""))
    rule = featstore.SplitRule(test=0, validation=0)
    head = featstore.fit(labelled.with_splits(["train"] * len(labelled)), params=PARAMS, rule=rule)
    return head, head.predict_proba(table.X)


@pytest.mark.parametrize("by", ["margin", "entropy"])
def test_the_least_sure_images_come_first(half, by, monkeypatch):
    monkeypatch.setattr("featstore.labelling.directions._BLOCK_BYTES", 7 * 4 * 12)
    found = featstore.next_to_label(half, 10, by=by, params=PARAMS)
    head, p = probabilities_of(half)
    ranked = np.sort(p, axis=1)
    scores = ranked[:, -1] - ranked[:, -2] if by == "margin" else (p * np.log(p)).sum(axis=1)
    rows = np.flatnonzero(half.y == "")
    expected = rows[np.argsort(scores[rows])][:10]
    assert [image.row for image in found.images] == expected.tolist()
    assert [abs(image.score) for image in found.images] == pytest.approx(np.abs(scores[expected]))
    assert [image.suggested for image in found.images] == head.classes[p[expected].argmax(axis=1)].tolist()
    assert [image.probability for image in found.images] == pytest.approx(p[expected].max(axis=1))
    assert (found.by, found.head, found.n_labelled, found.n_unlabelled) == (by, "logistic", 120, 120)


def test_without_parameters_the_middle_of_the_grid_is_used(half):
    grid = find_head("logistic").grid["C"]
    told = featstore.next_to_label(half, 5, params={"C": grid[len(grid) // 2]})
    assert featstore.next_to_label(half, 5) == told
    assert told != featstore.next_to_label(half, 5, params={"C": grid[0]})


def test_a_diverse_choice_takes_from_each_cluster_before_any_twice(make_table):
    random = np.random.default_rng(0)
    clusters = np.repeat(np.eye(8, dtype=np.float32), 30, axis=0)
    X = clusters + 0.001 * random.normal(size=clusters.shape).astype(np.float32)
    y = np.full(240, "", "<U2")
    y[[0, 35]] = "a", "b"
    for seed in range(5):
        found = featstore.next_to_label(make_table(X, y), 6, by="diverse", seed=seed)
        assert sorted(image.row // 30 for image in found.images) == [2, 3, 4, 5, 6, 7]
        assert all(image.score == pytest.approx(2, abs=0.1) for image in found.images)


def test_a_diverse_choice_prefers_what_many_are_like(make_table):
    # Two kinds of forty images each, and forty images like nothing else.
    X = np.eye(42, dtype=np.float32)[[*[0] * 40, *[1] * 40, *range(2, 42)]]
    table = make_table(X, [""] * 120)
    rows = [image.row for seed in range(20) for image in featstore.next_to_label(table, 2, seed=seed).images]
    assert sum(row >= 80 for row in rows) <= 8


def test_a_diverse_choice_needs_no_labels_and_is_the_same_in_any_order(table):
    blank = table.but(y=np.full(len(table), ""))
    found = featstore.next_to_label(blank, 12)
    assert (found.by, found.head, found.n_labelled, found.n_unlabelled) == ("diverse", "", 0, 240)
    assert found.images[0].score is None
    assert all(image.score > 0 for image in found.images[1:])
    assert len({image.row for image in found.images}) == 12
    order = np.random.default_rng(0).permutation(len(table))
    columns = ("X", "y", "content_hash_bytes", "groups", "given_splits", "views", "paths")
    shuffled = blank.but(**{name: getattr(blank, name)[order] for name in columns})
    again = featstore.next_to_label(shuffled, 12)
    assert [image.content_hash for image in again.images] == [image.content_hash for image in found.images]
    other = featstore.next_to_label(blank, 12, seed=1)
    assert [image.row for image in other.images] != [image.row for image in found.images]


def test_equal_features_are_chosen_when_nothing_else_is_left(make_table):
    found = featstore.next_to_label(make_table(np.ones((5, 3), np.float32), [""] * 5), 9)
    assert sorted(image.row for image in found.images) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("by", ["margin", "diverse"])
def test_copies_of_labelled_images_are_not_chosen_and_of_others_one(half, by):
    hashes = half.content_hash_bytes.copy()
    hashes[1] = hashes[0]  # labelled
    hashes[5] = hashes[3]  # neither is
    found = featstore.next_to_label(half.but(content_hash_bytes=hashes), 1000, by=by, params=PARAMS)
    assert {image.row for image in found.images} == {*range(3, 240, 2)} - {5}
    assert found.n_unlabelled == len(found.images) == 118


def test_of_joined_spaces_each_counts_the_same(table):
    blank = table.but(y=np.full(len(table), ""), dims=(6, 6))
    scaled = blank.but(X=blank.X * np.repeat(np.float32([1, 1024]), 6))
    rows = [[image.row for image in featstore.next_to_label(of, 9).images] for of in (blank, scaled)]
    assert rows[0] == rows[1]


def test_progress_counts_the_chosen(table):
    done = []
    blank = table.but(y=np.full(len(table), ""))
    featstore.next_to_label(blank, 3, progress=lambda *numbers: done.append(numbers))
    assert done == [(1, 3), (2, 3), (3, 3)]


def test_invalid_choices_are_refused(table, half, make_viewed_table):
    y = np.full(len(table), "")
    y[0] = "a"
    with pytest.raises(SearchError, match="labelled images of 1 classes, and a choice by margin needs two"):
        featstore.next_to_label(table.but(y=y.astype("<U1")), 1, by="margin")
    with pytest.raises(SearchError, match="at least 1; found 0"):
        featstore.next_to_label(half, 0)
    with pytest.raises(SearchError, match="one of margin, entropy, diverse; found 'chance'"):
        featstore.next_to_label(half, 1, by="chance")
    with pytest.raises(SearchError, match="a row for each view"):
        featstore.next_to_label(make_viewed_table().with_views(2), 1)

import numpy as np
import pytest

import featstore
from featstore.errors import SearchError


def test_the_images_nearest_to_the_mean_direction_of_their_class(table, monkeypatch):
    monkeypatch.setattr("featstore.labelling.directions._BLOCK_BYTES", 7 * 4 * 12)
    found = featstore.find_centres(table, top=3)
    assert [one.label for one in found] == ["class 0", "class 1", "class 2"]
    X = table.X / np.linalg.norm(table.X, axis=1, keepdims=True)
    for one in found:
        own = np.flatnonzero(table.y == one.label)
        mean = X[own].mean(axis=0)
        cosines = X[own] @ mean / np.linalg.norm(mean)
        best = np.argsort(-cosines)[:3]
        assert one.n_images == len(own)
        assert [image.row for image in one.images] == own[best].tolist()
        assert [image.similarity for image in one.images] == pytest.approx(cosines[best], abs=1e-6)
        assert [image.path for image in one.images] == table.paths[own[best]].tolist()


def test_long_features_count_no_more_than_short_ones(make_table):
    X = np.array([[1, 0], [1, 0.1], [1, -0.1], [1, 50]], np.float32) * [[1], [1], [1], [1000]]
    (one,) = featstore.find_centres(make_table(X, ["a"] * 4), top=4)
    assert one.images[-1].row == 3


def test_copies_are_listed_once(table):
    hashes = table.content_hash_bytes.copy()
    X = table.X.copy()
    first = featstore.find_centres(table, top=1)[0].images[0].row
    other = next(row for row in np.flatnonzero(table.y == "class 0") if row > first)
    hashes[other], X[other] = hashes[first], X[first]
    copied = table.but(X=X, content_hash_bytes=hashes)
    rows = [image.row for image in featstore.find_centres(copied, top=100)[0].images]
    assert rows.count(first) == 1
    assert other not in rows
    assert len(rows) == 79


def test_of_joined_spaces_each_counts_the_same(table):
    scaled = table.but(X=table.X * np.repeat(np.float32([1, 1000]), 6), dims=(6, 6))
    plain = table.but(dims=(6, 6))
    rows = [
        [image.row for one in featstore.find_centres(of, top=5) for image in one.images]
        for of in (plain, scaled)
    ]
    assert rows[0] == rows[1]


def test_images_without_a_label_and_other_classes_are_left_out(table):
    y = table.y.copy()
    y[::2] = ""
    (one,) = featstore.find_centres(table.but(y=y), top=100, classes=["class 1"])
    assert (one.label, one.n_images) == ("class 1", int((y == "class 1").sum()))
    assert {str(y[image.row]) for image in one.images} == {"class 1"}


def test_a_table_without_labels_or_unknown_classes_are_refused(table):
    with pytest.raises(SearchError, match="top must be at least 1"):
        featstore.find_centres(table, top=0)
    with pytest.raises(SearchError, match="no images of cats, dogs"):
        featstore.find_centres(table, classes=["cats", "class 0", "dogs"])
    with pytest.raises(SearchError, match="no image of the catalog photos has a label"):
        featstore.find_centres(table.but(y=np.full(len(table), "")))


def test_progress_counts_the_rows_of_both_passes(table, monkeypatch):
    monkeypatch.setattr("featstore.labelling.directions._BLOCK_BYTES", 100 * 4 * 12)
    done = []
    featstore.find_centres(table, progress=lambda *numbers: done.append(numbers))
    assert done == [(rows, 480) for rows in (100, 200, 240, 340, 440, 480)]

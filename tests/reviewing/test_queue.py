"""The images that are worth a look."""

import numpy as np
import pytest

import featstore
from featstore.errors import FingerprintMismatchError, SearchError
from featstore.reviewing.queue import KINDS


@pytest.fixture(scope="module")
def queue(head, table):
    return featstore.review_queue(head, table, most=4)


def of_kind(queue, kind):
    return [item for item in queue.items if kind in item.kinds]


def test_each_image_is_there_once_by_its_most_important_kind(queue):
    assert len({item.content_hash for item in queue.items}) == len(queue.items)
    order = [KINDS.index(item.kinds[0]) for item in queue.items]
    assert order == sorted(order)
    assert queue.left_out == {}


def test_suspects_are_those_of_find_suspects_with_its_suggestions(queue, head, table):
    expected = featstore.find_suspects(table, head=head.name, params=head.params).suspects[:4]
    found = of_kind(queue, "suspect")
    assert [(item.row, item.suggested, item.probability) for item in found] == [
        (one.row, one.suggested, one.probability) for one in expected
    ]
    assert [item.labels for item in found] == [(one.label,) for one in expected]


def test_the_unlabelled_one_is_to_be_labelled(queue, table):
    (item,) = of_kind(queue, "unlabelled")
    assert item.row == np.flatnonzero(table.y == "")[0]
    assert item.labels == ()
    assert item.label_probability is None


def test_the_least_sure_and_the_least_like_training_images_come_in_order(queue, head, table):
    p = head.predict_proba(table.X).max(axis=1)
    assert [item.row for item in of_kind(queue, "unsure")] != []
    assert {item.row for item in of_kind(queue, "unsure")} == set(np.argsort(p, kind="stable")[:4].tolist())
    outliers = of_kind(queue, "outlier")
    assert len(outliers) == 4
    assert all(head.was_fitted_on(table)[item.other] for item in outliers)


def test_copies_with_different_labels_are_one_item_with_both(head, table, photos):
    labels = table._columns.labels.copy()
    labels[np.flatnonzero(table.content_hash == table.content_hash[-1])[0]] = "plain"
    from dataclasses import replace

    conflicting = table._with(replace(table._columns, labels=labels), table._assignment)
    item = of_kind(featstore.review_queue(head, conflicting, most=2), "duplicate")[0]
    assert sorted(item.labels) == ["<script>alert(1)</script>", "plain"]
    assert item.other is None
    assert item.label_probability is None


def test_what_cannot_be_looked_for_is_told_of(head, table):
    few = table.select(~head.was_fitted_on(table))
    assert (
        featstore.review_queue(head, few, most=2).left_out["outlier"]
        == "the head was fitted on none of these images"
    )


def test_mistakes_are_refused(head, table, make_table, make_blobs):
    with pytest.raises(SearchError, match="at least 1; found 0"):
        featstore.review_queue(head, table, most=0)
    with pytest.raises(FingerprintMismatchError):
        featstore.review_queue(head, make_table(*make_blobs()))

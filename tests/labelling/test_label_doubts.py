"""The choice of images to label next, of those that may have several labels."""

import numpy as np
import pytest
from label_tables import CLASSES, label_arrays, label_table

from featstore.errors import HeadError, SearchError
from featstore.heads import fit_labels
from featstore.labelling import next_to_label
from featstore.splits import SplitRule


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    X, has = label_arrays(300)
    known = np.arange(300) < 200
    return label_table(tmp_path_factory.mktemp("labels") / "a.fstore", X, has, known=known)


def test_images_with_a_label_near_its_threshold_come_first(table):
    found = next_to_label(table, 100, head="ridge", params={"alpha": 100.0})
    # The same head: of all labelled images, its thresholds chosen in five folds.
    head = fit_labels(
        table, head="ridge", params={"alpha": 100.0}, rule=SplitRule(test=0, validation=0), folds=5
    )
    p = head.predict_proba(np.asarray(table.X)[[one.row for one in found.images]])
    odds = np.log(p / (1 - p)) - np.log(head.thresholds / (1 - head.thresholds))

    assert (found.by, found.head, found.n_labelled, found.n_unlabelled) == ("margin", "ridge", 200, 100)
    assert all(one.row >= 200 for one in found.images)
    scores = [one.score for one in found.images]
    assert scores == pytest.approx(abs(odds).min(axis=1), rel=1e-5)
    assert scores == sorted(scores)
    nearest = abs(odds).argmin(axis=1)
    assert [one.doubtful for one in found.images] == CLASSES[nearest].tolist()
    assert [one.probability for one in found.images] == pytest.approx(p[np.arange(100), nearest], rel=1e-5)
    given = ["|".join(CLASSES[one]) or "|" for one in p >= head.thresholds]
    assert [one.suggested for one in found.images] == given


def test_entropy_is_that_of_all_labels_together(table):
    found = next_to_label(table, 5, by="entropy", head="ridge")
    assert found.by == "entropy"
    assert 0 < found.images[-1].score <= found.images[0].score <= 4 * np.log(2)


def test_few_labels_are_enough_for_a_diverse_choice_alone(tmp_path):
    X, has = label_arrays(60)
    for name, n_known in (("a", 0), ("b", 1)):
        table = label_table(tmp_path / f"{name}.fstore", X, has, known=np.arange(60) < n_known)
        found = next_to_label(table, 5)
        assert (found.by, len(found.images), found.n_labelled) == ("diverse", 5, n_known)
        with pytest.raises(SearchError, match="begin with --by diverse"):
            next_to_label(table, 5, by="margin")
    two = label_table(
        tmp_path / "c.fstore", X, np.eye(4, dtype=bool)[np.arange(60) % 2], known=np.arange(60) < 2
    )
    with pytest.raises(SearchError, match="2 labelled images are too few to choose others by margin"):
        next_to_label(two, 5)
    with pytest.raises(HeadError, match="knn does not learn several labels"):
        next_to_label(label_table(tmp_path / "d.fstore", X, has, known=np.arange(60) < 30), 5, head="knn")

"""Classes in a hierarchy: parents, levels, and answers that back off."""

from dataclasses import replace

import numpy as np
import pytest

import featstore
from fake_tables import FakeTable
from featstore.errors import HeadError, StoreError
from featstore.heads import Head, Hierarchy, class_parents, fit, level_scores
from featstore.splits import SplitRule

CLASSES = ["car", "cat", "dog", "rose"]
PARENTS = {"cat": "animal", "dog": "animal", "animal": "alive", "rose": "alive"}


@pytest.fixture
def hierarchy():
    return Hierarchy.of(CLASSES, PARENTS)


@pytest.mark.parametrize(
    ("row", "least", "answer"),
    [
        ([0.02, 0.95, 0.02, 0.01], 0.9, ("cat", 0.95)),
        ([0.02, 0.5, 0.45, 0.03], 0.9, ("animal", 0.95)),
        ([0.05, 0.3, 0.3, 0.35], 0.9, ("alive", 0.95)),
        ([0.4, 0.2, 0.2, 0.2], 0.9, None),
        ([0.4, 0.2, 0.2, 0.2], 0.3, ("animal", 0.4)),
        ([0.9, 0.05, 0.05, 0.0], 0.9, ("car", 0.9)),
        ([0.0, 0.35, 0.45, 0.2], 0.34, ("dog", 0.45)),
    ],
)
def test_the_deepest_node_that_is_probable_enough_is_the_answer(hierarchy, row, least, answer):
    found = hierarchy.deepest(np.array(row, np.float32), least)
    assert (found and (found[0], round(found[1], 6))) == answer


def test_backing_off_is_right_as_often_as_the_probabilities_say(hierarchy):
    random = np.random.default_rng(0)
    probabilities = random.dirichlet([0.4] * 4, 4000)
    drawn = (probabilities.cumsum(axis=1) > random.random((4000, 1))).argmax(axis=1)
    found = [hierarchy.deepest(row, 0.8) for row in probabilities]
    right = [
        answer[0] in hierarchy.chains[true]
        for answer, true in zip(found, drawn.tolist(), strict=True)
        if answer is not None
    ]
    assert len(right) > 2000
    assert np.mean(right) > 0.8
    assert np.mean(right) == pytest.approx(np.mean([answer[1] for answer in found if answer]), abs=0.02)


def test_accuracy_at_each_level_counts_summed_probabilities():
    labels = np.array(["cat", "dog", "rose", "car"])
    probabilities = np.array(
        [[0.1, 0.2, 0.6, 0.1], [0.4, 0.3, 0.3, 0.0], [0.1, 0.1, 0.1, 0.7], [0.3, 0.3, 0.3, 0.1]]
    )
    levels = level_scores(CLASSES, PARENTS, labels, probabilities)
    assert [(one["level"], one["classes"], one["top1"]) for one in levels] == [
        (1, 2, 0.75),
        (2, 3, 0.75),
        (3, 4, 0.5),
    ]
    assert level_scores(CLASSES, {}, labels, probabilities) == []


def test_parents_are_read_from_a_file_or_from_names(tmp_path):
    path = tmp_path / "parents.csv"
    path.write_text(
        "path,Label,parent\n1.jpg,cat,animal\n2.jpg,cat,animal\n\n3.jpg,dog,animal\n,animal,alive\n"
    )
    assert class_parents(path, CLASSES) == {"cat": "animal", "dog": "animal", "animal": "alive"}
    names = ["a/b/c", "a/d", "e"]
    assert class_parents("/", names) == {"a/b": "a", "a/b/c": "a/b", "a/d": "a"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class,parent\ncat,animal\ncat,pet\n", "line 3: the parent of 'cat' is 'pet' here and 'animal' on"),
        ("class,parent\ncat,animal\nanimal,cat\n", "'cat' is an ancestor of itself: cat, animal, cat"),
        (
            "class,parents\ncat,animal\n",
            "needs the columns class and parent in its first line; found 'class'",
        ),
        ("class,parent\ncat\n", "line 2: expected a class and a parent"),
        ("class,parent\nlion,animal\n", "none of the classes car, cat, dog, rose has a parent"),
    ],
)
def test_files_that_are_no_hierarchy_are_refused(tmp_path, text, words):
    path = tmp_path / "parents.csv"
    path.write_text(text)
    with pytest.raises(HeadError, match=words):
        class_parents(path, CLASSES)


def test_names_without_levels_and_files_that_are_not_there_are_refused():
    with pytest.raises(HeadError, match="none of the classes"):
        class_parents("/", CLASSES)
    with pytest.raises(HeadError, match="has an empty level between '/'"):
        class_parents("/", ["a//b"])
    with pytest.raises(HeadError, match="there is no file"):
        class_parents("nothing.csv", CLASSES)


@pytest.fixture(scope="module")
def fitted():
    random = np.random.default_rng(0)
    y = np.arange(200) % 4
    centres = np.array([[9, 0, 0], [0, 4, 1], [0, 4, -1], [0, -4, 0]])
    X = (centres[y] + random.normal(size=(200, 3))).astype(np.float32)
    hashes = random.integers(0, 256, (200, 32), np.uint8)
    table = FakeTable(X, np.array(CLASSES)[y], hashes, np.array([""] * 200), np.array([""] * 200))
    rule = SplitRule(validation=0.2, test=0.3)
    return replace(fit(table, head="ridge", params={"alpha": 10.0}, rule=rule), parents=PARENTS), table


def test_a_head_keeps_its_parents_and_is_scored_by_level(fitted, tmp_path):
    head, table = fitted
    head.save(tmp_path / "a.head")
    loaded = Head.load(tmp_path / "a.head")
    assert loaded.parents == PARENTS == loaded.to_dict()["parents"]
    result = featstore.evaluate(loaded, table)
    tops = [one["top1"] for one in result.levels]
    assert len(tops) == 3
    assert tops[0] >= tops[1] > tops[2] == result.top1
    assert result.to_dict()["levels"][0]["classes"] == 2
    assert featstore.evaluate(replace(head, parents={}), table).levels == []
    with pytest.raises(StoreError, match="invalid parents"):
        replace(head, parents={"cat": "dog", "dog": "cat"}).save(tmp_path / "b.head")


def test_renamed_and_removed_classes_are_so_in_the_hierarchy(fitted):
    head, _ = fitted
    edited = featstore.edit_classes(head, rename={"cat": "kitten"}, remove=["dog"])
    assert edited.parents == {"kitten": "animal", "animal": "alive", "rose": "alive"}

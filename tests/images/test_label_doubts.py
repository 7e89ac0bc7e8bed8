import numpy as np
import pytest

from featstore.images.sources.lists.label_doubts import label_doubts, separator_doubts
from featstore.images.sources.records import ImageRecord
from featstore.io.stamps import UNKNOWN


@pytest.mark.parametrize(
    "labels",
    [
        ["cat", "dog", "cat|dog"],
        ["cat", "dog", "cat;dog"],
        ["cat", "dog", "cat, dog"],
        ["cat", "dog", "cat dog"],
        ["a,b", "b,c", "a,c"],
        ["['a', 'b']", "['b', 'c']", "['a']", "a", "c"],
        ["haze primary", "clear primary", "clear water", "haze water", "clear primary water"],
    ],
)
def test_several_labels_in_one_are_named(labels):
    (doubt,) = label_doubts(labels)
    assert "like several in one" in doubt


@pytest.mark.parametrize(
    "labels", [["1.5", "2", "3.25"], [str(n) for n in range(200)], ["-0.3", "1e5"], ["nan", "0.5"]]
)
def test_measurements_are_named(labels):
    (doubt,) = label_doubts(labels)
    assert "measurements" in doubt


@pytest.mark.parametrize(
    "labels",
    [
        [],
        [None, None],
        ["0", "1", "2"] * 5,
        ["3.0", "4.0"],
        [str(number) for number in range(100)] * 5,
        ["golden retriever", "labrador retriever", "golden eagle"],
        ["Rose, wild", "Rose, garden"],
        ["red panda", "panda"],
        ["n01440764", "n01443537"],
    ],
)
def test_names_of_classes_raise_no_doubt(labels):
    assert label_doubts(labels) == []


def records_of(*labels, path=None):
    return [
        ImageRecord(path=path or f"{n}.png", label=label, stamp=UNKNOWN) for n, label in enumerate(labels)
    ]


def test_a_separator_that_is_in_no_label_is_named():
    (doubt,) = separator_doubts(records_of("sea|sky", "sky", None), ";")
    assert "'sea|sky', 'sky', has ';' in it" in doubt


@pytest.mark.parametrize(
    "records",
    [records_of("sea;sky", "sky"), records_of("sky", ";"), records_of("sky", "sea", path="a.png")],
)
def test_a_separator_or_two_rows_of_an_image_raise_no_doubt(records):
    assert separator_doubts(records, ";") == []


def test_a_hundred_thousand_labels_take_no_time():
    labels = np.random.default_rng(0).integers(0, 10**6, 100_000).astype(str).tolist()
    assert len(label_doubts(labels)) == 1

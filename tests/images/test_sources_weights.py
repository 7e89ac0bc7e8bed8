"""Weights of images in lists."""

import numpy as np
import pytest

from featstore.errors import SourceError
from featstore.images.sources.opening import open_source


@pytest.fixture
def listed(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"not looked at")

    def make(content, name="list.csv"):
        (tmp_path / name).write_text(content)
        return tmp_path / name

    return make


def weights(source):
    return [record.weight for record in source.records]


def test_a_column_of_weights_is_read_where_it_is_named(listed):
    path = listed("path,label,Times\na.jpg,x,0.5\nb.jpg,y, 3e2 \n")
    assert weights(open_source(path, weight_column="times")) == [0.5, 300.0]
    assert weights(open_source(path)) == [None, None]
    assert open_source(path).unused_columns == ["Times"]
    lines = '{"file_name": "a.jpg", "w": 2}\n{"file_name": "b.jpg", "w": 0.25}\n'
    assert weights(open_source(listed(lines, "list.jsonl"), weight_column="w")) == [2.0, 0.25]


def test_a_table_in_memory_and_a_folders_metadata_have_weights_too(listed, tmp_path):
    pandas = pytest.importorskip("pandas")
    listed("file_name,label,w\na.jpg,x,2\nb.jpg,y,4\n", "metadata.csv")
    frame = pandas.DataFrame({"path": [str(tmp_path / "a.jpg")], "w": [np.float32(0.5)]})

    assert weights(open_source(tmp_path, weight_column="w")) == [2.0, 4.0]
    assert weights(open_source(frame, weight_column="w")) == [0.5]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("0", "line 3: a weight must be a number above 0; found '0'; leave the label empty"),
        ("-2", "a weight must be a number above 0; found '-2'"),
        ("", "line 3: the weight is a number; found ''"),
        ("much", "the weight is a number; found 'much'"),
        ("nan", "the weight is a number; found 'nan'"),
        ("inf", "the weight is a number; found 'inf'"),
    ],
)
def test_a_weight_is_a_number_above_0(cell, message, listed):
    with pytest.raises(SourceError, match=message):
        open_source(listed(f"path,label,w\na.jpg,x,1\nb.jpg,y,{cell}\n"), weight_column="w")


def test_an_image_listed_twice_has_one_weight(listed):
    with pytest.raises(SourceError, match=r"has weight 2\.0 here and 1\.0 on line 2"):
        open_source(listed("path,label,w\na.jpg,x,1\na.jpg,x,2\n"), weight_column="w")


def test_a_column_that_is_not_there_or_means_two_things_is_refused(listed, tmp_path):
    path = listed("path,label,w\na.jpg,x,1\n")
    with pytest.raises(SourceError, match="there is no column 'v'; found 'path', 'label', 'w'"):
        open_source(path, weight_column="v")
    with pytest.raises(SourceError, match="the column 'label' cannot be both label and weight"):
        open_source(path, weight_column="label")
    with pytest.raises(SourceError, match=r"weight_column \(--weight-column\): for lists"):
        open_source(tmp_path, weight_column="w")

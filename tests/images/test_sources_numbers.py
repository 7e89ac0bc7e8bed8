"""Lists with a column of numbers to predict."""

import json

import pytest

from featstore.errors import SourceError
from featstore.images.sources.opening import open_source

PATHS = [f"{number}.png" for number in range(4)]


@pytest.fixture
def folder(tmp_path):
    for path in PATHS:
        (tmp_path / path).write_bytes(path.encode())
    return tmp_path


def write_list(folder, cells, header="path,age", name="ages.csv"):
    rows = [f"{path},{cell}" for path, cell in zip(PATHS, cells, strict=False)]
    (folder / name).write_text("\n".join([header, *rows]) + "\n")
    return folder / name


def targets(source):
    return [record.target for record in source.records]


def test_a_cell_is_a_number_and_an_empty_one_is_unknown(folder):
    source = open_source(write_list(folder, ["1.5", "", "-2e3", " 7 "]), target="Age")
    assert targets(source) == [1.5, None, -2000.0, 7.0]
    assert source.target == "Age"
    assert source.unlabelled == 1
    assert not source.doubts()
    table = {"path": [str(folder / path) for path in PATHS[:3]], "age": [1, float("nan"), 0]}
    pandas = pytest.importorskip("pandas")
    assert targets(open_source(pandas.DataFrame(table), target="age")) == [1.0, None, 0.0]
    lines = [json.dumps({"file_name": path, "age": age}) for path, age in zip(PATHS, (3, None), strict=False)]
    (folder / "ages.jsonl").write_text("\n".join(lines))
    assert targets(open_source(folder / "ages.jsonl", target="age")) == [3.0, None]


@pytest.mark.parametrize("cell", ["old", "nan", "inf", "1_000", "12 kg", "True"])
def test_what_is_no_number_is_refused_by_its_row(folder, cell):
    with pytest.raises(SourceError, match=r"ages.csv', line 3: the target age is a number, or empty where"):
        open_source(write_list(folder, ["1", cell]), target="age")


def test_a_label_column_beside_the_number_is_not_used(folder):
    path = write_list(folder, ["1,cat", "2,dog"], header="path,age,label")
    source = open_source(path, target="age")
    assert [record.label for record in source.records] == [None, None]
    assert source.doubts() == ["columns that are not used: 'label'; path, age, group and split are"]
    assert targets(open_source(write_list(folder, ["4"], header="path,label"), target="label")) == [4.0]


def test_a_path_with_two_numbers_is_refused(folder):
    (folder / "ages.csv").write_text("path,age\n0.png,0\n0.png,1\n")
    with pytest.raises(SourceError, match=r"line 3: '0.png' has target 1.0 here and 0.0 on line 2"):
        open_source(folder / "ages.csv", target="age")


def test_class_folders_beside_a_list_of_numbers_are_no_labels(folder):
    (folder / "cats").mkdir()
    (folder / "cats/9.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "metadata.csv").write_text("file_name,age\ncats/9.png,3\n")
    source = open_source(folder, target="age")
    assert [(record.label, record.target) for record in source.records if "cats" in record.path] == [
        (None, 3)
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "size"}, "there is no column 'size'; found 'path', 'age'"),
        ({"target": "path"}, "cannot be both path and target"),
        ({"target": "age", "weight_column": "age"}, "cannot be both weight and target"),
        ({"target": "age", "label_column": "age"}, "a catalog has either these or labels"),
        ({"target": "age", "label_separator": "|"}, "a catalog has either these or labels"),
    ],
)
def test_columns_that_cannot_be_the_number_are_refused(folder, options, words):
    with pytest.raises(SourceError, match=words):
        open_source(write_list(folder, ["1", "2"]), **options)


def test_numbers_are_for_lists(folder):
    with pytest.raises(SourceError, match=r"target \(--target\): for lists, not for the images of a folder"):
        open_source(folder, target="age")
    with pytest.raises(SourceError, match="a list of paths has no columns: leave out target"):
        open_source([str(folder / "0.png")], target="age")

"""Lists of paths and tables as sources, in a program."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import featstore
from fakes import CountingBackbone
from featstore.errors import SourceError
from featstore.images.sources.opening import open_source


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(6):
        path = tmp_path / "photos" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        os.utime(path, ns=(10**18 + number, 10**18 + number))
    return tmp_path / "photos"


def rows(source):
    return [(record.path, record.label, record.group, record.split) for record in source.records]


PATHS = ["photos/0.png", "photos/1.png"]


@pytest.mark.parametrize(
    "given",
    [
        PATHS,
        tuple(PATHS),
        set(PATHS),
        frozenset(PATHS),
        {Path(PATHS[0]), PATHS[1]},
        map(Path, PATHS),
        np.array(PATHS),
        pd.Series(PATHS),
        (p for p in PATHS),
    ],
    ids=[
        "list",
        "tuple",
        "set",
        "frozenset",
        "set of both kinds",
        "iterator of Path",
        "array",
        "Series",
        "generator",
    ],
)
def test_any_iterable_of_paths_is_a_list(photos, given):
    source = open_source(given)
    assert rows(source) == [(path, None, None, None) for path in PATHS]
    assert (source.name, source.root, source.location) == ("images", str(photos.parent), "")


def test_absolute_paths_stay(photos):
    assert rows(open_source([photos / "0.png"])) == [(str(photos / "0.png"), None, None, None)]


def test_a_table_gives_labels_groups_and_splits(photos):
    table = pd.DataFrame(
        {
            "path": [f"photos/{number}.png" for number in range(6)],
            "label": ["a", "b", None, np.nan, pd.NA, " a "],
            "group": [1, 2, np.nan, 1, 2, 3],
            "split": ["train", "val", "", None, "test", pd.NA],
        }
    )
    assert [row[1:] for row in rows(open_source(table))] == [
        ("a", "1", "train"),
        ("b", "2", "validation"),
        (None, None, None),
        (None, "1", None),
        (None, "2", "test"),
        ("a", "3", None),
    ]


def test_categories_whole_numbers_and_truth_values_are_labels(photos):
    for values, told in (
        (pd.Categorical(["x", "y"]), ["x", "y"]),
        ([0, 1], ["0", "1"]),
        ([True, False], ["True", "False"]),
        ([1.0, np.nan], ["1", None]),
    ):
        source = open_source(pd.DataFrame({"path": PATHS, "label": values}))
        assert [record.label for record in source.records] == told


def test_columns_have_the_names_that_a_csv_takes(photos):
    table = pd.DataFrame({"Filename": PATHS, "class": ["a", "b"], "score": [1, 2]})
    source = open_source(table)
    assert rows(source) == [(PATHS[0], "a", None, None), (PATHS[1], "b", None, None)]
    assert source.unused_columns == ["score"]


def test_paths_mean_what_they_do_in_a_csv(photos):
    given = [f" {PATHS[0]} ", PATHS[1].replace("/", "\\"), "file://example.com/a.png", "photos/2"]
    source = open_source(given)
    assert [row[0] for row in rows(source)] == [*PATHS, "photos/2.png"]
    ((path, reason),) = source.failures
    assert path == "file://example.com/a.png"
    assert reason.startswith("the address of a file on another machine")


def test_rows_that_repeat_are_dropped_and_missing_files_listed(photos):
    source = open_source([*PATHS, "photos/../photos/0.png", "photos/none.png", "photos"])
    assert [record.path for record in source.records] == PATHS
    assert source.failures == [
        ("photos/none.png", "no such file"),
        ("photos", "a folder, not a regular file"),
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "names no image"),
        (["none.png"], "none of the 1 files .* current folder"),
        (17, "list of paths or a table .* found int"),
        ({"path": PATHS}, "found dict"),
        ([np.zeros((8, 8, 3), np.uint8)], "row 0: a path is .* found ndarray.*BackboneFeatures"),
        ([*PATHS, None], "row 2: .* found NoneType"),
        (["a\0b"], "cannot be the path"),
        (pd.DataFrame({"where": PATHS}), "column 'path'.* found 'where': .*columns=.'where': 'path'"),
        (pd.DataFrame([PATHS], columns=["path", "path"]), "the column 'path' is named more than once"),
        (pd.DataFrame({"image": PATHS, "file": PATHS}), "'file' and 'image' may each be the column 'path'"),
        (
            pd.DataFrame({"path": PATHS, "label": ["a", "\ud800"]}, dtype=object),
            "row 1: the label .* in UTF-8",
        ),
        (["\ud800.png"], "cannot be the path"),
        (pd.DataFrame(), "column 'path'.* found none"),
        (
            pd.DataFrame({"path": PATHS, "label": [["a", "b"], ["a"]]}),
            r"row 0: the label is \['a', 'b'\], and an image has one",
        ),
        (pd.DataFrame({"path": PATHS, "split": ["train", "later"]}), "row 1: split is train.* found 'later'"),
        (
            pd.DataFrame({"path": PATHS[:1] * 2, "label": ["a", "b"]}),
            "row 1: .* has label 'b' here and label 'a'",
        ),
    ],
)
def test_what_is_no_list_is_refused(photos, given, message):
    with pytest.raises(SourceError, match=message):
        open_source(given)


def test_a_table_is_extracted_and_extracted_again(photos):
    table = pd.DataFrame({"path": [f"photos/{number}.png" for number in range(6)], "label": list("ababab")})
    report = featstore.extract(table[:4], backbone=CountingBackbone())
    assert (report.store, report.catalog) == (str(photos.parent / "images.fstore"), "images")
    again = featstore.extract(table, backbone=CountingBackbone())
    assert (again.extracted, again.reused, again.read) == (2, 4, 2)
    assert featstore.FeatureStore("images.fstore").table().y.tolist() == list("ababab")
    assert featstore.FeatureStore("images.fstore").info()["catalogs"][0]["location"] == ""
    fewer = featstore.extract(table[1:], backbone=CountingBackbone())
    assert fewer.gone == ("photos/0.png",)


def test_a_list_does_not_take_the_catalog_of_a_folder(photos):
    folder = photos.rename(photos.parent / "images")
    featstore.extract(folder, "s.fstore", backbone=CountingBackbone())
    with pytest.raises(SourceError, match=r"describes .*images, not a list; give this source another name"):
        featstore.extract(["images/0.png"], "s.fstore", backbone=CountingBackbone())
    featstore.extract(["images/0.png"], "s.fstore", backbone=CountingBackbone(), catalog="one")
    with pytest.raises(SourceError, match="describes a list"):
        featstore.extract(folder, "s.fstore", backbone=CountingBackbone(), catalog="one")


def test_columns_that_are_not_used_and_odd_labels_are_warned_of(photos, caplog):
    table = pd.DataFrame({"path": PATHS, "label": ["0.5", "1.25"], "weight": [1, 2], 7: [0, 0]})
    featstore.extract(table, "s.fstore", backbone=CountingBackbone())
    assert "columns that are not used: 'weight', '7'; path, label, group and split are" in caplog.text
    assert "look like measurements" in caplog.text


def test_lists_of_splits_fit_a_list_of_images(photos):
    (photos.parent / "test.txt").write_text("photos/1\n")
    source = open_source(PATHS, test_list="test.txt")
    assert [record.split for record in source.records] == [None, "test"]
    table = pd.DataFrame({"path": PATHS, "split": ["train", "test"]})
    with pytest.raises(SourceError, match="'the list' gives splits itself, by the list's column split"):
        open_source(table, test_list="test.txt")

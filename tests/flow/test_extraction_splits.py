"""Splits that people bring with their images, from the source through the store into the table."""

import os

import pytest

import featstore
from fakes import CountingBackbone
from featstore.errors import SourceError
from featstore.splits import SplitRule
from pictures import write_picture


@pytest.fixture
def photos(tmp_path):
    for number in range(8):
        write_picture(tmp_path / "photos" / ("cat" if number % 2 else "dog") / f"{number}.png", number)
    return tmp_path / "photos"


@pytest.fixture
def lists(tmp_path):
    (tmp_path / "train.txt").write_text("dog/0\ncat/1\ndog/2\ncat/3\n")
    (tmp_path / "test.txt").write_text("dog/4\ncat/5\n")
    return {"train_list": tmp_path / "train.txt", "test_list": str(tmp_path / "test.txt")}


@pytest.fixture
def store(tmp_path):
    return tmp_path / "photos.fstore"


def given(store):
    table = featstore.FeatureStore(store).table()
    names = [os.path.basename(path).removesuffix(".png") for path in table.paths]
    return "".join(split[:2] or "--" for _, split in sorted(zip(names, table.given_splits, strict=True)))


def test_lists_fill_the_catalog(photos, store, lists):
    report = featstore.extract(photos, store, backbone=CountingBackbone(), **lists)
    assert given(store) == "trtrtrtrtete----"
    assert report.given_splits == {"train": 4, "validation": 0, "test": 2, "rule": 2}
    assert report.to_dict()["given_splits"]["rule"] == 2
    assert featstore.FeatureStore(store).info()["catalogs"][0]["given_splits"] == report.given_splits


def test_lists_on_images_that_are_known_cost_nothing(photos, store, lists):
    featstore.extract(photos, store, backbone=CountingBackbone())
    assert given(store) == "--" * 8
    backbone = CountingBackbone()
    report = featstore.extract(photos, store, backbone=backbone, **lists)
    assert (backbone.images, report.read, report.reused) == (0, 0, 8)
    assert given(store) == "trtrtrtrtete----"


def test_a_call_without_lists_forgets_them_and_says_so(photos, store, lists, caplog):
    featstore.extract(photos, store, backbone=CountingBackbone(), **lists)
    assert caplog.text == ""
    featstore.extract(photos, store, backbone=CountingBackbone())
    assert given(store) == "--" * 8
    assert "6 images of the catalog photos had given splits, and this call gives none" in caplog.text
    caplog.clear()
    featstore.extract(photos, store, backbone=CountingBackbone())
    assert caplog.text == ""


def test_a_list_that_does_not_fit_stops_before_anything_is_written(photos, store, lists):
    backbone = CountingBackbone()
    with pytest.raises(SourceError, match="in common"):
        featstore.extract(
            photos, store, backbone=backbone, **(lists | {"validation_list": lists["test_list"]})
        )
    assert backbone.images == 0
    assert not store.exists()


def test_folders_of_splits_are_given_splits_and_classes(photos, store):
    root = photos.parent / "by_split"
    for split, number in (("train", 0), ("train", 1), ("val", 2), ("test", 3)):
        write_picture(root / split / ("cat" if number % 2 else "dog") / f"{number}.png", number)
    featstore.extract(root, store, backbone=CountingBackbone())
    table = featstore.FeatureStore(store).table()
    told = dict(
        zip(
            (os.path.basename(path)[0] for path in table.paths),
            zip(table.y, table.splits(), strict=True),
            strict=True,
        )
    )
    assert told == {
        "0": ("dog", "train"),
        "1": ("cat", "train"),
        "2": ("dog", "validation"),
        "3": ("cat", "test"),
    }


def test_groups_of_a_csv_are_what_a_split_by_group_keeps_together(photos, store):
    (photos / "all.csv").write_text(
        "path,label,group\n"
        + "".join(
            f"{'cat' if n % 2 else 'dog'}/{n}.png,x,{'plant ' + str(n // 4) if n else ''}\n" for n in range(8)
        )
    )
    featstore.extract(photos / "all.csv", store, backbone=CountingBackbone())
    table = featstore.FeatureStore(store).table()
    rule = SplitRule(by="group")
    assert table.group_keys(rule).tolist() == [table.content_hash[0], *["plant 0"] * 3, *["plant 1"] * 4]
    assert len(set(table.splits(rule)[4:])) == 1


def test_a_table_deals_by_the_paths_of_its_catalog(photos, store):
    featstore.extract(photos, store, backbone=CountingBackbone())
    table = featstore.FeatureStore(store).table()
    assert set(table.group_keys(SplitRule(by="folder"))) == {"cat", "dog"}
    assert set(table.group_keys(SplitRule(by="retrain", retrain_prefix="x"))) == {
        f"x/{path[:-4]}.png" for path in table.relative_paths
    }
    assert table.group_keys(SplitRule()).tolist() == table.content_hash.tolist()
    assert len(set(table.splits(SplitRule(by="folder", test=0.5))[table.y == "cat"])) == 1

"""Folders whose folders are splits, and those that only look so."""

import pytest

from featstore.images.sources.opening import open_source


def opened(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not looked at")
    return {record.path: (record.label, record.split) for record in open_source(root).records}


def test_the_top_folder_is_the_split_and_the_next_one_the_label(tmp_path):
    assert opened(tmp_path, "train/cat/1.jpg", "validation/cat/a/2.jpg", "test/dog/3.jpg") == {
        "train/cat/1.jpg": ("cat", "train"),
        "validation/cat/a/2.jpg": ("cat", "validation"),
        "test/dog/3.jpg": ("dog", "test"),
    }


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        *(("val", "validation"), ("valid", "validation"), ("dev", "validation"), ("VAL", "validation")),
        *(("Test", "test"), ("testing", "test")),
    ],
)
def test_ways_to_call_a_split(tmp_path, folder, split):
    found = opened(tmp_path, "Training/cat/1.jpg", f"{folder}/cat/2.jpg")
    assert found == {"Training/cat/1.jpg": ("cat", "train"), f"{folder}/cat/2.jpg": ("cat", split)}


def test_images_in_a_test_folder_itself_have_no_label(tmp_path):
    assert opened(tmp_path, "train/cat/1.jpg", "test/2.jpg")["test/2.jpg"] == (None, "test")


def test_folders_without_images_do_not_count(tmp_path):
    found = opened(tmp_path, "train/cat/1.jpg", "test/cat/2.jpg", "meta/classes.txt", "readme.md")
    assert [entry[0] for entry in found.values()] == ["cat", "cat"]


@pytest.mark.parametrize(
    "names",
    [
        ("train/1.jpg", "car/2.jpg"),
        ("train/old/1.jpg", "car/2.jpg", "test/3.jpg"),
        ("train/1.jpg", "test/2.jpg"),
        ("train/1.jpg", "train/cat/2.jpg", "test/cat/3.jpg"),
        ("train/cat/1.jpg", "training/cat/2.jpg"),
        ("train/cat/1.jpg",),
        ("validation/cat/1.jpg", "test/cat/2.jpg"),
        ("train/cat/1.jpg", "test/cat/2.jpg", "stray.jpg"),
    ],
)
def test_otherwise_the_top_folder_is_the_label(tmp_path, names):
    for path, entry in opened(tmp_path, *names).items():
        assert entry == (path.split("/")[0] if "/" in path else None, None)

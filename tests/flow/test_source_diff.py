"""What has changed in a source since its catalog was written."""

import os
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

import featstore
from featstore.store import FeatureStore


@pytest.fixture
def photos(tmp_path):
    """A folder of ten photos of two classes, the store's path and the catalog's name."""
    random = np.random.default_rng(0)
    for number in range(10):
        path = tmp_path / "photos" / ("dog" if number % 2 else "cat") / f"{number}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
        os.utime(path, (10**9, 10**9))
    return tmp_path / "photos"


def extract(source, **options):
    store = os.path.join(os.path.dirname(source), "s.fstore")
    featstore.extract(source, store, backbone="scattering", image_size=32, catalog="it", **options)
    return store


def found_in(store, source, **options):
    """The changes that are not empty, and how many files were read."""
    found = featstore.diff(store, "it", source, **options)
    names = ("added", "removed", "renamed", "changed", "relabelled", "failures")
    return {name: getattr(found, name) for name in names if getattr(found, name)}, found.read


def test_of_an_unchanged_folder_no_file_is_read(photos):
    store = extract(photos)
    found = featstore.diff(store, "it", photos)
    assert (found.is_empty, found.unchanged, found.read) == (True, 10, 0)
    assert featstore.diff(store, "it", photos, rehash=True).read == 10


def test_each_kind_of_change_is_told_apart(photos):
    store = extract(photos)
    (photos / "cat" / "0.bmp").unlink()
    (photos / "cat" / "2.bmp").rename(photos / "cat" / "two.bmp")
    (photos / "cat" / "4.bmp").rename(photos / "dog" / "4.bmp")
    (photos / "dog" / "1.bmp").write_bytes(b"another")
    shutil.copy(photos / "dog" / "3.bmp", photos / "dog" / "copy.bmp")
    (photos / "dog" / "new.bmp").write_bytes(b"new")
    found, n_read = found_in(store, photos)
    assert found == {
        "added": ("dog/copy.bmp", "dog/new.bmp"),
        "removed": ("cat/0.bmp",),
        "renamed": (("cat/two.bmp", "cat/2.bmp"), ("dog/4.bmp", "cat/4.bmp")),
        "changed": ("dog/1.bmp",),
        "relabelled": (("dog/4.bmp", "cat", "dog"),),
    }
    assert n_read == 5
    assert featstore.diff(store, "it", photos).unchanged == 6


def test_files_that_have_swapped_their_names_are_renamed(photos):
    store = extract(photos)
    one, other = photos / "cat" / "0.bmp", photos / "cat" / "2.bmp"
    one.rename(photos / "kept")
    other.rename(one)
    (photos / "kept").rename(other)
    assert found_in(store, photos)[0] == {"renamed": (("cat/0.bmp", "cat/2.bmp"), ("cat/2.bmp", "cat/0.bmp"))}


def test_a_copy_of_the_folder_has_no_changes(photos):
    store = extract(photos)
    shutil.copytree(photos, photos.parent / "copy")
    assert found_in(store, photos.parent / "copy") == ({}, 10)


def test_labels_of_a_list_are_compared(photos):
    (photos.parent / "list.csv").write_text("id,kind\nphotos/cat/0,cat\nphotos/dog/1,dog\n")
    options = {"path_column": "id", "label_column": "kind", "suffix": ".bmp"}
    store = extract(photos.parent / "list.csv", **options)
    (photos.parent / "list.csv").write_text("id,kind\nphotos/cat/0,dog\nphotos/dog/1,\n")
    assert found_in(store, photos.parent / "list.csv", **options) == (
        {"relabelled": (("photos/cat/0.bmp", "cat", "dog"), ("photos/dog/1.bmp", "dog", None))},
        0,
    )


def test_members_of_an_archive_are_compared(photos):
    def write(names):
        with zipfile.ZipFile(photos.parent / "it.zip", "w") as archive:
            for name, source in names.items():
                archive.write(photos / source, name)
        os.utime(photos.parent / "it.zip", (10**9, 10**9))

    write({"cat/a.bmp": "cat/0.bmp", "cat/b.bmp": "cat/2.bmp", "dog/c.bmp": "dog/1.bmp"})
    store = extract(photos.parent / "it.zip")
    assert found_in(store, photos.parent / "it.zip") == ({}, 0)
    write({"cat/a.bmp": "cat/0.bmp", "cat/d.bmp": "cat/2.bmp", "dog/c.bmp": "dog/3.bmp"})
    assert found_in(store, photos.parent / "it.zip") == (
        {"renamed": (("it.zip::cat/d.bmp", "it.zip::cat/b.bmp"),), "changed": ("it.zip::dog/c.bmp",)},
        3,
    )


def test_what_cannot_be_read_is_neither_changed_nor_removed(photos):
    store = extract(photos)
    (photos / "cat" / "0.bmp").unlink()
    (photos / "cat" / "0.bmp").symlink_to("nowhere")
    found, _ = found_in(store, photos)
    assert [path for path, _ in found.pop("failures")] == ["cat/0.bmp"]
    assert found == {}


def test_several_labels_are_split_as_in_the_catalog(photos):
    (photos.parent / "list.csv").write_text("path,label\nphotos/cat/0.bmp,b|a\n")
    store = extract(photos.parent / "list.csv", label_separator="|")
    assert found_in(store, photos.parent / "list.csv") == ({}, 0)


def test_corrected_labels_are_compared_with_corrected_ones(photos):
    store = extract(photos)
    table = FeatureStore(store).table()
    first = table.content_hash[0]
    assert table.paths[0].endswith("cat/0.bmp")
    right = featstore.Corrections((featstore.Correction(content_hash=first, decision="relabel", new="dog"),))
    extract(photos, corrections=right)
    assert found_in(store, photos, corrections=right)[0] == {}
    assert found_in(store, photos)[0] == {"relabelled": (("cat/0.bmp", "dog", "cat"),)}


def test_an_unknown_catalog_is_named_with_those_that_are_there(photos):
    store = extract(photos)
    with pytest.raises(featstore.FeatstoreError, match=r"no catalog 'other'.* has: it"):
        featstore.diff(store, "other", photos)

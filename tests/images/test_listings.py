"""Lists of containers that have not changed: taken from the cache folder, with labels as they are now."""

import os

import pytest

from archives import write_tar, write_zip
from featstore.backbones import cache_contents, clear_cache
from featstore.images.reading import read_image
from featstore.images.sources.containers import listings, parquet, tar, tfrecord
from featstore.images.sources.containers import zip as zip_archives
from featstore.images.sources.opening import open_source
from featstore.io.archives.tfrecord import encode_example, write_record

FILES = {
    "a/1.jpg": b"one",
    "a/1.cls": b"0",
    "\udce9.png": b"two",
    "a/notes.md": b"",
    ".x.jpg": b"",
    "c": b"3",
}


@pytest.fixture(autouse=True)
def later(monkeypatch, tmp_path):
    """As if files had been there for long, and each process had its own memory."""
    monkeypatch.setenv("FEATSTORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(listings.time, "time_ns", lambda: 2 * 10**18)
    forget()


def forget():
    for function in (tar.list_tar, tar._inflated, tfrecord.list_tfrecord):
        function.cache_clear()


def of(source):
    labels = [(record.path, record.label, record.stamp) for record in source.records]
    return labels, source.failures, source.ignored_endings, source.skipped


def refuse(*_):
    raise AssertionError("it was listed again")


@pytest.fixture(params=["tar", "tar.gz"])
def archive(request, tmp_path):
    return write_tar(tmp_path / "shards" / f"x.{request.param}", FILES)


def test_an_unchanged_archive_is_not_opened_to_list_it(archive, monkeypatch):
    first = of(open_source(archive))
    forget()
    monkeypatch.setattr(tar, "mapped", refuse)
    assert of(open_source(archive)) == first
    assert read_image(f"{archive}::a/1.jpg") == b"one"


def test_labels_are_those_of_the_names_beside_it_now(archive):
    assert open_source(archive).records[0].label == "0"
    (archive.parent / "labels.txt").write_text("daisy\n")
    assert open_source(archive).records[0].label == "daisy"


def test_a_changed_archive_is_listed_again(archive):
    open_source(archive)
    forget()
    write_tar(archive, FILES | {"b/2.jpg": b"more"})
    assert f"{archive.name}::b/2.jpg" in [path for path, *_ in of(open_source(archive))[0]]


def test_an_archive_that_may_still_change_is_listed_again(archive, monkeypatch):
    monkeypatch.setattr(listings.time, "time_ns", lambda: os.stat(archive).st_mtime_ns + 1)
    open_source(archive)
    assert not (archive.parents[1] / "cache" / "listings").exists()


@pytest.mark.parametrize("content", [b"", b"damaged", None])
def test_a_damaged_listing_is_made_again(archive, content):
    first = of(open_source(archive))
    [listing] = (archive.parents[1] / "cache" / "listings").iterdir()
    whole = listing.read_bytes()
    listing.write_bytes(whole[:-5] if content is None else content)
    forget()
    assert of(open_source(archive)) == first
    assert listing.read_bytes() == whole


def test_listings_are_cleared_with_the_cache(archive):
    open_source(archive)
    assert cache_contents().n_entries == 1
    clear_cache()
    assert cache_contents().n_entries == 0
    assert not (archive.parents[1] / "cache").exists()


def test_an_unwritable_cache_costs_nothing_but_time(archive, monkeypatch):
    monkeypatch.setenv("FEATSTORE_CACHE", str(archive / "no folder"))
    assert open_source(archive).records


def test_an_unchanged_shard_of_tfrecord_is_not_opened_to_list_it(tmp_path, monkeypatch):
    with open(tmp_path / "x.tfrecord", "wb") as file:
        for number in range(3):
            image = {"image/encoded": [b"image %d" % number], "image/class/label": [number]}
            write_record(file, encode_example(image))
    first = of(open_source(tmp_path))
    forget()
    monkeypatch.setattr(tfrecord, "mapped", refuse)
    assert of(open_source(tmp_path)) == first
    assert read_image(str(tmp_path / "x.tfrecord::000001")) == b"image 1"


def test_an_unchanged_zip_is_not_opened_to_list_it(tmp_path, monkeypatch):
    archive = write_zip(tmp_path / "x.zip", {"a/1.jpg": b"one", "b/2.png": b"two", "b/notes.md": b""})
    first = of(open_source(archive))
    zip_archives.list_zip.cache_clear()
    monkeypatch.setattr(zip_archives.zipfile, "ZipFile", refuse)
    assert of(open_source(archive)) == first
    assert read_image(f"{archive}::b/2.png") == b"two"


def test_an_unchanged_parquet_file_is_not_opened_to_list_it(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as writer

    images = [
        {"bytes": b"one", "path": "1.jpg"},
        {"bytes": b"two", "path": "2.jpg"},
        {"bytes": None, "path": "3.jpg"},
    ]
    columns = {"image": images, "label": [0, 1, 0], "kind": ["x", "y", "z"], "id": ["i", "j", "k"]}
    path = tmp_path / "x.parquet"
    writer.write_table(pyarrow.table(columns), path)
    options = ({}, {"label_column": "kind"}, {"path_column": "id"})
    first = [of(open_source(path, **asked)) for asked in options]
    assert first[1][0][0][1] == "x"
    parquet.list_parquet.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(parquet, "_open", refuse)
        assert [of(open_source(path, **asked)) for asked in options] == first
    assert read_image(f"{path}::2.jpg") == b"two"

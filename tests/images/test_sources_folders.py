"""What a folder holds, and that finding it out opens and blocks on nothing."""

import builtins
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus import NAMES
from featstore.errors import SourceError
from featstore.images.sources.opening import ImageRecord, is_image_name, open_source
from featstore.io.stamps import FileStamp

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")


def write(root, *names, data=b"not looked at"):
    for name in names:
        path = os.path.join(os.fspath(root), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)


def labels(source):
    return {record.path: record.label for record in source.records}


def test_the_first_folder_is_the_label_however_deep_the_image_lies(tmp_path):
    write(tmp_path, "roses/1.jpg", "roses/old/damaged/2.png", "tulips/3.gif")
    assert labels(open_source(tmp_path)) == {
        "roses/1.jpg": "roses",
        "roses/old/damaged/2.png": "roses",
        "tulips/3.gif": "tulips",
    }


def test_images_in_a_flat_folder_have_no_label(tmp_path):
    write(tmp_path, "1.jpg", "2.jpg")
    assert labels(open_source(tmp_path)) == {"1.jpg": None, "2.jpg": None}


def test_images_beside_class_folders_have_no_label(tmp_path):
    write(tmp_path, "1.jpg", "roses/2.jpg")
    assert labels(open_source(tmp_path)) == {"1.jpg": None, "roses/2.jpg": "roses"}


def test_size_and_time_are_those_of_the_file(tmp_path):
    write(tmp_path, "roses/1.jpg", data=b"12345")
    os.utime(tmp_path / "roses/1.jpg", ns=(1, 1_700_000_000_123_456_000))
    (record,) = open_source(tmp_path).records
    stamp = FileStamp.of(os.stat(tmp_path / "roses/1.jpg"))
    assert stamp.size == 5
    assert record == ImageRecord(path="roses/1.jpg", label="roses", stamp=stamp)


@pytest.mark.parametrize(
    "ending",
    [
        *("jpg", "jpeg", "jpe", "jfif", "png", "gif", "bmp", "dib", "tif", "tiff", "webp"),
        *("ppm", "pgm", "pbm", "pnm", "JPG", "Png", "TIFF"),
    ],
)
def test_an_image_is_known_by_its_ending(ending):
    assert is_image_name(f"a.{ending}")
    assert is_image_name(f"a.b.{ending}")
    assert not is_image_name(ending)
    assert not is_image_name(f".{ending}")
    assert not is_image_name(f"a.{ending}~")
    assert not is_image_name(f"a.{ending}.txt")


def test_other_files_are_counted_and_hidden_ones_are_not(tmp_path):
    write(tmp_path, "a/1.jpg", "a/Thumbs.db", "a/notes.txt", "README", "a/desktop.ini")
    write(
        tmp_path,
        "a/.DS_Store",
        "a/._1.jpg",
        ".cache/2.jpg",
        "a/.hidden.jpg",
        "__MACOSX/a/3.jpg",
        "a/__MACOSX/4.jpg",
    )
    source = open_source(tmp_path)
    assert labels(source) == {"a/1.jpg": "a"}
    assert source.ignored == 4
    assert source.failures == []


def test_records_are_sorted_by_the_bytes_of_the_path(tmp_path):
    names = [
        "a/1.jpg",
        "a-b/1.jpg",
        "a.jpg",
        "B/1.jpg",
        "é/1.jpg",
        "a/10.jpg",
        "a/2.jpg",
        "zz.jpg",
        "\U0001f339.jpg",
    ]
    write(tmp_path, *names)
    assert [record.path for record in open_source(tmp_path).records] == sorted(names, key=os.fsencode)


@posix
@pytest.mark.parametrize("name", NAMES)
def test_strange_names_survive(tmp_path, name):
    folder = "class " + name.removesuffix(".png")
    write(tmp_path, name, f"{folder}/{name}")
    source = open_source(tmp_path)
    assert labels(source) == {name: None, f"{folder}/{name}": folder}
    for record in source.records:
        assert os.stat(os.path.join(source.root, record.path)).st_size == record.stamp.size


@posix
def test_links_to_files_and_folders_are_followed(tmp_path):
    write(tmp_path, "pool/1.jpg", "source/cats/2.jpg")
    os.symlink(tmp_path / "pool", tmp_path / "source/dogs")
    os.symlink(tmp_path / "pool/1.jpg", tmp_path / "source/cats/link.jpg")
    assert labels(open_source(tmp_path / "source")) == {
        "cats/2.jpg": "cats",
        "cats/link.jpg": "cats",
        "dogs/1.jpg": "dogs",
    }


@posix
def test_a_folder_linked_twice_is_listed_under_both_labels(tmp_path):
    write(tmp_path, "pool/1.jpg")
    (tmp_path / "source").mkdir()
    for name in ("cats", "dogs"):
        os.symlink(tmp_path / "pool", tmp_path / "source" / name)
    assert labels(open_source(tmp_path / "source")) == {"cats/1.jpg": "cats", "dogs/1.jpg": "dogs"}


@posix
def test_links_to_folders_above_do_not_recurse(tmp_path):
    write(tmp_path, "a/b/1.jpg")
    os.symlink(tmp_path, tmp_path / "a/b/root")
    os.symlink("..", tmp_path / "a/b/up")
    os.symlink(".", tmp_path / "a/b/self")
    source = open_source(tmp_path)
    assert labels(source) == {"a/b/1.jpg": "a"}
    assert source.failures == []


@posix
def test_folders_that_link_to_each_other_do_not_take_for_ever(tmp_path):
    names = [f"class_{number:02d}" for number in range(14)]
    for name in names:
        write(tmp_path, f"{name}/1.jpg")
        for other in names:
            os.symlink(tmp_path / other, tmp_path / name / f"to_{other}")
    source = open_source(tmp_path)
    assert {f"{name}/1.jpg" for name in names} <= {record.path for record in source.records} | {
        f"{path}/1.jpg" for path, _ in source.failures
    }
    assert len(source.records) <= 16 * len(names)
    assert any("more than 16 ways" in reason for _, reason in source.failures)


@posix
def test_a_dangling_link_that_may_stand_for_a_class_is_a_failure(tmp_path):
    write(tmp_path, "a/good.jpg")
    os.symlink(tmp_path / "missing folder", tmp_path / "class_on_a_lost_disk")
    os.symlink("gone.txt", tmp_path / "a/dangling.txt")
    source = open_source(tmp_path)
    assert labels(source) == {"a/good.jpg": "a"}
    assert source.failures == [("class_on_a_lost_disk", "a dangling link: what it points to does not exist")]
    assert source.ignored == 1


def test_a_folder_that_cannot_be_listed_is_a_failure_and_not_the_end(tmp_path, monkeypatch):
    write(tmp_path, "a/1.jpg", "locked/2.jpg", "z/3.jpg")
    scandir = os.scandir

    def guarded(path):
        if os.path.basename(path) == "locked":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    source = open_source(tmp_path)
    assert labels(source) == {"a/1.jpg": "a", "z/3.jpg": "z"}
    assert source.failures == [("locked", "the folder cannot be read: permission denied")]
    with pytest.raises(SourceError, match="permission denied"):
        open_source(tmp_path / "locked")


def test_no_file_is_opened(tmp_path, monkeypatch):
    write(tmp_path, "a/1.jpg", "a/2.txt")

    def refuse(*args, **options):
        raise AssertionError(args)

    monkeypatch.setattr(builtins, "open", refuse)
    monkeypatch.setattr(os, "open", refuse)
    assert len(open_source(tmp_path).records) == 1


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"no image in .*found no file at all"):
        open_source(tmp_path)


def test_a_folder_without_images_says_what_was_there(tmp_path):
    write(tmp_path, "a/1.txt", "a/2.txt", "a/3.cr2", "README")
    with pytest.raises(SourceError, match=r"\.jpeg .*found 4 other files \(\.txt, .*\.cr2"):
        open_source(tmp_path)


@posix
def test_a_folder_with_nothing_but_failures_names_one(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(SourceError, match=r"1 that cannot be used, first 'pipe\.jpg': a named pipe"):
        open_source(tmp_path)


def test_an_empty_path_says_what_to_give():
    with pytest.raises(SourceError, match="path is empty; give a folder of images"):
        open_source("")


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(SourceError, match="there is nothing at"):
        open_source(tmp_path / "gone")


def test_a_path_with_a_tilde_says_that_shells_expand_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="expanded by shells only"):
        open_source("~/no such folder of photos")


@posix
def test_a_dangling_link_as_the_source(tmp_path):
    os.symlink("gone", tmp_path / "link")
    with pytest.raises(SourceError, match="dangling link"):
        open_source(tmp_path / "link")


@posix
def test_a_pipe_as_the_source_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "list.csv")
    with pytest.raises(SourceError, match="named pipe"):
        open_source(tmp_path / "list.csv")


@pytest.mark.parametrize(("path", "reason"), [("", "empty"), ("a\0b", "NUL")])
def test_unusable_paths_are_refused(path, reason):
    with pytest.raises(SourceError, match=reason):
        open_source(path)


def test_a_single_image_is_not_a_source(tmp_path):
    write(tmp_path, "1.jpg")
    with pytest.raises(SourceError, match=r"single image.*featstore predict"):
        open_source(tmp_path / "1.jpg")


def test_a_file_that_is_neither_list_nor_image(tmp_path):
    write(tmp_path, "photos.rar")
    with pytest.raises(SourceError, match=r"\.csv .*\.tsv"):
        open_source(tmp_path / "photos.rar")


def test_the_source_states_where_it_is(tmp_path, monkeypatch):
    write(tmp_path, "my flowers (2)/a/1.jpg")
    monkeypatch.chdir(tmp_path)
    source = open_source("my flowers (2)/")
    assert source.root == source.location == str(tmp_path / "my flowers (2)")
    assert source.name == "my-flowers-2"


@given(st.text(min_size=1, max_size=200))
def test_a_catalog_name_is_safe_whatever_the_folder_is_called(stem):
    import re

    from featstore.images.sources.opening import _catalog_name

    name = _catalog_name(stem)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name)
    assert len(name) <= 100
    assert _catalog_name(name) == name


def test_listing_a_source_does_not_load_pillow():
    import subprocess

    code = "import sys, featstore.images.sources.opening; sys.exit('PIL' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Which files of a folder are images, and that what is left out is counted and named."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from featstore.errors import SourceError
from featstore.images.sources import image_names
from featstore.images.sources.opening import open_source

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")


def encoded(kind):
    file = io.BytesIO()
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(file, kind)
    return file.getvalue()


PNG = encoded("PNG")


def write(root, *names, data=PNG):
    for name in names:
        path = os.path.join(os.fspath(root), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)


def paths(source):
    return [record.path for record in source.records]


@pytest.mark.parametrize(
    "name",
    ["IMG_0001", "x.jpg?w=640", "photo.jpeg.1", "photo.jpg.", "photo.png ", "2024.01.02", "data", "a.php"],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM"])
def test_where_a_name_is_unclear_the_first_bytes_decide(tmp_path, name, kind):
    write(tmp_path, f"a/{name}", data=encoded(kind))
    source = open_source(tmp_path)
    assert [(record.path, record.label) for record in source.records] == [(f"a/{name}", "a")]
    assert source.ignored == 0


@pytest.mark.parametrize(
    "name",
    [
        "a.jpg~",
        "a.jpg.txt",
        "a.jpg.bak",
        "a.jpg.part",
        "Thumbs.db",
        "a.dng",
        "a.NEF",
        "a.svs",
        "a.xml",
        "movie.THM",
    ],
)
def test_a_file_with_a_known_other_ending_is_never_opened(tmp_path, monkeypatch, name):
    write(tmp_path, "a/1.png", f"a/{name}")
    monkeypatch.setattr(image_names, "holds_image", lambda path: pytest.fail(path))
    monkeypatch.setattr("featstore.images.sources.folders.holds_image", lambda path: pytest.fail(path))
    source = open_source(tmp_path)
    assert paths(source) == ["a/1.png"]
    assert source.ignored == 1


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"",
            b"x",
            b"BMW is a maker of cars and motorcycles\n",
            b"P5 is the fifth parameter\n",
            b"\0" * 100,
        ),
        *(b"%PDF-1.4", b"<html>", b"PK\x03\x04" + bytes(30), b"P6", b"BM"),
    ],
)
def test_what_does_not_begin_as_an_image_is_left_alone(tmp_path, data):
    write(tmp_path, "a/1.png")
    write(tmp_path, "a/README", data=data)
    source = open_source(tmp_path)
    assert paths(source) == ["a/1.png"]
    assert source.ignored_endings == {"": 1}


@posix
def test_what_could_block_is_not_opened(tmp_path):
    write(tmp_path, "a/1.png")
    os.mkfifo(tmp_path / "a/pipe")
    os.symlink("/dev/zero", tmp_path / "a/device")
    source = open_source(tmp_path)
    assert paths(source) == ["a/1.png"]
    assert source.ignored == 2


def test_the_endings_of_what_is_left_alone_are_counted_the_most_frequent_first(tmp_path):
    write(tmp_path, "a/1.png", "a/1.txt", "b/2.TXT", "b/c/3.db", "4.txt")
    write(tmp_path, "b/LICENSE", data=b"MIT")
    source = open_source(tmp_path)
    assert list(source.ignored_endings.items()) == [(".txt", 3), ("", 1), (".db", 1)]
    assert source.ignored == 5


def test_class_folders_without_an_image_are_named(tmp_path):
    write(tmp_path, "a/1.png", "b/old/1.png", "raw/1.nef", "notes/1.txt", "a/empty/1.txt")
    (tmp_path / "nothing/in/it").mkdir(parents=True)
    assert open_source(tmp_path).empty_folders == ["notes", "nothing", "raw"]


def test_class_folders_without_an_image_are_named_in_each_split(tmp_path):
    write(tmp_path, "train/a/1.png", "train/b/1.txt", "test/a/2.png", "test/b/2.png")
    source = open_source(tmp_path)
    assert {record.split for record in source.records} == {"train", "test"}
    assert source.empty_folders == ["train/b"]


def test_unlabelled_images_beside_class_folders_are_counted(tmp_path):
    write(tmp_path, "1.png", "2.png")
    assert open_source(tmp_path).unlabelled == 0
    write(tmp_path, "a/1.png")
    assert open_source(tmp_path).unlabelled == 2


@pytest.mark.parametrize(
    "folder",
    [
        *("@eaDir", "$RECYCLE.BIN", "$Recycle.Bin", "System Volume Information", "lost+found", "__MACOSX"),
        *(
            ".Trashes",
            ".thumbnails",
            ".ipynb_checkpoints",
            ".AppleDouble",
            "#recycle",
            "@Recycle",
            "FOUND.000",
        ),
        *("Thumbs", "RECYCLER", "Network Trash Folder", "LOST.DIR", ".@__thumb", "_vti_cnf"),
    ],
)
@pytest.mark.parametrize("above", ["", "a/", "a/b/"])
def test_folders_of_other_programs_are_skipped_and_counted(tmp_path, folder, above):
    write(tmp_path, "a/1.png", f"{above}{folder}/2.png", f"{above}{folder}/deep/3.png")
    source = open_source(tmp_path)
    assert paths(source) == ["a/1.png"]
    assert source.skipped == {folder: 1}
    assert source.empty_folders == []


@pytest.mark.parametrize("folder", ["found", "recycled", "system", "thumb", "temporary"])
def test_folders_that_are_only_called_alike_are_classes(tmp_path, folder):
    write(tmp_path, f"{folder}/1.png")
    assert paths(open_source(tmp_path)) == [f"{folder}/1.png"]


@pytest.mark.parametrize("above", ["", "train/", "a/b/"])
def test_a_store_among_the_images_is_skipped(tmp_path, above):
    write(tmp_path, "train/a/1.png", "test/a/1.png", "a/b/1.png", f"{above}s.fstore/featstore.json")
    write(tmp_path, f"{above}s.fstore/spaces/x/1.png")
    source = open_source(tmp_path)
    assert len(source.records) == 3
    assert (source.skipped, source.ignored, source.empty_folders) == ({"s.fstore": 1}, 0, [])


def test_hidden_images_and_the_files_of_macs_are_counted(tmp_path):
    write(tmp_path, "a/1.png", "a/._1.png", "a/._x", "a/.2.png", "a/.DS_Store", ".git/config")
    source = open_source(tmp_path)
    assert paths(source) == ["a/1.png"]
    assert source.skipped == {"._*": 2, ".git": 1, "hidden images": 1}
    assert source.ignored == 0


def test_a_folder_in_which_all_is_skipped_says_so(tmp_path):
    write(tmp_path, "@eaDir/1.png", ".1.png")
    with pytest.raises(SourceError, match=r"of other programs: @eaDir \(1\), hidden images \(1\)\. Is it"):
        open_source(tmp_path)

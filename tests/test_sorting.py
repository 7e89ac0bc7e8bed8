import os

import numpy as np
import pytest
from PIL import Image

from archives import write_tar
from featstore.errors import OutputError
from featstore.sorting import ClassFolders, class_file_name, write_sheets


@pytest.fixture
def photos(tmp_path):
    """Two files of one name and other content, and one with the content of the first."""
    for folder, data in (("a", b"one"), ("b", b"two"), ("c", b"one")):
        os.makedirs(tmp_path / folder)
        (tmp_path / folder / "1.jpg").write_bytes(data)
        os.utime(tmp_path / folder / "1.jpg", ns=(10**18, 10**18))
    return tmp_path


def files_in(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("link", [False, True])
def test_images_come_into_their_class_and_stay_where_they_are(photos, link):
    before = {name: files_in(photos / name) for name in "abc"}
    folders = ClassFolders(photos / "sorted", link=link)
    places = [folders.add(str(photos / name / "1.jpg"), label) for name, label in (("a", "x"), ("b", "y"))]
    assert places == [str(photos / "sorted/x/1.jpg"), str(photos / "sorted/y/1.jpg")]
    assert files_in(photos / "sorted") == {"x/1.jpg": b"one", "y/1.jpg": b"two"}
    assert [os.path.islink(place) for place in places] == [link, link]
    assert os.stat(places[0]).st_mtime_ns == 10**18
    assert {name: files_in(photos / name) for name in "abc"} == before
    assert (folders.n_added, folders.n_there) == (2, 0)


@pytest.mark.parametrize("link", [False, True])
def test_nothing_is_overwritten_and_nothing_is_there_twice(photos, link):
    folders = ClassFolders(photos / "sorted", link=link)
    for _ in range(2):
        for name in "abc":
            folders.add(str(photos / name / "1.jpg"), "x")
    # SHA-256 of b"two" begins with 3fc4ccfe.
    assert files_in(photos / "sorted") == {"x/1.jpg": b"one", "x/1-3fc4ccfe.jpg": b"two"}
    assert (folders.n_added, folders.n_there) == (2, 4)


def test_a_file_of_the_users_own_stays(photos):
    os.makedirs(photos / "sorted/x")
    digest = "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"
    for name in ("1", "1-3fc4ccfe", f"1-{digest}"):
        (photos / f"sorted/x/{name}.jpg").write_bytes(b"mine")
    with pytest.raises(OutputError, match="other content than its name says"):
        ClassFolders(photos / "sorted").add(str(photos / "b/1.jpg"), "x")
    assert set(files_in(photos / "sorted").values()) == {b"mine"}


def test_images_in_archives_are_copied_and_not_linked(photos):
    write_tar(photos / "all.tar", {"deep/2.jpg": b"three"})
    member = f"{photos}/all.tar::deep/2.jpg"
    ClassFolders(photos / "sorted").add(member, "x")
    assert files_in(photos / "sorted") == {"x/2.jpg": b"three"}
    with pytest.raises(OutputError, match="without --link"):
        ClassFolders(photos / "linked", link=True).add(member, "x")


def test_a_place_that_cannot_be_sorted_into(photos):
    (photos / "file").write_text("precious")
    with pytest.raises(OutputError, match="is a file; name a folder"):
        ClassFolders(photos / "file")
    os.makedirs(photos / "sorted")
    (photos / "sorted/x").write_text("precious")
    with pytest.raises(OutputError, match="cannot write"):
        ClassFolders(photos / "sorted").add(str(photos / "a/1.jpg"), "x")
    with pytest.raises(OutputError, match="can no longer be read"):
        ClassFolders(photos / "sorted").add(str(photos / "gone.jpg"), "y")
    (photos / "a.fstore").mkdir()
    (photos / "a.fstore/featstore.json").write_text("{}")
    with pytest.raises(OutputError, match="lies in the store"):
        ClassFolders(photos / "a.fstore/sorted")


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("rose", "rose"),
        ("a/b", "a%2Fb"),
        ("..", "%2E."),
        (".hidden", "%2Ehidden"),
        ("100%", "100%25"),
        ("été 🌻", "été 🌻"),
        ("a\nb", "a%0Ab"),
        ("\udcff", "%FF"),
    ],
)
def test_labels_become_names_of_folders(label, name):
    assert class_file_name(label) == name


@pytest.fixture
def pictures(tmp_path):
    paths = []
    for number in range(3):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(np.full((8, 8, 3), 80 * number, np.uint8)).save(paths[-1])
    return paths


def test_sheets_have_the_most_probable_first(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("featstore.sorting._ON_A_SHEET", 2)
    found = list(zip(pictures, [0.5, 0.9, 0.7], strict=True))
    names = write_sheets(tmp_path / "sheets", {"x": found, "a/b": found[:1]})
    assert names == ["x-001.png", "x-002.png", "a%2Fb-001.png"]
    assert sorted(os.listdir(tmp_path / "sheets")) == sorted(names)
    grey = []
    for name in names:
        with Image.open(tmp_path / "sheets" / name) as sheet:
            grey += [
                sheet.getpixel((6 + 166 * column + 80, 22 + 80))[0] for column in range(sheet.width // 166)
            ]
    assert grey == [80, 160, 0, 0]


def test_sheets_go_into_a_new_folder(pictures, tmp_path):
    (tmp_path / "sheets").mkdir()
    (tmp_path / "sheets/mine.png").write_bytes(b"precious")
    with pytest.raises(OutputError, match="is not an empty folder"):
        write_sheets(tmp_path / "sheets", {"x": [(pictures[0], 0.5)]})
    assert os.listdir(tmp_path / "sheets") == ["mine.png"]
    with pytest.raises(OutputError, match="there is no folder"):
        write_sheets(tmp_path / "nowhere/sheets", {})

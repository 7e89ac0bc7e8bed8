"""Lists that say which images are for training and which for testing, as data sets bring them."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featstore.errors import SourceError
from featstore.images.sources.opening import open_source

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")


@pytest.fixture
def food(tmp_path):
    for name in ("pie/1.jpg", "pie/2.jpg", "ramen/1.jpg", "ramen/2.png", "ramen/a b.jpg"):
        path = tmp_path / "food" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not looked at")
    return tmp_path / "food"


def written(folder, content, name="list.txt"):
    path = folder.parent / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def splits(source):
    return {record.path: record.split for record in source.records}


def test_a_list_of_each_split_fills_the_splits(food):
    source = open_source(
        food,
        train_list=written(food, "pie/1\nramen/1\n", "train.txt"),
        validation_list=written(food, "pie/2.jpg\nramen/a b\n", "val.txt"),
        test_list=written(food, "ramen/2\n", "test.txt"),
    )
    assert splits(source) == {
        "pie/1.jpg": "train",
        "pie/2.jpg": "validation",
        "ramen/1.jpg": "train",
        "ramen/2.png": "test",
        "ramen/a b.jpg": "validation",
    }
    assert [record.label for record in source.records] == ["pie", "pie", "ramen", "ramen", "ramen"]


def test_images_in_no_list_are_left_to_the_rule(food):
    source = open_source(food, test_list=written(food, "pie/1\n"))
    assert source.given_splits() == {"train": 0, "validation": 0, "test": 1, "rule": 4}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("last", ["", "\n", "\n\n  \n"])
def test_line_ends_byte_order_marks_and_blank_lines(food, end, mark, last):
    text = f"pie/1\n\nramen/2.png{last}".replace("\n", end)
    source = open_source(food, test_list=written(food, mark + text.encode()))
    assert [path for path, split in splits(source).items() if split == "test"] == ["pie/1.jpg", "ramen/2.png"]


@pytest.mark.parametrize(
    "line",
    [
        *("./pie/1", "pie//1.jpg", "  pie/1 ", "ramen/../pie/1", "{root}/pie/1", "{root}/pie/1.jpg"),
        *("pie\\1", ".\\pie\\1.jpg ", "file://{root}/pie/1.jpg"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_ways_to_write_a_name(food, line, encoding):
    source = open_source(food, test_list=written(food, line.format(root=food).encode(encoding)))
    assert source.given_splits()["test"] == 1
    assert splits(source)["pie/1.jpg"] == "test"


def test_no_character_starts_a_comment(food):
    (food / "pie" / "#3.jpg").write_bytes(b"")
    (food / "#odd").mkdir()
    (food / "#odd" / "1.jpg").write_bytes(b"")
    source = open_source(food, test_list=written(food, "pie/#3\n#odd/1\n"))
    assert source.given_splits()["test"] == 2


@posix
def test_white_space_belongs_to_a_name_that_has_it(food):
    (food / "pie" / "1 .jpg").write_bytes(b"")
    source = open_source(food, test_list=written(food, "pie/1 \n"))
    assert [path for path, split in splits(source).items() if split] == ["pie/1 .jpg"]


@posix
def test_names_that_are_not_utf8(food):
    path = os.fsencode(food) + b"/pie/\xe9.jpg"
    with open(path, "wb"):
        pass
    source = open_source(food, test_list=written(food, b"pie/\xe9\n"))
    assert splits(source)[os.fsdecode(b"pie/\xe9.jpg")] == "test"


def test_a_name_twice_in_one_list_counts_once(food):
    assert open_source(food, test_list=written(food, "pie/1\npie/1.jpg\n")).given_splits()["test"] == 1


def test_the_exact_name_wins_over_one_without_its_extension(food):
    (food / "pie" / "1.jpg.png").write_bytes(b"")
    source = open_source(food, test_list=written(food, "pie/1.jpg\n"))
    assert [path for path, split in splits(source).items() if split] == ["pie/1.jpg"]


@posix
def test_an_image_that_the_source_could_not_use_may_be_named(food):
    os.symlink("nowhere.jpg", food / "pie" / "gone.jpg")
    source = open_source(food, test_list=written(food, "pie/gone\npie/1\n"))
    assert source.given_splits()["test"] == 1
    assert source.failures[0][0] == "pie/gone.jpg"


@posix
def test_a_list_may_come_through_a_pipe(food):
    read, write = os.pipe()
    os.write(write, b"pie/1\n")
    os.close(write)
    assert open_source(food, test_list=f"/dev/fd/{read}").given_splits()["test"] == 1
    os.close(read)


def test_a_csv_without_splits_takes_lists_too(food):
    (food / "all.csv").write_text(f"path,label\npie/1.jpg,pie\n{food}/ramen/1.jpg,soup\n")
    source = open_source(
        food / "all.csv", test_list=written(food, "ramen/1\n"), train_list=written(food, "pie/1", "b")
    )
    assert splits(source) == {"pie/1.jpg": "train", f"{food}/ramen/1.jpg": "test"}


@given(st.lists(st.sampled_from([None, "train", "validation", "test"]), min_size=5, max_size=5))
@settings(max_examples=30)
def test_every_division_can_be_said(tmp_path_factory, division):
    root = tmp_path_factory.mktemp("food")
    for number in range(5):
        (root / "pie").mkdir(exist_ok=True)
        (root / "pie" / f"{number}.jpg").write_bytes(b"")
    lists = {}
    for split in set(division) - {None}:
        lists[f"{split}_list"] = root / f"{split}.txt"
        names = [f"pie/{number}" for number in range(5) if division[number] == split]
        lists[f"{split}_list"].write_text("\n".join(names))
    assert [record.split for record in open_source(root, **lists).records] == division


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            "pie/1\npie/7\ncake/1\n",
            "2 of the 3 names in '{list}' fit no image in '{root}': 'pie/7' (line 2), 'cake/1' (line 3); ",
        ),
        (
            "a\nb\nc\nd\ne\n",
            "5 of the 5 names in '{list}' fit no image in '{root}': 'a' (line 1), 'b' (line 2), 'c' (line 3) and 2 more; ",
        ),
        ("pie/1.png\n", "such as 'pie/1.jpg'"),
        ("../pie/1\n", "'../pie/1' (line 1)"),
        ("", "names no image"),
        (" \n\r\n", "names no image"),
        ("pie/1\n".encode("utf-16")[:-1], "broken UTF-16"),
        (b"pie/1\n\x00\n", "line 2: not a text in UTF-8"),
        ("x" * 100_000, f"'{'x' * 200}' (line 1); each line"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(food, content, says):
    path = written(food, content)
    with pytest.raises(SourceError) as caught:
        open_source(food, test_list=path)
    assert says.format(list=path, root=food) in str(caught.value)


def test_a_name_that_fits_two_images_is_refused(food):
    (food / "ramen" / "2.jpg").write_bytes(b"")
    with pytest.raises(SourceError, match=r"line 2: 'ramen/2' fits 2 images, 'ramen/2.jpg', 'ramen/2.png'"):
        open_source(food, test_list=written(food, "pie/1\nramen/2\n"))
    assert open_source(food, test_list=written(food, "ramen/2.png\n")).given_splits()["test"] == 1


def test_lists_that_name_the_same_image_are_refused(food):
    train, test = written(food, "pie/1\npie/2\n", "train.txt"), written(food, "pie/2.jpg\n", "test.txt")
    with pytest.raises(SourceError, match=r"test.txt' and '.*train.txt' name 1 image in common: 'pie/2.jpg'"):
        open_source(food, train_list=train, test_list=test)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        *(
            ("nowhere.txt", "no such file"),
            ("food", "a folder, not a regular file; give a text file"),
            ("a\0b", "NUL"),
        ),
        pytest.param("/dev/zero", "a device, not a regular file", marks=posix),
    ],
)
def test_a_list_that_cannot_be_read_is_refused(food, name, says):
    with pytest.raises(SourceError, match=says):
        open_source(food, test_list=os.path.join(food.parent, name))


def test_lists_beside_a_column_of_splits_are_refused(food):
    (food / "all.csv").write_text("path,split\npie/1.jpg,\npie/2.jpg,test\n")
    with pytest.raises(
        SourceError, match=r"splits itself, by the list's column split \('pie/2.jpg' is in test\)"
    ):
        open_source(food / "all.csv", test_list=written(food, "pie/1"))


def test_lists_beside_folders_of_splits_are_refused(food):
    for split in ("train", "test"):
        os.renames(food / ("pie" if split == "train" else "ramen"), food.parent / "by" / split / "x")
    with pytest.raises(SourceError, match="by the folders' names"):
        open_source(food.parent / "by", test_list=written(food.parent / "by", "test/x/1"))

"""Lists as other programs write them: Kaggle's ids, imagefolder's metadata, JSON Lines, COCO's annotations."""

import json

import pandas as pd
import pytest

from featstore.errors import SourceError
from featstore.images.sources.opening import open_source


@pytest.fixture
def photos(tmp_path):
    for name in ("train/a1.jpg", "train/b2.jpg", "train/c3.png", "test/d4.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"not looked at")
    return tmp_path


def rows(source):
    return [(record.path, record.label) for record in source.records]


def write(path, *lines):
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


KAGGLE = {"path_column": "id", "suffix": ".jpg"}


def test_ids_without_an_ending_in_another_folder(photos):
    listed = write(photos / "labels.csv", "id,breed", "a1,boston_bull", "b2.JPG,dingo", "gone,dingo")
    (photos / "train" / "b2.jpg").rename(photos / "train" / "b2.JPG")
    source = open_source(listed, **KAGGLE, label_column="Breed", image_root=photos / "train")
    assert rows(source) == [("a1.jpg", "boston_bull"), ("b2.JPG", "dingo")]
    assert source.failures == [("gone.jpg", "no such file")]
    assert (source.root, source.name, source.unused_columns) == (str(photos / "train"), "labels", [])


def test_columns_are_chosen_where_their_names_do_not_say(photos):
    listed = write(
        photos / "x.csv", "image,file,class,category", "nothing,train/a1,x,1", "nothing,train/b2,y,2"
    )
    with pytest.raises(
        SourceError, match=r"'file' and 'image' may each be the column 'path'.*with path_column"
    ):
        open_source(listed)
    with pytest.raises(SourceError, match=r"'class' and 'category' may each be .*'label'.*with label_column"):
        open_source(listed, path_column="file")
    source = open_source(listed, path_column="file", label_column="category")
    assert rows(source) == [("train/a1.jpg", "1"), ("train/b2.jpg", "2")]
    assert source.unused_columns == ["image", "class"]


def test_the_chosen_path_column_finds_the_separator(photos):
    listed = write(photos / "x.csv", "id;name", "a1;rose")
    assert rows(open_source(listed, **KAGGLE, image_root=photos / "train", label_column="name")) == [
        ("a1.jpg", "rose")
    ]


def test_a_data_frame_of_ids(photos):
    (photos / "train" / "17.jpg").write_bytes(b"")
    frame = pd.DataFrame({"id": [17, 18], "breed": ["dingo", "pug"]})
    source = open_source(frame, **KAGGLE, label_column="breed", image_root=photos / "train")
    assert rows(source) == [("17.jpg", "dingo")]
    assert source.failures == [("18.jpg", "no such file")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"the first line has to name the columns.*ids with path_column.*with suffix"),
        ({"path_column": "no"}, r"line 1: there is no column 'no'; found 'id', 'breed'"),
        ({"path_column": "id", "label_column": "no"}, r"there is no column 'no'"),
        ({"path_column": "id", "label_column": "id"}, r"'id' cannot be both path and label"),
        (
            {"path_column": "id", "suffix": "jpg"},
            r"suffix is what the list's paths lack, such as '\.jpg'; found 'jpg'",
        ),
        ({"path_column": "id", "image_root": "gone"}, r"image_root must be the folder .*; found '.*gone'"),
        (
            {"path_column": "id"},
            r"'a1': no such file\. Relative paths start from .* unless image_root says otherwise",
        ),
    ],
)
def test_options_that_do_not_fit_a_list(photos, options, message):
    with pytest.raises(SourceError, match=message):
        open_source(write(photos / "labels.csv", "id,breed", "a1,dingo"), **options)


def test_options_of_lists_are_refused_where_they_say_nothing(photos):
    (photos / "a.tar").write_bytes(b"")
    for source in (photos / "a.tar", str(photos / "*.tar"), [photos / "a.tar"]):
        with pytest.raises(
            SourceError, match=r"suffix \(--suffix\): for lists, not for the images of archives"
        ):
            open_source(source, suffix=".jpg")
    with pytest.raises(
        SourceError, match=r"label_column \(--label-column\): for lists, not for the images of a folder"
    ):
        open_source(photos, label_column="x")
    with pytest.raises(SourceError, match="a list of paths has no columns: leave out label_column"):
        open_source([photos / "train/a1.jpg"], label_column="x")
    with pytest.raises(
        SourceError, match=r"path_column \(--path-column\): for lists, not for annotations of COCO"
    ):
        open_source(write(photos / "x.json", {}), path_column="x")


def test_json_lines_are_a_list(photos):
    listed = write(
        photos / "x.jsonl",
        {"file_name": "train/a1.jpg", "label": 3, "text": [1, {}]},
        "",
        {"label": "Märzrose", "file_name": "train/b2.jpg", "group": "g", "split": "val"},
        {"file_name": "train/c3.png", "label": None},
    )
    source = open_source(listed)
    assert rows(source) == [("train/a1.jpg", "3"), ("train/b2.jpg", "Märzrose"), ("train/c3.png", None)]
    assert (source.records[1].group, source.records[1].split) == ("g", "validation")
    assert source.unused_columns == ["text"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "line 2: not JSON: "),
        ("[" * 100_000, "line 2: not JSON: "),
        ("[1]", r"line 2: expected an object such as"),
        ({"label": "x"}, "line 2: there is no path of an image in file_name; found None"),
        ({"file_name": " "}, "there is no path of an image in file_name; found ' '"),
        ({"file_name": ["x"]}, r"there is no path of an image in file_name; found \['x'\]"),
        ({"file_name": "x" * 3000}, r"line 2: 'xxx.* cannot be the path of a file"),
        ({"file_name": "a\0b"}, r"'a\\x00b' cannot be the path of a file"),
        ('{"file_name": "\\ud800"}', "cannot be the path of a file"),
        (
            {"file_name": "train/b2.jpg", "label": ["a", "b"]},
            r"line 2: the label is \['a', 'b'\], and an image has one",
        ),
        ({"file_name": "train/b2.jpg", "split": "x"}, "line 2: split is train"),
        ({"file_name": "train/a1.jpg", "label": "y"}, "has label 'y' here and 'x' on line 1"),
    ],
)
def test_a_line_of_json_that_is_wrong_is_named(photos, line, message):
    with pytest.raises(SourceError, match=message):
        open_source(write(photos / "x.jsonl", {"file_name": "train/a1.jpg", "label": "x"}, line))


def test_json_lines_of_broken_utf_16_are_refused(photos):
    row = json.dumps({"file_name": "train/a1.jpg"}) + "\n"
    (photos / "x.jsonl").write_bytes((row * 2).encode("utf-16-le"))
    assert len(open_source(photos / "x.jsonl").records) == 1
    (photos / "x.jsonl").write_bytes((row * 2).encode("utf-16-le")[:-1])
    with pytest.raises(SourceError, match=r"line \d or after it: broken UTF-16-LE text; save"):
        open_source(photos / "x.jsonl")


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_folder_with_metadata_has_its_labels(photos, kind):
    named = {"a1.jpg": "rose", "b2.jpg": "tulip", "gone.jpg": "rose"}
    if kind == "csv":
        write(
            photos / "train" / "metadata.csv",
            "file_name,label",
            *(f"{name},{label}" for name, label in named.items()),
        )
    else:
        lines = [{"file_name": name, "label": label, "note": 1} for name, label in named.items()]
        write(photos / "train" / "metadata.jsonl", *lines)
    write(
        photos / "test" / f"metadata.{kind}",
        "file_name,label\nd4.jpg,rose" if kind == "csv" else {"file_name": "d4.jpg", "label": "rose"},
    )
    source = open_source(photos)
    assert [(record.path, record.label, record.split) for record in source.records] == [
        ("test/d4.jpg", "rose", "test"),
        ("train/a1.jpg", "rose", "train"),
        ("train/b2.jpg", "tulip", "train"),
        ("train/c3.png", None, "train"),
    ]
    assert source.failures == [("train/gone.jpg", "no such file")]
    assert source.unused_columns == (["note"] if kind == "jsonl" else [])
    assert source.unlabelled == 1


def test_metadata_in_the_root_names_files_below_it_and_the_label_column_may_be_chosen(photos):
    write(photos / "metadata.csv", "file_name,kind,label,group", "train/a1.jpg,x,1,g", "test/d4.jpg,y,2,")
    source = open_source(photos, label_column="kind")
    assert [(record.path, record.label, record.group) for record in source.records] == [
        ("test/d4.jpg", "y", None),
        ("train/a1.jpg", "x", "g"),
        ("train/b2.jpg", None, None),
        ("train/c3.png", None, None),
    ]


def test_metadata_without_labels_leaves_those_of_the_folders(photos):
    write(photos / "metadata.csv", "file_name,group", "train/a1.jpg,g")
    source = open_source(photos)
    assert [(record.label, record.group) for record in source.records] == [
        ("test", None),
        ("train", "g"),
        ("train", None),
        ("train", None),
    ]


@pytest.mark.parametrize("text", ["id,label\n1,x\n", "", "\xff\n", "{", '["file_name"]\n'])
def test_metadata_of_other_programs_is_left_alone(photos, text):
    for name in ("metadata.csv", "metadata.jsonl"):
        (photos / name).write_text(text, "latin-1")
    assert rows(open_source(photos))[0] == ("test/d4.jpg", "test")


def coco(images, annotations, categories=((1, "cat"), (2, "dog"))):
    return {
        "images": [{"id": number, "file_name": name} for number, name in images],
        "annotations": [
            {"image_id": image, "category_id": category, "bbox": []} for image, category in annotations
        ],
        "categories": [{"id": number, "name": name} for number, name in categories],
    }


def test_the_category_of_an_image_is_its_label(photos):
    images = [(1, "a1.jpg"), (2, "b2.jpg"), (3, "c3.png"), (4, "gone.jpg")]
    listed = write(photos / "instances.json", coco(images, [(1, 2), (1, 2), (2, 1), (4, 1)]))
    source = open_source(listed, image_root=photos / "train")
    assert rows(source) == [("a1.jpg", "dog"), ("b2.jpg", "cat"), ("c3.png", None)]
    assert source.failures == [("gone.jpg", "no such file")]
    assert (source.name, source.root) == ("instances", str(photos / "train"))


def test_images_of_several_categories_are_failures(photos):
    images = [(1, "train/a1.jpg"), (2, "train/b2.jpg")]
    source = open_source(write(photos / "x.json", coco(images, [(1, 1), (1, 2), (2, 1)])))
    assert rows(source) == [("train/b2.jpg", "cat")]
    assert source.failures == [
        ("train/a1.jpg", "2 categories (cat, dog); an image has one label without --label-separator")
    ]
    alone = coco(images[:1], [(1, 1), (1, 2)])
    with pytest.raises(
        SourceError, match=r"none of the 1 images .*'train/a1\.jpg': 2 categories \(cat, dog\)"
    ):
        open_source(write(photos / "x.json", alone))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{broken", "is no JSON: "),
        ("[" * 100_000, "is no JSON: "),
        ([1], "no annotation file of COCO: expected an object .*; found a list"),
        ({"images": [], "note": 1}, "found 'images', 'note'"),
        (coco([], []), "lists no image"),
        (coco([(1, "a\0")], []), r"image 0: file_name 'a\\x00' cannot be the path"),
        (coco([(1, "\ud800")], []), "cannot be the path"),
        (coco([(1, "train/a1.jpg"), (2, "train/a1.jpg")], []), "image 1: 'train/a1.jpg' is listed before"),
        (coco([(1, "train/a1.jpg")], [(1, 9)]), "annotation 0: there is no category 9 in categories"),
        (
            coco([(1, "train/a1.jpg")], [(7, 1)]),
            "annotations of 1 images that it does not list, the first of id 7",
        ),
        (coco([([1], "train/a1.jpg")], []), r"image 0: expected id, a number or a text; found \[1\]"),
        (coco([], [], [(1, "")]), "category 0: its name is empty"),
        (coco([(1, "gone.jpg")], []), "'gone.jpg': no such file. Relative paths start from .*image_root"),
        (
            {**coco([(1, "a.jpg")], []), "annotations": [3]},
            "annotation 0: expected image_id, a number or a text",
        ),
    ],
)
def test_annotations_that_are_wrong_are_refused(photos, content, message):
    with pytest.raises(SourceError, match=message):
        open_source(write(photos / "x.json", content))

"""Parquet files: which images they hold, under which names and labels, and that damage is found."""

import json
import os

import numpy as np
import pytest

import featstore
from fakes import CountingBackbone
from featstore.errors import ImageError, MissingExtraError, SourceError
from featstore.images.reading import read_image
from featstore.images.sources.containers import parquet
from featstore.images.sources.opening import open_source
from pictures import DATE_NS, write_picture

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def write(path, columns, features=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if features is not None:
        # As Hugging Face's datasets does.
        text = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": text})
    pq.write_table(table, path, **options)
    os.utime(path, ns=(DATE_NS, DATE_NS))
    return path


def images(*names):
    return [{"bytes": (name or "x").encode() * 9, "path": name} for name in names]


def flowers(*labels):
    return {"_type": "ClassLabel", "names": [*labels]}


def labels(source):
    return {record.path: record.label for record in source.records}


def contents(source):
    return [read_image(os.path.join(source.root, record.path)) for record in source.records]


def test_columns_are_chosen_by_name(tmp_path):
    columns = {
        "image": images("a.jpg", "a.jpg", "b.jpg"),
        "Breed": ["pug", "pug", None],
        "label": [0, 1, 2],
        "id": [17, 18, 19],
        "box": [[1], [2], [3]],
    }
    path = write(tmp_path / "x.parquet", columns)
    source = open_source(path, path_column="id", label_column="breed")
    assert labels(source) == {
        "x.parquet::id=17": "pug",
        "x.parquet::id=18": "pug",
        "x.parquet::id=19": None,
    }
    assert contents(source) == [b"a.jpg" * 9, b"a.jpg" * 9, b"b.jpg" * 9]
    assert [*labels(open_source(tmp_path, path_column="id"))] == [*labels(source)]
    for column, reason in (("race", "no column 'race'; found 'image', 'Breed'"), ("box", "holds list<")):
        with pytest.raises(SourceError, match=f"x.parquet': .*{reason}") as raised:
            open_source(path, label_column=column)
        # The images are there.
        assert "Expected" not in str(raised.value)
    with pytest.raises(SourceError, match=r"suffix \(--suffix\): for lists, not for the images in Parquet"):
        open_source(path, suffix=".jpg")


def test_images_are_named_and_labelled_as_hugging_face_writes_them(tmp_path):
    features = {"image": {"_type": "Image"}, "label": flowers("daisy", "rose")}
    columns = {"image": images("a.jpg", "b.jpg", "c.jpg"), "label": [1, 0, -1], "width": [3, 3, 3]}
    source = open_source(write(tmp_path / "x.parquet", columns, features))
    assert labels(source) == {
        "x.parquet::a.jpg": "rose",
        "x.parquet::b.jpg": "daisy",
        "x.parquet::c.jpg": None,
    }
    assert contents(source) == [b"a.jpg" * 9, b"b.jpg" * 9, b"c.jpg" * 9]
    assert (source.name, source.failures) == ("x", [])


def test_a_repository_of_hugging_face_is_a_source_with_splits(tmp_path):
    for split, number in (("train", 0), ("train", 1), ("test", 0)):
        path = tmp_path / "flowers" / "data" / f"{split}-{number:05d}-of-00002.parquet"
        write(path, {"image": images(f"{split}{number}.jpg"), "label": ["rose"]})
    (tmp_path / "flowers" / "README.md").write_text("---\n")
    source = open_source(tmp_path / "flowers")
    assert [(record.path, record.split) for record in source.records] == [
        ("data/test-00000-of-00002.parquet::test0.jpg", "test"),
        ("data/train-00000-of-00002.parquet::train0.jpg", "train"),
        ("data/train-00001-of-00002.parquet::train1.jpg", "train"),
    ]
    assert source.name == "flowers"


@pytest.mark.parametrize(
    ("values", "features", "expected"),
    [
        (["rose", " tulip ", "", None], None, ["rose", "tulip", None, None]),
        (pa.array(["a", "b", "a", None]).dictionary_encode(), None, ["a", "b", "a", None]),
        ([0, 1, 7, None], flowers("daisy", "rose"), ["daisy", "rose", "7", None]),
        ([0.0, 1.0, 2.5, float("nan")], None, ["0", "1", "2.5", None]),
        ([True, False, True, None], None, ["True", "False", "True", None]),
        ([0, 1, 2, 3], {"_type": "ClassLabel", "names": [1, 2]}, ["0", "1", "2", "3"]),
    ],
)
def test_labels_of_every_type(tmp_path, values, features, expected):
    columns = {"image": images("a", "b", "c", "d"), "label": values}
    source = open_source(write(tmp_path / "x.parquet", columns, {"label": features}))
    assert list(labels(source).values()) == expected


@pytest.mark.parametrize("name", ["label", "labels", "class", "fine_label"])
def test_the_column_of_classes_is_found(tmp_path, name):
    columns = {"img": images("a.jpg"), name: [0], "note": ["x"]}
    source = open_source(write(tmp_path / "x.parquet", columns, {name: flowers("rose")}))
    assert labels(source) == {"x.parquet::a.jpg": "rose"}


def test_names_that_are_missing_shared_or_lead_elsewhere_become_numbers(tmp_path):
    columns = {"image": images("a.jpg", None, "b.jpg", "b.jpg", "../up.jpg", "/home/me/c.jpg")}
    assert list(labels(open_source(write(tmp_path / "x.parquet", columns)))) == [
        f"x.parquet::{name}" for name in ("a.jpg", "000001", "000002", "000003", "000004", "home/me/c.jpg")
    ]


def test_a_plain_column_of_bytes_is_one_of_images_by_its_name(tmp_path):
    source = open_source(write(tmp_path / "x.parquet", {"Image": [b"one", b"two"], "mask": [b"", b""]}))
    assert contents(source) == [b"one", b"two"]
    assert list(labels(source).values()) == [None, None]


@pytest.mark.parametrize(
    ("columns", "features", "message"),
    [
        ({"text": ["a"], "label": [1]}, None, r"records have 'label', 'text'.*a struct of bytes and path"),
        ({"left": images("a"), "right": images("a")}, None, "each row has several images: 'left', 'right'"),
        (
            {"image": images("a"), "class": ["x"], "category": ["y"]},
            None,
            "each of 'class', 'category' may be",
        ),
        ({"image": images("a"), "label": [[1, 2]]}, None, "'label' holds several values for each image"),
        (
            {"image": images("a"), "x": [0], "y": [0]},
            {"x": flowers("a"), "y": flowers("b")},
            "each of 'x', 'y' may be the label",
        ),
    ],
)
def test_what_is_ambiguous_is_refused(tmp_path, columns, features, message):
    with pytest.raises(SourceError, match=message):
        open_source(write(tmp_path / "x.parquet", columns, features))


def test_one_image_beside_masks_is_found_by_its_name(tmp_path):
    columns = {"mask": images("m.png"), "image": images("a.jpg")}
    assert contents(open_source(write(tmp_path / "x.parquet", columns))) == [b"a.jpg" * 9]


@pytest.mark.parametrize(
    "metadata", [b"[" * 100_000, b"{}", b'{"info": [1]}', b'{"info": {"features": [1]}}', b"\xff"]
)
def test_strange_metadata_says_nothing(tmp_path, metadata):
    table = pa.table({"image": images("a.jpg"), "label": [1]}).replace_schema_metadata(
        {"huggingface": metadata}
    )
    pq.write_table(table, tmp_path / "x.parquet")
    assert labels(open_source(tmp_path / "x.parquet")) == {"x.parquet::a.jpg": "1"}


def test_a_row_without_bytes_and_one_too_large_are_found_when_they_are_read(tmp_path, monkeypatch):
    columns = {
        "image": [{"bytes": None, "path": "/etc/hostname"}, {"bytes": b"x" * 90, "path": "b.jpg"}, None]
    }
    source = open_source(write(tmp_path / "x.parquet", columns))
    monkeypatch.setattr(parquet, "MAX_IMAGE_BYTES", 89)
    reasons = []
    for record in source.records:
        with pytest.raises(ImageError) as caught:
            read_image(os.path.join(source.root, record.path))
        reasons.append(str(caught.value))
    none = "the row holds no bytes of an image"
    assert reasons == [none, "the image has 90 bytes; one may have 89", none]


def test_images_are_read_in_any_order_and_in_batches(tmp_path, monkeypatch):
    names = [f"{number}.jpg" for number in range(300)]
    path = write(tmp_path / "x.parquet", {"image": images(*names)}, row_group_size=200)
    asked = []
    real = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile,
        "iter_batches",
        lambda file, *given, **of: (asked.append(of["row_groups"]), real(file, *given, **of))[1],
    )
    for number in range(300):
        assert read_image(f"{path}::{number}.jpg") == f"{number}.jpg".encode() * 9
    assert asked == [[0], [1]]
    for number in (299, 3, 2, 199, 0):
        assert read_image(f"{path}::{number}.jpg") == f"{number}.jpg".encode() * 9
    assert asked[2:] == [[0], [0]]


def test_a_file_that_is_broken_or_cut_short_is_refused(tmp_path):
    path = write(tmp_path / "x.parquet", {"image": images("a.jpg")})
    whole = path.read_bytes()
    for data in (b"", whole[:-9], whole[:40], b"PAR1" * 20):
        path.write_bytes(data)
        with pytest.raises(SourceError, match="no whole Parquet file: "):
            open_source(path)


def test_damage_is_found_where_pages_have_checksums(tmp_path):
    path = write(
        tmp_path / "x.parquet", {"image": images("a.jpg")}, write_page_checksum=True, compression="none"
    )
    source = open_source(path)
    path.write_bytes(path.read_bytes().replace(b"a.jpga.jpg", b"a.jpgb.jpg", 1))
    with pytest.raises(ImageError, match=r"no whole Parquet file: .*CRC checksum"):
        contents(source)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("featstore.extras.find_spec", lambda name: None)
    (tmp_path / "x.parquet").write_bytes(b"")
    with pytest.raises(MissingExtraError, match=r'pip install "featstore\[parquet\]"'):
        open_source(tmp_path / "x.parquet")


def test_features_and_hashes_are_those_of_the_files(tmp_path, monkeypatch):
    for number in range(20):
        write_picture(tmp_path / "photos" / f"{number % 2}" / f"{number:02d}.png", number)
    files = sorted((tmp_path / "photos").rglob("*.png"))
    rows = [{"bytes": path.read_bytes(), "path": path.name} for path in files]
    columns = {"image": rows, "label": [int(path.parent.name) for path in files]}
    path = write(tmp_path / "pets.parquet", columns, {"label": flowers("0", "1")}, row_group_size=7)
    tables = []
    for source in (tmp_path / "photos", path):
        store = f"{source}.fstore"
        report = featstore.extract(source, store, backbone=CountingBackbone())
        assert (report.extracted, report.failed) == (20, 0)
        tables.append(featstore.FeatureStore(store).table())
    files, contained = (
        {
            content.tobytes(): (label, row.tolist())
            for content, label, row in zip(
                table.content_hash_bytes, table.y, np.asarray(table.X), strict=True
            )
        }
        for table in tables
    )
    assert files == contained
    monkeypatch.setattr("featstore.flow.record_item.read_image", lambda path: pytest.fail(f"{path} was read"))
    again = featstore.extract(path, f"{path}.fstore", backbone=CountingBackbone())
    assert (again.reused, again.read) == (20, 0)

"""TFRecord shards: which images they hold, under which names, and that damage is found."""

import os
import struct

import pytest

from featstore.errors import ImageError, SourceError
from featstore.images.reading import read_image
from featstore.images.sources.opening import open_source
from featstore.io.archives.tfrecord import encode_example, write_record
from featstore.io.stamps import is_there


def example(image, name=b"", number=1, text=b"", **others):
    features = {
        "image/encoded": [image],
        "image/filename": [name],
        "image/class/label": [number],
        "image/class/text": [text],
        "image/height": [64],
        "image/object/bbox/xmin": [0.25, 0.5],
        **others,
    }
    return encode_example({key: values for key, values in features.items() if values not in ([b""], [None])})


def write_shard(path, *examples):
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        for data in examples:
            write_record(file, data)
    return path


def flowers(folder, split="train", n_shards=2, n=4):
    for shard in range(n_shards):
        write_shard(
            folder / f"{split}-{shard:05d}-of-{n_shards:05d}",
            *(
                example(
                    b"%s %d %d" % (split.encode(), shard, k),
                    b"%d.jpg" % k,
                    1 + k % 2,
                    b"rose" if k % 2 else b"daisy",
                )
                for k in range(n)
            ),
        )
    return folder


def contents(source):
    return {record.path: read_image(os.path.join(source.root, record.path)) for record in source.records}


def test_a_folder_of_shards_names_each_image_and_its_class(tmp_path):
    source = open_source(flowers(tmp_path / "flowers"))
    assert (source.name, source.location, source.failures) == ("flowers", str(tmp_path / "flowers"), [])
    assert [record.path for record in source.records[:5]] == [
        "train-00000-of-00002::0.jpg",
        "train-00000-of-00002::1.jpg",
        "train-00000-of-00002::2.jpg",
        "train-00000-of-00002::3.jpg",
        "train-00001-of-00002::0.jpg",
    ]
    assert [record.label for record in source.records[:2]] == ["daisy", "rose"]
    assert {record.split for record in source.records} == {None}
    assert contents(source)["train-00001-of-00002::2.jpg"] == b"train 1 2"


def test_shards_of_train_and_others_give_splits(tmp_path):
    flowers(tmp_path / "flowers", "validation", 1)
    source = open_source(flowers(tmp_path / "flowers"))
    assert {(record.path[:5], record.split) for record in source.records} == {
        ("train", "train"),
        ("valid", "validation"),
    }


@pytest.mark.parametrize(
    "name", ["birds.tfrecord", "birds.tfrecords", "birds-00000-of-00001", "birds.tfrecord-00000-of-00001"]
)
def test_one_shard_is_a_source(tmp_path, name):
    source = open_source(write_shard(tmp_path / name, example(b"a jay", b"jay.png", 3)))
    assert [(record.path, record.label) for record in source.records] == [(f"{name}::jay.png", "3")]
    assert source.name == "birds"


def test_a_pattern_and_a_list_of_shards_are_sources(tmp_path):
    flowers(tmp_path / "flowers", "validation", 1)
    flowers(tmp_path / "flowers")
    by_pattern = open_source(tmp_path / "flowers" / "train-*")
    listed = open_source(sorted((tmp_path / "flowers").glob("train-*")))
    assert (by_pattern.name, len(by_pattern.records)) == ("train", 8)
    assert listed == by_pattern


@pytest.mark.parametrize("lines", ["0:daisy\n1:rose\n", "daisy\nrose\n"])
def test_class_numbers_get_the_names_of_a_labels_file(tmp_path, lines):
    write_shard(
        tmp_path / "x" / "flowers_train_00000-of-00001.tfrecord", example(b"1", number=0), example(b"2")
    )
    (tmp_path / "x" / "labels.txt").write_text(lines)
    assert [record.label for record in open_source(tmp_path / "x").records] == ["daisy", "rose"]


def test_an_image_without_a_class_has_no_label(tmp_path):
    write_shard(tmp_path / "a.tfrecord", example(b"1", b"1", None), example(b"2", b"2"))
    assert [record.label for record in open_source(tmp_path / "a.tfrecord").records] == [None, "1"]


def test_names_that_are_missing_doubled_or_no_names_become_numbers(tmp_path):
    names = [b"a.jpg", b"", b"b.jpg", b"b.jpg", b"../up.jpg", b"nul\0.jpg", "ü.jpg".encode()]
    write_shard(tmp_path / "a.tfrecord", *(example(b"%d" % k, name) for k, name in enumerate(names)))
    assert [record.path.partition("::")[2] for record in open_source(tmp_path / "a.tfrecord").records] == [
        "a.jpg",
        "000001",
        "000002",
        "000003",
        "000004",
        "000005",
        "ü.jpg",
    ]


def test_the_names_of_tensorflow_datasets_are_known(tmp_path):
    write_shard(
        tmp_path / "flowers-train.tfrecord-00000-of-00001",
        encode_example({"image": [b"a rose"], "label": [4], "file_name": [b"rose.jpg"]}),
    )
    (record,) = open_source(tmp_path).records
    assert (record.path, record.label) == ("flowers-train.tfrecord-00000-of-00001::rose.jpg", "4")


def test_a_folder_of_images_stays_one_beside_shards(tmp_path):
    flowers(tmp_path)
    (tmp_path / "rose").mkdir()
    (tmp_path / "rose" / "1.jpg").write_bytes(b"")
    assert [record.path for record in open_source(tmp_path).records] == ["rose/1.jpg"]


def test_records_without_an_image_are_failures_or_an_error_that_names_their_features(tmp_path):
    other = encode_example({"tokens": [1, 2], "text": [b"words"]})
    shard = write_shard(tmp_path / "a.tfrecord", example(b"1", b"1.jpg"), other)
    assert open_source(shard).failures == [("a.tfrecord::1", "the record has no image/encoded")]
    write_shard(shard, other)
    with pytest.raises(SourceError, match=r"no image in the TFRecord shard .*records have 'text', 'tokens'"):
        open_source(shard)


def damaged(path, at, byte=b"\xff"):
    with path.open("rb+") as file:
        file.seek(at, os.SEEK_SET if at >= 0 else os.SEEK_END)
        file.write(byte)


def test_a_shard_that_is_cut_short_gives_the_records_before(tmp_path):
    shard = write_shard(tmp_path / "a.tfrecord", example(b"1", b"1.jpg"), example(b"2", b"2.jpg"))
    os.truncate(shard, shard.stat().st_size - 7)
    source = open_source(shard)
    assert list(contents(source).values()) == [b"1"]
    ((path, reason),) = source.failures
    assert path == "a.tfrecord::1"
    assert reason.startswith("cut short: a record of")
    assert reason.endswith("the 1 records before it are used")


def test_a_wrong_length_is_found(tmp_path):
    shard = write_shard(tmp_path / "a.tfrecord", example(b"1", b"1.jpg"))
    damaged(shard, 0)
    with pytest.raises(SourceError, match="length does not agree with its checksum"):
        open_source(shard)


def test_wrong_data_is_found_when_the_image_is_read(tmp_path):
    shard = write_shard(tmp_path / "a.tfrecord", example(b"a long picture", b"1.jpg"))
    source = open_source(shard)
    damaged(shard, shard.read_bytes().index(b"long"), b"L")
    with pytest.raises(ImageError, match="data does not agree with its checksum"):
        contents(source)


def test_compressed_shards_are_refused(tmp_path):
    shard = write_shard(tmp_path / "a.tfrecord")
    shard.write_bytes(b"\x1f\x8b\x08" + bytes(20))
    with pytest.raises(SourceError, match="compressed by gzip"):
        open_source(shard)


def test_an_empty_shard_holds_no_image(tmp_path):
    with pytest.raises(SourceError, match="they are empty"):
        open_source(write_shard(tmp_path / "a.tfrecord"))


def test_what_is_gone_is_said(tmp_path):
    shard = write_shard(tmp_path / "a.tfrecord", example(b"1", b"1.jpg"))
    assert is_there(f"{shard}::1.jpg")
    with pytest.raises(ImageError, match=r"no image '2\.jpg'"):
        read_image(f"{shard}::2.jpg")
    shard.unlink()
    assert not is_there(f"{shard}::1.jpg")
    with pytest.raises(ImageError, match="no such file"):
        read_image(f"{shard}::1.jpg")


def test_a_file_whose_name_has_the_mark_is_read_as_it_is(tmp_path):
    (tmp_path / "a::b.jpg").write_bytes(b"plain")
    assert read_image(str(tmp_path / "a::b.jpg")) == b"plain"


def test_an_example_is_what_tensorflow_writes(tmp_path):
    tf = pytest.importorskip("tensorflow")
    feature, values = tf.train.Feature, tf.train
    written = tf.train.Example(
        features=tf.train.Features(
            feature={
                "image/encoded": feature(bytes_list=values.BytesList(value=[b"a picture"])),
                "image/filename": feature(bytes_list=values.BytesList(value=[b"1.jpg"])),
                "image/class/label": feature(int64_list=values.Int64List(value=[-3])),
                "image/class/text": feature(bytes_list=values.BytesList(value=["Märzveilchen".encode()])),
                "bbox": feature(float_list=values.FloatList(value=[0.5, 1])),
            }
        )
    )
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        writer.write(written.SerializeToString())
    source = open_source(tmp_path / "a.tfrecord")
    assert [(record.path, record.label) for record in source.records] == [
        ("a.tfrecord::1.jpg", "Märzveilchen")
    ]
    assert list(contents(source).values()) == [b"a picture"]
    ours = encode_example(
        {
            "image/encoded": [b"a picture"],
            "image/filename": [b"1.jpg"],
            "image/class/label": [-3],
            "image/class/text": ["Märzveilchen".encode()],
            "bbox": [0.5, 1.0],
        }
    )
    assert tf.train.Example.FromString(ours) == written


def test_framing_is_what_tensorflow_reads(tmp_path):
    tf = pytest.importorskip("tensorflow")
    shard = write_shard(tmp_path / "a.tfrecord", b"", b"one", struct.pack("<Q", 2) * 1000)
    assert [record.numpy() for record in tf.data.TFRecordDataset(str(shard))] == [
        b"",
        b"one",
        struct.pack("<Q", 2) * 1000,
    ]

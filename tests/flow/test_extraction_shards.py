"""Images within TFRecord shards: extracted as files are, and written by packing."""

import os
import time

import numpy as np
import pytest
from PIL import Image

import featstore
from fakes import CountingBackbone
from featstore.errors import OutputError, StoreError
from featstore.hashing import content_hash


@pytest.fixture
def photos(tmp_path):
    for number in range(40):
        path = tmp_path / "photos" / ("cat" if number % 2 else "dog") / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (12, 16, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        os.utime(path, ns=(10**18 + number, 10**18 + number))
    return tmp_path / "photos"


@pytest.fixture
def store(photos, tmp_path):
    featstore.extract(photos, tmp_path / "photos.fstore", backbone=CountingBackbone())
    return featstore.FeatureStore(tmp_path / "photos.fstore")


@pytest.fixture
def shards(store, tmp_path):
    assert store.pack(tmp_path / "shards", format="tfrecord", shards=3) == 40
    for path in (tmp_path / "shards").iterdir():
        os.utime(path, ns=(10**18, 10**18))
    return tmp_path / "shards"


def by_content(table):
    return {
        content.tobytes(): (label, split, row.tolist())
        for content, label, split, row in zip(
            table.content_hash_bytes, table.y, table.splits(), np.asarray(table.X), strict=True
        )
    }


def test_shards_hold_the_same_images_classes_and_splits(store, shards, tmp_path):
    report = featstore.extract(shards, tmp_path / "again.fstore", backbone=CountingBackbone())
    assert (report.images, report.extracted, report.failed) == (40, 40, 0)
    again = featstore.FeatureStore(tmp_path / "again.fstore").table()
    assert by_content(again) == by_content(store.table())
    assert set(again.given_splits) == {"train", "validation", "test"}
    counts = {split: (store.table().splits() == split).sum() for split in ("train", "validation", "test")}
    largest = -(-counts["train"] // 3)
    for split, count in counts.items():
        n_shards = -(-count // largest)
        assert len(list(shards.glob(f"{split}-*-of-{n_shards:05d}"))) == n_shards


def test_images_that_are_in_the_store_already_are_not_computed_again(store, shards):
    backbone = CountingBackbone()
    report = featstore.extract(shards, store.path, backbone=backbone)
    assert (backbone.images, report.extracted, report.reused, report.read) == (0, 0, 40, 40)
    again = featstore.extract(shards, store.path, backbone=backbone)
    assert (again.reused, again.read) == (40, 0)


def test_a_shard_that_has_changed_is_read_again(store, shards):
    featstore.extract(shards, store.path, backbone=CountingBackbone())
    os.utime(shards / "train-00001-of-00003")
    time.sleep(0.06)
    report = featstore.extract(shards, store.path, backbone=CountingBackbone())
    assert 0 < report.read < 20


def test_what_tensorflow_reads_from_the_shards(store, shards):
    tf = pytest.importorskip("tensorflow")
    table = store.table()
    layout = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([1], tf.int64, -1),
        "image/class/text": tf.io.FixedLenFeature([], tf.string, ""),
        "image/height": tf.io.FixedLenFeature([], tf.int64),
        "image/width": tf.io.FixedLenFeature([], tf.int64),
        "image/format": tf.io.FixedLenFeature([], tf.string),
        "features": tf.io.FixedLenFeature([table.feature_dim], tf.float32),
    }
    paths = sorted(str(path) for path in shards.glob("*-of-*"))
    rows = [tf.io.parse_single_example(record, layout) for record in tf.data.TFRecordDataset(paths)]
    assert len(rows) == 40
    known = {content: (label, row) for content, (label, _, row) in by_content(table).items()}
    for row in rows:
        data = row["image/encoded"].numpy()
        label, features = known[content_hash(data)]
        assert row["image/class/text"].numpy().decode() == label
        assert row["image/class/label"].numpy().tolist() == [{"cat": 1, "dog": 2}[label]]
        assert row["features"].numpy().tolist() == features
        assert tf.io.decode_image(data).shape == (row["image/height"], row["image/width"], 3) == (12, 16, 3)
        assert row["image/format"].numpy() == b"PNG"


def test_shards_are_the_same_in_blocks_of_any_size(store, shards, tmp_path, monkeypatch):
    monkeypatch.setattr("featstore.store.packing.contents._BLOCK_BYTES", 3 * 5 * 4)
    store.pack(tmp_path / "blocks", format="tfrecord", shards=3)
    for path in shards.iterdir():
        assert (tmp_path / "blocks" / path.name).read_bytes() == path.read_bytes()


def test_labels_and_description_stand_beside_the_shards(shards):
    assert (shards / "labels.txt").read_text() == "0:background\n1:cat\n2:dog\n"
    assert '"feature_dim": 5' in (shards / "featstore-pack.json").read_text()


def test_an_image_that_is_gone_or_changed_stops_the_packing_and_leaves_nothing(store, photos, tmp_path):
    (photos / "cat" / "01.png").write_bytes((photos / "cat" / "03.png").read_bytes())
    before = set(os.listdir(tmp_path))
    with pytest.raises(OutputError, match=r"01\.png: the file has changed.*nothing was written"):
        store.pack(tmp_path / "shards", format="tfrecord")
    (photos / "cat" / "01.png").unlink()
    with pytest.raises(OutputError, match=r"01\.png: no such file; nothing was written"):
        store.pack(tmp_path / "shards", format="tfrecord")
    assert set(os.listdir(tmp_path)) == before


def test_only_shards_that_were_packed_are_replaced(store, shards, tmp_path):
    with pytest.raises(OutputError, match="exists; name another folder"):
        store.pack(shards, format="tfrecord")
    assert store.pack(shards, format="tfrecord", overwrite=True) == 40
    assert len(list(shards.glob("train-*"))) == 1
    (shards / "notes.md").write_text("mine")
    with pytest.raises(OutputError, match=r"holds notes\.md, .* shards that pack wrote; name another folder"):
        store.pack(shards, format="tfrecord")
    with pytest.raises(OutputError, match=r"holds notes\.md, .* and --force replaces nothing else"):
        store.pack(shards, format="tfrecord", overwrite=True)
    (tmp_path / "empty").mkdir()
    assert store.pack(tmp_path / "empty", format="tfrecord") == 40
    with pytest.raises(OutputError, match="lies in the store"):
        store.pack(os.path.join(store.path, "shards"), format="tfrecord")


def test_wrong_arguments_are_refused(store, tmp_path):
    with pytest.raises(StoreError, match="format must be one of h5, npz, parquet, tfrecord; found 'zip'"):
        store.pack(tmp_path / "x", format="zip")
    with pytest.raises(StoreError, match="shards must be at least 1; found 0"):
        store.pack(tmp_path / "x", format="tfrecord", shards=0)
    with pytest.raises(StoreError, match="only the format tfrecord has shards; found shards=2"):
        store.pack(tmp_path / "x.h5", shards=2)

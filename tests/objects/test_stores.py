"""Stores in a bucket: what a folder does, with the same rows to the bit."""

import json
import os
import pickle
import shutil

import numpy as np
import pytest

import featstore
from conftest import run_featstore
from fakes import CountingBackbone
from featstore.errors import OutputError, StoreError, StoreNotFoundError
from featstore.io.storage.opening import storage_of
from featstore.store.segments import retired


@pytest.fixture
def url(bucket):
    return f"{bucket}/photos.fstore"


@pytest.fixture
def local(photos, tmp_path):
    """The same store in a folder."""
    return featstore.FeatureStore(extract(photos, tmp_path / "local.fstore").store)


def extract(source, store, **options):
    return featstore.extract(source, store, backbone=CountingBackbone(batch_size=2), **options)


def rows_of(store):
    table = featstore.FeatureStore(store).table()
    return dict(zip(map(bytes, table.content_hash_bytes), map(bytes, table.X), strict=True))


def add_images(url, source, tmp_path, n_times):
    """Extract so many copies of a folder whose images all differ, each in a run of its own."""
    for number in range(n_times):
        folder = tmp_path / f"more-{number}"
        shutil.copytree(source, folder)
        for path in folder.rglob("*.png"):
            path.write_bytes(path.read_bytes() + bytes([number]))
        extract(folder, url)


def test_an_extraction_that_fails_before_its_first_image_leaves_nothing_in_the_bucket(url, photos):
    def fail(number):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        featstore.extract(photos, url, backbone=CountingBackbone(before_batch=fail))
    with pytest.raises(StoreError, match="cannot be the name"):
        extract(photos, url, catalog="a/b")
    assert not storage_of(url).entries(url)


def test_what_is_extracted_into_a_bucket_is_what_is_in_a_folder(url, photos, local):
    report = extract(photos, url)
    assert (report.store, report.extracted, report.failed) == (url, 12, 1)
    store = featstore.FeatureStore(url)
    assert (store.space_names, store.catalog_names) == (local.space_names, local.catalog_names)
    assert rows_of(url) == rows_of(local.path)
    assert isinstance(store.table().X, np.memmap)
    assert store.catalog().equals(local.catalog())
    assert extract(photos, url).reused == 12
    described = store.info()
    assert described["path"] == url
    assert described["spaces"][0]["rows"] == 12
    assert store.verify().ok


def test_another_machine_reads_the_keys_first_and_rows_when_they_are_used(
    url, photos, s3_server, tmp_path, monkeypatch
):
    extract(photos, url)
    monkeypatch.setenv("FEATSTORE_CACHE", str(tmp_path / "other machine"))
    table = featstore.FeatureStore(url).table()
    kinds = [name.rpartition(".")[2] for name in os.listdir(tmp_path / "other machine" / "objects")]
    assert kinds.count("parts") <= 1
    s3_server.requests.clear()
    assert table.X.shape == (12, 5)
    fetched = [path for method, path in s3_server.requests if path.endswith(".h5")]
    assert len(fetched) <= 1
    s3_server.requests.clear()
    assert featstore.FeatureStore(url).table().X.shape == (12, 5)
    assert not [path for _, path in s3_server.requests if "/spaces/" in path and path.endswith(".h5")]


def test_heads_are_fitted_saved_and_used(url, photos):
    extract(photos, url)
    store = featstore.FeatureStore(url)
    head = featstore.fit(store.table(), head="ridge")
    head.save(store.head_path("ridge"))
    head.save(store.head_path("ridge"))
    assert store.head_names == ("ridge",)
    loaded = featstore.Head.load(f"{url}/heads/ridge.head")
    assert (loaded.predict(store.table().X) == head.predict(store.table().X)).all()
    assert store.info()["heads"][0]["bytes"] > 1000
    elsewhere = f"{url.rpartition('/')[0]}/models/ridge.head"
    head.save(elsewhere)
    assert featstore.Head.load(elsewhere).classes.tolist() == head.classes.tolist()
    with pytest.raises(OutputError, match="exists; name another"):
        head.save(elsewhere)
    with pytest.raises(OutputError, match=r"lies in the store s3://stores/.*, into which nothing else"):
        head.save(f"{url}/ridge.head")


def test_the_commands_take_urls(url, photos, tmp_path):
    store, head = ("--store", url), f"{url}/heads/ridge.head"
    shown = json.loads(run_featstore("extract", str(photos), "--backbone", "scattering", *store, "--json"))
    assert shown["store"] == url
    run_featstore("fit", url, "--head", "ridge", "--test", "0.3", "--validation", "0.2")
    assert "ridge" in run_featstore("info", url)
    run_featstore("evaluate", "ridge", *store)
    assert json.loads(run_featstore("evaluate", head, "--json"))
    picture = str(photos / "daisy" / "0.png")
    assert run_featstore("predict", head, picture) == run_featstore("predict", "ridge", picture, *store)
    run_featstore("pack", url, str(tmp_path / "packed.h5"))
    assert "12" in run_featstore("verify", url)
    run_featstore("compact", url)
    run_featstore("similar", picture, *store)


def test_stores_are_merged_in_each_direction(url, photos, local, tmp_path):
    extract(photos, url)
    here = featstore.FeatureStore(tmp_path / "here.fstore", create=True)
    assert here.merge(url).rows == 12
    assert rows_of(here.path) == rows_of(local.path)
    there = featstore.FeatureStore(f"{url}.2", create=True)
    assert there.merge(local).rows == 12
    assert there.merge(url).skipped == 1
    assert rows_of(there.path) == rows_of(local.path)
    with pytest.raises(StoreError, match="is this very store"):
        there.merge(there.path)


def test_what_a_compaction_replaces_waits_for_readers(url, photos, tmp_path, monkeypatch):
    add_images(url, photos, tmp_path, 3)
    store = featstore.FeatureStore(url)
    reader = featstore.FeatureStore(url).space()
    assert reader.n_rows == 36
    before = len(store.space().segments)
    store.compact(full=True)
    names = {path.rpartition("/")[2] for path in store._storage.below(url) if "/spaces/" in path}
    markers = [name for name in names if name.startswith("retired-")]
    assert markers
    space = featstore.FeatureStore(url).space()
    assert (len(space.segments), space.n_rows) == (1, 36)
    assert len([name for name in names if name.endswith(".h5")]) > before - len(markers)
    assert store.verify().leftovers == ()
    monkeypatch.setattr(retired, "KEPT_SECONDS", -3600)
    assert store.compact().leftovers_removed >= 2
    assert not [path for path in store._storage.below(url) if "retired-" in path]
    # Who has waited for too long finds its rows in the new segment.
    shutil.rmtree(os.environ["FEATSTORE_CACHE"])
    assert reader.rows(np.arange(36)).shape == (36, 5)
    assert store.verify().ok


def test_damage_is_found_where_it_lies_and_set_aside(url, photos, s3_server):
    from obstore.store import S3Store

    extract(photos, url)
    store = featstore.FeatureStore(url)
    assert store.table().X.any()
    segment = store.space().segments[0]
    key = segment.path.removeprefix("s3://stores/")
    objects = S3Store("stores", client_options={"allow_http": True})
    content = bytearray(objects.get(key).bytes().to_bytes())
    content[segment.offsets[0] + 3] ^= 255
    objects.put(key, bytes(content))
    report = featstore.FeatureStore(url).verify()
    assert [one.rows for one in report.damaged] == [(0,)]
    repaired = featstore.FeatureStore(url).repair()
    assert (repaired.rescued, repaired.lost, repaired.ok) == (11, 1, True)
    assert repaired.set_aside[0][1].startswith(f"{url}/damaged/spaces/")
    assert extract(photos, url).extracted == 1
    again = featstore.FeatureStore(url).verify()
    assert again.ok
    assert len(again.set_aside) == 1


def test_shards_are_collected(url, photos, local):
    for number in (1, 2, 3):
        extract(photos, url, shard=(number, 3))
    report = featstore.collect(url, photos)
    assert (report.reused, report.lacking) == (12, {})
    assert rows_of(url) == rows_of(local.path)
    assert not [path for path in featstore.FeatureStore(url)._storage.below(url) if "/shards/" in path]


def test_an_extractor_for_other_engines_writes_into_a_bucket(url, photos, local):
    extractor = featstore.ShardExtractor(photos, url, catalog="photos", backbone="scattering")
    paths = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    for start in range(0, len(paths), 5):
        pickle.loads(pickle.dumps(extractor))(paths[start : start + 5])
    assert featstore.collect(url, photos).reused == 12
    assert rows_of(url).keys() == rows_of(local.path).keys()


def test_labels_and_groups_are_changed_in_place(url, photos):
    extract(photos, url)
    store = featstore.FeatureStore(url)
    contents = [row.tobytes().hex() for row in store.catalog().content_hash[:2]]
    assert store.write_near_groups([contents]) == 2
    assert store.catalog().near_groups[0] == store.catalog().near_groups[1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("https://host/photos.fstore", "a store lies in a folder, or in a bucket of s3://, gs:// or az://"),
        ("hf://datasets/x/photos.fstore", "a store lies in a folder, or in a bucket"),
        ("s3://", "names no store; give an address such as s3://bucket/flowers.fstore"),
        ("s3://stores/../photos.fstore", "names no store"),
        ("s3://key:secret@stores/photos.fstore", "s3://stores/photos.fstore holds a credential"),
    ],
)
def test_what_is_no_address_of_a_store_is_named(given, said):
    with pytest.raises(StoreError, match=said):
        featstore.FeatureStore(given, create=True)


def test_a_store_that_is_not_there_is_named(bucket):
    with pytest.raises(
        StoreNotFoundError, match=r"there is no store s3://stores/.*; featstore extract makes one"
    ):
        featstore.FeatureStore(f"{bucket}/none.fstore")


def test_a_folder_of_other_things_is_no_store(bucket, s3_server):
    s3_server.ask("PUT", f"/{bucket.removeprefix('s3://')}/other/thing.txt", b"x")
    with pytest.raises(StoreError, match=r"is a folder of other things \(thing.txt, …\) and not a store"):
        featstore.FeatureStore(f"{bucket}/other", create=True)


def test_a_file_url_is_its_path(tmp_path):
    store = featstore.FeatureStore(f"file://{tmp_path}/a.fstore", create=True)
    assert store.path == str(tmp_path / "a.fstore")


def test_results_are_not_written_to_buckets(url, photos):
    extract(photos, url)
    store, said = (
        featstore.FeatureStore(url),
        "is a URL; only heads are written to buckets: name a file or folder",
    )
    table = store.table()
    for write in (
        lambda: store.pack(f"{url}.h5"),
        lambda: store.pack(f"{url}.records", format="tfrecord"),
        lambda: featstore.export_projector(table, f"{url}.projector"),
        lambda: featstore.export_head(featstore.fit(table, head="ridge"), f"{url}.model"),
    ):
        with pytest.raises(OutputError, match=said):
            write()


def test_without_obstore_its_package_is_named(monkeypatch):
    monkeypatch.setattr("featstore.extras.find_spec", lambda _: None)
    with pytest.raises(
        featstore.errors.MissingExtraError,
        match=r"s3:// needs obstore, not installed here; run: pip install .*objects",
    ):
        featstore.FeatureStore("s3://stores/photos.fstore")


def test_what_is_removed_is_gone_from_the_bucket(url, photos):
    extract(photos, url)
    store = featstore.FeatureStore(url)
    table = store.table()
    featstore.fit(table, head="centroid").save(store.head_path("one"))
    [space] = store.space_names
    planned = store.remove(spaces=[space], dry_run=True)
    assert [sentence[:12] for sentence in planned.consequences] == ["the head one", "12 images of"]
    assert featstore.FeatureStore(url).space_names == (space,)
    store.remove(spaces=[space], catalogs=store.catalog_names, heads=["one"])
    left = featstore.FeatureStore(url)
    assert (left.space_names, left.catalog_names, left.head_names) == ((), (), ())
    assert left.verify().ok
    assert [os.path.basename(path) for path in storage_of(url).below(url)] == ["featstore.json"]
    extract(photos, url)
    assert rows_of(url)


def test_a_forgotten_image_leaves_the_bucket_and_the_copies_at_once(url, photos, tmp_path):
    add_images(url, photos, tmp_path, 3)
    store = featstore.FeatureStore(url)
    table = store.table(catalog="more-1")
    featstore.fit(table, head="knn", params={"n_neighbors": 1, "weights": "uniform"}).save(
        store.head_path("near")
    )
    store.compact(full=True)
    reader = featstore.FeatureStore(url).space()
    assert reader.n_rows == 36
    fitted = featstore.Head.load(store.head_path("near")).was_fitted_on(table)
    content = str(table.content_hash[np.flatnonzero(fitted)[0]])
    found = store.find_traces(content).traces
    assert {"spaces", "catalogs", "heads"} <= {trace.path.removeprefix(url).split("/")[1] for trace in found}
    report = store.forget(content)
    assert (report.catalogs, report.heads) == ({"more-1": 1}, ("near",))
    assert any("retired-" in path for path in report.files)
    assert any("earlier versions" in sentence for sentence in report.consequences)
    assert store.find_traces(content).traces == ()
    names = {path.rpartition("/")[2] for path in store._storage.below(url)}
    assert not [name for name in names if name.startswith("retired-")]
    copies = os.path.join(os.environ["FEATSTORE_CACHE"], "objects")
    for name in os.listdir(copies):
        with open(os.path.join(copies, name), "rb") as file:
            assert bytes.fromhex(content) not in file.read()
    assert featstore.FeatureStore(url).verify().ok
    assert featstore.FeatureStore(url).space().n_rows == 35
    assert featstore.FeatureStore(url).forget(content).is_empty

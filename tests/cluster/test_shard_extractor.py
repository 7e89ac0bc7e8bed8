"""The callable for pipelines of other engines; that of Ray Data is tested on the cluster of test_ray.py."""

import pickle
import sys

import numpy as np
import pytest

import featstore
from fakes import CountingBackbone
from featstore.errors import SourceError
from pictures import write_broken, write_picture


@pytest.fixture
def photos(tmp_path):
    for number in range(12):
        write_picture(tmp_path / "photos" / "ab"[number % 2] / f"{number:02d}.png", number)
    write_broken(tmp_path / "photos" / "a" / "broken.png")
    return tmp_path / "photos"


@pytest.fixture
def paths(photos):
    return [record.path for record in featstore.images.open_source(photos).records]


@pytest.fixture
def store(tmp_path):
    return tmp_path / "photos.fstore"


@pytest.fixture
def extractor(photos, store):
    return featstore.ShardExtractor(photos, store, catalog="photos", backbone=CountingBackbone())


def assert_collected(store, photos, tmp_path, backbone):
    assert featstore.collect(store, photos).lacking == {}
    featstore.extract(photos, tmp_path / "whole.fstore", backbone=backbone)
    found, whole = (featstore.FeatureStore(path) for path in (store, tmp_path / "whole.fstore"))
    assert found.catalog("photos").equals(whole.catalog("photos"))
    assert found.space().n_rows == whole.space().n_rows
    table, expected = found.table(), whole.table()
    assert list(table.paths) == list(expected.paths)
    assert np.asarray(table.X).tobytes() == np.asarray(expected.X).tobytes()


def test_batches_of_paths_and_their_collection_make_what_one_run_makes(
    extractor, paths, store, photos, tmp_path
):
    results = [result for start in range(0, 13, 5) for result in extractor(paths[start : start + 5])]
    assert [result["path"] for result in results] == paths
    content = (photos / paths[0]).read_bytes()
    assert results[0] == {
        "path": paths[0],
        "content_hash": featstore.content_hash(content).hex(),
        "reason": "",
    }
    assert [result["path"] for result in results if result["reason"]] == ["a/broken.png"]
    assert_collected(store, photos, tmp_path, CountingBackbone())


def test_a_batch_comes_back_as_what_it_was(extractor, paths):
    import pandas

    frame = extractor(pandas.DataFrame({"path": paths, "other": range(13)}))
    assert list(frame.columns) == ["path", "content_hash", "reason"]
    columns = extractor({"path": np.array(paths)})
    assert {name: values.tolist() for name, values in columns.items()} == frame.to_dict("list")
    assert extractor([]) == []


def test_a_batch_that_is_run_again_changes_nothing(extractor, paths, store):
    extractor(paths)
    before = {path: path.read_bytes() for path in store.glob("s*/*/*.h5")}
    extractor(paths)
    after = {path: path.read_bytes() for path in store.glob("s*/*/*.h5")}
    assert [*after] == [*before]
    segments = [path for path in before if "spaces" in path.parts]
    assert [after[path] for path in segments] == [before[path] for path in segments]


def test_paths_that_are_not_there_have_their_reason(extractor, paths):
    first, twice, absent = extractor([paths[0], paths[0], "a/absent.png"])
    assert first == twice
    assert absent == {"path": "a/absent.png", "content_hash": "", "reason": "no such file"}


def test_what_the_store_has_is_not_computed(photos, store, paths):
    featstore.extract(photos, store, backbone=CountingBackbone())
    backbone = CountingBackbone()
    featstore.ShardExtractor(photos, store, catalog="photos", backbone=backbone)(paths)
    assert backbone.images == 0


def test_root_must_be_a_folder(photos, store):
    with pytest.raises(SourceError, match="folder that paths start from"):
        featstore.ShardExtractor(photos / "no", store, catalog="photos", backbone=CountingBackbone())


def test_dask_runs_it_in_processes(photos, store, paths, tmp_path):
    bag = pytest.importorskip("dask.bag", reason="Dask is not installed")
    extractor = featstore.ShardExtractor(photos, store, catalog="photos", backbone="scattering", threads=1)
    results = bag.from_sequence(paths, npartitions=2).map_partitions(extractor)
    assert [result["path"] for result in results.compute(scheduler="processes", num_workers=2)] == paths
    assert_collected(store, photos, tmp_path, featstore.load_backbone("scattering"))


@pytest.mark.filterwarnings("ignore")
def test_spark_runs_it_on_frames(photos, store, paths, tmp_path, monkeypatch):
    sql = pytest.importorskip("pyspark.sql", reason="Spark is not installed")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    extractor = featstore.ShardExtractor(photos, store, catalog="photos", backbone="scattering", threads=1)
    spark = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        frame = spark.createDataFrame([(path,) for path in paths], "path string").repartition(2)
        schema = "path string, content_hash string, reason string"
        results = frame.mapInPandas(lambda frames: map(extractor, frames), schema).collect()
    finally:
        spark.stop()
    assert sorted(result.path for result in results) == sorted(paths)
    assert_collected(store, photos, tmp_path, featstore.load_backbone("scattering"))


def test_an_extractor_that_was_pickled_is_that_extractor(photos, store, paths, tmp_path):
    extractor = featstore.ShardExtractor(photos, store, catalog="photos", backbone="scattering")
    pickle.loads(pickle.dumps(extractor))(paths)
    assert_collected(store, photos, tmp_path, featstore.load_backbone("scattering"))

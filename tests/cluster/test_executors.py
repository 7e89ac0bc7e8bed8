"""What an extraction makes of an executor's shards, here run one by one in this process."""

from dataclasses import replace

import pytest

import featstore
from fakes import CountingBackbone
from featstore.errors import ExtractionError, SourceError, StoreError
from featstore.flow.extraction import run_extraction
from featstore.flow.shard import ShardJob, run_shard
from featstore.images.views import ViewRecipe
from pictures import write_broken, write_dated, write_picture


class InThisProcess:
    """Runs shards of three images, the last one first, each twice, on nodes a and b by turns."""

    def __init__(self, store=None):
        self.store = store
        self.closed = False

    def size_of_shards(self, n_images, row_bytes):
        assert n_images > 0
        assert row_bytes > 0
        return 3

    def run(self, job, shards):
        if self.store is not None:
            job = replace(job, store=str(self.store))
        try:
            for number, shard in enumerate([*shards][::-1]):
                run_shard(job, shard.records)
                yield shard, replace(run_shard(job, shard.records), node="ab"[number % 2])
        finally:
            self.closed = True


@pytest.fixture
def photos(tmp_path):
    for number in range(10):
        write_picture(tmp_path / "photos" / "ab"[number % 2] / f"{number:02d}.png", number)
    first = tmp_path / "photos" / "a" / "00.png"
    write_dated(tmp_path / "photos" / "b" / "copied.png", first.read_bytes())
    write_broken(tmp_path / "photos" / "a" / "broken.png")
    return tmp_path / "photos"


@pytest.fixture
def store(tmp_path):
    return tmp_path / "photos.fstore"


def test_the_store_is_that_of_a_run_without_an_executor(photos, store, tmp_path):
    recipe = ViewRecipe(flip=True)
    options = {"n_views": 2}
    report = run_extraction(
        photos, store, backbone=CountingBackbone(views=recipe), executor=InThisProcess(), **options
    )
    featstore.extract(photos, tmp_path / "whole.fstore", backbone=CountingBackbone(views=recipe), **options)
    found, whole = (featstore.FeatureStore(path) for path in (store, tmp_path / "whole.fstore"))
    assert found.catalog("photos").equals(whole.catalog("photos"))
    ours, theirs = found.space(), whole.space()
    # The copy was computed in another shard too; folding the segments has dropped it.
    assert ours.n_rows == theirs.n_rows == 20
    rows = ours.rows(ours.lookup(theirs.content_hash, theirs.view))
    assert rows.tobytes() == theirs.rows(range(20)).tobytes()
    assert (report.images, report.failed, set(report.nodes)) == (12, 1, {"a", "b"})


def test_views_that_the_store_has_are_not_computed(photos, store):
    recipe = ViewRecipe(flip=True)
    featstore.extract(photos, store, backbone=CountingBackbone(views=recipe), n_views=2)
    backbone = CountingBackbone(views=recipe)
    more = {"n_views": 2, "rehash": True, "executor": InThisProcess()}
    assert run_extraction(photos, store, backbone=backbone, **more).reused == 11
    assert backbone.images == 0


def test_rows_that_this_machine_does_not_see_are_not_recorded(photos, store, tmp_path):
    for path in (store, tmp_path / "its own.fstore"):
        featstore.FeatureStore(path, create=True)
    executor = InThisProcess(tmp_path / "its own.fstore")
    with pytest.raises(ExtractionError, match="put the store on a file system that all of them share"):
        run_extraction(photos, store, backbone=CountingBackbone(), executor=executor)
    catalog = featstore.FeatureStore(store).catalog("photos")
    assert [*catalog.paths] == ["a/broken.png"]
    report = featstore.extract(photos, store, backbone=CountingBackbone())
    assert report.extracted == 10


def test_a_strict_run_ends_at_the_first_bad_image_of_any_shard(photos, store):
    executor = InThisProcess()
    with pytest.raises(ExtractionError, match=r"broken\.png: .* or run without --strict"):
        run_extraction(photos, store, backbone=CountingBackbone(), executor=executor, strict=True)
    assert executor.closed


def test_a_machine_without_the_images_or_the_store_says_so(photos, store, tmp_path):
    job = ShardJob(root=str(photos), store=str(store), network=CountingBackbone())
    with pytest.raises(StoreError, match="there is no store"):
        run_shard(job, [])
    with pytest.raises(SourceError, match="under the same paths"):
        run_shard(replace(job, root=str(tmp_path / "elsewhere")), [])

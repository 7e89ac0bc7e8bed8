"""Extraction in shards that machines take by number, and what is collected of them."""

import os
import pickle

import numpy as np
import pytest
from click.testing import CliRunner

import featstore
from fakes import CountingBackbone
from featstore.errors import NotInStoreError, SourceError
from featstore.flow import ExtractionInterrupted
from featstore.flow.shard import ShardJob, run_shard
from featstore.flow.shard_choice import shard_number
from featstore.images.sources.opening import open_source
from featstore.store.segments.keys import ContentFilter
from featstore_cli.main import main
from pictures import write_broken, write_picture


@pytest.fixture
def photos(tmp_path):
    for number in range(24):
        write_picture(str(tmp_path / "photos" / "ab"[number % 2] / f"{number:02d}.png"), number)
    write_broken(tmp_path / "photos" / "a" / "broken.png")
    return tmp_path / "photos"


@pytest.fixture
def store(tmp_path):
    return tmp_path / "photos.fstore"


@pytest.fixture
def whole(photos, tmp_path):
    """What one run makes of the photos."""
    featstore.extract(photos, tmp_path / "whole.fstore", backbone=CountingBackbone())
    return featstore.FeatureStore(tmp_path / "whole.fstore")


def contents(store):
    """Row bytes by path."""
    table = featstore.FeatureStore(store).table()
    return {os.path.basename(path): row.tobytes() for path, row in zip(table.paths, table.X, strict=True)}


def extract_shards(photos, store, numbers, n_shards, **options):
    for number in numbers:
        featstore.extract(photos, store, backbone=CountingBackbone(), shard=(number, n_shards), **options)


def test_shards_and_their_collection_make_what_one_run_makes(photos, store, whole):
    extract_shards(photos, store, (1, 2, 3), 3)
    report = featstore.collect(store, photos)
    assert (report.images, report.reused, report.failed, report.lacking) == (25, 24, 1, {})
    found = featstore.FeatureStore(store)
    assert contents(store) == contents(whole.path)
    assert found.catalog("photos").equals(whole.catalog("photos"))
    assert found.space().n_rows == 24


def test_collecting_opens_no_image(photos, store, monkeypatch):
    extract_shards(photos, store, (1, 2), 2)
    monkeypatch.setattr(
        "featstore.flow.record_item.read_image", lambda path: pytest.fail(f"{path} was opened")
    )
    assert featstore.collect(store, photos).images == 25


def test_a_shard_that_is_lacking_is_named_and_can_be_made_up_for(photos, store, whole):
    extract_shards(photos, store, (1, 3), 3)
    report = featstore.collect(store, photos)
    expected = sum(shard_number(record.path, 3) == 2 for record in open_source(photos).records)
    assert report.lacking == {"2/3": expected}
    assert len(contents(store)) == 24 - expected
    extract_shards(photos, store, [2], 3)
    assert featstore.collect(store, photos).lacking == {}
    assert featstore.FeatureStore(store).catalog("photos").equals(whole.catalog("photos"))


def test_reports_are_removed_once_nothing_is_lacking(photos, store):
    extract_shards(photos, store, (1, 2), 2)
    assert len(list((store / "shards").glob("*/photos.*-of-2.h5"))) == 2
    assert featstore.FeatureStore(store).verify().leftovers == ()
    featstore.collect(store, photos)
    assert not (store / "shards").exists()
    with pytest.raises(NotInStoreError, match="no shard of photos has left a report"):
        featstore.collect(store, photos)


def test_a_report_is_damaged_so_its_shard_is_lacking(photos, store, caplog):
    extract_shards(photos, store, (1, 2), 2)
    (report,) = (store / "shards").glob("*/photos.1-of-2.h5")
    report.write_bytes(report.read_bytes()[:100])
    assert list(featstore.collect(store, photos).lacking) == ["1/2"]
    assert "photos.1-of-2.h5" in caplog.text


def test_a_file_that_has_changed_since_its_shard_is_lacking(photos, store):
    extract_shards(photos, store, (1, 2), 2)
    write_picture(str(photos / "a" / "00.png"), 100)
    assert sum(featstore.collect(store, photos).lacking.values()) == 1


def test_a_shard_that_is_run_again_computes_nothing(photos, store):
    extract_shards(photos, store, [1], 2)
    backbone = CountingBackbone()
    report = featstore.extract(photos, store, backbone=backbone, shard=(1, 2))
    assert (backbone.images, report.extracted, report.read) == (0, 0, 0)


def test_a_shard_that_was_interrupted_goes_on_from_its_report(photos, store, whole):
    def interrupt(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(ExtractionInterrupted) as stopped:
        featstore.extract(photos, store, backbone=CountingBackbone(), shard=(1, 2), progress=interrupt)
    assert 0 < stopped.value.report.read < 12
    assert list(featstore.collect(store, photos).lacking) == ["1/2", "2/2"]
    report = featstore.extract(photos, store, backbone=CountingBackbone(), shard=(1, 2))
    assert report.read == report.images - stopped.value.report.read
    extract_shards(photos, store, [2], 2)
    assert featstore.collect(store, photos).lacking == {}
    assert featstore.FeatureStore(store).catalog("photos").equals(whole.catalog("photos"))


def test_files_without_a_stamp_to_trust_are_collected_as_one_run_would_record_them(photos, store, tmp_path):
    # Its modification is as recent as its reading, so that a later change might not show.
    os.utime(photos / "a" / "00.png")
    extract_shards(photos, store, (1, 2), 2)
    assert featstore.collect(store, photos).lacking == {}
    catalog = featstore.FeatureStore(store).catalog("photos")
    racy = dict(zip(catalog.paths, catalog.sizes.tolist(), strict=True))["a/00.png"] == -1
    featstore.extract(photos, tmp_path / "one.fstore", backbone=CountingBackbone())
    assert racy or catalog.equals(featstore.FeatureStore(tmp_path / "one.fstore").catalog("photos"))


def test_shards_divide_a_source_stably_and_evenly():
    paths = [f"class/{number}.jpg" for number in range(20_000)]
    counts = np.bincount([shard_number(path, 16) for path in paths])
    assert len(counts) == 17
    assert counts[0] == 0
    # Six standard deviations of a binomial.
    assert np.abs(counts[1:] - 1250).max() < 6 * np.sqrt(1250)
    # Of every version from now on: shards of one job may run on different ones.
    assert [shard_number(path, 16) for path in paths[:6]] == [11, 6, 10, 5, 12, 13]


@pytest.mark.parametrize("shard", [(0, 3), (4, 3), (1, 0)])
def test_a_shard_that_does_not_exist_is_refused(photos, store, shard):
    with pytest.raises(SourceError, match="counted from 1"):
        featstore.extract(photos, store, backbone=CountingBackbone(), shard=shard)


def test_shards_without_an_image_or_without_a_usable_one_are_shards_too(tmp_path, store):
    write_picture(str(tmp_path / "few" / "0.png"), 0)
    (tmp_path / "few" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert len({shard_number(name, 4) for name in ("0.png", "broken.png")}) == 2
    extract_shards(tmp_path / "few", store, range(1, 5), 4)
    report = featstore.collect(store, tmp_path / "few")
    assert (report.reused, report.failed, report.lacking) == (1, 1, {})


def job_of(photos, store, **changes):
    featstore.FeatureStore(store, create=True)
    return ShardJob(**{"root": str(photos), "store": str(store), "network": CountingBackbone(), **changes})


def segments(store):
    return {path.name: path.read_bytes() for path in store.glob("spaces/*/*.h5")}


def test_a_shard_that_is_run_twice_writes_one_segment(photos, store):
    job, records = job_of(photos, store), open_source(photos).records
    first = run_shard(job, records)
    before = segments(store)
    second = run_shard(job, records)
    assert segments(store) == before
    assert len(before) == 1
    assert first.n_rows == second.n_rows == 24
    assert (first.content_hash == second.content_hash).all()
    assert list(first.reasons) == [12]


def test_a_segment_that_is_written_meanwhile_stays(photos, store, monkeypatch):
    job, records = job_of(photos, store), open_source(photos).records
    run_shard(job, records)
    before = segments(store)
    name = next(iter(before))
    monkeypatch.setattr(os.path, "lexists", lambda path: os.path.exists(path) and name not in path)
    run_shard(job, records)
    assert segments(store) == before


def test_a_shard_reads_no_key_of_the_store(photos, store, monkeypatch):
    featstore.extract(photos, store, backbone=CountingBackbone(seed=1))
    monkeypatch.setattr("featstore.store.space.Space._load", lambda self: pytest.fail("keys were read"))
    run_shard(job_of(photos, store), open_source(photos).records)


def test_what_the_filter_has_is_not_computed(photos, store, whole):
    space = whole.space()
    held = ContentFilter.of(space.content_hash[:20], space.view[:20], n_views=1)
    result = run_shard(job_of(photos, store, present=held), open_source(photos).records)
    assert result.n_rows == int(result.is_computed.sum()) == 4


def test_a_filter_has_the_contents_with_all_views():
    hashes = np.random.default_rng(0).integers(0, 256, (3, 32), np.uint8)
    held = ContentFilter.of(hashes[[0, 1, 0, 2]], np.array([0, 0, 1, 1], np.uint16), n_views=2)
    assert [content.tobytes() in held for content in hashes] == [True, False, False]
    assert hashes[0].tobytes() in pickle.loads(pickle.dumps(held))


def test_a_backbone_takes_its_network_along_and_its_threads_change_no_bit(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 96, 96, 3), np.uint8)
    rows = featstore.load_backbone("scattering").forward(pixels)
    sent = pickle.dumps(featstore.load_backbone("scattering", threads=1))
    monkeypatch.setattr(
        "featstore.backbones.engines.compiling.converted_network", lambda *_: pytest.fail("built")
    )
    found = pickle.loads(sent)
    assert found.forward(pixels).tobytes() == rows.tobytes()
    alone = [found.forward(pixels[number : number + 1]) for number in range(7)]
    assert np.concatenate(alone).tobytes() == rows.tobytes()
    assert found.threads == 1
    assert found._engine._compiled.get_property("INFERENCE_NUM_THREADS") == 1


def test_threads_bound_decoding_too(photos, store, monkeypatch):
    seen = []
    real = featstore.flow.sealing.stream_images
    monkeypatch.setattr(
        "featstore.flow.sealing.stream_images",
        lambda *given, workers, **options: (seen.append(workers), real(*given, workers=workers, **options))[
            1
        ],
    )
    backbone = CountingBackbone()
    backbone.threads = 3
    featstore.extract(photos, store, backbone=backbone)
    featstore.extract(photos, store, backbone=CountingBackbone(seed=1), workers=2)
    assert seen == [3, 2]


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_commands_extract_shards_and_collect_them(photos, store):
    extract = ("extract", photos, "--store", store, "--backbone", "scattering", "--threads", 1)
    first = run(*extract, "--shard", "1/2")
    assert first.exit_code == 0, first.output
    lacking = run("collect", store, photos)
    assert lacking.exit_code == 1
    assert "of 1 shard (2/2); run `featstore extract --shard 2/2` again" in lacking.stderr, lacking.output
    assert run(*extract, "--shard", "2/2").exit_code == 0
    collected = run("collect", store, photos)
    assert collected.exit_code == 0, collected.output
    assert "25 of 25 images" in collected.stdout
    assert "broken.png" in collected.stdout


@pytest.mark.parametrize("given", ["0/2", "3/2", "2", "a/b"])
def test_a_shard_that_cannot_be_is_wrong_usage(photos, given):
    result = run("extract", photos, "--shard", given)
    assert result.exit_code == 2
    assert "from 1/16 on" in result.stderr

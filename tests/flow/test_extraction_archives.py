"""Images within tar and zip archives: extracted, found again, predicted and drawn as files are."""

import os
import zipfile

import numpy as np
import pytest

import featstore
from archives import WRITERS, dated
from fakes import CountingBackbone
from featstore.errors import ExtractionError, OutputError, TuningError
from featstore.images import content_of
from featstore.tuning.inputs import PhotoInputs
from pictures import write_broken, write_picture

both = pytest.mark.parametrize("kind", WRITERS)


@pytest.fixture
def files(tmp_path):
    for number in range(24):
        write_picture(tmp_path / "photos" / ("cat" if number % 2 else "dog") / f"{number:02d}.png", number)
    folder = tmp_path / "photos"
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def by_content(store):
    table = featstore.FeatureStore(store).table()
    return {
        content.tobytes(): (label, row.tolist())
        for content, label, row in zip(table.content_hash_bytes, table.y, np.asarray(table.X), strict=True)
    }


@both
def test_features_and_hashes_are_those_of_the_files(files, tmp_path, kind):
    archive = WRITERS[kind](tmp_path / f"pets.{kind}", files)
    featstore.extract(tmp_path / "photos", tmp_path / "a.fstore", backbone=CountingBackbone())
    report = featstore.extract(archive, tmp_path / "b.fstore", backbone=CountingBackbone())
    assert (report.catalog, report.images, report.extracted, report.failed) == ("pets", 24, 24, 0)
    assert by_content(tmp_path / "b.fstore") == by_content(tmp_path / "a.fstore")
    backbone = CountingBackbone()
    again = featstore.extract(archive, tmp_path / "a.fstore", backbone=backbone)
    assert (again.reused, again.read, backbone.images) == (24, 24, 0)


@both
def test_an_unchanged_archive_is_not_read_and_a_changed_one_is_alone(files, tmp_path, kind, monkeypatch):
    names = list(files)
    parts = [{name: files[name] for name in names[shard::3]} for shard in range(3)]
    for shard, part in enumerate(parts):
        WRITERS[kind](tmp_path / "shards" / f"{shard}.{kind}", part)
    store = tmp_path / "shards.fstore"
    featstore.extract(tmp_path / "shards", store, backbone=CountingBackbone())
    WRITERS[kind](tmp_path / "shards" / f"1.{kind}", {**parts[1], "dog/new.png": files[names[0]]})
    os.utime(tmp_path / "shards" / f"1.{kind}", ns=(10**18, 2 * 10**18))
    read = []
    real = featstore.flow.record_item.read_image
    monkeypatch.setattr(
        "featstore.flow.record_item.read_image", lambda path: (read.append(path), real(path))[1]
    )
    report = featstore.extract(tmp_path / "shards", store, backbone=CountingBackbone())
    assert {os.path.basename(path.partition("::")[0]) for path in read} == {f"1.{kind}"}
    assert (report.extracted, report.reused, report.read) == (0, 25, 9)
    assert report.gone == ()


@both
def test_what_cannot_be_used_is_listed_and_strict_stops_at_it(files, tmp_path, kind):
    write_broken(tmp_path / "broken.png")
    files = {**files, "": b"", "cat/broken.png": (tmp_path / "broken.png").read_bytes()}
    archive = WRITERS[kind](tmp_path / f"pets.{kind}", files)
    report = featstore.extract(archive, tmp_path / "a.fstore", backbone=CountingBackbone())
    assert [path for path, _ in report.failures] == [f"pets.{kind}::", f"pets.{kind}::cat/broken.png"]
    assert report.failures[0][1] == "a member without a name"
    with pytest.raises(ExtractionError, match=rf"^pets\.{kind}::: a member without a name"):
        featstore.extract(archive, tmp_path / "b.fstore", backbone=CountingBackbone(), strict=True)


def test_a_damaged_member_is_listed_and_mended_by_a_new_archive(files, tmp_path):
    archive = WRITERS["zip"](tmp_path / "pets.zip", files)
    whole = archive.read_bytes()
    with zipfile.ZipFile(archive) as opened:
        at = opened.infolist()[3].header_offset + 200
    archive.write_bytes(whole[:at] + b"\xff" * 30 + whole[at + 30 :])
    dated(archive)
    report = featstore.extract(archive, tmp_path / "a.fstore", backbone=CountingBackbone())
    ((path, reason),) = report.failures
    assert path == f"pets.zip::{list(files)[3]}"
    assert "member" in reason
    archive.write_bytes(whole)
    report = featstore.extract(archive, tmp_path / "a.fstore", backbone=CountingBackbone())
    assert (report.extracted, report.reused, report.failed) == (1, 23, 0)


@both
def test_shards_of_one_source_may_share_an_archive(files, tmp_path, kind):
    archive = WRITERS[kind](tmp_path / f"pets.{kind}", files)
    for number in (1, 2):
        featstore.extract(archive, tmp_path / "a.fstore", backbone=CountingBackbone(), shard=(number, 2))
    report = featstore.collect(tmp_path / "a.fstore", archive)
    assert (report.images, report.reused, report.lacking) == (24, 24, {})
    extractor = featstore.ShardExtractor(
        tmp_path, tmp_path / "b.fstore", catalog="pets", backbone=CountingBackbone()
    )
    results = extractor([f"pets.{kind}::{name}" for name in (*files, "gone.png")])
    assert results[-1]["reason"] == f"no image 'gone.png' is in 'pets.{kind}'"
    assert all(result["reason"] == "" for result in results[:-1])
    assert featstore.collect(tmp_path / "b.fstore", archive).reused == 24
    assert by_content(tmp_path / "b.fstore") == by_content(tmp_path / "a.fstore")


@both
def test_a_moved_archive_keeps_its_catalog(files, tmp_path, kind):
    archive = WRITERS[kind](tmp_path / f"pets.{kind}", files)
    featstore.extract(archive, tmp_path / "a.fstore", backbone=CountingBackbone())
    moved = archive.rename(tmp_path / f"animals.{kind}")
    report = featstore.extract(moved, tmp_path / "a.fstore", backbone=CountingBackbone())
    assert (report.catalog, report.moved_from, report.gone) == ("pets", str(archive), ())


@both
def test_an_archive_is_an_input_that_no_result_replaces(files, tmp_path, kind):
    archive = WRITERS[kind](tmp_path / f"pets.{kind}", files)
    featstore.extract(archive, tmp_path / "a.fstore", backbone=CountingBackbone())
    before = archive.read_bytes()
    with pytest.raises(OutputError, match=rf"is an input \(.*pets\.{kind}\), which is never written over"):
        featstore.FeatureStore(tmp_path / "a.fstore").pack(archive, format="h5", overwrite=True)
    assert archive.read_bytes() == before


@both
def test_pixels_of_members_train_networks_and_make_views(files, tmp_path, kind):
    archive = WRITERS[kind](tmp_path / f"pets.{kind}", files)
    featstore.extract(archive, tmp_path / "a.fstore", backbone=CountingBackbone())
    table = featstore.FeatureStore(tmp_path / "a.fstore").table()
    spec = CountingBackbone().spec
    order, views = np.arange(len(table))[::-1], np.zeros(len(table), np.intp)
    pixels = [
        np.concatenate(
            [*PhotoInputs(spec=spec, paths=paths, hashes=table.content_hash_bytes).batches(order, views, 5)]
        )
        for paths in (table.paths.tolist(), [str(tmp_path / "photos" / name) for name in files])
    ]
    assert (pixels[0] == pixels[1]).all()
    assert content_of(table.paths[0]) == files["cat/01.png"]
    WRITERS[kind](archive, {**files, "cat/01.png": files["cat/03.png"]})
    with pytest.raises(TuningError, match=r"cat/01\.png has changed since its features were extracted"):
        list(
            PhotoInputs(spec=spec, paths=table.paths.tolist(), hashes=table.content_hash_bytes).batches(
                order, views, 5
            )
        )

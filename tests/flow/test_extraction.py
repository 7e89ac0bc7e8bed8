import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

import featstore
from fakes import CountingBackbone
from featstore.errors import ExtractionError, SeveralLabelsError, SourceError, StoreError
from featstore.flow.extraction import ExtractionInterrupted
from featstore.images.decode import decode_image, iter_views
from pictures import write_picture


@pytest.fixture
def photos(tmp_path):
    for number in range(12):
        write_picture(
            str(tmp_path / "photos" / ("cat" if number % 2 else "dog") / f"{number:02d}.png"), number
        )
    return tmp_path / "photos"


@pytest.fixture
def store(tmp_path):
    return tmp_path / "photos.fstore"


def rows_by_path(store, space=None):
    table = featstore.FeatureStore(store).table(space=space)
    return dict(zip((os.path.basename(path) for path in table.paths), np.asarray(table.X), strict=True))


def test_rows_are_the_features_of_the_pictures(photos, store):
    backbone = CountingBackbone()
    featstore.extract(photos, store, backbone=backbone)
    for name, row in rows_by_path(store).items():
        path = next(photos.glob(f"*/{name}"))
        pixels = decode_image(path.read_bytes(), size_px=(8, 8))
        np.testing.assert_allclose(row, backbone.forward(pixels[None])[0], rtol=1e-6)


def test_the_report_counts_what_was_done(photos, store):
    report = featstore.extract(photos, store, backbone=CountingBackbone())
    assert (report.images, report.extracted, report.reused, report.failed) == (12, 12, 0, 0)
    assert report.store == str(store)
    assert report.catalog == "photos"
    assert set(report.to_dict()) >= {"space", "failures", "seconds", "images_per_second"}


def test_equal_files_pass_the_backbone_once(photos, store):
    for number in range(6):
        shutil.copy(photos / "cat" / "01.png", photos / "dog" / f"copy{number}.png")
    backbone = CountingBackbone()
    report = featstore.extract(photos, store, backbone=backbone)
    assert backbone.images == 12
    assert (report.extracted, report.reused) == (12, 6)
    assert len(featstore.FeatureStore(store).table()) == 18


def test_a_second_run_opens_no_file_and_runs_no_network(photos, store, monkeypatch):
    featstore.extract(photos, store, backbone=CountingBackbone())
    before = rows_by_path(store)
    monkeypatch.setattr(
        "featstore.flow.record_item.read_image", lambda path: pytest.fail(f"{path} was opened")
    )
    backbone = CountingBackbone()
    report = featstore.extract(photos, store, backbone=backbone)
    assert backbone.batches == 0
    assert (report.extracted, report.reused, report.read) == (0, 12, 0)
    np.testing.assert_array_equal(list(before.values()), list(rows_by_path(store).values()))


def test_only_new_images_are_computed(photos, store):
    featstore.extract(photos, store, backbone=CountingBackbone())
    write_picture(str(photos / "bird" / "new.png"), 99)
    backbone = CountingBackbone()
    report = featstore.extract(photos, store, backbone=backbone)
    assert backbone.images == 1
    assert (report.extracted, report.reused, report.read) == (1, 12, 1)
    assert featstore.FeatureStore(store).table().classes.tolist() == ["bird", "cat", "dog"]


def test_a_changed_file_is_read_again(photos, store):
    featstore.extract(photos, store, backbone=CountingBackbone())
    write_picture(str(photos / "cat" / "01.png"), 500)
    report = featstore.extract(photos, store, backbone=CountingBackbone())
    assert (report.extracted, report.reused, report.read) == (1, 11, 1)


def test_a_moved_folder_is_read_but_not_computed(photos, store):
    featstore.extract(photos, store, backbone=CountingBackbone())
    moved = photos.rename(photos.parent / "elsewhere")
    backbone = CountingBackbone()
    report = featstore.extract(moved, store, backbone=backbone)
    assert backbone.images == 0
    assert (report.extracted, report.reused, report.read) == (0, 12, 12)


def test_relabelling_costs_no_forward_pass(photos, store):
    featstore.extract(photos, store, backbone=CountingBackbone())
    (photos / "cat").rename(photos / "kitten")
    backbone = CountingBackbone()
    featstore.extract(photos, store, backbone=backbone)
    assert backbone.images == 0
    assert featstore.FeatureStore(store).table().classes.tolist() == ["dog", "kitten"]


def test_two_backbones_share_one_store(photos, store):
    featstore.extract(photos, store, backbone=CountingBackbone(seed=0))
    report = featstore.extract(photos, store, backbone=CountingBackbone(seed=1, feature_dim=3))
    assert report.extracted == 12
    opened = featstore.FeatureStore(store)
    assert len(opened.space_names) == 2
    assert opened.table(space="fake0").X.shape == (12, 5)
    assert opened.table(space="fake1").X.shape == (12, 3)


def test_a_bad_image_is_recorded_and_leaves_its_neighbours_alone(photos, store):
    undisturbed = photos.parent / "undisturbed.fstore"
    featstore.extract(photos, undisturbed, backbone=CountingBackbone())
    (photos / "cat" / "00_bad.png").write_bytes((photos / "cat" / "01.png").read_bytes()[:100])
    (photos / "dog" / "text.jpg").write_text("not an image")
    report = featstore.extract(photos, store, backbone=CountingBackbone())
    assert (report.extracted, report.failed) == (12, 2)
    assert [path for path, _ in report.failures] == ["cat/00_bad.png", "dog/text.jpg"]
    assert all(reason for _, reason in report.failures)
    left, right = rows_by_path(undisturbed), rows_by_path(store)
    assert left.keys() == right.keys()
    for name, row in left.items():
        np.testing.assert_array_equal(row, right[name])


def test_an_unchanged_bad_image_is_not_read_again(photos, store):
    bad = photos / "cat" / "bad.png"
    bad.write_bytes(b"nothing")
    os.utime(bad, ns=(10**18, 10**18))
    featstore.extract(photos, store, backbone=CountingBackbone())
    report = featstore.extract(photos, store, backbone=CountingBackbone())
    assert (report.read, report.failed) == (0, 1)


def test_strict_stops_at_the_first_bad_image_and_keeps_what_was_done(photos, store):
    (photos / "dog" / "zz.png").write_bytes(b"nothing")
    with pytest.raises(ExtractionError, match=r"dog/zz\.png: .*--strict"):
        featstore.extract(photos, store, backbone=CountingBackbone(batch_size=2), strict=True)
    (photos / "dog" / "zz.png").unlink()
    assert featstore.extract(photos, store, backbone=CountingBackbone()).reused >= 8


def test_strict_fails_on_a_bad_image_known_from_an_earlier_run(photos, store):
    (photos / "dog" / "zz.png").write_bytes(b"nothing")
    featstore.extract(photos, store, backbone=CountingBackbone())
    with pytest.raises(ExtractionError, match=r"zz\.png"):
        featstore.extract(photos, store, backbone=CountingBackbone(), strict=True)


def test_all_bad_is_an_error_that_says_why(tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").write_text("not an image")
    with pytest.raises(ExtractionError, match=r"none of the 1 images could be used; the first, a\.jpg: "):
        featstore.extract(tmp_path / "bad", tmp_path / "bad.fstore", backbone=CountingBackbone())
    assert not (tmp_path / "bad.fstore").exists()


def test_ctrl_c_seals_and_the_same_call_goes_on(photos, store):
    undisturbed = photos.parent / "undisturbed.fstore"
    featstore.extract(photos, undisturbed, backbone=CountingBackbone(batch_size=2))

    def press(number):
        if number == 3:
            raise KeyboardInterrupt

    with pytest.raises(ExtractionInterrupted) as caught:
        featstore.extract(photos, store, backbone=CountingBackbone(batch_size=2, before_batch=press))
    assert caught.value.report.extracted == 6
    report = featstore.extract(photos, store, backbone=CountingBackbone(batch_size=2))
    assert (report.extracted, report.reused) == (6, 6)
    left, right = rows_by_path(undisturbed), rows_by_path(store)
    assert left.keys() == right.keys()
    for name, row in left.items():
        np.testing.assert_array_equal(row, right[name])


def test_what_an_interrupted_extraction_has_not_read_is_told_until_it_has(photos, store, caplog):
    def press(number):
        if number:
            raise KeyboardInterrupt

    with pytest.raises(ExtractionInterrupted):
        featstore.extract(photos, store, backbone=CountingBackbone(batch_size=2, before_batch=press))
    opened = featstore.FeatureStore(store)
    [catalog] = opened.info()["catalogs"]
    assert 0 < catalog["images"] < 12
    assert catalog["unread"] == 12 - catalog["images"]
    caplog.clear()
    assert len(opened.table()) == catalog["images"]
    assert f"lacks {catalog['unread']} images of its source; run it again" in caplog.text

    caplog.clear()
    featstore.extract(photos, store, backbone=CountingBackbone())
    opened = featstore.FeatureStore(store)
    assert opened.info()["catalogs"][0]["unread"] == 0
    assert len(opened.table()) == 12
    assert not caplog.records


def test_an_interrupted_second_backbone_leaves_the_first_ones_table_whole(photos, store):
    featstore.extract(photos, store, backbone=CountingBackbone(seed=0))

    def press(number):
        raise KeyboardInterrupt

    with pytest.raises(ExtractionInterrupted):
        featstore.extract(photos, store, backbone=CountingBackbone(seed=1, batch_size=2, before_batch=press))
    assert len(featstore.FeatureStore(store).table(space="fake0")) == 12


def test_a_failing_network_leaves_no_empty_space_or_store_behind(photos, store):
    def fail(number):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        featstore.extract(photos, store, backbone=CountingBackbone(before_batch=fail))
    assert not store.exists()
    featstore.extract(photos, store, backbone=CountingBackbone(seed=0))
    with pytest.raises(RuntimeError, match="out of memory"):
        featstore.extract(photos, store, backbone=CountingBackbone(seed=1, before_batch=fail))
    assert len(featstore.FeatureStore(store).space_names) == 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"catalog": "a/b"}, StoreError),
        ({"strict": True}, ExtractionError),
        ({"label_separator": "|", "corrections": "corrections.csv"}, SeveralLabelsError),
    ],
)
def test_an_extraction_refused_before_its_first_image_makes_no_store(
    photos, store, tmp_path, monkeypatch, options, error
):
    monkeypatch.chdir(tmp_path)
    for path in photos.rglob("*.png"):
        path.write_bytes(b"no image" + path.name.encode())
    row = f"accept,cat/01.png,{'0' * 64},cat,cat,ada,2026-11-29"
    Path("corrections.csv").write_text(f"decision,path,content_hash,old,new,who,when\n{row}\n")
    network = CountingBackbone()
    for path in (store, "folder/below/new.fstore"):
        with pytest.raises(error):
            featstore.extract(photos, path, backbone=network, **options)
        assert not os.path.exists(path)
    assert not os.path.exists("folder")


def test_two_sources_make_two_catalogs_of_one_store(photos, store):
    other = photos.parent / "more"
    write_picture(str(other / "fox" / "a.png"), 77)
    shutil.copy(photos / "cat" / "01.png", other / "fox" / "b.png")
    featstore.extract(photos, store, backbone=CountingBackbone())
    report = featstore.extract(other, store, backbone=CountingBackbone())
    assert (report.extracted, report.reused) == (1, 1)
    opened = featstore.FeatureStore(store)
    assert set(opened.catalog_names) == {"photos", "more"}
    assert len(opened.table(catalog=["photos", "more"])) == 14


def test_a_catalog_of_another_source_is_not_overwritten(photos, store):
    other = photos.parent / "other" / "photos"
    write_picture(str(other / "fox" / "a.png"), 77)
    featstore.extract(photos, store, backbone=CountingBackbone())
    with pytest.raises(SourceError, match=r"--catalog NAME"):
        featstore.extract(other, store, backbone=CountingBackbone())
    assert len(featstore.FeatureStore(store).table()) == 12


def test_a_csv_gives_labels_groups_and_splits(photos, tmp_path):
    (tmp_path / "list.csv").write_text(
        "path,label,group,split\nphotos/cat/01.png,one,g1,train\nphotos/dog/02.png,two,g2,test\n"
    )
    featstore.extract(tmp_path / "list.csv", tmp_path / "s.fstore", backbone=CountingBackbone())
    table = featstore.FeatureStore(tmp_path / "s.fstore").table()
    assert table.y.tolist() == ["one", "two"]
    assert table.groups.tolist() == ["g1", "g2"]
    assert table.splits().tolist() == ["train", "test"]


def test_the_store_is_named_after_the_source_where_none_is_given(photos, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    report = featstore.extract(photos, backbone=CountingBackbone())
    assert report.store == str(tmp_path / "photos.fstore")


def test_a_store_path_that_is_a_file_is_refused(photos, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match="file"):
        featstore.extract(photos, tmp_path / "file", backbone=CountingBackbone())
    assert (tmp_path / "file").read_text() == "mine"


def test_progress_ends_at_the_number_of_images(photos, store):
    calls = []
    featstore.extract(photos, store, backbone=CountingBackbone(), progress=lambda *call: calls.append(call))
    assert calls[0] == (0, 12)
    assert calls[-1] == (12, 12)


def test_few_decoded_images_wait_however_many_there_are(tmp_path, monkeypatch):
    for number in range(120):
        write_picture(str(tmp_path / "many" / f"{number:03d}.png"), number)
    lock, decoded = threading.Lock(), [0]
    waiting = []

    def counted(*args, **kwargs):
        for pixels in iter_views(*args, **kwargs):
            with lock:
                decoded[0] += 1
            yield pixels

    monkeypatch.setattr("featstore.flow.loading.iter_views", counted)
    backbone = CountingBackbone(batch_size=4)
    backbone._before_batch = lambda number: waiting.append(decoded[0] - 4 * number)
    featstore.extract(tmp_path / "many", tmp_path / "many.fstore", backbone=backbone, workers=2)
    assert max(waiting) <= 4 + 2 * 4 + 2


def test_a_segment_is_written_while_the_next_batch_is_computed(photos, store, monkeypatch):
    monkeypatch.setattr("featstore.flow.sealing.SEAL_BYTES", 1)
    computed = threading.Event()
    append = featstore.store.Space.append

    def waiting(self, *arguments, **options):
        # Written by the thread that computes, the first segment would wait for the second batch in vain.
        assert computed.wait(timeout=300)
        append(self, *arguments, **options)

    monkeypatch.setattr(featstore.store.Space, "append", waiting)
    backbone = CountingBackbone(before_batch=lambda number: computed.set() if number == 1 else None)
    featstore.extract(photos, store, backbone=backbone)
    assert len(featstore.FeatureStore(store).table()) == 12


def test_a_segment_that_cannot_be_written_ends_the_run_and_is_computed_again(photos, store, monkeypatch):
    featstore.extract(photos, store, backbone=CountingBackbone(seed=1))
    monkeypatch.setattr("featstore.flow.sealing.SEAL_BYTES", 1)
    append, calls = featstore.store.Space.append, []

    def failing(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise StoreError("the disk is full")
        append(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(featstore.store.Space, "append", failing)
        with pytest.raises(StoreError, match="the disk is full"):
            featstore.extract(photos, store, backbone=CountingBackbone())

    backbone = CountingBackbone()
    report = featstore.extract(photos, store, backbone=backbone)
    assert report.extracted == backbone.images == 4
    assert len(rows_by_path(store, space=backbone.spec.name)) == 12


def test_groups_of_near_duplicates_outlive_a_new_extraction(photos, store):
    backbone = CountingBackbone()
    featstore.extract(photos, store, backbone=backbone)
    opened = featstore.FeatureStore(store)
    table = opened.table()
    opened.write_near_groups([[table.content_hash[0], table.content_hash[1]]])
    noted = dict(zip(table.content_hash.tolist(), opened.table().groups.tolist(), strict=True))
    assert sum(map(bool, noted.values())) == 2

    moved = next(photos.glob("*/00.png"))
    moved.rename(moved.with_name("moved.png"))
    write_picture(str(photos / "cat" / "new.png"), 99)
    featstore.extract(photos, store, backbone=backbone)
    again = opened.table()
    assert len(again) == 13
    for content, group in zip(again.content_hash.tolist(), again.groups.tolist(), strict=True):
        assert group == noted.get(content, "")


def test_an_unfinished_run_does_not_replace_the_catalog_of_one_that_finished_meanwhile(photos, store):
    def overtake(number):
        if number == 1:
            featstore.extract(photos, store, backbone=CountingBackbone(), catalog="photos")
            raise KeyboardInterrupt

    with pytest.raises(ExtractionInterrupted):
        featstore.extract(photos, store, backbone=CountingBackbone(batch_size=2, before_batch=overtake))
    assert len(featstore.FeatureStore(store).catalog()) == 12


def test_groups_noted_while_a_run_goes_on_are_kept(photos, store):
    featstore.extract(photos, store, backbone=CountingBackbone(seed=0))

    def note(number):
        opened = featstore.FeatureStore(store)
        opened.write_near_groups([[bytes(row).hex() for row in opened.catalog().content_hash[:2]]])

    featstore.extract(photos, store, backbone=CountingBackbone(seed=1, batch_size=16, before_batch=note))
    assert len(featstore.FeatureStore(store).catalog().near_group_by_content()) == 2


def test_two_sources_of_one_name_at_once_do_not_share_a_catalog(photos, store):
    other = photos.parent / "other" / "photos"
    write_picture(str(other / "fox" / "a.png"), 77)

    def overtake(number):
        if number == 0:
            featstore.extract(other, store, backbone=CountingBackbone())

    with pytest.raises(SourceError, match=r"--catalog NAME"):
        featstore.extract(photos, store, backbone=CountingBackbone(before_batch=overtake))
    opened = featstore.FeatureStore(store)
    assert opened.catalog().location == str(other)
    assert opened.space().n_rows == 13


def test_features_are_kept_where_there_is_no_room_to_fold_them(photos, store, monkeypatch, caplog):
    def fail(self, *arguments, **options):
        raise StoreError("no space left on device")

    monkeypatch.setattr(featstore.FeatureStore, "compact", fail)
    assert featstore.extract(photos, store, backbone=CountingBackbone()).extracted == 12
    assert "the features are stored, but not compacted: no space left" in caplog.text


@pytest.mark.parametrize("what", ["a bad image", "the caller"])
def test_nothing_is_read_any_more_once_a_run_has_failed(photos, store, what):
    if what == "a bad image":
        (photos / "cat" / "00.png").write_bytes(b"nothing")

    def fail(done, total):
        if what == "the caller" and done:
            raise ExtractionError("enough")

    before = {*threading.enumerate()}
    with pytest.raises(ExtractionError) as caught:
        featstore.extract(
            photos, store, backbone=CountingBackbone(batch_size=2), strict=True, workers=3, progress=fail
        )
    # It holds the frames, and with them what was not closed.
    assert caught.value.__traceback__ is not None
    assert {*threading.enumerate()} <= before

import os
import time

import numpy as np
import pytest
from click.testing import CliRunner

import featstore.store.catalogs.updating
from featstore.errors import DamagedError, StoreError, StoreNotFoundError
from featstore.store import FeatureStore
from featstore_cli.main import main


@pytest.fixture
def other(tmp_path):
    return FeatureStore(tmp_path / "other.fstore", create=True)


def head(store, name, text):
    with open(store.head_path(name), "w") as file:
        file.write(text)


def test_merging_gives_the_union_of_both_stores(
    store, other, fill, make_catalog, make_hashes, make_features, make_spec
):
    fill(store, n=10, n_segments=2)
    fill(other, n=10, n_segments=2, first=20)
    fill(other, n=3, layer="other")
    store.write_catalog(make_catalog(name="ours"))
    other.write_catalog(make_catalog(name="theirs"))
    head(other, "logistic", "fitted")
    report = store.merge(other)
    assert (report.segments, report.rows, report.skipped) == (3, 23, 0)
    assert report.spaces == (make_spec(layer="other").name,)
    assert (report.catalogs, report.heads, report.kept) == (("theirs",), ("logistic",), ())
    space = store.space(make_spec().name)
    np.testing.assert_array_equal(space.rows(space.lookup(make_hashes(40))), make_features(make_hashes(40)))
    assert store.catalog_names == ("ours", "theirs")
    assert store.head_names == ("logistic",)
    assert [damage.path for damage in store.verify().damaged] == [store.head_path("logistic")]
    assert store.verify().leftovers == ()
    assert other.verify().segments == 3


def test_merging_again_copies_nothing_even_after_compaction(store, other, fill, make_catalog):
    fill(other, n=10, n_segments=3)
    other.write_catalog(make_catalog())
    store.merge(other.path)
    for _ in range(2):
        report = store.merge(other.path)
        assert (report.segments, report.skipped, report.catalogs, report.kept) == (0, 3, (), ())
        store.compact()
    assert store.space().n_rows == 30


def test_rows_that_both_have_are_harmless(store, other, fill, make_hashes):
    fill(store, n=10)
    fill(other, n=10, first=5)
    store.merge(other)
    assert (store.space().lookup(make_hashes(15)) >= 0).all()
    store.compact()
    np.testing.assert_array_equal(store.space().content_hash, make_hashes(15))


def test_a_conflict_copies_nothing(store, other, fill, make_catalog):
    fill(other)
    for there, label in ((store, "a"), (other, "b")):
        there.write_catalog(make_catalog(2, labels=[label] * 2))
        head(there, "svm", label)
    told = f"{store.path} and {other.path} both have catalog photos, head svm, with different contents"
    with pytest.raises(StoreError, match=told):
        store.merge(other)
    assert store.space_names == ()
    assert store.catalog().labels == ("a", "a")


def test_stores_that_differ_among_themselves_are_refused_before_the_first_is_copied(other, fill, tmp_path):
    fill(other)
    head(other, "svm", "a")
    third = FeatureStore(tmp_path / "third.fstore", create=True)
    head(third, "svm", "b")
    new = tmp_path / "new.fstore"
    ran = CliRunner().invoke(main, ["merge", str(new), other.path, third.path])
    assert ran.exit_code == 1
    assert f"{other.path} and {third.path} both have head svm" in ran.output
    assert not new.exists()
    for choice, kept in (("keep", "a"), ("replace", "b")):
        made = FeatureStore(tmp_path / f"{choice}.fstore", create="later")
        arguments = ["merge", made.path, other.path, third.path, "--on-conflict", choice]
        assert CliRunner().invoke(main, arguments).exit_code == 0
        with open(made.head_path("svm")) as file:
            assert file.read() == kept


def test_the_store_itself_among_several_is_refused_before_the_first_is_copied(store, other, fill):
    fill(other)
    with pytest.raises(StoreError, match="is this very store"):
        store.check_merge([other, store.path], on_conflict="keep")
    assert CliRunner().invoke(main, ["merge", store.path, other.path, store.path]).exit_code == 1
    assert store.space_names == ()


@pytest.mark.parametrize(
    ("choice", "label", "kept"), [("keep", "a", ("catalog photos", "head svm")), ("replace", "b", ())]
)
def test_a_conflict_is_settled_as_asked(choice, label, kept, store, other, fill, make_catalog):
    fill(other)
    for there, told in ((store, "a"), (other, "b")):
        there.write_catalog(make_catalog(2, labels=[told] * 2))
        head(there, "svm", told)
    report = store.merge(other, on_conflict=choice)
    assert report.kept == kept
    assert store.catalog().labels == (label, label)
    with open(store.head_path("svm")) as file:
        assert file.read() == label
    assert store.space().n_rows == 10


def test_a_damaged_store_is_refused_before_anything_is_copied(store, other, fill):
    space = fill(other, n_segments=3)
    os.truncate(space.segments[2].path, 100)
    with pytest.raises(DamagedError, match=space.segments[2].path):
        store.merge(FeatureStore(other.path))
    assert store.space_names == ()


def test_a_segment_with_a_damaged_row_is_left_out(store, other, fill):
    space = fill(other)
    with open(space.segments[0].path, "rb+") as file:
        file.seek(space.segments[0].offsets[0])
        file.write(b"\xff\xff")
    with pytest.raises(DamagedError, match=f"{space.segments[0].path} is damaged: 1 rows"):
        store.merge(other)
    assert store.space_names == ()
    assert store.verify().leftovers == ()


def test_a_new_store_is_not_left_behind_where_nothing_could_be_merged(other, fill, tmp_path):
    space = fill(other)
    path = tmp_path / "new.fstore"
    with pytest.raises(StoreError, match="error, keep, replace"):
        FeatureStore(path, create="later").merge(other, on_conflict="ask")
    with open(space.segments[0].path, "rb+") as file:
        file.seek(space.segments[0].offsets[0])
        file.write(b"\xff\xff")
    with pytest.raises(DamagedError, match="1 rows"):
        FeatureStore(path, create="later").merge(other)
    assert not os.path.exists(path)


def test_an_empty_store_is_merged_into_a_new_one(other, tmp_path):
    FeatureStore(tmp_path / "new.fstore", create="later").merge(other)
    assert FeatureStore(tmp_path / "new.fstore").space_names == ()


def test_invalid_merges_are_refused(store, other, tmp_path):
    with pytest.raises(StoreError, match="is this very store"):
        store.merge(store.path)
    with pytest.raises(StoreNotFoundError):
        store.merge(tmp_path / "absent")
    with pytest.raises(StoreError, match="error, keep, replace; found 'ask'"):
        store.merge(other, on_conflict="ask")


def test_progress_ends_at_its_total(store, other, fill):
    fill(other, n_segments=3)
    told = []
    store.merge(other, progress=lambda done, total: told.append((done, total)))
    assert len(told) == 3
    assert told[-1][0] == told[-1][1]


def test_a_segment_from_the_end_of_time_is_dated_anew_and_rows_can_follow_it(
    store, other, fill, make_hashes, make_features, monkeypatch
):
    with monkeypatch.context() as patched:
        patched.setattr("featstore.store.space.time.time_ns", lambda: 2**62 - 1)
        fill(other, n=3)
    assert other.space().segments[0].created_ns == 2**62 - 1
    fill(store, n=1, first=100)
    assert store.merge(other).rows == 3
    assert store.merge(other).skipped == 1
    space = FeatureStore(store.path).space()
    assert max(segment.created_ns for segment in space.segments) <= time.time_ns()
    hashes = make_hashes(2, 200)
    space.append(make_features(hashes), hashes)
    again = FeatureStore(store.path)
    assert again.verify().ok
    assert again.space().n_rows == 6
    merged = again.space().rows(again.space().lookup(make_hashes(3)))
    np.testing.assert_array_equal(merged, make_features(make_hashes(3)))


def test_a_catalog_that_came_here_during_the_merge_is_a_conflict(store, other, make_catalog, monkeypatch):
    other.write_catalog(make_catalog(3))
    real = featstore.store.catalogs.updating.write_catalog

    def slow(path, made, **options):
        monkeypatch.setattr(featstore.store.catalogs.updating, "write_catalog", real)
        FeatureStore(store.path).write_catalog(make_catalog(5))
        real(path, made, **options)

    monkeypatch.setattr(featstore.store.catalogs.updating, "write_catalog", slow)
    with pytest.raises(StoreError, match="has written the catalog photos meanwhile"):
        store.merge(other)
    assert len(store.catalog()) == 5
    monkeypatch.setattr(featstore.store.catalogs.updating, "write_catalog", slow)
    os.unlink(store.catalog_path("photos"))
    assert store.merge(other, on_conflict="keep").kept == ("catalog photos",)
    assert len(store.catalog()) == 5


@pytest.mark.parametrize("now_ns", [-(10**18), -1, 0, 10**15, 4_420_000_000 * 10**9, 2**62 + 5])
def test_stores_are_merged_and_grow_whatever_the_clock_shows(
    store, other, fill, make_hashes, make_features, monkeypatch, now_ns
):
    fill(other, n=3)
    fill(store, n=1, first=100)
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    monkeypatch.setattr(time, "time", lambda: now_ns / 1e9)
    assert store.merge(other).rows == 3
    assert store.merge(other).skipped == 1
    hashes = make_hashes(2, 200)
    FeatureStore(store.path).space().append(make_features(hashes), hashes)
    FeatureStore(store.path).compact(full=True)
    again = FeatureStore(store.path)
    assert again.verify().ok
    found = again.space().lookup(make_hashes(3))
    np.testing.assert_array_equal(again.space().rows(found), make_features(make_hashes(3)))

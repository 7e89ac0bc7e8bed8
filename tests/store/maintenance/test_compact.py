import os
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest

from featstore.errors import DamagedError, NotInStoreError, StoreError
from featstore.store import FeatureStore, Segment
from featstore.store.maintenance.compact import MAX_BYTES, plan_compaction
from featstore.store.segments.segment import read_description

MIB = 2**20


def fresh(store):
    return FeatureStore(store.path).space()


def segments_of(*sizes):
    """Segments of these sizes in bytes, the oldest first."""
    shape = Segment(
        path="", fingerprint="", n_rows=1, feature_dim=1, dtype=np.dtype("<f2"), created_ns=0, offsets=()
    )
    return [
        replace(shape, path=str(number), feature_dim=(size - 38) // 2, created_ns=number)
        for number, size in enumerate(sizes)
    ]


def plan(*sizes, **options):
    return [
        [segment.created_ns for segment in group] for group in plan_compaction(segments_of(*sizes), **options)
    ]


def test_all_rows_stay_in_their_order(store, fill, make_hashes, make_features):
    fill(store, n=7, n_segments=5)
    report = store.compact()
    assert (report.segments_before, report.segments_after, report.rows, report.duplicates) == (5, 1, 35, 0)
    space = fresh(store)
    np.testing.assert_array_equal(space.content_hash, make_hashes(35))
    np.testing.assert_array_equal(space.rows(np.arange(35)), make_features(make_hashes(35)))
    assert isinstance(space.rows(np.arange(35)), np.memmap)
    assert store.verify().ok


def test_duplicates_are_dropped_and_the_first_row_kept(store, make_spec, make_hashes):
    space = store.create_space(make_spec(), feature_dim=1)
    hashes = make_hashes(4)
    for number, chosen in enumerate([[0, 1], [1, 2], [2, 0, 3]]):
        space.append(np.full((len(chosen), 1), number, np.float32), hashes[chosen])
    report = store.compact()
    assert (report.rows, report.duplicates) == (4, 3)
    space = fresh(store)
    np.testing.assert_array_equal(space.content_hash, hashes)
    assert space.rows(np.arange(4)).ravel().tolist() == [0, 0, 1, 2]


def test_views_of_one_image_are_no_duplicates(store, make_spec, make_hashes):
    space = store.create_space(make_spec(), feature_dim=1)
    for view in (0, 1):
        space.append(np.full((2, 1), view, np.float32), make_hashes(2), np.full(2, view, np.uint16))
    store.compact()
    assert fresh(store).view.tolist() == [0, 0, 1, 1]


def test_rows_appended_later_stay_behind_the_folded_ones(store, fill, make_hashes):
    fill(store, n=5, n_segments=2)
    store.compact()
    fill(store, n=5, n_segments=2, first=10)
    store.compact()
    np.testing.assert_array_equal(fresh(store).content_hash, make_hashes(20))


def test_folded_rows_stay_before_a_large_segment_that_is_left_alone(store, fill, make_hashes, monkeypatch):
    monkeypatch.setattr("featstore.store.maintenance.compact.SMALL_BYTES", 1000)
    fill(store, n=5, n_segments=2)
    fill(store, n=90, first=10)
    assert store.compact().segments_after == 2
    np.testing.assert_array_equal(fresh(store).content_hash, make_hashes(100))


def test_one_segment_is_left_alone(store, fill):
    path = fill(store).segments[0].path
    for full in (False, True):
        assert store.compact(full=full).bytes_written == 0
        assert [segment.path for segment in fresh(store).segments] == [path]


def test_one_segment_that_holds_a_key_twice_is_rewritten_only_in_full(store, make_spec, make_hashes):
    space = store.create_space(make_spec(), feature_dim=1)
    space.append(np.ones((3, 1), np.float32), make_hashes(3)[[0, 1, 0]])
    assert store.compact().duplicates == 0
    assert store.compact(full=True).duplicates == 1
    np.testing.assert_array_equal(fresh(store).content_hash, make_hashes(2))


def test_fewer_segments_than_asked_for_are_left_alone(store, fill):
    fill(store, n_segments=4)
    assert store.compact(min_segments=5).segments_after == 4
    assert store.compact(min_segments=4).segments_after == 1


def test_an_interrupted_removal_is_harmless(store, fill, make_hashes, tmp_path):
    space = fill(store, n=5, n_segments=4)
    shutil.copytree(space.path, tmp_path / "before")
    store.compact()
    for name in os.listdir(tmp_path / "before"):
        if name.endswith(".h5"):
            shutil.copy(tmp_path / "before" / name, space.path)
    space = fresh(store)
    assert space.n_rows == 40
    assert store.verify().ok
    assert (space.lookup(make_hashes(20)) >= 0).all()
    assert store.compact().duplicates == 20
    np.testing.assert_array_equal(fresh(store).content_hash, make_hashes(20))


@pytest.mark.parametrize("step", ["os.replace", "os.unlink"])
def test_a_failure_at_any_step_loses_no_row(step, store, fill, make_hashes, monkeypatch):
    space = fill(store, n=5, n_segments=3)

    def fail(*arguments, **options):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(step, fail)
    with pytest.raises(StoreError, match="input/output error"):
        store.compact()
    monkeypatch.undo()
    assert (fresh(store).lookup(make_hashes(15)) >= 0).all()
    assert all(os.path.exists(segment.path) for segment in space.segments)
    assert store.verify().ok


def test_a_damaged_row_stops_it_and_nothing_is_removed(store, fill):
    space = fill(store, n=5, n_segments=3)
    damaged = space.segments[1]
    with open(damaged.path, "rb+") as file:
        file.seek(damaged.offsets[0])
        file.write(b"\xff")
    before = sorted(os.listdir(space.path))
    with pytest.raises(DamagedError, match=f"{damaged.path} is damaged: 1 rows do not agree"):
        store.compact()
    assert sorted(os.listdir(space.path)) == before


def test_two_at_once_lose_nothing(store, fill, make_hashes, monkeypatch):
    from featstore.store.maintenance import compact as compaction

    fill(store, n=5, n_segments=4)
    write = compaction.segment_writer
    nested = []

    def write_after_another(*arguments, **options):
        if not nested:
            nested.append(1)
            FeatureStore(store.path).compact()
        return write(*arguments, **options)

    monkeypatch.setattr(compaction, "segment_writer", write_after_another)
    store.compact()
    space = fresh(store)
    assert (space.lookup(make_hashes(20)) >= 0).all()
    assert store.verify().ok


def test_files_of_dead_processes_are_removed_after_a_day(store, fill):
    space = fill(store)
    old, new = (os.path.join(space.path, f".tmp-{name}.h5") for name in ("old", "new"))
    for path in (old, new):
        open(path, "x").close()
    os.utime(old, (time.time() - 25 * 3600,) * 2)
    assert store.compact().leftovers_removed == 1
    assert (os.path.exists(old), os.path.exists(new)) == (False, True)


def test_provenance_says_all_that_was_folded(store, make_spec, make_hashes):
    space = store.create_space(make_spec(), feature_dim=1)
    for number in range(4):
        engine = {"engine": "one" if number < 2 else "two"}
        space.append(np.ones((1, 1), np.float32), make_hashes(1, number), provenance=engine)
        store.compact()
    [segment] = fresh(store).segments
    assert read_description(segment.path)[1] == {"merged": [{"engine": "one"}, {"engine": "two"}]}


def test_progress_counts_rows(store, fill):
    fill(store, n=7, n_segments=3)
    told = []
    store.compact(progress=lambda done, total: told.append((done, total)))
    assert told == [(7, 21), (14, 21), (21, 21)]


def test_only_the_named_space_is_compacted(store, fill, make_spec):
    fill(store, n_segments=2)
    fill(store, n_segments=2, layer="other")
    report = store.compact(make_spec(layer="other").name)
    assert (report.spaces, report.segments_before, report.segments_after) == (1, 2, 1)
    assert len(store.space(make_spec().name).segments) == 2
    with pytest.raises(NotInStoreError):
        store.compact("absent")


def test_small_segments_are_always_folded():
    assert plan(1 * MIB, 20 * MIB, 2 * MIB) == [[0, 1, 2]]


def test_a_few_new_rows_never_rewrite_a_large_segment():
    assert plan(1000 * MIB, 1 * MIB, 1 * MIB) == [[0], [1, 2]]
    assert plan(1 * MIB, 1000 * MIB, 1 * MIB) == [[0], [1], [2]]
    assert plan(1000 * MIB, 1 * MIB, full=True) == [[0, 1]]


def test_segments_of_like_size_are_folded():
    assert plan(400 * MIB, 100 * MIB, 100 * MIB) == [[0, 1, 2]]
    assert plan(900 * MIB, 100 * MIB, 100 * MIB) == [[0], [1, 2]]


def test_a_segment_of_four_times_the_others_is_the_largest_that_is_folded():
    assert plan(400 * MIB, 100 * MIB) == [[0, 1]]
    assert plan(400 * MIB + 2, 100 * MIB) == [[0], [1]]


def test_no_segment_grows_beyond_the_limit():
    assert plan(MAX_BYTES // 2, MAX_BYTES // 2, MAX_BYTES // 2 + 2) == [[0, 1], [2]]
    assert plan(3000 * MIB, 1000 * MIB, 1000 * MIB, full=True) == [[0], [1, 2]]


def test_a_row_is_rewritten_seldom_and_segments_stay_few():
    segments, written, appended = [], 0, 0
    for _ in range(2000):
        segments = [*segments, 4 * MIB]
        appended += 4 * MIB
        groups = plan_compaction(segments_of(*segments))
        written += sum(sum(s.n_bytes for s in group) for group in groups if len(group) > 1)
        segments = [sum(segment.n_bytes for segment in group) for group in groups]
    assert len(segments) <= 12
    assert written / appended < 20

"""Copies of objects: made once, bounded, and never taken from whoever has them open."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import featstore
from fake_tables import spec_of
from featstore.backbones import cache_contents, clear_cache
from featstore.errors import DamagedError, StoreError
from featstore.io.storage import mirror
from featstore.io.storage.opening import forget_buckets, storage_of

N_ROWS, FEATURE_DIM = 100, 1000
SEGMENT_BYTES = N_ROWS * (FEATURE_DIM * 4 + 38)


@pytest.fixture
def url(bucket):
    """A store whose space has four segments."""
    store = featstore.FeatureStore(f"{bucket}/tiny.fstore", create=True)
    space = store.create_space(spec_of(), feature_dim=FEATURE_DIM)
    for number in range(4):
        space.append(features(number), hashes(number))
    return store.path


def features(number):
    return np.random.default_rng(number).normal(size=(N_ROWS, FEATURE_DIM)).astype(np.float32)


def hashes(number):
    found = np.zeros((N_ROWS, 32), np.uint8)
    found[:, 0], found[:, 1] = number, np.arange(N_ROWS)
    return found


@pytest.fixture
def elsewhere(url, monkeypatch, tmp_path, s3_server):
    """Another machine, which has no copies yet."""
    monkeypatch.setenv("FEATSTORE_CACHE", str(tmp_path / "elsewhere"))
    forget_buckets()
    s3_server.requests.clear()
    return tmp_path / "elsewhere" / "objects"


def downloads(server):
    return [path for method, path in server.requests if method == "GET" and path.endswith(".h5")]


def bytes_in(folder):
    return sum(path.stat().st_size for path in folder.iterdir())


def test_keys_are_fetched_without_rows(url, elsewhere, s3_server):
    space = featstore.FeatureStore(url).space()
    assert space.n_rows == 400
    assert space.contains(hashes(2)[5].tobytes())
    # The beginning and the end of each, and a longer beginning where the first does not do.
    assert len(downloads(s3_server)) == 8
    assert bytes_in(elsewhere) < 0.1 * 4 * SEGMENT_BYTES


def test_rows_are_fetched_when_they_are_used_and_then_mapped(url, elsewhere, s3_server):
    space = featstore.FeatureStore(url).space()
    n_before = len(downloads(s3_server)) if space.n_rows else 0
    np.testing.assert_array_equal(space.rows(np.arange(100, 200)), features(1))
    assert isinstance(space.rows(np.arange(100, 200)), np.memmap)
    assert len(downloads(s3_server)) == n_before + 1
    np.testing.assert_array_equal(space.rows(np.arange(400)), np.concatenate([*map(features, range(4))]))
    assert len(downloads(s3_server)) == n_before + 4


def test_many_at_once_download_a_file_once(url, elsewhere, s3_server):
    segment = featstore.FeatureStore(url).space().segments[0].path
    s3_server.requests.clear()
    entered = threading.Barrier(8)

    def read(_):
        entered.wait(20)
        with storage_of(segment).open(segment, is_sealed=True) as file:
            return file.read()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(read, range(8)))) == 1
    assert len(downloads(s3_server)) == 1


def test_copies_are_bounded_and_what_is_mapped_stays(url, elsewhere, monkeypatch):
    monkeypatch.setenv("FEATSTORE_CACHE_GB", str(2.5 * SEGMENT_BYTES / 1e9))
    space = featstore.FeatureStore(url).space()
    mapped = [space.rows(np.arange(100 * number, 100 * number + 100)) for number in range(4)]
    assert bytes_in(elsewhere) <= 2.5 * SEGMENT_BYTES
    for number, rows in enumerate(mapped):
        np.testing.assert_array_equal(rows, features(number))
    np.testing.assert_array_equal(
        space.rows(np.arange(400))[::100], np.stack([features(n)[0] for n in range(4)])
    )
    assert bytes_in(elsewhere) <= 2.5 * SEGMENT_BYTES


def test_what_was_used_the_longest_ago_goes_first(url, elsewhere, monkeypatch):
    space = featstore.FeatureStore(url).space()
    paths = [segment.path for segment in space.segments]
    for path in paths[:3]:
        storage_of(path).open(path, is_sealed=True).close()
    for place in elsewhere.iterdir():
        os.utime(place, (1e9, 1e9))
    storage_of(paths[0]).open(paths[0], is_sealed=True).close()
    monkeypatch.setenv("FEATSTORE_CACHE_GB", str(2.9 * SEGMENT_BYTES / 1e9))
    storage_of(paths[3]).open(paths[3], is_sealed=True).close()
    kept = [bool(list(elsewhere.glob(f"{mirror._name(path)}.*.whole"))) for path in paths]
    assert (kept[0], kept[3]) == (True, True)
    assert kept[1:3].count(True) <= 1


def test_with_no_room_at_all_everything_still_works(url, elsewhere, monkeypatch):
    monkeypatch.setenv("FEATSTORE_CACHE_GB", "0")
    space = featstore.FeatureStore(url).space()
    np.testing.assert_array_equal(space.rows(np.arange(400)), np.concatenate([*map(features, range(4))]))
    assert not list(elsewhere.glob("*.whole"))


def test_a_copy_that_lost_its_end_is_fetched_again(url, elsewhere, s3_server):
    space = featstore.FeatureStore(url).space()
    path = space.segments[0].path
    storage_of(path).open(path, is_sealed=True).close()
    (copy,) = elsewhere.glob(f"{mirror._name(path)}.*.whole")
    os.truncate(copy, 100)
    np.testing.assert_array_equal(space.rows(np.arange(100)), features(0))


def test_copies_of_keys_that_are_not_whole_are_fetched_again(url, elsewhere):
    assert featstore.FeatureStore(url).space().n_rows == 400
    for copy in elsewhere.glob("*.parts"):
        os.truncate(copy, 50)
    space = featstore.FeatureStore(url).space()
    np.testing.assert_array_equal(space.content_hash, np.concatenate([*map(hashes, range(4))]))


def test_a_verification_reads_what_lies_in_the_bucket_and_not_a_damaged_copy(url, elsewhere):
    space = featstore.FeatureStore(url).space()
    np.testing.assert_array_equal(space.rows(np.arange(100)), features(0))
    segment = space.segments[0]
    (copy,) = elsewhere.glob(f"{mirror._name(segment.path)}.*.whole")
    content = bytearray(copy.read_bytes())
    content[segment.offsets[0]] ^= 255
    copy.write_bytes(content)
    with pytest.raises(DamagedError):
        featstore.FeatureStore(url, verify_reads=True).space().rows(np.arange(100))
    assert featstore.FeatureStore(url).verify().ok
    checked = featstore.FeatureStore(url, verify_reads=True).space()
    np.testing.assert_array_equal(checked.rows(np.arange(100)), features(0))


def test_rows_are_written_once_and_again_where_what_replaced_them_is_gone(url):
    space = featstore.FeatureStore(url).space()
    views = np.zeros(N_ROWS, np.uint16)
    for _ in range(2):
        space.append_once(features(9), hashes(9), views)
    store = featstore.FeatureStore(url)
    assert store.space().n_rows == 500
    store.compact(full=True)
    (folded,) = store.space().segments
    storage_of(url).remove([folded.path])
    assert store.space().n_rows == 0
    space.append_once(features(9), hashes(9), views)
    np.testing.assert_array_equal(store.space().rows(np.arange(100)), features(9))


def test_a_folder_that_cannot_hold_copies_is_named(url, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("FEATSTORE_CACHE", str(tmp_path / "file"))
    forget_buckets()
    with pytest.raises(
        StoreError, match=r"cannot keep copies of objects in .*; set FEATSTORE_CACHE to a folder"
    ):
        featstore.FeatureStore(url)


@pytest.mark.parametrize("given", ["lots", "-1", "nan", "inf"])
def test_a_bound_that_is_no_number_is_named(url, elsewhere, monkeypatch, given):
    monkeypatch.setenv("FEATSTORE_CACHE_GB", given)
    with pytest.raises(
        StoreError, match="FEATSTORE_CACHE_GB must be a number of gigabytes, such as 20; found"
    ):
        featstore.FeatureStore(url)


def test_the_cache_is_shown_and_cleared(url, elsewhere):
    assert featstore.FeatureStore(url).space().rows(np.arange(400)).shape == (400, FEATURE_DIM)
    contents = cache_contents()
    assert contents.n_copies >= 4
    assert contents.n_bytes > 4 * SEGMENT_BYTES
    clear_cache()
    assert not elsewhere.exists()
    assert featstore.FeatureStore(url).space().rows(np.arange(400)).shape == (400, FEATURE_DIM)

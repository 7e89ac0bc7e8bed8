import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featstore.errors import DamagedError, NotInStoreError, StoreError
from featstore.store import FeatureStore, Space


def test_appended_rows_are_found_and_read_back(store, fill, make_hashes, make_features):
    fill(store, n=10, n_segments=3)
    space = FeatureStore(store.path).space()
    hashes = make_hashes(30)
    numbers = space.lookup(hashes)
    assert sorted(numbers.tolist()) == list(range(30))
    np.testing.assert_array_equal(space.rows(numbers), make_features(hashes))
    assert (space.lookup(make_hashes(5, first=100)) == -1).all()


def test_rows_keep_the_order_in_which_they_were_appended(store, fill, make_hashes):
    fill(store, n=5, n_segments=8)
    space = FeatureStore(store.path).space()
    np.testing.assert_array_equal(space.content_hash, make_hashes(40))


def test_a_clock_set_back_does_not_put_later_rows_first(store, fill, make_hashes, monkeypatch):
    fill(store, n=5, n_segments=2)
    monkeypatch.setattr("time.time_ns", lambda: 1000)
    again = FeatureStore(store.path).space()
    assert again.n_rows == 10
    hashes = make_hashes(5, first=10)
    again.append(np.ones((5, 4), np.float32), hashes)
    np.testing.assert_array_equal(FeatureStore(store.path).space().content_hash, make_hashes(15))


def test_appending_after_a_look_up_finds_old_and_new(store, fill, make_hashes):
    space = fill(store, n=10)
    for number in range(1, 20):
        assert space.lookup(make_hashes(10, first=10 * number)).max() == -1
        fill(store, n=10, first=10 * number)
        assert store.space() is space
        expected = np.arange(10 * number, 10 * number + 10)
        np.testing.assert_array_equal(space.lookup(make_hashes(10, first=10 * number)), expected)
        assert space.contains(make_hashes(1, first=3).tobytes())


def test_contains_tells_views_apart(store, make_spec, make_hashes):
    space = store.create_space(make_spec(), feature_dim=2)
    space.append(np.ones((2, 2), np.float32), make_hashes(2), view=np.array([0, 3], np.uint16))
    first, second = (row.tobytes() for row in make_hashes(2))
    assert [space.contains(first), space.contains(second), space.contains(second, view=3)] == [
        True,
        False,
        True,
    ]
    assert space.lookup(make_hashes(2), view=3).tolist() == [-1, 1]
    assert space.lookup(make_hashes(2), view=np.array([0, 3])).tolist() == [0, 1]


def test_one_run_of_one_segment_is_a_read_only_map_of_the_file(store, fill):
    space = fill(store, n=10, n_segments=2)
    run = space.rows(np.arange(12, 18))
    assert isinstance(run, np.memmap)
    assert run.filename == space.segments[1].path
    assert not run.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        run[0] = 0


@pytest.mark.parametrize("numbers", [[8, 9, 10, 11], [3, 2, 1], [5, 5], [1, 3], [19, 0]])
def test_other_rows_are_gathered_in_the_order_asked_for(numbers, store, fill, make_hashes, make_features):
    space = fill(store, n=10, n_segments=2)
    rows = space.rows(numbers)
    assert not isinstance(rows, np.memmap)
    np.testing.assert_array_equal(rows, make_features(make_hashes(20))[numbers])


@settings(max_examples=50)
@given(st.lists(st.integers(0, 39)))
def test_any_rows_are_what_was_appended(wanted_space, make_hashes, make_features, numbers):
    np.testing.assert_array_equal(wanted_space.rows(numbers), make_features(make_hashes(40))[numbers])


@pytest.fixture
def wanted_space(store, fill, monkeypatch):
    monkeypatch.setattr("featstore.store.space._GATHER_BYTES", 3 * 16)
    monkeypatch.setattr("featstore.store.segments.maps._MAX_MAPPED", 2)
    return fill(store, n=10, n_segments=4)


def test_no_numbers_give_no_rows(store, fill):
    assert fill(store, n=3).rows([]).shape == (0, 4)


@pytest.mark.parametrize("numbers", [[-1], [0, 10], [5, -1, 3]])
def test_a_row_that_is_not_there_is_refused(numbers, store, fill):
    with pytest.raises(NotInStoreError, match="rows 0 to 9, not"):
        fill(store, n=10).rows(numbers)


def test_an_empty_space_has_no_rows_and_finds_nothing(store, make_spec, make_hashes):
    space = store.create_space(make_spec(), feature_dim=3)
    space.append(np.empty((0, 3), np.float32), make_hashes(0))
    assert (space.n_rows, space.segments) == (0, ())
    assert space.lookup(make_hashes(2)).tolist() == [-1, -1]
    assert not space.contains(bytes(32))
    with pytest.raises(NotInStoreError):
        space.rows([0])


@pytest.mark.parametrize(
    ("features", "hashes", "view", "message"),
    [
        (
            np.ones((2, 3), np.float32),
            np.zeros((2, 32), np.uint8),
            None,
            r"shape \(2, 4\); found .* \(2, 3\)",
        ),
        (
            np.ones((3, 4), np.float32),
            np.zeros((2, 32), np.uint8),
            None,
            r"shape \(2, 4\); found .* \(3, 4\)",
        ),
        (np.ones((2, 4), np.int32), np.zeros((2, 32), np.uint8), None, "floating-point .* found int32"),
        (np.ones((2, 4), np.float32), np.zeros((2, 31), np.uint8), None, "content hashes must be"),
        (np.ones((2, 4), np.float32), np.zeros((2, 32), np.int8), None, "content hashes must be"),
        (np.ones((2, 4), np.float32), np.zeros((2, 32), np.uint8), np.zeros(3, int), "one for each of the 2"),
        (
            np.ones((2, 4), np.float32),
            np.zeros((2, 32), np.uint8),
            np.array([0, 65536]),
            "0 to 65535; found 0 to 65536",
        ),
        (np.ones((2, 4), np.float32), np.zeros((2, 32), np.uint8), np.array([0, -1]), "found -1 to 0"),
        (
            np.full((2, 4), np.nan, np.float32),
            np.zeros((2, 32), np.uint8),
            None,
            r"2 rows \(0, 1\) are not finite",
        ),
    ],
)
def test_rows_that_do_not_fit_are_refused(features, hashes, view, message, store, fill):
    space = fill(store, n=1)
    with pytest.raises(StoreError, match=message):
        space.append(features, hashes, view)
    assert FeatureStore(store.path).space().n_rows == 1


def test_too_large_for_float16_says_which_rows(store, make_spec, make_hashes):
    space = store.create_space(make_spec(dtype="float16"), feature_dim=2)
    features = np.array([[1, 2], [1, 70_000], [3, 4], [-1e6, 0]], np.float32)
    with pytest.raises(StoreError, match=r"2 rows \(1, 3\) are too large for float16, which ends at 65504"):
        space.append(features, make_hashes(4))
    space.append(features[[0, 2]], make_hashes(2))
    assert space.rows([0, 1]).dtype == np.float16


def test_float64_is_converted(store, make_spec, make_hashes):
    space = store.create_space(make_spec(), feature_dim=2)
    space.append(np.array([[0.1, 0.2]]), make_hashes(1))
    np.testing.assert_array_equal(space.rows([0]), np.array([[0.1, 0.2]], np.float32))


def test_what_is_handed_out_cannot_be_written(store, fill):
    space = fill(store)
    for column in (space.content_hash, space.view):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 0


def test_foreign_files_and_unfinished_segments_are_passed_over(store, fill):
    space = fill(store)
    for name in [".tmp-0123.h5", "notes.txt", "A" * 32 + ".h5", "0" * 31 + ".h5", ".DS_Store"]:
        with open(os.path.join(space.path, name), "w") as file:
            file.write("junk")
    assert FeatureStore(store.path).space().n_rows == 10


def test_a_damaged_segment_is_named_when_the_space_is_used(store, fill, make_hashes):
    space = fill(store, n_segments=3)
    path = space.segments[1].path
    os.truncate(path, 100)
    with pytest.raises(DamagedError, match=f"{path} is damaged: .*run featstore verify"):
        FeatureStore(store.path).space().lookup(make_hashes(1))


def test_a_segment_of_another_length_is_refused(store, fill, make_spec, make_hashes, tmp_path):
    fill(store)
    other = FeatureStore(tmp_path / "other.fstore", create=True)
    wider = other.create_space(make_spec(), feature_dim=6)
    wider.append(np.ones((1, 6), np.float32), make_hashes(1))
    os.rename(wider.segments[0].path, os.path.join(store.space().path, wider.segments[0].name))
    with pytest.raises(DamagedError, match="6 x float32; the space's are 4 x float32"):
        assert FeatureStore(store.path).space().n_rows


def test_a_segment_that_vanishes_while_the_space_is_opened_is_no_error(store, fill, monkeypatch, make_hashes):
    space = fill(store, n_segments=3)
    opened = []

    def open_plain_segment(path, **options):
        opened.append(path)
        if len(opened) == 3:
            store.compact(full=True)
        return real(path, **options)

    from featstore.store import space as module

    real = module.open_plain_segment
    reader = Space(space.path)
    monkeypatch.setattr(module, "open_plain_segment", open_plain_segment)
    assert (reader.lookup(make_hashes(30)) >= 0).all()
    assert len(reader.segments) == 1


def test_a_reader_goes_on_while_its_segments_are_compacted(store, fill, make_hashes, make_features):
    fill(store, n=10, n_segments=4)
    reader = FeatureStore(store.path).space()
    numbers = reader.lookup(make_hashes(40))
    mapped = reader.rows(np.arange(10))
    expected = make_features(make_hashes(40))
    for first in (40, 50):
        assert store.compact(full=True).segments_after == 1
        np.testing.assert_array_equal(mapped, expected[:10])
        np.testing.assert_array_equal(reader.rows(numbers), expected)
        np.testing.assert_array_equal(reader.rows(numbers[25:28]), expected[25:28])
        fill(store, n=10, first=first)


def test_rows_removed_for_good_are_one_clear_error(store, fill, make_hashes):
    fill(store, n=10)
    reader = FeatureStore(store.path).space()
    assert reader.n_rows == 10
    os.unlink(reader.segments[0].path)
    with pytest.raises(StoreError, match=r"10 rows of the space tiny-.* have been removed"):
        reader.rows(np.arange(10))


_APPEND_MANY = """
import sys
import numpy as np
from featstore.store import FeatureStore

path, writer = sys.argv[1], int(sys.argv[2])
space = FeatureStore(path).space()
for number in range(5):
    hashes = np.full((3, 32), writer, np.uint8)
    hashes[:, 0] = np.arange(3)
    hashes[:, 1] = number
    space.append(np.full((3, 4), writer + number / 8, np.float32), hashes)
"""


def test_processes_that_append_to_one_space_need_no_agreement(store, fill):
    fill(store, n=1)
    writers = [
        subprocess.Popen([sys.executable, "-c", _APPEND_MANY, store.path, str(number)]) for number in (1, 2)
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    space = store.space()
    assert space.n_rows == 1 + 2 * 5 * 3
    for number in range(1, 3):
        hashes = np.full((1, 32), number, np.uint8)
        hashes[:, :2] = [2, 4]
        assert space.rows(space.lookup(hashes)).tolist() == [[number + 0.5] * 4]
    assert store.verify().ok


def test_a_disk_that_fills_up_is_one_clear_error_and_loses_nothing(store, fill):
    fill(store)
    script = (
        "import resource, numpy as np\n"
        "from featstore.store import FeatureStore\n"
        "from featstore.errors import StoreError\n"
        f"store = FeatureStore({store.path!r})\n"
        "space, hashes = store.space(), np.zeros((5000, 32), np.uint8)\n"
        "for limit in (1_000, 100_000):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))\n"
        "    try:\n"
        "        space.append(np.ones((5000, 4), np.float32), hashes)\n"
        "    except StoreError as error:\n"
        "        assert 'file too large; what was written before is safe' in str(error), error\n"
        "    else:\n"
        "        raise AssertionError('no error')\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)
    report = store.verify()
    assert report.ok
    assert (report.rows, report.leftovers) == (10, ())


def test_threads_may_share_a_space(store, fill, make_hashes, make_features):
    space = fill(store, n=50, n_segments=4)
    hashes, failures = make_hashes(200), []

    def read():
        for _ in range(30):
            rows = space.rows(space.lookup(hashes))
            if not np.array_equal(rows, make_features(hashes)):
                failures.append("wrong rows")

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for number in range(10):
        fill(store, n=20, first=200 + 20 * number)
    for reader in readers:
        reader.join()
    assert not failures
    assert space.n_rows == 400


def test_a_folder_listed_while_it_is_compacted_misses_nothing(store, fill, monkeypatch, make_hashes):
    """Large folders are listed in parts: the first may lack the new segment, and the next the old ones."""
    space = fill(store, n=5, n_segments=3)
    from featstore.store import space as module

    listed, torn = module._listed, [set()]
    monkeypatch.setattr(module, "_listed", lambda folder: torn.pop() if torn else listed(folder))
    assert (Space(space.path).lookup(make_hashes(15)) >= 0).all()


def test_rows_can_follow_those_of_the_last_time_there_is(
    store, fill, make_hashes, make_features, monkeypatch
):
    with monkeypatch.context() as patched:
        patched.setattr("featstore.store.space.time.time_ns", lambda: 2**62 - 1)
        fill(store, n=3)
    for first in (50, 60):
        space = FeatureStore(store.path).space()
        assert space.n_rows >= 3
        hashes = make_hashes(2, first)
        space.append(make_features(hashes), hashes)
        space.append(make_features(make_hashes(2, first + 5)), make_hashes(2, first + 5))
    again = FeatureStore(store.path)
    assert (again.verify().ok, again.space().n_rows) == (True, 11)
    assert again.compact(full=True).segments_after == 1
    assert FeatureStore(store.path).verify().ok


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted in /proc")
def test_mapped_segments_hold_no_descriptor_open(store, fill):
    space = fill(store, n=2, n_segments=30)
    before = len(os.listdir("/proc/self/fd"))
    held = [space.rows(np.arange(number, number + 2)) for number in range(0, 60, 2)]
    assert all(isinstance(rows, np.memmap) for rows in held)
    assert len(os.listdir("/proc/self/fd")) == before
    expected = space.rows(np.arange(60))
    del space
    np.testing.assert_array_equal(np.concatenate(held), expected)

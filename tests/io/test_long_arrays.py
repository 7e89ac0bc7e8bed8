"""Arrays and texts that are in memory while short, and in files beyond: one behaviour on both sides."""

import os

import numpy as np
import pytest

from featstore.errors import StoreError
from featstore.io import long_arrays
from featstore.io.long_arrays import LongArray, are_all, are_equal, in_buckets, long_sorted, long_zeros
from featstore.io.texts import CodedTexts, PathIndex, PlainTexts

TEXTS = ["a/1.jpg", "ä/2.jpg", None, "b\udcff.jpg", "a/1.jpg", "x" * 300]


@pytest.fixture(params=["memory", "file"])
def kept(request, monkeypatch, tmp_path):
    monkeypatch.setenv("FEATSTORE_CACHE", str(tmp_path / "cache"))
    if request.param == "file":
        monkeypatch.setattr(long_arrays, "_MAX_BYTES", 16)
    return request.param


@pytest.mark.parametrize("width", [(), (3,)])
def test_rows_are_read_as_they_were_added(kept, width):
    array = LongArray(np.int64, width)
    given = np.arange(24).reshape(-1, *width)
    for part in np.array_split(given, 3):
        array.extend(part)
        assert len(array.rows) == len(array)
    assert are_equal(array.rows, given)
    with pytest.raises(ValueError, match="read-only"):
        array.rows[0] = 0
    array.forget_pages()
    assert are_equal(array.rows, given)


def test_zeros_can_be_written_to(kept):
    zeros = long_zeros(40, (2,), np.float32)
    assert zeros.shape == (40, 2)
    assert not zeros.any()
    zeros[7] = 3
    long_arrays.forget_pages(zeros)
    assert zeros.sum() == 6


def test_numbers_are_sorted(kept, monkeypatch):
    monkeypatch.setattr(long_arrays.blocks_of, "__defaults__", (7,))
    chance = np.random.default_rng(0)
    for given in (
        chance.integers(0, 2**64, 1000, np.uint64),
        np.repeat(np.uint64(5), 40),
        np.empty(0, np.uint64),
    ):
        numbers = long_zeros(len(given), (), np.uint64)
        numbers[:] = given
        np.testing.assert_array_equal(long_sorted(numbers), np.sort(given))


def test_rows_are_divided_by_one_of_their_bytes_and_keep_their_order(kept):
    given = np.random.default_rng(0).integers(0, 3, (90, 5), np.uint8)
    rows, parts = in_buckets(lambda: iter([given[:50], given[50:50], given[50:]]), 5, 2)
    if kept == "memory":
        assert parts == [slice(0, 90)]
        assert are_equal(rows, given)
    else:
        assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
        for value, part in enumerate(parts):
            assert are_equal(rows[part], given[given[:, 2] == value])
    assert in_buckets(lambda: iter([]), 5, 2)[1] == []


def test_a_check_of_all_rows_finds_the_one_that_fails(kept, monkeypatch):
    monkeypatch.setattr(long_arrays.blocks_of, "__defaults__", (7,))
    zeros = long_zeros(40, (), np.float64)
    assert are_all(zeros, np.isfinite)
    zeros[38] = np.nan
    assert not are_all(zeros, np.isfinite)


@pytest.mark.parametrize("kind", [PlainTexts, CodedTexts])
def test_texts_are_those_that_were_added(kept, kind):
    texts = kind(TEXTS)
    assert texts == TEXTS
    assert texts == tuple(TEXTS)
    assert texts != [*TEXTS[:-1], "y"]
    assert texts[3] == texts[-3] == "b\udcff.jpg"
    assert texts[1:3] == ("ä/2.jpg", None)
    assert texts[::2] == tuple(TEXTS[::2])
    assert texts.encoded(1, 4) == ["ä/2.jpg".encode(), b"", b"b\xff.jpg"]
    assert texts.distinct() == {*TEXTS}
    assert texts.count(None) == 1
    assert kind() == []
    with pytest.raises(IndexError):
        texts[len(TEXTS)]


def test_texts_that_repeat_are_counted_and_changed_once_each(kept):
    texts = CodedTexts(["a", "b", "a", "", None])
    assert texts.counts() == {"a": 2, "b": 1, None: 2}
    asked = []
    changed = texts.mapped(lambda text: asked.append(text) or text.upper())
    assert changed == ["A", "B", "A", None, None]
    assert sorted(asked) == ["a", "b"]
    assert texts.mapped(str) is texts


def test_every_row_of_a_path_is_found(kept):
    index = PathIndex(PlainTexts(TEXTS))
    places, rows = index.find([b"no", b"a/1.jpg", b"x" * 300])
    assert sorted(zip(places.tolist(), rows.tolist(), strict=True)) == [(1, 0), (1, 4), (2, 5)]
    assert index.repeats() == {0: [4]}
    assert [found.tolist() for found in PathIndex(PlainTexts()).find([b"a"])] == [[], []]


def test_paths_whose_marks_collide_are_told_apart(monkeypatch):
    monkeypatch.setattr("featstore.io.texts.hash", lambda _: 7, raising=False)
    index = PathIndex(PlainTexts(["a", "b", "c", "b"]))
    places, rows = index.find([b"b", b"d"])
    assert sorted(zip(places.tolist(), rows.tolist(), strict=True)) == [(0, 1), (0, 3)]
    assert index.repeats() == {1: [3]}


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system does not reserve room in files")
def test_a_full_disk_is_one_clear_error(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(long_arrays, "_MAX_BYTES", 16)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(
        StoreError, match="no space left on device; set FEATSTORE_CACHE to a folder with room"
    ):
        long_zeros(100, (), np.int64)


def test_files_leave_nothing_behind(monkeypatch, tmp_path):
    monkeypatch.setenv("FEATSTORE_CACHE", str(tmp_path))
    monkeypatch.setattr(long_arrays, "_MAX_BYTES", 16)
    array = LongArray(np.int64)
    array.extend(np.arange(100))
    assert array.rows.sum() == 4950
    assert os.listdir(tmp_path) == []

"""A head's file where the operating system refuses it, and where the clock is wrong."""

import errno
import os
import time
import zipfile

import pytest

import featstore.io.hdf5.raw
from featstore.errors import HeadError
from featstore.heads import Head

REFUSALS = [errno.EACCES, errno.EIO, errno.EMFILE, errno.ESTALE]
BEFORE_1980, AFTER_2107 = 10 * 365 * 86_400 - 10**8, 5 * 10**9


@pytest.fixture
def head(make_table, make_blobs):
    return featstore.fit(make_table(*make_blobs(60, 3, seed=2)), head="logistic")


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(zipfile, "time", time)
    return lambda seconds: monkeypatch.setattr(time, "time", lambda: seconds)


@pytest.mark.parametrize("code", REFUSALS)
def test_what_the_operating_system_refuses_is_not_damage(head, tmp_path, monkeypatch, code):
    head.save(path := tmp_path / "a.head")
    read, reads, failing = featstore.io.hdf5.raw._read_at, [], []

    def counted(*where):
        reads.append(where)
        if len(reads) in failing:
            raise OSError(code, os.strerror(code))
        return read(*where)

    monkeypatch.setattr(featstore.io.hdf5.raw, "_read_at", counted)
    Head.load(path)
    for number in range(1, len(reads) + 1):
        reads.clear()
        failing[:] = [number]
        with pytest.raises(HeadError) as refused:
            Head.load(path)
        assert str(refused.value) == f"{path} cannot be read: {os.strerror(code)}"


@pytest.mark.parametrize("code", REFUSALS)
def test_a_file_that_cannot_be_opened_is_not_damaged(head, tmp_path, monkeypatch, code):
    head.save(path := tmp_path / "a.head")

    def refuse(*_args, **_options):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(HeadError, match=f"cannot be read: {os.strerror(code)}"):
        Head.load(path)


@pytest.mark.parametrize("seconds", [BEFORE_1980, AFTER_2107])
def test_a_head_is_saved_whatever_the_clock_shows(head, tmp_path, clock, seconds):
    clock(seconds)
    head.save(path := tmp_path / "a.head")
    assert Head.load(path).classes.tolist() == head.classes.tolist()
    with zipfile.ZipFile(path) as archive:
        assert {member.date_time[0] for member in archive.infolist()} == {1980}


@pytest.mark.parametrize("seconds", [BEFORE_1980, AFTER_2107])
def test_what_a_library_zips_is_dated_where_the_clock_is_wrong(tmp_path, clock, seconds):
    clock(seconds)
    featstore.io.archives.safe_zip.allow_any_clock()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "a")
        assert archive.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)


def test_a_right_clock_is_left_alone():
    featstore.io.archives.safe_zip.allow_any_clock()
    assert zipfile.time is time

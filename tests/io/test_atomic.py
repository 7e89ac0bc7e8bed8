import os
import time

import pytest

from featstore.errors import StoreError
from featstore.io.atomic import make_folders, remove_stale, replacing, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail_midway():
        with replacing(str(target)) as temporary, open(temporary, "w") as file:
            file.write("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_midway()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_the_temporary_file_is_recognised_by_its_name_and_kept_apart(tmp_path):
    with replacing(str(tmp_path / "a.h5")) as temporary:
        assert os.path.dirname(temporary) == str(tmp_path)
        assert os.path.basename(temporary).startswith(".tmp-")
        assert temporary.endswith(".h5")
        open(temporary, "x").close()
    assert os.listdir(tmp_path) == ["a.h5"]


def test_file_is_synced_before_it_is_renamed_and_its_folder_after(tmp_path, monkeypatch):
    steps = []
    fsync, rename = os.fsync, os.replace

    def spy_fsync(descriptor):
        steps.append("sync folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "sync file")
        fsync(descriptor)

    def spy_rename(source, target):
        steps.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_rename)
    write_text(str(tmp_path / "a.json"), "{}")
    assert steps == ["sync file", "rename", "sync folder"]


def test_a_full_disk_is_one_clear_error(tmp_path):
    def fill_the_disk():
        with replacing(str(tmp_path / "a")) as temporary:
            os.symlink("/dev/full", temporary)
            with open(temporary, "w") as file:
                file.write("y" * 100_000)

    with pytest.raises(StoreError, match=r"cannot write .*/a: no space left on device"):
        fill_the_disk()
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot write .*/file/x: not a directory"):
        write_text(str(tmp_path / "file" / "x"), "y")


@pytest.mark.parametrize("days", [-2, 2])
def test_a_file_that_is_being_written_is_not_cleaned_up_whatever_the_clock_says(tmp_path, days):
    with replacing(str(tmp_path / "a")) as temporary:
        with open(temporary, "w") as file:
            file.write("whole")
        os.utime(temporary, (time.time() + days * 86400,) * 2)
        assert remove_stale(str(tmp_path)) == 0
    assert (tmp_path / "a").read_text() == "whole"


@pytest.mark.parametrize("days", [-2, 2])
def test_a_dead_processs_file_is_cleaned_up_whatever_the_clock_says(tmp_path, days):
    left = tmp_path / ".tmp-0123"
    left.touch()
    os.utime(left, (time.time() + days * 86400,) * 2)
    assert remove_stale(str(tmp_path)) == 1
    assert os.listdir(tmp_path) == []


def test_a_full_disk_says_where_to_free_some_space(tmp_path):
    with (
        pytest.raises(StoreError, match=rf"; free some space for {tmp_path} \([\d.,]+ MB are free\) and run"),
        replacing(str(tmp_path / "a")),
    ):
        raise OSError(28, "No space left on device")


def test_a_folder_that_is_gone_is_said_to_be(tmp_path):
    with pytest.raises(StoreError, match=r"the folder .*/gone no longer exists"):
        write_text(str(tmp_path / "gone" / "a"), "x")


def test_each_new_folder_is_flushed_into_the_one_that_it_lies_in(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr("featstore.io.atomic.sync_folder", flushed.append)
    make_folders(str(tmp_path / "a" / "b"))
    make_folders(str(tmp_path / "a" / "b"))
    assert flushed == [str(tmp_path), str(tmp_path / "a")]


def test_a_file_that_does_not_read_back_as_it_was_written_does_not_take_the_place_of_the_old_one(tmp_path):
    target = tmp_path / "a"
    target.write_text("old")

    def refuse(temporary):
        raise ValueError(f"{temporary} holds other bytes")

    def write():
        with replacing(str(target), verify=refuse) as temporary, open(temporary, "w") as file:
            file.write("new")

    with pytest.raises(
        StoreError, match=r"cannot write .*/a: read back.*\(the file holds other bytes\); what was there"
    ):
        write()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_file_is_read_back_once_it_is_on_the_disk_and_before_its_rename(tmp_path, monkeypatch):
    steps = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *given, real=real, name=name: (steps.append(name), real(*given))[1]
        )
    write_text(str(tmp_path / "a"), "x", verify=lambda temporary: steps.append("verify"))
    assert steps == ["fsync", "verify", "replace", "fsync"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_what_the_system_refuses_at_the_end_leaves_the_old_file(tmp_path, monkeypatch, step):
    target = tmp_path / "a"
    target.write_text("old")

    def fail(*given):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(StoreError, match=r"cannot write .*/a: input/output error"):
        write_text(str(target), "new")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]

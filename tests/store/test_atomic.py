import os

import pytest

from featstore.errors import StoreError
from featstore.store.atomic import replacing, write_text


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


def test_the_temporary_file_is_told_by_its_name_and_kept_apart(tmp_path):
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

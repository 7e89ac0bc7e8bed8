"""Weights files are checked before anything in them is used, and again once they have changed."""

import os

import h5py
import numpy as np
import pytest

from featstore.io.hdf5 import plain


@pytest.fixture
def checked(monkeypatch):
    """The names of what was looked at in each check."""
    checks = []
    check = plain._check

    def counted(file, file_bytes):
        checks.append([*file])
        check(file, file_bytes)

    monkeypatch.setattr(plain, "_check", counted)
    return checks


def write(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    # Written long enough ago that a change would show in its times.
    os.utime(path, (1, 1))
    return str(path)


def names_in(path):
    with plain.open_plain(path) as file:
        return [*file]


def test_a_file_that_has_passed_is_not_checked_again(tmp_path, checked):
    path = write(tmp_path / "a.h5", kernel=np.ones(3))
    assert names_in(path) == names_in(path) == ["kernel"]
    assert len(checked) == 1


def test_a_file_that_has_changed_is(tmp_path, checked):
    path = write(tmp_path / "a.h5", kernel=np.ones(3))
    names_in(path)
    write(path, kernel=np.ones(3), link=h5py.ExternalLink("other.h5", "kernel"))
    with pytest.raises(ValueError, match="link is a link to somewhere else, which is never followed"):
        names_in(path)
    assert checked == [["kernel"], ["kernel", "link"]]


def test_a_file_that_was_refused_is_refused_again(tmp_path):
    path = write(tmp_path / "a.h5", link=h5py.ExternalLink("other.h5", "kernel"))
    for _ in range(2):
        with pytest.raises(ValueError, match="never followed"):
            names_in(path)

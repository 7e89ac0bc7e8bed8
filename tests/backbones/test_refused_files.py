"""Weights files and models that the operating system does not give out now are not called damaged."""

import errno
import json
import os
import zipfile

import h5py
import numpy as np
import pytest

import featstore.io.hdf5.raw
from featstore.backbones.files import weights as weights_files
from featstore.backbones.files.keras2 import model_configuration
from featstore.backbones.files.weights import (
    check_model_file,
    layer_sizes,
    read_layers,
    read_variables,
    weights_kind,
)
from featstore.errors import BackboneError
from featstore.io.hdf5.raw import cannot_read, refusal


def write_layers(path):
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"dense"]
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": []}})
        group = file.create_group("dense")
        group.attrs["weight_names"] = [b"kernel"]
        group["kernel"] = np.ones((40, 30), np.float32)
    return str(path)


def write_variables(path):
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.ones((40, 30), np.float32)
    return str(path)


def write_archive(path):
    weights = write_variables(path.with_name("inner.h5"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "config.json", json.dumps({"module": "keras", "class_name": "Sequential", "config": {}})
        )
        archive.write(weights, "model.weights.h5")
    return str(path)


READERS = {
    "kind of layers": (write_layers, "a.h5", weights_kind),
    "layers": (write_layers, "a.h5", read_layers),
    "sizes": (write_layers, "a.h5", lambda path: layer_sizes(path, "layers")),
    "configuration": (write_layers, "a.h5", model_configuration),
    "whole model": (write_layers, "a.h5", check_model_file),
    "kind of variables": (write_variables, "a.weights.h5", weights_kind),
    "variables": (write_variables, "a.weights.h5", read_variables),
    "kind of archive": (write_archive, "a.keras", weights_kind),
    "archive": (write_archive, "a.keras", check_model_file),
}


@pytest.fixture(params=READERS)
def reader(request, tmp_path):
    write, name, read = READERS[request.param]
    path = write(tmp_path / name)
    read(path)
    return path, read


def refusing(patched, number, code):
    """Refuse the n-th read of any file, and return the list of reads."""
    real, reads = featstore.io.hdf5.raw._read_at, []

    def read(*arguments):
        reads.append(arguments[-1])
        if len(reads) == number:
            raise OSError(code, os.strerror(code))
        return real(*arguments)

    patched.setattr(featstore.io.hdf5.raw, "_read_at", read)
    return reads


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE])
def test_a_read_that_is_refused_is_said_and_not_called_damage(reader, monkeypatch, code):
    path, read = reader
    with monkeypatch.context() as patched:
        reads = refusing(patched, 0, code)
        read(path)
    assert reads
    for number in range(1, len(reads) + 1):
        with monkeypatch.context() as patched:
            refusing(patched, number, code)
            with pytest.raises(BackboneError) as caught:
                read(path)
        reason = featstore.io.hdf5.raw.failure_reason(OSError(code, os.strerror(code)))
        assert str(caught.value) == f"cannot read {path}: {reason}", number
    read(path)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES, errno.EIO])
def test_a_file_that_cannot_be_opened_is_not_called_damaged_or_missing(reader, monkeypatch, code):
    path, read = reader
    real = os.open

    def refuse(name, *arguments, **options):
        if str(name) == path:
            raise OSError(code, os.strerror(code), path)
        return real(name, *arguments, **options)

    monkeypatch.setattr(featstore.io.hdf5.raw.os, "open", refuse)
    with pytest.raises(BackboneError, match=f"^cannot read {path}: [a-z/]+ "):
        read(path)


def test_a_path_that_cannot_be_looked_at_is_not_called_missing(reader, monkeypatch):
    path, read = reader
    real = os.stat

    def refuse(name, *arguments, **options):
        if str(name) == path:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return real(name, *arguments, **options)

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(BackboneError, match=r"cannot read .*: input/output error"):
        read(path)


def test_a_full_folder_of_temporary_files_is_no_damage_of_the_model(tmp_path, monkeypatch):
    path = write_archive(tmp_path / "a.keras")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(weights_files.shutil, "copyfileobj", full)
    with pytest.raises(BackboneError, match=rf"^cannot read {path}: no space left on device"):
        check_model_file(path)


@pytest.mark.parametrize("n_bytes", [0, 5, 100, 3000])
def test_a_file_cut_short_is_still_called_that(reader, n_bytes):
    path, read = reader
    with open(path, "rb+") as file:
        file.truncate(n_bytes)
    with pytest.raises(BackboneError) as caught:
        read(path)
    assert not str(caught.value).startswith("cannot read")


def test_a_missing_file_is_still_called_missing(tmp_path):
    for name, check in (("a.h5", weights_kind), ("a.h5", check_model_file), ("a.keras", check_model_file)):
        with pytest.raises(BackboneError, match="there is no"):
            check(str(tmp_path / name))


def test_a_refusal_is_found_behind_other_errors_but_not_what_was_only_looked_for():
    full, missing = (
        OSError(errno.ENOSPC, "No space left on device"),
        FileNotFoundError(errno.ENOENT, "No such"),
    )
    for cause, expected in ((full, full), (missing, None)):
        error = ValueError("cannot load")
        error.__cause__ = cause
        assert refusal(error) is expected
    assert refusal(missing) is missing
    assert refusal(OSError("Unable to open file (truncated file: eof = 96)")) is None
    quoted = OSError(
        "Can't read (file read failed: errno = 5, error message = 'Input/output error', buf = 0)"
    )
    assert cannot_read("a.h5", quoted) == "cannot read a.h5: input/output error"

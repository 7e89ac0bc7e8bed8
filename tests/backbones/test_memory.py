import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featstore.backbones.caches.cache import (
    file_digest,
    recall,
    recall_network,
    remember,
    remember_network,
)
from featstore.io.cache_folder import cache_folder

KEY = {"architecture": "mobilenet", "size_px": [96, 96]}


def write_network(path, weights=b"weights"):
    with open(path, "wb") as file:
        file.write(b"<xml/>")
    with open(path.replace(".xml", ".bin"), "wb") as file:
        file.write(weights)
    return {"feature_dim": 5}


def only_file(folder, name):
    found = [os.path.join(parent, name) for parent, _, files in os.walk(folder) if name in files]
    assert len(found) == 1
    return found[0]


def test_the_folder_is_where_the_environment_says(cache):
    assert cache_folder() == str(cache)


def test_the_folder_is_the_users_cache_folder_otherwise(monkeypatch):
    monkeypatch.delenv("FEATSTORE_CACHE")
    assert os.path.basename(cache_folder()) == "featstore"


@settings(max_examples=25)
@given(
    st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.lists(st.integers())),
    st.dictionaries(st.text(), st.integers() | st.text()),
)
def test_what_is_remembered_is_recalled(cache, key, entry):
    remember("things", key, entry)
    assert recall("things", key) == entry


def test_another_key_recalls_nothing(cache):
    remember("things", KEY, {"a": 1})
    assert recall("things", {**KEY, "size_px": [96, 97]}) is None
    assert recall("others", KEY) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"a": 1', '"a": 2'),
        lambda text: "[]",
        lambda text: "\x00" * len(text),
    ],
)
def test_a_damaged_entry_is_ignored_and_written_again(cache, damage):
    remember("things", KEY, {"a": 1})
    (path,) = (cache / "things").iterdir()
    path.write_text(damage(path.read_text()))
    assert recall("things", KEY) is None
    remember("things", KEY, {"a": 1})
    assert recall("things", KEY) == {"a": 1}


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FEATSTORE_CACHE", str(tmp_path / "file"))
    remember("things", KEY, {"a": 1})
    assert recall("things", KEY) is None
    network = remember_network(KEY, write_network)
    assert network.weights == b"weights"
    assert recall_network(KEY) is None


def test_a_files_digest_is_recalled_without_reading_it(cache, tmp_path, monkeypatch):
    path = tmp_path / "weights.h5"
    path.write_bytes(b"abc")
    os.utime(path, ns=(10**18, 10**18))
    digest = file_digest(str(path))
    assert digest.startswith("ba7816bf")
    monkeypatch.setattr("hashlib.file_digest", lambda *_: pytest.fail("the file was read again"))
    assert file_digest(str(path)) == digest


def test_a_file_that_changed_is_hashed_again_though_its_size_and_time_are_the_same(cache, tmp_path):
    path = tmp_path / "weights.h5"
    path.write_bytes(b"abc")
    os.utime(path, ns=(10**18, 10**18))
    before = file_digest(str(path))
    path.write_bytes(b"abd")
    os.utime(path, ns=(10**18, 10**18))
    assert file_digest(str(path)) != before


def test_a_file_that_was_just_written_is_hashed_again(cache, tmp_path, monkeypatch):
    path = tmp_path / "weights.h5"
    path.write_bytes(b"abc")
    written = path.stat()
    os.utime(path, (written.st_mtime // 1, written.st_mtime // 1))
    file_digest(str(path))
    monkeypatch.setattr("hashlib.file_digest", lambda *_: pytest.fail("the file was read again"))
    with pytest.raises(pytest.fail.Exception, match="read again"):
        file_digest(str(path))


def test_a_file_from_before_1970_or_after_2262_has_a_digest(cache, tmp_path):
    path = tmp_path / "weights.h5"
    path.write_bytes(b"abc")
    for time_ns in (-(10**9), 13_569_465_600 * 10**9):
        os.utime(path, ns=(time_ns, time_ns))
        assert file_digest(str(path)).startswith("ba7816bf")


def test_a_network_is_recalled_whole(cache):
    remember_network(KEY, write_network)
    network = recall_network(KEY)
    assert (network.xml, network.weights, network.facts) == (b"<xml/>", b"weights", {"feature_dim": 5})


@pytest.mark.parametrize("name", ["network.bin", "network.xml", "manifest.json"])
def test_a_damaged_network_is_removed_and_can_be_made_again(cache, name):
    remember_network(KEY, write_network)
    path = only_file(cache, name)
    with open(path, "r+b") as file:
        file.truncate(3)
    assert recall_network(KEY) is None
    assert not os.path.exists(path)
    remember_network(KEY, write_network)
    assert recall_network(KEY) is not None


def test_a_conversion_that_fails_leaves_nothing_behind(cache):
    def fail(path):
        write_network(path)
        raise RuntimeError("no such operation")

    with pytest.raises(RuntimeError):
        remember_network(KEY, fail)
    assert os.listdir(cache / "networks") == []


def test_of_two_who_convert_at_once_the_first_is_kept(cache):
    def convert_while_another_is_faster(path):
        remember_network(KEY, lambda inner: write_network(inner, b"the first"))
        return write_network(path, b"the second")

    assert remember_network(KEY, convert_while_another_is_faster).weights == b"the second"
    assert recall_network(KEY).weights == b"the first"
    assert len(os.listdir(cache / "networks")) == 1


def test_a_network_left_in_part_by_a_crash_is_replaced(cache):
    remember_network(KEY, write_network)
    os.unlink(only_file(cache, "manifest.json"))
    assert recall_network(KEY) is None
    remember_network(KEY, write_network)
    assert recall_network(KEY) is not None


def test_the_manifest_says_what_the_network_is_of(cache):
    remember_network(KEY, write_network)
    with open(only_file(cache, "manifest.json"), encoding="utf-8") as file:
        assert json.load(file)["key"] == KEY

"""What every storage does: one conformance test for folders and for buckets."""

import secrets
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from featstore.errors import StoreError
from featstore.io.remote.failures import MissingError
from featstore.io.storage.access import ChangedError
from featstore.io.storage.bucket_files import BucketFiles
from featstore.io.storage.folders import Folders
from featstore.io.storage.objects import Objects
from featstore.io.storage.opening import storage_of


class InMemory(BucketFiles):
    """A bucket in obstore's own memory."""

    def __init__(self):
        from obstore.store import MemoryStore

        self.name = "s3://memory"
        self._scheme = "s3"
        self._store = self._lister = MemoryStore()

    def _writer(self, patience_s):
        return self._store

    def _explain(self, text):
        if "No data in memory found" in text:
            raise MissingError("no such object")
        super()._explain(text)


@pytest.fixture(params=["folder", "memory", "s3", "azure"])
def place(request, tmp_path, monkeypatch):
    """A storage, and a folder in it."""
    monkeypatch.setenv("FEATSTORE_CACHE", str(tmp_path / "cache"))
    if request.param == "folder":
        return Folders(), str(tmp_path / "store")
    pytest.importorskip("obstore")
    if request.param == "memory":
        return Objects(InMemory()), "s3://memory/a/store"
    if request.param == "azure":
        request.getfixturevalue("azure")
        url = f"az://stores/{secrets.token_hex(8)}"
    else:
        url = request.getfixturevalue("bucket")
    return storage_of(url), f"{url}/store"


@pytest.fixture
def storage(place):
    return place[0]


@pytest.fixture
def folder(place):
    storage, folder = place
    storage.check_writable(folder)
    for name in ("spaces", "heads"):
        storage.make_folder(f"{folder}/{name}")
    return folder


def write(storage, path, content=b"content", **options):
    with storage.replacing(path, **options) as temporary, open(temporary, "xb") as file:
        file.write(content)


def read(storage, path, **options):
    with storage.open(path, **options) as file:
        return file.read()


def test_a_file_is_what_was_written(storage, folder):
    write(storage, f"{folder}/heads/a.head", b"0123456789" * 100_000)
    assert read(storage, f"{folder}/heads/a.head") == b"0123456789" * 100_000
    found = storage.find(f"{folder}/heads/a.head")
    assert (found.name, found.size, found.is_file, found.is_folder) == ("a.head", 10**6, True, False)
    assert found.modified_ns > 0


def test_a_file_is_replaced_as_a_whole(storage, folder):
    path = f"{folder}/heads/a.head"
    write(storage, path, b"first")
    with storage.open(path) as before:
        write(storage, path, b"the second")
        assert read(storage, path) == b"the second"
        assert before.read() == b"first"


def test_what_is_not_there_is_none_or_an_error(storage, folder):
    path = f"{folder}/heads/none.head"
    assert storage.find(path) is None
    assert storage.version(path) is None
    for open_file in (storage.open, storage.open_parts):
        with pytest.raises(FileNotFoundError):
            open_file(path)
    storage.remove([path])


def test_a_block_that_fails_leaves_what_was_there_and_nothing_else(storage, folder):
    path = f"{folder}/heads/a.head"
    write(storage, path, b"old")
    with pytest.raises(KeyError), storage.replacing(path) as temporary, open(temporary, "xb"):
        raise KeyError
    assert read(storage, path) == b"old"
    assert storage.below(folder) == [path]


def test_a_file_that_is_not_what_was_meant_is_not_committed(storage, folder):
    path = f"{folder}/heads/a.head"

    def refuse(temporary):
        with open(temporary, "rb") as file:
            raise ValueError(f"{file.read()!r} is wrong")

    with pytest.raises(StoreError, match=r"read back, it is not what was written .*is wrong"):
        write(storage, path, b"bad", verify=refuse)
    assert storage.find(path) is None


def test_of_a_version_that_was_expected_one_writer_wins(storage, folder):
    path = f"{folder}/heads/a.head"
    write(storage, path, b"old")
    version = storage.version(path)
    write(storage, path, b"theirs", expected=version, in_turn=True)
    with pytest.raises(ChangedError):
        write(storage, path, b"ours", expected=version, in_turn=True)
    assert read(storage, path) == b"theirs"
    assert storage.version(path) != version


def test_a_file_that_is_expected_to_be_missing_is_not_replaced(storage, folder):
    path = f"{folder}/heads/a.head"
    write(storage, path, b"theirs", expected=None, in_turn=True)
    with pytest.raises(ChangedError):
        write(storage, path, b"ours", expected=None, in_turn=True)
    assert read(storage, path) == b"theirs"


def test_a_file_that_is_removed_meanwhile_is_not_replaced(storage, folder):
    path = f"{folder}/heads/a.head"
    write(storage, path, b"old")
    version = storage.version(path)
    storage.remove([path])
    with pytest.raises(ChangedError):
        write(storage, path, b"ours", expected=version, in_turn=True)
    assert storage.find(path) is None


def test_of_many_that_add_to_a_file_none_is_lost(storage, folder):
    path = f"{folder}/heads/a.head"
    write(storage, path, b"")

    def add(number):
        while True:
            version = storage.version(path)
            content = read(storage, path)
            try:
                return write(storage, path, content + b"%d," % number, expected=version, in_turn=True)
            except ChangedError:
                continue

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    assert sorted(read(storage, path).split(b",")) == sorted([b"", *(b"%d" % number for number in range(8))])


def test_with_create_only_the_first_stays(storage, folder):
    path = f"{folder}/heads/a.head"
    write(storage, path, b"first", create_only=True)
    write(storage, path, b"second", create_only=True)
    assert read(storage, path) == b"first"
    assert storage.below(folder) == [path]


def test_entries_are_files_and_folders_by_name(storage, folder):
    for name in ("b.h5", "a.h5", "deep/c.h5"):
        storage.make_folder(f"{folder}/spaces/{name}".rpartition("/")[0])
        write(storage, f"{folder}/spaces/{name}")
    entries = storage.entries(f"{folder}/spaces", is_dated=True)
    assert [(one.name, one.is_file, one.is_folder) for one in entries] == [
        ("a.h5", True, False),
        ("b.h5", True, False),
        ("deep", False, True),
    ]
    assert [one.path for one in entries] == [f"{folder}/spaces/{one.name}" for one in entries]
    assert [one.size for one in entries][:2] == [7, 7]
    assert all(one.modified_ns > 0 for one in entries if one.is_file)
    assert sorted(storage.below(folder)) == [
        f"{folder}/spaces/{name}" for name in ("a.h5", "b.h5", "deep/c.h5")
    ]


def test_names_may_have_any_letters(storage, folder):
    path = f"{folder}/heads/ü %41 [1] #2 a+b.head"
    write(storage, path)
    assert [one.name for one in storage.entries(f"{folder}/heads")] == ["ü %41 [1] #2 a+b.head"]
    assert read(storage, path) == b"content"


def test_a_name_that_begins_as_a_folder_s_is_not_in_it(storage, folder):
    storage.make_folder(f"{folder}/heads2")
    write(storage, f"{folder}/heads2/a.head")
    assert list(storage.entries(f"{folder}/heads")) == []
    assert storage.below(f"{folder}/heads") == []


def test_removed_files_are_gone_and_stay_readable_where_they_are_open(storage, folder):
    paths = [f"{folder}/heads/{name}.head" for name in "abc"]
    for path in paths:
        write(storage, path)
    with storage.open(paths[0]) as file:
        storage.remove(paths[:2])
        assert file.read() == b"content"
    assert [one.path for one in storage.entries(f"{folder}/heads")] == paths[2:]


def test_files_of_which_one_is_gone_are_removed(storage, folder):
    write(storage, f"{folder}/heads/b.head")
    storage.remove([f"{folder}/heads/{name}.head" for name in "abc"])
    assert storage.below(folder) == []


def test_a_server_that_stops_at_what_is_not_there_is_asked_for_each(tmp_path, monkeypatch):
    pytest.importorskip("obstore")
    bucket = InMemory()
    kept = bucket._store

    class Strict:
        def delete(self, keys):
            for key in [keys] if isinstance(keys, str) else keys:
                kept.head(key)
                kept.delete(key)

    kept.put("b", b"x")
    bucket._store = Strict()
    bucket.remove(["a", "b"])
    assert [*kept.list()] in ([], [[]])


def test_files_are_copied_and_moved(storage, folder):
    path = f"{folder}/heads/a.head"
    write(storage, path)
    storage.copy(path, f"{folder}/damaged/heads/a.head")
    storage.move(path, f"{folder}/damaged/heads/a.head.1")
    assert sorted(storage.below(folder)) == [
        f"{folder}/damaged/heads/a.head",
        f"{folder}/damaged/heads/a.head.1",
    ]
    assert read(storage, f"{folder}/damaged/heads/a.head.1") == b"content"


def test_a_sealed_file_is_read_in_parts_as_it_is(storage, folder):
    content = bytes(range(256)) * 4096
    path = f"{folder}/spaces/a.h5"
    write(storage, path, content, expected=None)
    storage.forget(path)
    for _ in range(2):
        with storage.open_parts(path) as parts:
            for start, stop in [(0, 100), (50, 20_000), (len(content) - 9, len(content)), (500_000, 500_300)]:
                parts.seek(start)
                assert parts.read(stop - start) == content[start:stop]
    assert read(storage, path, is_sealed=True) == content


def test_functions_are_mapped_in_order(storage):
    main = threading.get_ident()
    found = storage.map(lambda number: (number, threading.get_ident() == main), range(40))
    assert [number for number, _ in found] == list(range(40))


def test_a_temporary_file_that_is_left_is_not_in_the_way(storage, folder):
    with pytest.raises(KeyError), storage.replacing(f"{folder}/heads/a.head") as temporary:
        raise KeyError(temporary)
    assert storage.clean(f"{folder}/heads") == 0
    assert list(storage.entries(f"{folder}/heads")) == []

import os
import sys
import tracemalloc
import zlib
from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featstore.class_names import normalised_name
from featstore.errors import DamagedError, FormatVersionError, StoreError, StoreNotFoundError
from featstore.store import Catalog
from featstore.store.catalogs.file import read_catalog, write_catalog

NAMES = st.one_of(
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12),
    # What a file system may hold: any bytes but zero, decoded as Python decodes names.
    st.binary(max_size=12).map(lambda name: name.replace(b"\0", b"").decode("utf-8", "surrogateescape")),
    st.sampled_from(["🌻/日本.jpg", 'a\n"b".png', "é", "e\u0301", "-", ".."]),
)
ROWS = st.tuples(
    NAMES.map(lambda name: name or "x"),
    st.none() | NAMES,
    st.none() | NAMES,
    st.sampled_from([None, "train", "validation", "test"]),
    st.none() | NAMES,
    st.binary(min_size=32, max_size=32),
    st.integers(-1, 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1),
)


@settings(max_examples=60)
@given(rows=st.lists(ROWS, max_size=8), root=NAMES, location=NAMES)
def test_what_is_written_is_read_back(rows, root, location, tmp_path):
    paths, labels, groups, splits, reasons, hashes, sizes, mtimes = (
        zip(*rows, strict=True) if rows else [()] * 8
    )
    catalog = Catalog(
        name="photos",
        root=root,
        location=location,
        paths=paths,
        labels=labels,
        groups=groups,
        splits=splits,
        content_hash=np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32),
        sizes=np.array(sizes, np.int64),
        mtimes_ns=np.array(mtimes, np.int64),
        reasons=reasons,
    )
    write_catalog(str(tmp_path / "photos.h5"), catalog)
    again = read_catalog(str(tmp_path / "photos.h5"))
    assert again.paths == tuple(paths)
    assert again.labels == tuple((label and normalised_name(label)) or None for label in labels)
    assert again.sizes.tolist() == list(sizes)
    assert again.mtimes_ns.tolist() == list(mtimes)
    assert again.content_hash.tobytes() == b"".join(hashes)
    assert (again.root, again.location) == (root, location)
    assert again.equals(catalog)


def test_many_chunks_are_read_in_order(store, make_catalog, make_hashes):
    n = 40_000
    hashes = np.random.default_rng(0).integers(0, 256, (n, 32), np.uint8)
    store.write_catalog(make_catalog(n, content_hash=hashes, reasons=["x" * 900, *[None] * (n - 1)]))
    again = store.catalog()
    assert again.equals(make_catalog(n, content_hash=hashes, reasons=["x" * 900, *[None] * (n - 1)]))


def test_many_rows_are_read_by_columns(store, make_catalog):
    """How fast is measured by calls, since the machine may be busy."""
    n = 20_000
    store.write_catalog(make_catalog(n))
    n_calls = 0

    def count(_frame, event, _argument):
        nonlocal n_calls
        n_calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        catalog = store.catalog()
    finally:
        sys.setprofile(None)
    assert len(catalog) == n
    assert n_calls < 1.5 * n


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"root": "/x"},
        {"location": "/x"},
        {"paths": ["c", "b"]},
        {"labels": ["a", "c"]},
        {"groups": ["g", None]},
        {"splits": [None, "test"]},
        {"content_hash": np.ones((2, 32), np.uint8)},
        {"sizes": [7, 1]},
        {"mtimes_ns": [7, 1]},
        {"reasons": ["broken", None]},
    ],
)
def test_catalogs_that_differ_in_anything_are_not_equal(changes, make_catalog):
    assert make_catalog(2).equals(make_catalog(2))
    assert not make_catalog(2).equals(make_catalog(2, **changes))


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a/b", "a b", "-x", "ä", "x" * 101, "a\n", "a\0"])
def test_a_name_that_no_file_should_have_is_refused(name, make_catalog, store):
    with pytest.raises(StoreError, match="cannot be the name of a catalog"):
        make_catalog(name=name)
    with pytest.raises(StoreError, match="cannot be the name of a head"):
        store.head_path(name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["a"]}, "labels must have one entry for each of 2 paths; found 1"),
        ({"splits": ["train", "dev"]}, "one of train, validation, test; found 'dev'"),
        ({"content_hash": np.zeros((2, 31), np.uint8)}, r"content_hash must have the shape \(2, 32\)"),
        ({"sizes": [1]}, r"sizes must have the shape \(2,\)"),
        ({"paths": ["a", ""]}, "image 1 has no path"),
    ],
)
def test_columns_that_do_not_agree_are_refused(changes, message, make_catalog):
    with pytest.raises(StoreError, match=message):
        make_catalog(2, **changes)


@pytest.mark.parametrize("path", ["a\0b", "x" * 70_000, "\ud800"])
def test_a_text_that_cannot_be_stored_is_refused_and_the_old_catalog_kept(path, make_catalog, store):
    store.write_catalog(make_catalog(2))
    with pytest.raises(StoreError):
        store.write_catalog(make_catalog(2, paths=["a", path]))
    assert store.catalog().equals(make_catalog(2))
    assert os.listdir(os.path.join(store.path, "catalogs")) == ["photos.h5"]


def test_arrays_cannot_be_written(make_catalog):
    with pytest.raises(ValueError, match="read-only"):
        make_catalog().sizes[0] = 1


def test_a_failed_image_is_not_usable_whether_it_was_hashed_or_not(make_catalog, make_hashes):
    hashes = make_hashes(3)
    hashes[2] = 0
    catalog = make_catalog(3, content_hash=hashes, reasons=[None, "not an image", None])
    assert catalog.usable.tolist() == [True, False, False]


def test_relative_paths_become_absolute(make_catalog):
    assert make_catalog(2, paths=["a/1.jpg", "/mnt/2.jpg"]).absolute_paths() == [
        "/data/photos/a/1.jpg",
        "/mnt/2.jpg",
    ]


def test_the_name_is_that_of_the_file(make_catalog, store):
    store.write_catalog(make_catalog())
    os.rename(store.catalog_path("photos"), store.catalog_path("renamed"))
    assert store.catalog().name == "renamed"


def test_a_missing_catalog_is_not_found(tmp_path):
    with pytest.raises(StoreNotFoundError):
        read_catalog(str(tmp_path / "photos.h5"))


def test_a_newer_version_asks_for_an_upgrade(make_catalog, store):
    store.write_catalog(make_catalog())
    with h5py.File(store.catalog_path("photos"), "r+") as file:
        file.attrs["format_version"] = 4
    with pytest.raises(FormatVersionError, match="upgrade"):
        store.catalog()


def test_every_flipped_byte_is_found_or_changes_nothing(make_catalog, store):
    catalog = make_catalog(50, reasons=["broken", *[None] * 49])
    store.write_catalog(catalog)
    path = store.catalog_path("photos")
    whole = bytearray(open_bytes(path))
    rng = np.random.default_rng(0)
    n_found = 0
    for offset in rng.choice(len(whole), 400, replace=False).tolist():
        changed = whole.copy()
        changed[offset] ^= int(rng.integers(1, 256))
        with open(path, "wb") as file:
            file.write(changed)
        try:
            assert store.catalog().equals(catalog)
        except DamagedError:
            n_found += 1
    assert n_found > 50


def open_bytes(path):
    with open(path, "rb") as file:
        return file.read()


def bomb(file, name, values):
    file.create_dataset(name, (2**40,), values.dtype, chunks=(2**16,), compression="gzip")


def test_chunks_that_were_never_written_are_refused_even_with_a_right_checksum(make_catalog, store):
    store.write_catalog(make_catalog())
    with h5py.File(store.catalog_path("photos"), "r+") as file:
        del file["label"], file["frame_checksum"]
        dataset = file.create_dataset("label", (10,), "S1", chunks=(10,))
        dataset.attrs["crc32"] = zlib.crc32(bytes(10))
    with pytest.raises(DamagedError, match="chunks that were never written"):
        store.catalog()


def test_a_column_that_unpacks_to_far_more_than_its_file_is_refused(make_catalog, store, monkeypatch):
    store.write_catalog(make_catalog(1000, labels=["x" * 1000] * 1000))
    assert len(store.catalog()) == 1000
    monkeypatch.setattr("featstore.store.catalogs.columns._MIN_EXPANDED_BYTES", 2**16)
    monkeypatch.setattr("featstore.store.catalogs.columns._MAX_EXPANSION", 4)
    with pytest.raises(DamagedError, match="would unpack to 1,000,000 bytes"):
        store.catalog()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda file, name, values: None, id="missing"),
        pytest.param(lambda file, name, values: file.create_group(name), id="group"),
        pytest.param(
            lambda file, name, values: file.__setitem__(name, h5py.ExternalLink("other.h5", "/x")), id="link"
        ),
        pytest.param(
            lambda file, name, values: file.create_dataset(
                name, values.shape, values.dtype, external="o.bin"
            ),
            id="external storage",
        ),
        pytest.param(bomb, id="bomb"),
        pytest.param(
            lambda file, name, values: file.create_dataset(name, values.shape, values.dtype, chunks=(5,)),
            id="never written",
        ),
        pytest.param(
            lambda file, name, values: file.create_dataset(name, data=values.astype("S70000"), chunks=(1,)),
            id="wide",
        ),
        pytest.param(
            lambda file, name, values: file.create_dataset(
                name, values.shape, h5py.string_dtype(), chunks=(5,)
            ),
            id="variable",
        ),
        pytest.param(
            lambda file, name, values: file.create_dataset(name, values.shape, "f4", chunks=(5,)), id="number"
        ),
        pytest.param(
            lambda file, name, values: file.create_dataset(name, data=values[:5], chunks=(5,)),
            id="fewer rows",
        ),
        pytest.param(
            lambda file, name, values: file.create_dataset(name, data=values[:, None], chunks=(5, 1)),
            id="axes",
        ),
        pytest.param(
            lambda file, name, values: file.create_dataset(name, data=values, chunks=(5,)), id="no checksum"
        ),
    ],
)
@pytest.mark.parametrize("name", ["label", "size"])
def test_a_dataset_that_is_not_as_it_must_be_is_refused(name, make, make_catalog, store):
    store.write_catalog(make_catalog())
    with h5py.File(store.catalog_path("photos"), "r+") as file:
        values = file[name][...]
        del file[name]
        make(file, name, values)
    with pytest.raises(DamagedError, match=r"photos\.h5"):
        store.catalog()


def weighted(weights):
    n = len(weights)
    return Catalog(
        name="photos",
        root="/photos",
        location="/photos",
        paths=[f"{number}.png" for number in range(n)],
        labels=["a"] * n,
        groups=[None] * n,
        splits=[None] * n,
        content_hash=np.ones((n, 32), np.uint8),
        sizes=np.zeros(n, np.int64),
        mtimes_ns=np.zeros(n, np.int64),
        reasons=[None] * n,
        weights=weights,
    )


def test_weights_are_read_back_in_a_format_that_earlier_readers_refuse(tmp_path, monkeypatch):
    catalog = weighted([0.5, np.nan, 2.0])
    write_catalog(str(tmp_path / "photos.h5"), catalog)
    again = read_catalog(str(tmp_path / "photos.h5"))

    np.testing.assert_array_equal(again.weights, [0.5, np.nan, 2.0])
    assert again.equals(catalog)
    assert not again.equals(weighted([0.5, np.nan, 2.5]))
    monkeypatch.setattr("featstore.store.catalogs.columns.CATALOG_VERSION", 1)
    with pytest.raises(FormatVersionError, match=r"has format version 2.* upgrade featstore"):
        read_catalog(str(tmp_path / "photos.h5"))


def test_without_weights_the_format_is_that_of_earlier_versions(tmp_path):
    write_catalog(str(tmp_path / "photos.h5"), weighted([np.nan, np.nan]))
    with h5py.File(tmp_path / "photos.h5") as file:
        assert file.attrs["format_version"] == 1
        assert "weight" not in file


@pytest.mark.parametrize("weights", [[1.0], [0.0, 1.0], [-1.0, 1.0], [np.inf, 1.0]])
def test_weights_are_numbers_above_0(weights):
    with pytest.raises(StoreError, match="weights must be"):
        replace(weighted([1.0, 1.0]), weights=weights)


def test_writing_a_catalog_takes_little_memory_beside_it(make_catalog, store):
    n = 100_000
    hashes = np.random.default_rng(0).integers(0, 256, (n, 32), np.uint8)
    catalog = make_catalog(n, content_hash=hashes)
    tracemalloc.start()
    try:
        store.write_catalog(catalog)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A column of 32 bytes an image, and blocks of texts; all texts at once took 430 bytes an image.
    assert peak < 150 * n
    assert store.catalog(catalog.name).equals(catalog)

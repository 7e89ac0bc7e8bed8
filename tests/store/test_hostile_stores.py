"""Stores of strangers: whatever is in them, nothing outside them is read or written."""

import os
import tracemalloc
import zlib

import h5py
import numpy as np
import pytest

from featstore.errors import FeatstoreError, StoreError
from featstore.store import FeatureStore


@pytest.fixture
def canary(tmp_path, store, fill, make_catalog):
    """A folder outside of the store that is laid out like a part of one, and must stay as it is."""
    fill(store)
    store.write_catalog(make_catalog())
    outside = tmp_path / "outside"
    os.rename(store.path, outside)
    FeatureStore(store.path, create=True)
    before = snapshot(outside)
    yield outside
    assert snapshot(outside) == before


def snapshot(folder):
    found = {}
    for home, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(home, name)
            with open(path, "rb") as file:
                found[path] = file.read()
    return found


@pytest.mark.parametrize("name", ["spaces", "catalogs", "heads"])
def test_a_folder_that_is_a_link_is_refused(name, canary, store, make_spec, make_catalog):
    os.rmdir(os.path.join(store.path, name))
    os.symlink(canary / name, os.path.join(store.path, name))
    again = FeatureStore(store.path)
    with pytest.raises(StoreError, match="link to somewhere else, which featstore never follows"):
        again.info()
    with pytest.raises(StoreError, match="link to somewhere else"):
        again.verify()
    with pytest.raises(StoreError, match="link to somewhere else"):
        {
            "spaces": lambda: again.create_space(make_spec(), feature_dim=4),
            "catalogs": lambda: again.write_catalog(make_catalog()),
            "heads": lambda: again.head_path("logistic"),
        }[name]()


def test_a_space_that_is_a_link_is_passed_over(canary, store):
    [name] = os.listdir(canary / "spaces")
    os.symlink(canary / "spaces" / name, os.path.join(store.path, "spaces", name))
    assert FeatureStore(store.path).space_names == ()


def test_files_that_are_links_are_refused_or_passed_over_and_set_aside(canary, store, fill):
    space = fill(store, first=50)
    [name] = [name for name in os.listdir(canary / "spaces" / space.name) if name.endswith(".h5")]
    os.symlink(canary / "spaces" / space.name / name, os.path.join(space.path, name))
    os.symlink(canary / "catalogs" / "photos.h5", store.catalog_path("photos"))
    again = FeatureStore(store.path)
    assert again.catalog_names == ()
    with pytest.raises(StoreError, match="not a regular file"):
        again.space().lookup(space.content_hash)
    assert again.repair().ok
    assert FeatureStore(store.path).space().n_rows == 10


def test_a_folder_of_damaged_files_that_is_a_link_is_refused(canary, store, make_catalog):
    store.write_catalog(make_catalog())
    os.truncate(store.catalog_path("photos"), 10)
    os.symlink(canary, os.path.join(store.path, "damaged"))
    with pytest.raises(StoreError, match="link to somewhere else"):
        store.repair()


def rewritten(store, name, **changes):
    """Replace a column of a catalog, without its frame's checksum, by values of a stranger's choice."""
    with h5py.File(store.catalog_path("photos"), "r+") as file:
        if "frame_checksum" in file:
            del file["frame_checksum"]
        del file[name]
        values = changes.pop("data")
        dataset = file.create_dataset(name, data=values, **changes)
        dataset.attrs["crc32"] = np.int64(zlib.crc32(np.ascontiguousarray(values).tobytes()))


def test_a_catalog_that_unpacks_to_gigabytes_of_text_is_refused_in_bounded_memory(store, make_catalog):
    n = 2500
    store.write_catalog(make_catalog(n))
    texts = np.array([b"%05d" % number + b"x" * 60_000 for number in range(n)])
    rewritten(store, "reason", data=texts, chunks=(100,), compression="gzip", compression_opts=1)
    tracemalloc.start()
    try:
        with pytest.raises(StoreError, match="unpacks to far more"):
            store.catalog("photos")
        assert tracemalloc.get_traced_memory()[1] < 2**28
    finally:
        tracemalloc.stop()


def test_a_catalog_with_a_column_of_other_length_is_refused_before_it_is_read(store, make_catalog):
    store.write_catalog(make_catalog())
    rewritten(store, "label", data=np.zeros(10**6, "S1"), chunks=(1000,), compression="gzip")
    with pytest.raises(StoreError, match=r"with these images it is \(10,\)"):
        store.catalog("photos")


def test_more_images_than_the_file_has_room_for_hashes_are_refused(store, make_catalog):
    store.write_catalog(make_catalog())
    rewritten(
        store, "content_hash", data=np.zeros((10**6, 32), np.uint8), chunks=(1000, 32), compression="gzip"
    )
    with pytest.raises(StoreError, match="would unpack to 32,000,000 bytes"):
        store.catalog("photos")


def test_a_file_that_is_mostly_a_hole_is_refused(store, fill):
    [segment] = fill(store).segments
    os.truncate(segment.path, 2**40)
    if os.stat(segment.path).st_blocks * 512 > 2**30:
        pytest.skip("the file system has no holes")
    with pytest.raises(StoreError, match="were ever written"):
        FeatureStore(store.path).space().n_rows  # noqa: B018


@pytest.mark.parametrize("kind", ["external link", "soft link", "external storage", "virtual"])
def test_a_catalog_that_leads_elsewhere_is_refused(kind, store, make_catalog, tmp_path):
    store.write_catalog(make_catalog())
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["label"] = np.full(10, b"a")
    (tmp_path / "other.bin").write_bytes(b"a" * 10)
    with h5py.File(store.catalog_path("photos"), "r+") as file:
        del file["frame_checksum"], file["label"]
        if kind == "external link":
            file["label"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/label")
        elif kind == "soft link":
            file["label"] = h5py.SoftLink("/path")
        elif kind == "external storage":
            file.create_dataset("label", (10,), "S1", external=[(str(tmp_path / "other.bin"), 0, 10)])
        else:
            layout = h5py.VirtualLayout((10,), "S1")
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "label", (10,))
            file.create_virtual_dataset("label", layout)
    with pytest.raises(StoreError, match="damaged"):
        store.catalog("photos")


@pytest.mark.parametrize("name", ["../up", "a/b", "..", "/etc/passwd", "", ".hidden", "a\0b", "x" * 200])
def test_names_that_lead_elsewhere_are_refused(name, store, make_catalog):
    for use in (store.catalog_path, store.head_path, lambda name: make_catalog(name=name), store.space):
        with pytest.raises(FeatstoreError):
            use(name)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"format": ' * 5000, "1" * 100_000, "\xff" * 10, "[1e999999]"]
)
def test_odd_json_is_refused(text, store, fill):
    space = fill(store)
    for path in (os.path.join(space.path, "space.json"), os.path.join(store.path, "featstore.json")):
        with open(path, "w", encoding="latin-1") as file:
            file.write(text)
    with pytest.raises(StoreError, match="is damaged"):
        FeatureStore(store.path)

import os

import h5py
import numpy as np
import pytest

from featstore.errors import StoreError
from featstore.splits import SplitRule


@pytest.fixture
def filled(store, fill, make_catalog):
    fill(store, n=10, n_segments=2)
    order = [7, 3, 15, 0, 11]
    name = os.fsdecode(b"\xff.jpg")
    hashes = store.space().content_hash[order]
    store.write_catalog(
        make_catalog(
            5,
            content_hash=hashes,
            paths=["a/1.jpg", name, "🌻.jpg", "bad.jpg", "a/2.jpg"],
            labels=["a", None, "b", "b", "a"],
            groups=["g", None, None, None, "h"],
            splits=["test", None, None, None, "train"],
            reasons=[None, None, None, "not an image", None],
        )
    )
    return store


def test_a_plain_file_in_the_catalogs_order(filled, tmp_path, make_spec):
    assert filled.pack(tmp_path / "all.h5") == 4
    table = filled.table()
    with h5py.File(tmp_path / "all.h5") as file:
        np.testing.assert_array_equal(file["features"], table.X)
        np.testing.assert_array_equal(file["content_hash"], table.content_hash_bytes)
        paths = [path.decode("utf-8", "surrogateescape") for path in file["path"][...]]
        assert paths == ["a/1.jpg", os.fsdecode(b"\xff.jpg"), "🌻.jpg", "a/2.jpg"]
        assert file["label"].asstr()[...].tolist() == ["a", "", "b", "a"]
        assert file["group"].asstr()[...].tolist() == ["g", "", "", "h"]
        assert file["split"].asstr()[...].tolist() == table.splits().tolist()
        assert file["features"].chunks is None
        assert file.attrs["format"] == "featstore-pack"
        assert file.attrs["fingerprint"] == make_spec().fingerprint
    assert os.listdir(tmp_path).count("all.h5") == 1


def test_blocks_are_put_together(filled, tmp_path, monkeypatch):
    monkeypatch.setattr("featstore.store.packing._BLOCK_BYTES", 40)
    filled.pack(tmp_path / "all.h5", rule=SplitRule(test=0.0, validation=0.9))
    table = filled.table()
    with h5py.File(tmp_path / "all.h5") as file:
        np.testing.assert_array_equal(file["features"], table.X)
        assert file["path"][3] == b"a/2.jpg"
        assert file["split"].asstr()[...].tolist() == [
            "test",
            *table.splits(SplitRule(test=0.0, validation=0.9))[1:],
        ]


def test_nothing_is_overwritten_unless_asked(filled, tmp_path):
    (tmp_path / "all.h5").write_text("precious")
    with pytest.raises(StoreError, match=r"exists; name another file, .*--force \(overwrite=True\)"):
        filled.pack(tmp_path / "all.h5")
    assert (tmp_path / "all.h5").read_text() == "precious"
    assert filled.pack(tmp_path / "all.h5", overwrite=True) == 4


def test_a_place_that_cannot_be_written(filled, tmp_path):
    with pytest.raises(StoreError, match="is a folder"):
        filled.pack(tmp_path)
    with pytest.raises(StoreError, match="there is no folder"):
        filled.pack(tmp_path / "absent" / "all.h5")

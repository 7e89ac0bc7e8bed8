"""Catalogs whose images have a number instead of a label."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from number_tables import number_arrays, number_table

from featstore.errors import FormatVersionError, StoreError, TargetError
from featstore.store import Corrections, FeatureStore, correct_labels
from featstore.store.catalogs.columns import open_columns
from featstore.store.catalogs.digests import digest_of_catalog, digest_of_columns
from featstore.store.catalogs.file import read_catalog


@pytest.fixture
def made(tmp_path):
    X, y = number_arrays(20)
    y[3:5] = np.nan, 0.1
    table = number_table(tmp_path / "a.fstore", X, y, copies=[(6, 7)])
    return FeatureStore(tmp_path / "a.fstore"), table, y


def test_numbers_are_kept_as_they_are(made):
    store, table, y = made
    np.testing.assert_array_equal(table.target, y)
    assert table.target_name == "age"
    assert table.is_labelled.tolist() == [number != 3 for number in range(20)]
    assert table.label_texts[3:5].tolist() == ["", "0.1"]
    np.testing.assert_array_equal(table.select([4, 3]).target, [0.1, np.nan])
    np.testing.assert_array_equal(table.with_views(1).target, y)
    assert repr(table).endswith("features, age>")
    assert not table.target.flags.writeable
    catalog = read_catalog(store.catalog_path("photos"))
    assert catalog.equals(store.catalog("photos"))
    assert not catalog.equals(replace(catalog, targets=np.zeros(20)))


def test_the_file_is_of_a_version_that_earlier_readers_refuse(made, monkeypatch):
    store = made[0]
    with h5py.File(store.catalog_path("photos")) as file:
        assert (file.attrs["format_version"], file.attrs["target_name"]) == (3, b"age")
        assert file["target"].dtype == np.float64
    monkeypatch.setattr("featstore.store.catalogs.columns.CATALOG_VERSION", 2)
    with pytest.raises(FormatVersionError, match=r"has format version 3.* upgrade featstore"):
        store.catalog("photos")


def test_the_digest_follows_the_numbers_and_their_name(made):
    store = made[0]
    catalog = store.catalog("photos")
    with open_columns(store.catalog_path("photos")) as columns:
        assert digest_of_columns(columns) == digest_of_catalog(catalog)
    others = [
        replace(catalog, targets=np.where(np.arange(20) == 9, 1.0, catalog.targets)),
        replace(catalog, target_name="size"),
        replace(catalog, targets=None, target_name=""),
    ]
    assert len({digest_of_catalog(one) for one in (catalog, *others)}) == 4


def test_a_summary_has_the_range_and_copies_with_different_numbers(made):
    store, _, y = made
    [catalog] = store.info()["catalogs"]
    known = y[~np.isnan(y)]
    assert catalog["target"] == {
        "name": "age",
        "smallest": known.min(),
        "mean": pytest.approx(known.mean()),
        "largest": known.max(),
    }
    assert (catalog["classes"], catalog["labeled"], sum(catalog["splits"].values())) == ([], 19, 20)
    [conflict] = catalog["label_conflicts"]
    assert sorted(path for paths in conflict["labels"].values() for path in paths) == ["6.jpg", "7.jpg"]
    assert sorted(map(float, conflict["labels"])) == sorted(y[[6, 7]])


def test_what_takes_labels_refuses_numbers_and_the_other_way_round(made):
    store, table, _ = made
    with pytest.raises(TargetError, match="images of the catalog photos have a number, age, and this takes"):
        table.y  # noqa: B018
    with pytest.raises(TargetError, match="a correction names a label"):
        correct_labels(table, Corrections(()))
    labels = replace(store.catalog("photos"), name="labels", target_name="", targets=None)
    store.write_catalog(labels)
    with pytest.raises(TargetError, match="images of the catalog labels have labels and no number"):
        store.table(catalog="labels").target  # noqa: B018
    with pytest.raises(StoreError, match="the catalogs labels, photos have labels and age"):
        store.table(catalog=["labels", "photos"])
    with pytest.raises(StoreError, match="there are numbers to predict, and no name"):
        replace(labels, targets=np.ones(20))
    with pytest.raises(StoreError, match="targets must be finite numbers"):
        replace(store.catalog("photos"), targets=np.full(20, np.inf))


def test_joined_catalogs_have_a_row_for_each_number_of_a_file(made):
    store, _, y = made
    store.write_catalog(replace(store.catalog("photos"), name="again"))
    changed = np.where(np.arange(20) == 9, 1.0, y)
    store.write_catalog(replace(store.catalog("photos"), name="changed", targets=changed))
    assert len(store.table(catalog=["photos", "again"])) == 20
    assert len(store.table(catalog=["photos", "changed"])) == 21


def test_packs_and_frames_have_the_numbers(made, tmp_path):
    pytest.importorskip("pandas")
    store, table, y = made
    np.testing.assert_array_equal(table.to_frame()["target"], y)
    store.pack(tmp_path / "a.npz")
    texts = np.load(tmp_path / "a.npz", allow_pickle=False)["label"]
    np.testing.assert_array_equal([float(text or "nan") for text in texts], y)

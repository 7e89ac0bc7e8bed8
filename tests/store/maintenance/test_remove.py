"""Removal of spaces, catalogs and heads."""

import os
from dataclasses import replace

import pytest

import featstore
from featstore.errors import NotInStoreError, StoreError
from featstore.io.storage.folders import Folders
from featstore.store import FeatureStore
from stored_tables import stored_table


@pytest.fixture
def store(tmp_path):
    store, table = stored_table(tmp_path / "s.fstore", n=90)
    featstore.fit(table, head="centroid").save(store.head_path("one"))
    return store


def files_of(store):
    return sorted(os.path.join(home, name) for home, _, names in os.walk(store.path) for name in names)


def test_a_dry_run_removes_nothing_and_names_what_would_break(store):
    before = files_of(store)
    [space] = store.space_names
    report = store.remove(spaces=[space], dry_run=True)
    assert files_of(store) == before
    assert (report.spaces, report.files, report.removed) == ((space,), 4, False)
    head, catalog = report.consequences
    assert head.startswith(f"the head one was fitted on the space {space}: it still predicts")
    assert catalog.startswith("90 images of the catalog photos will have no features")


def test_a_removed_space_is_gone_and_the_store_is_whole(store):
    [space] = store.space_names
    assert store.remove(spaces=[space[:8]]).removed
    assert store.space_names == ()
    assert not os.path.exists(os.path.join(store.path, "spaces", space))
    assert store.catalog_names == ("photos",)
    assert store.head_names == ("one",)
    assert store.verify().ok


def test_a_removed_catalog_leaves_its_features(store):
    report = store.remove(catalogs=["photos"])
    assert report.consequences[0].startswith("the head one was fitted on the catalog photos: it still")
    assert store.catalog_names == ()
    assert store.space().n_rows == 90
    assert store.verify().ok


def test_a_removed_head_breaks_nothing(store):
    report = store.remove(heads=["one"])
    assert (report.heads, report.consequences, report.files) == (("one",), (), 1)
    assert store.head_names == ()


def test_what_goes_together_has_no_consequences(store):
    report = store.remove(spaces=store.space_names, catalogs=["photos"], heads=["one"])
    assert report.consequences == ()
    assert [path for path in files_of(store) if not path.endswith("featstore.json")] == []


def test_images_with_features_in_another_space_are_not_lost(store, make_spec):
    [space] = store.space_names
    table = store.table()
    other = store.create_space(make_spec(layer="another"), feature_dim=table.feature_dim)
    other.append(table.X, table.content_hash_bytes)
    [sentence] = store.remove(spaces=[space], dry_run=True).consequences
    assert sentence.startswith("the head one")


@pytest.mark.parametrize("kind", ["spaces", "catalogs", "heads"])
def test_of_unknown_names_nothing_is_removed(store, kind):
    before = files_of(store)
    names = {"heads": ["one"], kind: ["one", "nowhere"] if kind == "heads" else ["nowhere"]}
    with pytest.raises(NotInStoreError, match=f"no {kind[:-1]} 'nowhere'"):
        store.remove(**names)
    with pytest.raises(NotInStoreError, match="nothing to remove"):
        store.remove()
    assert files_of(store) == before


def test_damaged_files_can_be_removed(store):
    for path in (store.catalog_path("photos"), store.head_path("one")):
        with open(path, "r+b") as file:
            file.truncate(100)
    store.remove(spaces=store.space_names, catalogs=["photos"], heads=["one"])
    assert (store.space_names, store.catalog_names, store.head_names) == ((), (), ())


@pytest.mark.parametrize("n_before", range(6))
def test_at_every_interruption_the_store_is_whole_and_the_rest_can_be_removed(store, monkeypatch, n_before):
    unlink, done = os.unlink, []

    def stop(path, *args, **options):
        if len(done) == n_before:
            raise KeyboardInterrupt
        done.append(path)
        unlink(path, *args, **options)

    [space] = store.space_names
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", stop)
        with pytest.raises(KeyboardInterrupt):
            store.remove(spaces=[space], heads=["one"], catalogs=["photos"])
    again = FeatureStore(store.path)
    assert again.verify().ok
    assert again.space_names == (space,)
    again.remove(
        spaces=[space],
        heads=[name for name in ("one",) if name in again.head_names],
        catalogs=[name for name in ("photos",) if name in again.catalog_names],
    )
    assert [path for path in files_of(store) if not path.endswith("featstore.json")] == []


def test_a_space_that_is_being_written_is_not_taken_apart(store, monkeypatch):
    [space] = store.space_names
    folder = os.path.join(store.path, "spaces", space)
    remove = Folders.remove

    def and_write(self, paths):
        remove(self, paths)
        with open(os.path.join(folder, f"{os.urandom(16).hex()}.h5"), "wb"):
            pass

    monkeypatch.setattr(Folders, "remove", and_write)
    with pytest.raises(StoreError, match="another process writes into"):
        store.remove(spaces=[space])
    assert store.space_names == (space,)


def test_reports_of_shards_of_a_space_go_with_it(store):
    from featstore.store.shard_reports import all_reports, write_report

    [space] = store.space_names
    write_report(store, space, replace(store.catalog(), name="photos"), "1-of-2")
    assert all_reports(store)
    store.remove(spaces=[space])
    assert not all_reports(store)

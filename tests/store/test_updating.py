"""A catalog is changed by many at once, and nobody's change is lost."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

import featstore.store.catalogs.updating
from featstore.errors import NotInStoreError, StoreError
from featstore.store import FeatureStore


def relabelled(catalog, number, label):
    labels = list(catalog.labels)
    labels[number] = label
    return replace(catalog, labels=labels)


def test_a_change_is_made_again_on_what_another_wrote_meanwhile(store, make_catalog):
    store.write_catalog(make_catalog())
    seen = []

    def change(current):
        seen.append(current)
        if len(seen) == 1:
            store.write_catalog(relabelled(current, 0, "theirs"))
        return relabelled(current, 1, "ours")

    written = store.update_catalog("photos", change)
    assert len(seen) == 2
    assert store.catalog().labels[:2] == ("theirs", "ours")
    assert written.equals(store.catalog())


def test_near_groups_do_not_undo_labels_that_were_written_meanwhile(store, make_catalog, monkeypatch):
    catalog = make_catalog()
    store.write_catalog(catalog)
    real = featstore.store.catalogs.updating.write_catalog
    contents = [row.tobytes().hex() for row in catalog.content_hash[:2]]

    def slow(path, made, **options):
        monkeypatch.setattr(featstore.store.catalogs.updating, "write_catalog", real)
        FeatureStore(store.path).write_catalog(relabelled(catalog, 5, "corrected"))
        real(path, made, **options)

    monkeypatch.setattr(featstore.store.catalogs.updating, "write_catalog", slow)
    assert store.write_near_groups([contents]) == 2
    left = store.catalog()
    assert left.labels[5] == "corrected"
    assert left.near_groups[0] == left.near_groups[1] is not None


def test_changes_of_many_threads_at_once_are_all_kept(store, make_catalog):
    n_images = 40
    store.write_catalog(make_catalog(n_images))

    def work(number):
        own = FeatureStore(store.path)
        own.update_catalog("photos", lambda current: relabelled(current, number, f"new {number}"))

    featstore.store.catalogs.updating._MAX_ATTEMPTS, kept = (
        1000,
        featstore.store.catalogs.updating._MAX_ATTEMPTS,
    )
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(n_images)))
    finally:
        featstore.store.catalogs.updating._MAX_ATTEMPTS = kept
    assert store.catalog().labels == tuple(f"new {number}" for number in range(n_images))


def test_a_change_that_others_always_overtake_is_one_clear_error_and_theirs_stays(store, make_catalog):
    store.write_catalog(make_catalog())
    count = iter(range(100))

    def change(current):
        store.write_catalog(relabelled(current, 0, f"theirs {next(count)}"))
        return relabelled(current, 1, "ours")

    with pytest.raises(StoreError, match=r"photos\.h5 was written by others 10 times .*run this again"):
        store.update_catalog("photos", change)
    assert store.catalog().labels[:2] == ("theirs 9", "b")
    assert os.listdir(os.path.dirname(store.catalog_path("photos"))) == ["photos.h5"]


def test_a_catalog_that_is_new_is_not_written_over_one_that_came_first(store, make_catalog):
    seen = []

    def change(current):
        seen.append(current)
        if current is None:
            store.write_catalog(make_catalog(3))
            return make_catalog(2)
        return None

    assert len(store.update_catalog("photos", change)) == 3
    assert seen[0] is None
    assert len(store.catalog()) == 3


def test_near_groups_of_a_catalog_that_is_removed_meanwhile_are_one_clear_error(
    store, make_catalog, monkeypatch
):
    catalog = make_catalog()
    store.write_catalog(catalog)
    real = featstore.store.catalogs.updating.write_catalog

    def slow(path, made, **options):
        os.unlink(path)
        real(path, made, **options)

    monkeypatch.setattr(featstore.store.catalogs.updating, "write_catalog", slow)
    with pytest.raises(NotInStoreError, match="has been removed meanwhile"):
        store.write_near_groups([[row.tobytes().hex() for row in catalog.content_hash[:2]]])
    assert store.catalog_names == ()


def test_the_check_and_the_rename_are_one_step_for_other_writers(store, make_catalog, monkeypatch):
    """A writer that comes between another's check and its rename waits for it."""
    store.write_catalog(make_catalog())
    real = os.replace
    others = []

    def replace_slowly(source, target):
        if not others:
            others.append(threading.Thread(target=store.write_catalog, args=(make_catalog(3),)))
            others[0].start()
            others[0].join(0.3)
            assert others[0].is_alive()
        real(source, target)

    monkeypatch.setattr(os, "replace", replace_slowly)
    store.update_catalog("photos", lambda current: relabelled(current, 1, "ours"))
    others[0].join()
    assert len(store.catalog()) == 3

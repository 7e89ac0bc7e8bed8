"""Stores whose images have several views: counted, checked, mended, merged, folded and written elsewhere."""

import os

import h5py
import numpy as np
import pytest

from featstore.duplicates import find_duplicates
from featstore.images import ViewRecipe
from featstore.store import FeatureStore, export_projector

RECIPE = ViewRecipe(flip=True, random_crop=10)
N_IMAGES, N_VIEWS = 10, 8


@pytest.fixture
def fill_views(make_spec, make_hashes, make_features):
    """Append views of the images number first … first + n - 1; each row is view 0's plus the view's number."""

    def fill_views(store, views=range(N_VIEWS), n=N_IMAGES, first=0):
        space = store.create_space(make_spec(views=RECIPE), feature_dim=4, provenance={"engine": "fake"})
        hashes, views = make_hashes(n, first), np.array(list(views), np.uint16)
        rows = make_features(hashes)[:, None] + views[:, None].astype(np.float32)
        space.append(rows.reshape(-1, 4), np.repeat(hashes, len(views), axis=0), np.tile(views, n))
        return space

    return fill_views


@pytest.fixture
def viewed(store, fill_views, make_catalog):
    """A store of ten images with eight views each, in two segments of four views."""
    fill_views(store, range(4))
    fill_views(store, range(4, 8))
    store.write_catalog(make_catalog(N_IMAGES))
    return store


@pytest.fixture
def check_rows(make_hashes, make_features):
    def check_rows(store, n_views=N_VIEWS, n=N_IMAGES):
        space = FeatureStore(store.path).space()
        for view in range(n_views):
            rows = space.rows(space.lookup(make_hashes(n), view))
            np.testing.assert_array_equal(rows, make_features(make_hashes(n)) + view)

    return check_rows


def damage(segment, row):
    with open(segment.path, "rb+") as file:
        file.seek(segment.offsets[0] + row * 4 * 4)
        file.write(b"\xff")


def test_info_counts_images_and_views(viewed, fill_views):
    fill_views(viewed, n=2, views=[0, 1])
    info = viewed.info()
    [space] = info["spaces"]
    assert (space["rows"], space["images"], space["views"]) == (84, 10, 8)
    assert ViewRecipe.from_dict(space["spec"]["views"]) == RECIPE
    [catalog] = info["catalogs"]
    assert catalog["spaces"] == catalog["complete"] == {space["name"]: 10}


def test_info_tells_images_that_lack_views(store, fill_views, make_catalog):
    fill_views(store, range(4), n=6)
    fill_views(store, range(2), n=3, first=6)
    store.write_catalog(make_catalog(N_IMAGES))
    [catalog] = store.info()["catalogs"]
    [space] = store.space_names
    assert (catalog["spaces"], catalog["complete"]) == ({space: 9}, {space: 6})


def test_verify_checks_the_rows_of_all_views(viewed):
    report = viewed.verify()
    assert (report.ok, report.rows, report.segments) == (True, 80, 2)
    damage(viewed.space().segments[1], 13)
    [damaged] = viewed.verify().damaged
    assert damaged.rows == (13,)


def test_a_repair_tells_images_that_lost_a_view_and_how_many_they_had(viewed, check_rows, fill_views):
    later = viewed.space().segments[1]
    damage(later, 4)
    damage(later, 6)
    damage(later, 39)
    report = viewed.repair()
    assert (report.ok, report.rescued, report.lost) == (True, 37, 3)
    [missing] = report.missing
    # Rows 4 and 6 are views of one image, and 39 is the last view of all.
    assert (missing.catalog, missing.images, missing.views) == ("photos", 2, 8)
    assert report.to_dict()["missing"][0]["views"] == 8
    fill_views(FeatureStore(viewed.path), range(4, 8))
    check_rows(viewed)


def test_a_repair_leaves_catalogs_with_fewer_views_alone(viewed, fill_views, make_catalog, make_hashes):
    fill_views(viewed, range(2), n=5, first=N_IMAGES)
    viewed.write_catalog(
        make_catalog(
            5, name="more", content_hash=make_hashes(5, N_IMAGES), root="/data/more", location="/data/more"
        )
    )
    damage(viewed.space().segments[1], 0)
    assert [(one.catalog, one.images, one.views) for one in viewed.repair().missing] == [("photos", 1, 8)]


def test_a_segment_that_cannot_be_opened_may_have_held_any_views(viewed):
    os.truncate(viewed.space().segments[1].path, 100)
    [missing] = viewed.repair().missing
    assert (missing.images, missing.views) == (0, None)


def test_views_of_two_stores_are_united(store, tmp_path, fill_views, make_catalog, check_rows):
    other = FeatureStore(tmp_path / "other.fstore", create=True)
    fill_views(store, range(5))
    fill_views(other, range(3, 8))
    other.write_catalog(make_catalog(N_IMAGES))
    report = store.merge(other)
    assert (report.segments, report.rows) == (1, 50)
    check_rows(store)
    assert store.merge(other).segments == 0
    store.compact(full=True)
    assert FeatureStore(store.path).space().n_rows == 80
    check_rows(store)


def test_folding_keeps_every_view_once(viewed, fill_views, check_rows):
    fill_views(viewed, range(2, 6))
    report = viewed.compact(full=True)
    assert (report.segments_after, report.duplicates) == (1, 40)
    assert FeatureStore(viewed.path).verify().rows == 80
    check_rows(viewed)


def test_a_pack_holds_the_images_themselves(viewed, tmp_path, make_hashes, make_features):
    assert viewed.pack(tmp_path / "pack.h5") == N_IMAGES
    with h5py.File(tmp_path / "pack.h5") as file:
        np.testing.assert_array_equal(file["features"], make_features(make_hashes(N_IMAGES)))


def test_the_projector_shows_the_images_themselves(viewed, tmp_path, make_hashes, make_features):
    assert export_projector(viewed.table(), tmp_path / "projector") == N_IMAGES
    written = np.fromfile(tmp_path / "projector" / "features.bytes", np.float32)
    np.testing.assert_array_equal(written.reshape(-1, 4), make_features(make_hashes(N_IMAGES)))


def test_views_of_one_image_are_no_duplicates(viewed):
    found = find_duplicates(viewed.table())
    assert (found.n_images, found.n_copies) == (N_IMAGES, 0)

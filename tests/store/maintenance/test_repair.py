import os
import random

import numpy as np
import pytest
from PIL import Image

from fakes import CountingBackbone
from featstore import extract
from featstore.errors import DamagedError
from featstore.store import FeatureStore


def flip(path, offset, mask=1):
    with open(path, "rb+") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ mask]))


@pytest.fixture
def photos(tmp_path):
    """Twelve images of two classes."""
    for number in range(12):
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (9, 9, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        # A file that has only just been written is read again next time.
        os.utime(folder / f"{number}.png", (1, 1))
    return str(tmp_path / "photos")


@pytest.fixture
def extracted(photos, store):
    extract(photos, store, backbone=CountingBackbone())
    return store


def all_features(store):
    table = FeatureStore(store.path).table()
    order = np.argsort(table.paths)
    return table.X[order].copy()


@pytest.mark.parametrize("kind", ["segment", "catalog", "space.json", "featstore.json"])
def test_every_flipped_byte_of_a_file_is_found(kind, store, fill, make_catalog):
    space = fill(store)
    store.write_catalog(make_catalog())
    paths = {
        "segment": space.segments[0].path,
        "catalog": store.catalog_path("photos"),
        "space.json": os.path.join(space.path, "space.json"),
        "featstore.json": os.path.join(store.path, "featstore.json"),
    }
    size = os.path.getsize(paths[kind])
    draw = random.Random(0)
    for _ in range(120):
        offset, mask = draw.randrange(size), draw.randrange(1, 256)
        flip(paths[kind], offset, mask)
        try:
            found = not FeatureStore(store.path).verify().ok
        except DamagedError:
            found = True
        assert found, offset
        flip(paths[kind], offset, mask)
    assert FeatureStore(store.path).verify().ok


def test_good_rows_are_kept_and_the_file_set_aside(store, fill, make_hashes, make_features):
    space = fill(store, n=10, n_segments=2)
    damaged = space.segments[0]
    flip(damaged.path, damaged.offsets[0] + 16 * 3)
    flip(damaged.path, damaged.offsets[1] + 32 * 7)
    report = store.repair()
    assert (report.ok, report.rescued, report.lost) == (True, 8, 2)
    [(before, after)] = report.set_aside
    assert before == damaged.path
    assert after == os.path.join(store.path, "damaged", os.path.relpath(damaged.path, store.path))
    assert os.path.exists(after)
    assert not os.path.exists(before)
    verified = FeatureStore(store.path).verify()
    assert (verified.ok, verified.rows, verified.set_aside, verified.leftovers) == (True, 18, (after,), ())
    space = FeatureStore(store.path).space()
    found = space.lookup(make_hashes(20))
    assert np.flatnonzero(found < 0).tolist() == [3, 7]
    there = make_hashes(20)[found >= 0]
    np.testing.assert_array_equal(space.rows(found[found >= 0]), make_features(there))


def test_damage_around_the_rows_loses_none(store, fill):
    [segment] = fill(store).segments
    flip(segment.path, segment.frame)
    report = store.repair()
    assert (report.ok, report.rescued, report.lost, report.missing) == (True, 10, 0, ())
    assert FeatureStore(store.path).space().n_rows == 10


def test_extract_computes_what_a_repair_lost_and_nothing_else(extracted, photos):
    before = all_features(extracted)
    [segment] = extracted.space().segments
    for row in (2, 5):
        flip(segment.path, segment.offsets[0] + row * 20)
    [missing] = extracted.repair().missing
    assert (missing.catalog, missing.location, missing.images) == ("photos", photos, 2)
    backbone = CountingBackbone()
    report = extract(photos, extracted.path, backbone=backbone)
    assert (report.extracted, report.reused, report.read, backbone.images) == (2, 10, 2, 2)
    np.testing.assert_allclose(all_features(extracted), before, rtol=1e-6)


def test_a_segment_that_cannot_be_opened_is_extracted_again(extracted, photos):
    before = all_features(extracted)
    [segment] = extracted.space().segments
    os.truncate(segment.path, 100)
    report = extracted.repair()
    assert (report.rescued, report.lost) == (0, 0)
    assert [one.images for one in report.missing] == [12]
    assert extract(photos, extracted.path, backbone=CountingBackbone()).extracted == 12
    np.testing.assert_array_equal(all_features(extracted), before)


def test_a_catalog_comes_back_from_its_source(extracted, photos):
    before = all_features(extracted)
    path = extracted.catalog_path("photos")
    flip(path, os.path.getsize(path) - 1)
    report = extracted.repair()
    assert (report.catalogs, report.missing) == ((("photos", photos),), ())
    backbone = CountingBackbone()
    extract(photos, extracted.path, backbone=backbone)
    assert backbone.images == 0
    np.testing.assert_array_equal(all_features(extracted), before)


def test_a_second_damaged_file_of_the_same_name_gets_another(store, make_catalog):
    for _ in range(2):
        store.write_catalog(make_catalog())
        os.truncate(store.catalog_path("photos"), 10)
        assert store.repair().ok
    assert sorted(os.listdir(os.path.join(store.path, "damaged", "catalogs"))) == ["photos.h5", "photos.h5.1"]


def test_a_space_is_described_anew_by_its_segments(store, fill):
    space = fill(store, n_segments=2)
    path = os.path.join(space.path, "space.json")
    with open(path, "w") as file:
        file.write("{}")
    assert store.repair().ok
    again = FeatureStore(store.path).space()
    assert (again.spec, again.feature_dim, again.n_rows) == (space.spec, 4, 20)


def test_a_damaged_store_description_is_written_anew(store, fill):
    fill(store)
    flip(os.path.join(store.path, "featstore.json"), 5)
    with pytest.raises(DamagedError, match=r"featstore\.json is damaged"):
        FeatureStore(store.path)
    assert FeatureStore(store.path, repair=True).verify().ok
    assert FeatureStore(store.path).space().n_rows == 10


def test_what_a_newer_version_wrote_is_left_alone(store, fill):
    space = fill(store)
    path = os.path.join(space.path, "space.json")
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        file.write(text.replace('"format_version": 1', '"format_version": 9'))
    report = store.repair()
    assert not report.ok
    assert report.set_aside == ()
    assert "upgrade" in report.remaining[0].reason


@pytest.mark.parametrize("column", range(4))
def test_reading_with_verify_reads_never_gives_out_a_wrong_row(column, store, fill, make_hashes):
    segment = fill(store, n=10, n_segments=2).segments[1]
    flip(segment.path, segment.offsets[column] + (16, 32, 2, 4)[column] * 4)
    checked = FeatureStore(store.path, verify_reads=True).space()
    np.testing.assert_array_equal(checked.rows(range(14)), FeatureStore(store.path).space().rows(range(14)))
    for numbers in (range(20), [14], [3, 14, 2]):
        with pytest.raises(DamagedError, match=r"1 of the .* rows .* featstore verify --repair") as caught:
            checked.rows(numbers)
        assert segment.path in str(caught.value)

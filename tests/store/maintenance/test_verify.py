import json
import os

import numpy as np
import pytest

from featstore.errors import DamagedError


def flip(path, offset):
    with open(path, "rb+") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def test_a_sound_store_has_no_damage(store, fill, make_catalog):
    fill(store, n=10, n_segments=3)
    fill(store, n=4, layer="other")
    store.write_catalog(make_catalog())
    report = store.verify()
    assert report.ok
    assert (report.segments, report.rows, report.catalogs, report.leftovers) == (4, 34, 1, ())
    assert json.loads(json.dumps(report.to_dict())) == {
        "segments": 4,
        "rows": 34,
        "catalogs": 1,
        "heads": 0,
        "damaged": [],
        "leftovers": [],
        "set_aside": [],
    }


def test_damaged_rows_are_reported_by_file_and_number(store, fill):
    space = fill(store, n=10, n_segments=3)
    path, offsets = space.segments[1].path, space.segments[1].offsets
    flip(path, offsets[0] + 16 * 3 + 5)
    flip(path, offsets[1] + 32 * 7)
    report = store.verify()
    assert not report.ok
    [damage] = report.damaged
    assert (damage.path, damage.space, damage.rows) == (path, space.name, (3, 7))
    assert damage.reason == "2 of 10 rows do not agree with their checksums"
    assert (report.segments, report.rows) == (3, 28)


def test_row_numbers_count_from_the_segments_first_row_in_every_block(store, fill, monkeypatch):
    monkeypatch.setattr("featstore.store.segments.segment.BLOCK_BYTES", 150)
    [segment] = fill(store, n=10).segments
    flip(segment.path, segment.offsets[2] + 2 * 9)
    [damage] = store.verify().damaged
    assert damage.rows == (9,)


def test_sampled_flips_of_any_row_byte_are_all_found(store, fill):
    [segment] = fill(store, n=10).segments
    spans = [(segment.offsets[k] + at) for k, size in enumerate((16, 32, 2, 4)) for at in range(10 * size)]
    for offset in np.random.default_rng(0).choice(spans, 60, replace=False).tolist():
        flip(segment.path, offset)
        assert not store.verify().ok, offset
        flip(segment.path, offset)
    assert store.verify().ok


@pytest.mark.parametrize("length", [0, 50, 2000])
def test_a_truncated_segment_is_reported_not_raised(length, store, fill):
    space = fill(store, n_segments=2)
    os.truncate(space.segments[0].path, length)
    report = store.verify()
    [damage] = report.damaged
    assert (damage.path, damage.rows, report.segments, report.rows) == (space.segments[0].path, (), 2, 10)
    assert "featstore verify" not in damage.reason
    assert damage.path not in damage.reason


def test_a_segment_in_the_wrong_space_is_reported(store, fill):
    here, there = fill(store), fill(store, layer="other")
    moved = os.path.join(there.path, here.segments[0].name)
    os.rename(here.segments[0].path, moved)
    [damage] = store.verify().damaged
    assert damage.path == moved
    assert "fingerprint" in damage.reason
    assert damage.path not in damage.reason


def test_a_segment_of_another_length_is_reported(store, fill, make_spec, make_hashes, tmp_path):
    space = fill(store)
    other = type(store)(tmp_path / "other.fstore", create=True)
    wider = other.create_space(make_spec(), feature_dim=6)
    wider.append(np.ones((1, 6), np.float32), make_hashes(1))
    os.rename(wider.segments[0].path, os.path.join(space.path, wider.segments[0].name))
    [damage] = store.verify().damaged
    assert "6 x float32; the space's are 4 x float32" in damage.reason
    assert damage.path not in damage.reason


def test_a_damaged_space_description_is_reported_and_its_segments_still_checked(store, fill):
    space = fill(store, n_segments=2)
    path = os.path.join(space.path, "space.json")
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        file.write(text.replace('"layer": "top"', '"layer": "tip"'))
    with pytest.raises(DamagedError, match=r"space\.json is damaged: it does not agree with its checksum"):
        type(store)(store.path).space()
    report = store.verify()
    assert [damage.path for damage in report.damaged] == [path]
    assert (report.segments, report.rows) == (2, 20)


def test_a_damaged_catalog_is_reported(store, make_catalog):
    store.write_catalog(make_catalog())
    path = store.catalog_path("photos")
    os.truncate(path, os.path.getsize(path) - 1)
    [damage] = store.verify().damaged
    assert (damage.path, damage.space) == (path, None)


def test_leftovers_are_listed_and_do_no_harm(store, fill):
    space = fill(store)
    paths = [
        os.path.join(store.path, "notes.txt"),
        os.path.join(store.path, "catalogs", ".tmp-12.h5"),
        os.path.join(space.path, ".tmp-34.h5"),
        os.path.join(store.path, "spaces", "empty", "x"),
    ]
    os.mkdir(os.path.join(store.path, "spaces", "empty"))
    for path in paths:
        open(path, "x").close()
    report = store.verify()
    assert report.ok
    assert set(report.leftovers) == set(paths)


def test_progress_counts_rows(store, fill):
    fill(store, n=10, n_segments=3)
    told = []
    store.verify(progress=lambda done, total: told.append((done, total)))
    assert told == [(10, 30), (20, 30), (30, 30)]

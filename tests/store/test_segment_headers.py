"""Segments as featstore writes them are opened without HDF5, to the same result."""

import pathlib

import h5py
import numpy as np
import pytest

from featstore.store import FeatureStore
from featstore.store.segments.headers import open_plain_segment
from featstore.store.segments.segment import open_segment


def both(path, fingerprint):
    return [opened(path, expected_fingerprint=fingerprint) for opened in (open_plain_segment, open_segment)]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("n", "provenance"), [(1, {}), (700, {"a": "b"}), (3, {"long": "x" * 59_000})])
def test_a_segment_is_opened_to_what_hdf5_finds(
    store, make_spec, make_hashes, make_features, dtype, n, provenance
):
    space = store.create_space(make_spec(dtype=dtype, architecture=f"tiny{n}"), feature_dim=3)
    hashes = make_hashes(n)
    space.append(make_features(hashes, 3), hashes, provenance=provenance)
    [segment] = space.segments
    plain, by_hdf5 = both(segment.path, space.fingerprint)
    assert plain == by_hdf5 == segment


def test_a_byte_changed_outside_of_the_rows_leaves_the_segment_to_hdf5(store, fill):
    space = fill(store, n=3)
    [segment] = space.segments
    data = pathlib.Path(segment.path).read_bytes()
    rows = {at for begin, end in segment.extents for at in range(begin, end)}
    for at in range(0, len(data), 5):
        changed = bytearray(data)
        changed[at] ^= 16
        pathlib.Path(segment.path).write_bytes(changed)
        found = open_plain_segment(segment.path, expected_fingerprint=space.fingerprint)
        assert found == (segment if at in rows else None), at


@pytest.mark.parametrize("n_bytes", [0, 7, 40, 48, 100, 600, 1500])
def test_a_segment_cut_short_is_left_to_hdf5(store, fill, n_bytes):
    space = fill(store)
    path = pathlib.Path(space.segments[0].path)
    path.write_bytes(path.read_bytes()[:n_bytes])
    assert open_plain_segment(str(path), expected_fingerprint=space.fingerprint) is None


def test_another_space_and_a_missing_file_are_left_to_hdf5(store, fill, tmp_path):
    [segment] = fill(store).segments
    assert open_plain_segment(segment.path, expected_fingerprint="0" * 64) is None
    assert open_plain_segment(str(tmp_path / "none.h5"), expected_fingerprint=segment.fingerprint) is None
    assert open_plain_segment(str(tmp_path), expected_fingerprint=segment.fingerprint) is None


def test_a_segment_that_other_software_wrote_is_opened_by_hdf5(store, fill):
    space = fill(store)
    [segment] = space.segments
    with h5py.File(segment.path) as old:
        columns, attributes = {name: found[...] for name, found in old.items()}, dict(old.attrs)
    with h5py.File(segment.path, "w") as file:
        file.attrs.update(attributes)
        for name, values in columns.items():
            if name != "frame_checksum":
                file[name] = values
    plain, by_hdf5 = both(segment.path, segment.fingerprint)
    assert plain is None
    assert by_hdf5.n_rows == 10
    again = FeatureStore(store.path).space()
    np.testing.assert_array_equal(again.content_hash, space.content_hash)
    np.testing.assert_array_equal(again.rows(range(10)), columns["features"])


def test_a_space_opens_its_own_segments_without_hdf5(store, fill, monkeypatch):
    fill(store, n_segments=4)

    def fail(*args, **kwargs):
        pytest.fail("a segment was opened by HDF5")

    monkeypatch.setattr("featstore.store.space.open_segment", fail)
    assert FeatureStore(store.path).space().n_rows == 40

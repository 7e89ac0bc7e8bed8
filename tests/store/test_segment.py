import json
import os
import pathlib
import zlib

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from featstore.errors import DamagedError, FormatVersionError, StoreError, StoreNotFoundError
from featstore.store.segments.segment import (
    Rows,
    damaged_rows,
    open_segment,
    read_description,
    row_checksums,
    segment_writer,
)

FIXTURES = settings(max_examples=40)


@pytest.fixture
def write(tmp_path, make_spec):
    def write(features, hashes, views=None, **changes):
        views = np.zeros(len(hashes), np.uint16) if views is None else views
        given = {"n_rows": len(hashes), "feature_dim": features.shape[1], "created_ns": 5, "provenance": None}
        spec = make_spec(dtype=str(features.dtype))
        with segment_writer(str(tmp_path), spec, **{**given, **changes}) as writer:
            writer.write(
                Rows(
                    features=features,
                    content_hash=hashes,
                    view=views,
                    checksum=row_checksums(features, hashes, views),
                )
            )
        return writer.segment

    return write


@pytest.fixture
def segment(write, make_hashes, make_features):
    hashes = make_hashes(20)
    return write(make_features(hashes), hashes, np.arange(20, dtype=np.uint16))


def reopen(segment):
    return open_segment(segment.path, expected_fingerprint=segment.fingerprint)


def rewrite(segment, change):
    """Copy a segment through h5py's high-level interface, letting ``change`` replace parts of it."""
    with h5py.File(segment.path) as old:
        columns = {name: dataset[...] for name, dataset in old.items()}
        attributes = dict(old.attrs)
    os.unlink(segment.path)
    with h5py.File(segment.path, "w") as file:
        file.attrs.update(attributes)
        for name, values in columns.items():
            file[name] = values
        change(file)


@FIXTURES
@given(data=st.data())
def test_what_is_written_is_read_back(data, write):
    n, d = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 9))
    dtype = data.draw(st.sampled_from([np.float32, np.float16]))
    features = data.draw(hnp.arrays(dtype, (n, d), elements={"allow_nan": False, "allow_infinity": False}))
    hashes = data.draw(hnp.arrays(np.uint8, (n, 32)))
    views = data.draw(hnp.arrays(np.uint16, n))
    written = write(features, hashes, views)
    segment = reopen(written)
    assert segment == written
    np.testing.assert_array_equal(segment.features(), features)
    found_hashes, found_views = segment.keys()
    np.testing.assert_array_equal(found_hashes, hashes)
    np.testing.assert_array_equal(found_views, views)
    assert [len(damaged_rows(rows)) for rows in segment.blocks()] == [0]


def test_blocks_cover_all_rows_in_order(monkeypatch, segment):
    monkeypatch.setattr("featstore.store.segments.segment.BLOCK_BYTES", 200)
    blocks = list(segment.blocks())
    assert len(blocks) > 3
    np.testing.assert_array_equal(np.concatenate([block.features for block in blocks]), segment.features())
    assert np.concatenate([block.view for block in blocks]).tolist() == list(range(20))
    assert all(len(damaged_rows(block)) == 0 for block in blocks)


def test_checksum_covers_little_endian_features_hash_and_view():
    features = np.array([[1.5, -2.0]], np.float32)
    hashes = np.arange(32, dtype=np.uint8).reshape(1, 32)
    expected = zlib.crc32(b"\x00\x00\xc0\x3f\x00\x00\x00\xc0" + bytes(range(32)) + b"\x02\x01")
    assert row_checksums(features, hashes, np.array([258], np.uint16)).tolist() == [expected]
    swapped = features.astype(">f4")
    assert row_checksums(swapped, hashes, np.array([258], ">u2")).tolist() == [expected]


def test_a_segment_explains_itself_to_plain_h5py(segment, make_spec):
    with h5py.File(segment.path) as file:
        assert file.attrs["format"] == b"featstore-segment"
        assert file.attrs["format_version"] == 1
        assert json.loads(file.attrs["spec"]) == make_spec().to_dict()
        assert file.attrs["fingerprint"].decode() == make_spec().fingerprint
        assert file["features"].chunks is None
        assert file["features"].shape == (20, 4)
        assert file["content_hash"].dtype == np.uint8
        assert file["view"][...].tolist() == list(range(20))


def test_mapped_features_are_aligned_and_cannot_be_written(segment):
    features = segment.features()
    assert isinstance(features, np.memmap)
    assert features.flags.aligned
    with pytest.raises(ValueError, match="read-only"):
        features[0, 0] = 1


@pytest.mark.parametrize("column", range(4))
def test_any_flipped_byte_of_a_row_is_found(column, segment):
    rng = np.random.default_rng(column)
    row_bytes = (16, 32, 2, 4)[column]
    for _ in range(25):
        place = int(rng.integers(20 * row_bytes))
        mask = int(rng.integers(1, 256))
        flip(segment.path, segment.offsets[column] + place, mask)
        [rows] = reopen(segment).blocks()
        assert damaged_rows(rows).tolist() == [place // row_bytes]
        flip(segment.path, segment.offsets[column] + place, mask)


def flip(path, offset, mask):
    with open(path, "rb+") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ mask]))


def test_a_flipped_byte_outside_the_rows_is_found_or_changes_nothing(segment):
    before = (segment, read_description(segment.path))
    n_found = 0
    for offset in range(0, min(segment.offsets), 3):
        flip(segment.path, offset, 0x10)
        try:
            after = (reopen(segment), read_description(segment.path))
        except StoreError:
            n_found += 1
        else:
            assert after == before
        flip(segment.path, offset, 0x10)
    assert n_found > 150


def test_truncated_at_any_length_is_damaged(segment):
    size = os.path.getsize(segment.path)
    whole = pathlib.Path(segment.path).read_bytes()
    for length in [0, 1, 8, 100, 1000, size // 2, size - 1]:
        with open(segment.path, "wb") as file:
            file.write(whole[:length])
        with pytest.raises(DamagedError, match="featstore verify"):
            reopen(segment)


def test_an_extent_beyond_the_files_end_is_damaged(segment):
    rewrite(segment, lambda file: None)
    offset = reopen(segment).offsets[0]
    whole = pathlib.Path(segment.path).read_bytes()
    address = offset.to_bytes(8, "little")
    assert whole.count(address) == 1
    beyond = (len(whole) - 8).to_bytes(8, "little")
    pathlib.Path(segment.path).write_bytes(whole.replace(address, beyond))
    with pytest.raises(DamagedError):
        reopen(segment)


def test_cut_short_after_it_was_opened_is_damaged(segment):
    os.truncate(segment.path, segment.offsets[2])
    with pytest.raises(DamagedError, match="cut short"):
        segment.keys()


def test_missing_file_is_not_found(segment):
    os.unlink(segment.path)
    with pytest.raises(StoreNotFoundError):
        reopen(segment)
    with pytest.raises(StoreNotFoundError):
        segment.features()


def test_newer_version_asks_for_an_upgrade(segment):
    rewrite(segment, lambda file: file.attrs.create("format_version", np.int64(7)))
    with pytest.raises(FormatVersionError, match=r"version 7, .* up to 1; upgrade"):
        reopen(segment)


def test_another_fingerprint_is_refused(segment):
    with pytest.raises(DamagedError, match="fingerprint"):
        open_segment(segment.path, expected_fingerprint="f" * 64)


def test_a_specification_of_another_fingerprint_is_refused(segment):
    rewrite(segment, lambda file: file.attrs.create("spec", np.bytes_(b'{"architecture":"other"}')))
    with pytest.raises(DamagedError, match="fingerprint"):
        read_description(segment.path)


def test_a_segment_rewritten_by_other_software_is_read(segment):
    features = np.array(segment.features())
    rewrite(segment, lambda file: None)
    np.testing.assert_array_equal(reopen(segment).features(), features)


def replace(name, make):
    def change(file):
        values = file[name][...]
        del file[name]
        make(file, name, values)

    return change


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda file, name, values: None, id="missing"),
        pytest.param(lambda file, name, values: file.create_group(name), id="group"),
        pytest.param(
            lambda file, name, values: file.__setitem__(name, h5py.SoftLink("/elsewhere")), id="soft link"
        ),
        pytest.param(
            lambda file, name, values: file.__setitem__(name, h5py.ExternalLink("other.h5", "/x")),
            id="external link",
        ),
        pytest.param(
            lambda file, name, values: file.create_dataset(
                name, values.shape, values.dtype, external=[("other.bin", 0, h5py.h5f.UNLIMITED)]
            ),
            id="external storage",
        ),
        pytest.param(
            lambda file, name, values: file.create_dataset(name, data=values, chunks=True), id="chunked"
        ),
        pytest.param(
            lambda file, name, values: file.create_dataset(name, data=values, compression="gzip"),
            id="compressed",
        ),
        pytest.param(
            lambda file, name, values: file.create_dataset(name, values.shape, values.dtype),
            id="never written",
        ),
        pytest.param(
            lambda file, name, values: file.create_dataset(name, data=values.astype("f8")), id="another type"
        ),
        pytest.param(
            lambda file, name, values: file.create_dataset(
                name, data=values.astype(values.dtype.newbyteorder())
            ),
            id="big endian",
        ),
        pytest.param(lambda file, name, values: file.create_dataset(name, data=values[:-1]), id="fewer rows"),
        pytest.param(lambda file, name, values: file.create_dataset(name, data=values[0]), id="fewer axes"),
    ],
)
@pytest.mark.parametrize("name", ["features", "view"])
def test_a_dataset_that_is_not_plain_is_refused(name, make, segment, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = segment.features() if name == "features" else segment.keys()[1]
    (tmp_path / "other.bin").write_bytes(bytes(1000))
    rewrite(segment, replace(name, make))
    with pytest.raises(DamagedError, match=os.path.basename(segment.path)):
        reopen(segment)


def test_a_virtual_dataset_is_refused(segment, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = segment.features()
    layout = h5py.VirtualLayout((20, 4), "<f4")
    layout[...] = h5py.VirtualSource(tmp_path / "other.h5", "x", (20, 4))
    rewrite(
        segment, replace("features", lambda file, name, values: file.create_virtual_dataset(name, layout))
    )
    with pytest.raises(DamagedError, match="contiguous"):
        reopen(segment)


@pytest.mark.parametrize("name", ["format", "format_version", "fingerprint", "created_ns"])
@pytest.mark.parametrize(
    "value",
    [None, 1.5j, "text of variable length", np.arange(3), np.bytes_(b"x" * 100), h5py.Empty("f4")],
    ids=["missing", "complex", "variable", "array", "long", "empty"],
)
def test_an_attribute_of_the_wrong_kind_is_refused(name, value, segment):
    def change(file):
        del file.attrs[name]
        if value is not None:
            file.attrs[name] = value

    rewrite(segment, change)
    with pytest.raises(DamagedError):
        reopen(segment)


@pytest.mark.parametrize("created_ns", [-1, 2**62, 2**63 - 1])
def test_a_time_after_which_no_row_could_come_is_refused(created_ns, segment):
    rewrite(segment, lambda file: file.attrs.modify("created_ns", np.int64(created_ns)))
    with pytest.raises(DamagedError, match="it must be from 0 to"):
        reopen(segment)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text.h5").write_text("not HDF5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = 1
    os.mkfifo(tmp_path / "fifo.h5")
    (tmp_path / "link.h5").symlink_to("foreign.h5")
    (tmp_path / "folder.h5").mkdir()
    for name in ["text", "foreign", "fifo", "link", "folder"]:
        with pytest.raises(DamagedError, match=f"{name}.h5"):
            open_segment(str(tmp_path / f"{name}.h5"), expected_fingerprint="0" * 64)


def test_nothing_is_left_of_a_segment_that_was_not_finished(tmp_path, make_spec, segment):
    before = sorted(os.listdir(tmp_path))
    [rows] = segment.blocks()

    def write(*blocks):
        with segment_writer(str(tmp_path), make_spec(), n_rows=3, feature_dim=4, created_ns=0) as writer:
            for block in blocks:
                writer.write(block)

    with pytest.raises(ValueError, match="laid out for 3 rows; 0 came"):
        write()
    with pytest.raises(ValueError, match="laid out for 3 rows"):
        write(rows)
    assert sorted(os.listdir(tmp_path)) == before


def test_provenance_is_kept_and_must_be_json(write, make_hashes, make_features):
    hashes = make_hashes(2)
    segment = write(make_features(hashes), hashes, provenance={"engine": "fake 1.0"})
    assert read_description(segment.path)[1] == {"engine": "fake 1.0"}
    for wrong in [{"engine": object()}, {"x": float("nan")}, {"x": "y" * 70_000}]:
        with pytest.raises(StoreError, match="provenance"):
            write(make_features(hashes), hashes, provenance=wrong)

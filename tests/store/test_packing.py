import json
import os
import sys

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from featstore.errors import MissingExtraError, StoreError
from featstore.splits import SplitRule
from featstore_cli.main import main


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
    monkeypatch.setattr("featstore.store.packing.contents._BLOCK_BYTES", 40)
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
        filled.pack(tmp_path, format="h5")
    with pytest.raises(StoreError, match="there is no folder"):
        filled.pack(tmp_path / "absent" / "all.h5")


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("p.csv", None),
        ("p", None),
        ("p.tfrecord", None),
        ("p.npz", "h5"),
        ("p.H5", "npz"),
        ("p.parquet", "npz"),
        ("p.hdf5", "tfrecord"),
        ("p.tfrecord", "h5"),
    ],
)
def test_an_ending_that_speaks_against_the_format_is_refused(filled, tmp_path, name, form):
    named = r"\.h5, \.hdf5, \.npz, \.parquet; found p" if form is None else f"and the format given is {form}"
    with pytest.raises(StoreError, match=named):
        filled.pack(tmp_path / name, format=form)
    given = ["--format", form] if form else []
    ran = CliRunner().invoke(main, ["pack", filled.path, str(tmp_path / name), *given])
    assert ran.exit_code == 2
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("name", "form", "start"),
    [
        ("p.HDF5", None, b"\x89HDF"),
        ("p.bin", "h5", b"\x89HDF"),
        ("p.zip", "npz", b"PK"),
        ("p", "h5", b"\x89HDF"),
    ],
)
def test_an_ending_of_no_format_is_accepted_with_the_format(filled, tmp_path, name, form, start):
    filled.pack(tmp_path / name, format=form)
    assert (tmp_path / name).read_bytes().startswith(start)


def test_a_parquet_file_for_duckdb_and_polars(filled, tmp_path, make_spec):
    duckdb, polars = pytest.importorskip("duckdb"), pytest.importorskip("polars")
    packed, table = tmp_path / "all.parquet", filled.table()
    assert filled.pack(packed) == 4
    frame = polars.read_parquet(packed)
    assert frame.schema["features"] == polars.Array(polars.Float32, 4)
    np.testing.assert_array_equal(frame["features"].to_numpy(), table.X)
    rows = list(
        zip(
            ["a/1.jpg", "\\xff.jpg", "🌻.jpg", "a/2.jpg"],
            ["a", None, "b", "a"],
            ["g", None, None, "h"],
            table.splits().tolist(),
            table.content_hash.tolist(),
            strict=True,
        )
    )
    assert frame.drop("features").rows() == rows
    with duckdb.connect() as database:
        assert database.sql(f"SELECT * EXCLUDE features FROM '{packed}'").fetchall() == rows
        found = database.sql(f"SELECT features::FLOAT[4] FROM '{packed}'").fetchall()
        assert [row for (row,) in found] == [tuple(row) for row in table.X.tolist()]
        ((told,),) = database.sql(
            f"SELECT value FROM parquet_kv_metadata('{packed}') WHERE key = 'featstore'::BLOB"
        ).fetchall()
    told = json.loads(told)
    assert (told["format"], told["format_version"], told["catalog"]) == ("featstore-pack", 1, "photos")
    assert told["spec"] == make_spec().to_dict()
    assert told["fingerprint"] == make_spec().fingerprint


def test_a_parquet_file_has_row_groups_of_bounded_memory(filled, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("featstore.store.packing.parquet._GROUP_BYTES", 3 * 4 * 4)
    sizes = []
    select = type(filled.table()).select
    monkeypatch.setattr(
        type(filled.table()), "select", lambda *given: sizes.append(len(select(*given))) or select(*given)
    )
    filled.pack(tmp_path / "all.parquet")
    with parquet.ParquetFile(tmp_path / "all.parquet") as file:
        assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [3, 1]
    assert set(sizes) == {3, 1}


def test_half_precision_stays_so_in_parquet(store, fill, make_catalog, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    fill(store, dtype="float16")
    store.write_catalog(make_catalog())
    store.pack(tmp_path / "all.parquet")
    features = parquet.read_table(tmp_path / "all.parquet")["features"].combine_chunks()
    assert str(features.type.value_type) == "halffloat"
    np.testing.assert_array_equal(features.flatten().to_numpy().reshape(10, 4), store.table().X)


def test_a_parquet_file_that_is_not_what_was_written_is_not_kept(filled, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    write = parquet.ParquetWriter.write_table

    def spoil(writer, group, **options):
        write(writer, group.set_column(1, group.field(1), [["c"] * len(group)]), **options)

    monkeypatch.setattr(parquet.ParquetWriter, "write_table", spoil)
    with pytest.raises(StoreError, match="row group 0 holds other values"):
        filled.pack(tmp_path / "all.parquet")
    assert os.listdir(tmp_path) == ["flowers.fstore"]


def test_parquet_needs_an_extra(filled, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r'pip install "featstore\[parquet\]"'):
        filled.pack(tmp_path / "all.parquet")


def test_arrays_for_numpy(filled, tmp_path, make_spec, monkeypatch):
    monkeypatch.setattr("featstore.store.packing.contents._BLOCK_BYTES", 40)
    assert filled.pack(tmp_path / "all.npz") == 4
    table = filled.table()
    with np.load(tmp_path / "all.npz") as found:
        assert {*found} == {
            "features",
            "content_hash",
            "path",
            "label",
            "group",
            "split",
            "description",
        }
        np.testing.assert_array_equal(found["features"], table.X)
        np.testing.assert_array_equal(found["content_hash"], table.content_hash_bytes)
        assert found["path"].tolist() == table.relative_paths
        assert found["label"].tolist() == ["a", "", "b", "a"]
        assert found["group"].tolist() == ["g", "", "", "h"]
        assert found["split"].tolist() == table.splits().tolist()
        assert json.loads(str(found["description"]))["spec"] == make_spec().to_dict()


def test_arrays_that_are_not_what_was_written_are_not_kept(filled, tmp_path, monkeypatch):
    replaced = os.fsync

    def spoil(descriptor):
        with open(descriptor, "rb+", closefd=False) as file:
            file.seek(200)
            file.write(b"spoiled")
        replaced(descriptor)

    monkeypatch.setattr("featstore.io.atomic.os.fsync", spoil)
    with pytest.raises(StoreError, match=r"features\.npy holds other bytes"):
        filled.pack(tmp_path / "all.npz")
    assert os.listdir(tmp_path) == ["flowers.fstore"]

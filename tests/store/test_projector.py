import os

import numpy as np
import pytest

from featstore.errors import DamagedError, OutputError, StoreError
from featstore.store import export_projector


@pytest.fixture
def table(store, fill, make_catalog):
    fill(store, n=10, n_segments=2)
    name = os.fsdecode(b"\xff.jpg")
    paths = ["a/1.jpg", name, "🌻.jpg", "tab\tnew\nline.jpg", "a/2.jpg"]
    hashes = store.space().content_hash[[7, 3, 15, 0, 11]]
    labels = ["a", None, "b", "b", "a"]
    groups = ["g", None, None, None, "h"]
    store.write_catalog(make_catalog(5, content_hash=hashes, paths=paths, labels=labels, groups=groups))
    return store.table()


def test_tensorboards_projector_reads_what_was_written(table, tmp_path):
    from google.protobuf import text_format
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    folder = tmp_path / "projector"
    assert export_projector(table, folder) == 5
    config = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (embedding,) = config.embeddings

    assert embedding.tensor_name == table.space_name
    features = np.fromfile(folder / embedding.tensor_path, "float32").reshape(embedding.tensor_shape)
    np.testing.assert_array_equal(features, table.X)
    lines = (folder / embedding.metadata_path).read_text("utf-8").split("\n")
    assert lines[0] == "label\tsplit\tgroup\tpath"
    assert lines[1] == f"a\t{table.splits()[0]}\tg\ta/1.jpg"
    # One line for each row, and four cells in it, whatever a name holds.
    assert lines[-1] == ""
    assert [line.count("\t") for line in lines[1:-1]] == [3] * 5


def test_a_limit_takes_the_same_images_every_time(table, tmp_path):
    assert export_projector(table, tmp_path / "p", limit=2) == 2
    chosen = np.sort(np.argsort(table.content_hash)[:2])

    features = np.fromfile(tmp_path / "p" / "features.bytes", "float32").reshape(2, -1)
    np.testing.assert_array_equal(features, table.X[chosen])
    assert "tensor_shape: 2\n" in (tmp_path / "p" / "projector_config.pbtxt").read_text()


def test_half_precision_is_written_as_single(store, fill, make_catalog, tmp_path):
    fill(store, n=4, dtype="float16")
    store.write_catalog(make_catalog(4))
    export_projector(store.table(), tmp_path / "p")

    assert os.path.getsize(tmp_path / "p" / "features.bytes") == 4 * 4 * 4


def test_a_limit_below_one_is_refused(table, tmp_path):
    with pytest.raises(StoreError, match="at least 1; found 0"):
        export_projector(table, tmp_path, limit=0)


def test_a_failure_leaves_no_folder(table, tmp_path, monkeypatch):
    def fail(table):
        raise DamagedError("a row is damaged")

    monkeypatch.setattr("featstore.store.packing.projector.feature_blocks", fail)
    with pytest.raises(DamagedError):
        export_projector(table, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made_is_reported(table, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*: not a directory"):
        export_projector(table, tmp_path / "file" / "projector")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_other_files_is_refused_and_left_as_it_is(table, tmp_path, overwrite):
    photos = tmp_path / "photos"
    (photos / "rose").mkdir(parents=True)
    for config in ("", 'embeddings {\n  tensor_path: "other.tsv"\n}\n'):
        (photos / "projector_config.pbtxt").write_text(config)
        with pytest.raises(OutputError, match=r"photos holds rose and no projector .* choose another folder"):
            export_projector(table, photos, overwrite=overwrite)
        assert sorted(os.listdir(photos)) == ["projector_config.pbtxt", "rose"]
        assert (photos / "projector_config.pbtxt").read_text() == config


def test_an_own_projector_is_replaced_when_asked_whatever_else_is_beside_it(table, tmp_path):
    export_projector(table, tmp_path / "p")
    (tmp_path / "p" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists; name another file, or replace it with --force"):
        export_projector(table, tmp_path / "p", limit=2)
    export_projector(table, tmp_path / "p", limit=2, overwrite=True)
    assert os.path.getsize(tmp_path / "p" / "features.bytes") == 2 * 4 * 4
    assert (tmp_path / "p" / "notes.txt").read_text() == "mine"


def test_what_an_interrupted_call_left_is_replaced_when_asked(table, tmp_path):
    export_projector(table, tmp_path / "p")
    (tmp_path / "p" / "projector_config.pbtxt").unlink()
    assert export_projector(table, tmp_path / "p", overwrite=True) == 5

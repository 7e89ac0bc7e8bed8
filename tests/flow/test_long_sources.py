"""Sources of so many images that what is known of them is in files: as those of few, in small blocks."""

import os

import h5py
import numpy as np
import pytest

import featstore
from featstore.errors import SourceError
from featstore.flow import ledger
from featstore.images.sources import records
from featstore.io import long_arrays, texts
from featstore.store import FeatureStore
from pictures import write_broken, write_picture


@pytest.fixture
def photos(tmp_path):
    for number in range(14):
        path = (
            tmp_path
            / "photos"
            / ("dög" if number % 3 else "cat-b" if number % 2 else "cat")
            / f"{number}.png"
        )
        write_picture(path, number % 12)
        os.utime(path, (10**9, 10**9))
    write_broken(tmp_path / "photos" / "cat" / "broken.png")
    return tmp_path / "photos"


def in_files(monkeypatch):
    monkeypatch.setattr(long_arrays, "_MAX_BYTES", 32)
    monkeypatch.setattr(long_arrays.blocks_of, "__defaults__", (3,))
    for module, name in ((texts, "_BLOCK_ROWS"), (records, "_BLOCK_ROWS"), (ledger, "_ROWS_AT_ONCE")):
        monkeypatch.setattr(module, name, 4)


def extracted(source, store):
    report = featstore.extract(source, store, backbone="scattering", image_size=32, catalog="it")
    with h5py.File(os.path.join(store, "catalogs", "it.h5")) as file:
        columns = {name: file[name][:] for name in file if name != "frame_checksum"}
    counts = (
        report.extracted,
        report.reused,
        report.failed,
        report.read,
        report.gone,
        report.emptied_classes,
    )
    return counts, columns


def test_they_have_the_catalogs_of_others(photos, monkeypatch, tmp_path):
    found = []
    for name in ("memory", "files"):
        if name == "files":
            in_files(monkeypatch)
        store = str(tmp_path / f"{name}.fstore")
        stages = [extracted(photos, store), extracted(photos, store)]
        (photos / "cat" / "6.png").rename(tmp_path / "6.png")
        (photos / "dög" / "4.png").rename(photos / "dög" / "four.png")
        stages.append(extracted(photos, store))
        (tmp_path / "6.png").rename(photos / "cat" / "6.png")
        (photos / "dög" / "four.png").rename(photos / "dög" / "4.png")
        found.append([counts for counts, _ in stages])
        for _, columns in stages:
            # The inode and its times are those of renaming.
            del columns["ctime_ns"]
        found[-1].append([{key: value.tolist() for key, value in columns.items()} for _, columns in stages])
        assert [counts[3] for counts, _ in stages] == [15, 0, 1]
        assert stages[2][0][4] == ("cat/6.png",)
        assert len(FeatureStore(store).table()) == 13
    assert found[0] == found[1]


def test_shards_of_them_are_collected(photos, monkeypatch, tmp_path):
    whole = extracted(photos, str(tmp_path / "whole.fstore"))[1]
    in_files(monkeypatch)
    store = str(tmp_path / "shards.fstore")
    for number in (1, 2, 3):
        featstore.extract(
            photos, store, backbone="scattering", image_size=32, catalog="it", shard=(number, 3)
        )
    report = featstore.collect(store, photos, catalog="it")
    assert (report.reused, report.failed, report.lacking) == (14, 1, {})
    with h5py.File(os.path.join(store, "catalogs", "it.h5")) as file:
        assert all(np.array_equal(file[name][:], whole[name]) for name in whole)


def test_a_list_that_names_images_again_is_as_short_as_in_memory(photos, monkeypatch, tmp_path):
    names = sorted(os.path.relpath(path, tmp_path) for path in photos.rglob("*.png"))
    rows = [f"{name},{number % 2}" for number, name in enumerate(names)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *rows, *rows[::2]]), encoding="utf-8")
    expected = featstore.images.open_source(tmp_path / "list.csv").records[:]
    in_files(monkeypatch)
    assert featstore.images.open_source(tmp_path / "list.csv").records == expected
    assert len(expected) == len(names)
    with open(tmp_path / "list.csv", "a", encoding="utf-8") as file:
        file.write(f"\n{names[3]},other")
    with pytest.raises(SourceError, match=r"line 25: .* label 'other' here and '1' on line 5"):
        featstore.images.open_source(tmp_path / "list.csv")

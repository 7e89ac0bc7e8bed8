"""`featstore duplicates` and `suspects` on a store of made-up features."""

import csv
import json
import shlex
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

import featstore
from featstore.backbones.spec import BackboneSpec
from featstore.store import Catalog, FeatureStore
from featstore_cli.main import main


def make_store(path, groups=None):
    """300 images of three classes; 300 … 309 are nearly 0 … 9, 310 has the bytes of 20, and 11 a wrong label."""
    random = np.random.default_rng(0)
    y = np.array(["daisy", "rose", "tulip"])[np.arange(300) % 3]
    centres = 1 + random.normal(size=(3, 128))
    X = np.maximum(centres[np.arange(300) % 3] + random.normal(size=(300, 128)), 0).astype(np.float32)
    X = np.concatenate([X, np.maximum(X[:10] + 0.1 * random.normal(size=(10, 128)), 0)]).astype(np.float32)
    labels = [*y, *y[:10], y[20]]
    labels[11] = "daisy"
    labels[305] = "tulip" if y[5] == "rose" else "rose"
    hashes = random.integers(0, 256, (310, 32), np.uint8)
    store = FeatureStore(path, create=True)
    spec = BackboneSpec(
        architecture="tiny", weights_digest="0" * 64, layer="top", size_px=(8, 8), preprocessing="unit"
    )
    store.create_space(spec, feature_dim=128).append(X, hashes)
    catalog = Catalog(
        name="photos",
        root="/data",
        location="/data",
        paths=[f"{number:03d}.jpg" for number in range(311)],
        labels=labels,
        groups=groups or [None] * 311,
        splits=[None] * 311,
        content_hash=np.concatenate([hashes, hashes[20:21]]),
        sizes=np.zeros(311),
        mtimes_ns=np.zeros(311),
        reasons=[None] * 311,
    )
    store.write_catalog(catalog)
    return store


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_store(tmp_path / "photos.fstore")


def run(line, code=0):
    result = CliRunner().invoke(main, shlex.split(line))
    assert result.exit_code == code, result.output
    return result


def test_duplicates_are_reported_for_programs(store):
    told = json.loads(run("duplicates --json").stdout)
    assert set(told) == {
        *("threshold", "n_images", "n_copies", "n_pairs", "n_pairs_cut", "pairs", "groups", "n_grouped")
    }
    assert (told["n_images"], told["n_copies"], told["n_pairs"], len(told["groups"])) == (311, 1, 10, 11)
    assert told["groups"][0]["label_conflict"]
    assert {image["row"] for image in told["groups"][0]["images"]} == {5, 305}
    assert told["n_grouped"] is None


def test_duplicates_are_printed(store):
    printed = run("duplicates").stdout
    assert "311 images: 11 groups of duplicates with 22 images, at similarity 0.75" in printed
    assert "1 image identical to another" in printed
    assert "1 group with conflicting labels" in printed
    first = next(line for line in printed.splitlines() if line.startswith("1  "))
    assert "labels differ" in first
    assert "/data/005.jpg" in first
    assert "identical" in printed


def test_the_csv_has_a_row_for_each_image_in_a_group(store):
    run("duplicates --csv found.csv")
    with open("found.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 22
    assert {row["path"] for row in rows if row["group"] == "1"} == {"/data/005.jpg", "/data/305.jpg"}
    assert [row["identical"] for row in rows].count("1") == 2


@pytest.mark.parametrize("command", ["duplicates", "suspects"])
def test_a_csv_that_exists_is_replaced_only_when_asked(store, command):
    with open("found.csv", "w") as file:
        file.write("mine")
    assert "--force" in run(f"{command} --csv found.csv", code=1).stderr
    with open("found.csv") as file:
        assert file.read() == "mine"
    run(f"{command} --csv found.csv --force")
    with open("found.csv") as file:
        assert file.readline().count(",") > 3


@pytest.mark.parametrize("command", ["duplicates", "suspects"])
def test_a_csv_in_no_folder_is_refused_before_any_work(store, command):
    assert "nowhere" in run(f"{command} --csv nowhere/found.csv", code=1).stderr


def test_written_groups_never_straddle_a_split_by_group(store):
    assert "20 images recorded in groups" in run("duplicates --write-groups").stdout
    told = json.loads(run("duplicates --split-by group --json").stdout)
    near = [group for group in told["groups"] if not group["identical"]]
    assert len(near) == 10
    assert not any(group["straddles_splits"] for group in near)
    told = json.loads(run("fit --split-by group --param C=0.1 --json -q").stdout)
    assert told["split_rule"]["by"] == "group"
    assert told["near_duplicates"]["n_test"] == 0


def test_the_users_own_groups_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    groups = [f"plant {number // 4}" for number in range(311)]
    store = make_store(tmp_path / "photos.fstore", groups)
    run("duplicates --write-groups")
    assert list(store.catalog().groups) == groups
    table = featstore.FeatureStore(store.path).table()
    assert table.groups[300] == table.groups[0] == table.groups[1] == "plant 0"


def test_a_higher_threshold_finds_fewer(store):
    told = json.loads(run("duplicates --threshold 1 --json").stdout)
    assert (told["n_pairs"], len(told["groups"])) == (0, 1)


@pytest.mark.parametrize("unfit", ["0", "1.5", "much"])
def test_a_threshold_out_of_its_range_is_wrong_usage(store, unfit):
    assert "--threshold" in run(f"duplicates --threshold {unfit}", code=2).stderr


def test_fit_says_what_it_scores_without_near_duplicates(store):
    result = run("fit --test 0.5 --param C=0.1 -q")
    printed = result.stdout
    assert "`featstore duplicates --write-groups`, then `featstore fit --split-by group`" in result.stderr
    told = json.loads(run("fit --test 0.5 --param C=0.1 -q --json").stdout)["near_duplicates"]
    assert told["n_test"] > 0
    assert (
        f"{told['n_test']} test images have near-duplicates in train; accuracy excluding such images: "
        in printed
    )
    assert f"n = {told['n_without']})" in printed
    assert "WARNING" not in result.stderr
    assert featstore.Head.load(store.head_path("logistic")).near_duplicates == told


def test_fit_does_not_look_for_leakage_where_it_is_not_to(store):
    result = run("fit --test 0.5 --param C=0.1 -q --no-leakage")
    assert "near-duplicate" not in result.stdout + result.stderr
    assert featstore.Head.load(store.head_path("logistic")).near_duplicates == {}


def test_suspects_are_reported_for_programs(store):
    told = json.loads(run("suspects --json").stdout)
    assert set(told) == {"head", "params", "folds", "n_images", "n_unjudged", "top1", "suspects"}
    assert {11, 305} <= {suspect["row"] for suspect in told["suspects"][:3]}
    assert told["folds"] == 10


def test_paths_that_lead_nowhere_are_marked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    opened = make_store(tmp_path / "photos.fstore")
    opened.write_catalog(replace(opened.catalog(), root=str(tmp_path / "photos")))
    (tmp_path / "photos" / "011.jpg").write_bytes(b"")
    run("fit --param C=0.1 -q")
    for command in ("suspects", "evaluate logistic --split train", "duplicates"):
        lines = [line for line in run(command).stdout.splitlines() if ".jpg" in line]
        assert lines
        for line in lines:
            assert ("(no longer there)" in line) != ("011.jpg" in line)
    for command, key in (("suspects", "suspects"), ("evaluate logistic --split all", "misclassified")):
        for image in json.loads(run(f"{command} --json").stdout)[key]:
            assert image["exists"] == image["path"].endswith("011.jpg")


def test_suspects_are_printed_and_written_as_csv(store):
    printed = run("suspects --top 1 --folds 5 --csv found.csv").stdout
    with open("found.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["path"] in printed
    assert rows[1]["path"] not in printed
    assert f"{len(rows)} suspects" in printed
    assert f"and {len(rows) - 1} more" in printed


def test_suspects_of_an_unknown_head_name_those_that_there_are(store):
    assert "logistic" in run("suspects --head forest", code=1).stderr

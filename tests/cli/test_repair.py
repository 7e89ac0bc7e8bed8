import json
import os

import numpy as np
import pytest
from click.testing import CliRunner

from featstore.backbones.spec import BackboneSpec
from featstore.store import Catalog, FeatureStore
from featstore_cli.main import main

N_IMAGES = 30


@pytest.fixture
def store(tmp_path):
    """Thirty labelled images of three classes that are easily told apart."""
    store = FeatureStore(tmp_path / "a.fstore", create=True)
    spec = BackboneSpec(
        architecture="tiny", weights_digest="0" * 64, layer="top", size_px=(8, 8), preprocessing="unit"
    )
    hashes = np.random.default_rng(0).integers(0, 256, (N_IMAGES, 32)).astype(np.uint8)
    labels = [("daisy", "rose", "tulip")[number % 3] for number in range(N_IMAGES)]
    features = np.eye(3, dtype=np.float32)[np.arange(N_IMAGES) % 3] + np.arange(N_IMAGES)[:, None] / 100
    store.create_space(spec, feature_dim=3).append(features.astype(np.float32), hashes)
    none = [None] * N_IMAGES
    store.write_catalog(
        Catalog(
            name="photos",
            root="/data/photos",
            location="/data/photos",
            paths=[f"{number}.jpg" for number in range(N_IMAGES)],
            labels=labels,
            groups=none,
            splits=[("train", "train", "validation", "test")[number // 3 % 4] for number in range(N_IMAGES)],
            content_hash=hashes,
            sizes=np.arange(N_IMAGES),
            mtimes_ns=np.arange(N_IMAGES),
            reasons=none,
        )
    )
    return store


@pytest.fixture
def damaged(store):
    """The same with one feature of the fifth image changed."""
    [segment] = store.space().segments
    with open(segment.path, "rb+") as file:
        file.seek(segment.offsets[0] + 12 * 4 + 2)
        file.write(b"\x41")
    return store


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_repair_says_what_to_extract_again_and_leaves_a_sound_store(damaged):
    before = run("verify", damaged.path, "--quiet")
    assert before.exit_code == 1
    assert "featstore verify --repair" in before.output
    repaired = run("verify", damaged.path, "--repair", "--quiet")
    assert repaired.exit_code == 0
    assert "29 rows of these kept, 1 row damaged" in repaired.output
    assert "extract again: 1 image of /data/photos (catalog photos) for tiny-" in repaired.output
    assert "the store is intact" in repaired.output
    after = run("verify", damaged.path, "--quiet")
    assert after.exit_code == 0
    assert "1 segment, 29 rows: all right" in after.output
    assert "1 damaged file set aside by earlier repairs" in after.output


def test_repair_reports_the_same_as_json(damaged):
    told = json.loads(run("verify", damaged.path, "--repair", "--quiet", "--json").output)
    assert (told["rescued"], told["lost"], told["remaining"]) == (29, 1, [])
    assert [one["images"] for one in told["missing"]] == [1]
    assert os.path.exists(told["set_aside"][0]["to"])


@pytest.mark.parametrize(
    "command",
    [
        ("fit", "STORE", "--head", "centroid"),
        ("curve", "STORE", "--head", "centroid", "--repeats", "1", "--fractions", "1/2"),
        ("duplicates", "STORE"),
        ("suspects", "STORE", "--head", "centroid", "--folds", "2"),
        ("pack", "STORE", "PACK"),
        ("projector", "STORE", "FOLDER"),
        ("evaluate", "centroid", "--store", "STORE", "--split", "all"),
        ("compare", "centroid", "other", "--store", "STORE", "--split", "validation"),
    ],
    ids=lambda command: command[0],
)
def test_verify_reads_refuses_a_wrong_row_in_every_command_that_reads(command, store, tmp_path):
    if command[0] in ("evaluate", "compare"):
        for name in ("centroid", "other"):
            assert (
                run("fit", store.path, "--head", "centroid", "--no-refit", "-o", name, "--quiet").exit_code
                == 0
            )
    places = {"STORE": store.path, "PACK": tmp_path / "pack.h5", "FOLDER": tmp_path / "folder"}
    [segment] = store.space().segments
    with open(segment.path, "rb+") as file:
        # One bit of every row, whichever of them the command reads.
        for row in range(N_IMAGES):
            file.seek(segment.offsets[0] + 12 * row)
            byte = file.read(1)[0]
            file.seek(segment.offsets[0] + 12 * row)
            file.write(bytes([byte ^ 1]))
    given = [places.get(word, word) for word in command]
    assert run(*given, *(["--force"] if command[0] in ("pack", "projector") else [])).exit_code == 0
    checked = run(*given, "--verify-reads", *(["--force"] if command[0] in ("pack", "projector") else []))
    assert checked.exit_code == 1
    assert "do not agree with their checksums" in checked.output


def test_a_pickle_for_a_head_is_refused_with_the_reason(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "head.pkl").write_bytes(b"\x80\x04N.")
    refused = run("evaluate", "head.pkl", "--store", store.path)
    assert refused.exit_code == 1
    assert "is a pickle" in refused.output

"""`featstore export` on a tiny network and photos of one's own."""

import json
import shlex
import shutil

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import featstore
from featstore.export import FORMATS
from featstore_cli.main import main


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    keras.utils.set_random_seed(3)
    inputs = keras.Input((16, 16, 3))
    maps = keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="maps")(inputs)
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D(name="pooled")(maps)).save(folder / "tiny.keras")
    random = np.random.default_rng(0)
    for number in range(60):
        path = folder / "land" / ("fen", "moor")[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.normal(90 + 60 * (number % 2), 40, (20, 20, 3))
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    store = folder / "land.fstore"
    featstore.extract(folder / "land", store, backbone=str(folder / "tiny.keras"), preprocessing="unit")
    opened = featstore.FeatureStore(store)
    featstore.fit(opened.table(), head="ridge", reject=0.6).save(opened.head_path("ridge"))
    return folder


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """A folder with the store alone; the photos and the network are elsewhere."""
    shutil.copytree(made / "land.fstore", tmp_path / "land.fstore")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line, code=0):
    result = CliRunner().invoke(main, shlex.split(line))
    assert result.exit_code == code, result.output
    return result


def test_it_says_what_was_written_and_how_it_was_verified(place):
    told = run("export ridge out --format keras").stdout.splitlines()
    n_test = featstore.Head.load("land.fstore/heads/ridge.head").test["n"]
    assert told[0].startswith("model     out/model.keras, 0.0 MB in 1 file")
    assert told[1] == "input     images: uint8 (n, 16, 16, 3), RGB; images of other shapes: stretch"
    assert told[2] == "output    probabilities: float32 (n, 2)"
    assert told[3] == "unknown   where no probability reaches 0.6"
    assert told[4].startswith(f"verified  on {n_test} test photos: probabilities differ by at most ")
    assert "100.0% have the same label" in told[4]


def test_json_has_the_keys_of_the_description_and_path_and_bytes(place):
    told = json.loads(run("export ridge out --format keras --json").stdout)
    assert told["path"] == str(place / "out")
    assert told["bytes"] == (place / "out" / "model.keras").stat().st_size
    described = json.loads((place / "out" / "model.json").read_text())
    assert {key: told[key] for key in described} == described
    assert set(told) == {
        *("path", "bytes", "format", "format_version", "runtime", "file", "files", "classes", "spec"),
        *("test_views", "rejects_below", "quantization", "head", "verification", "created", "versions"),
        *("size_px", "resize", "fingerprint", "input", "output"),
    }


def test_a_head_without_its_store_is_exported_unverified(place, made):
    shutil.move("land.fstore/heads/ridge.head", "ridge.head")
    shutil.rmtree("land.fstore")
    result = run("export ridge.head out --format keras")
    assert "verified  no: the features that the head was fitted on were not at hand" in result.stdout
    assert "no store given" in result.stderr


def test_a_store_that_was_named_has_to_be_there(place):
    shutil.move("land.fstore/heads/ridge.head", "ridge.head")
    result = run("export ridge.head out --store elsewhere.fstore", code=1)
    assert "elsewhere.fstore" in result.stderr
    assert not (place / "out").exists()


def test_it_need_not_be_verified(place):
    assert "verified  no: it was not requested" in run("export ridge out --format keras --no-verify").stdout


def test_what_is_there_is_replaced_by_force_alone(place):
    run("export ridge out --format keras --no-verify")
    assert "--force" in run("export ridge out --format keras --no-verify", code=1).stderr
    run("export ridge out --format keras --no-verify --force")


def test_an_unknown_format_is_wrong_usage(place):
    told = run("export ridge out --format abacus", code=2).stderr
    assert ", ".join(map(repr, FORMATS)) in " ".join(told.split())


def test_moved_weights_are_named_by_an_option(place, made):
    fitted = featstore.Head.load("land.fstore/heads/ridge.head")
    object.__setattr__(fitted, "weights", "/nowhere/tiny.keras")
    fitted.save("moved.head")
    assert "--weights" in run("export moved.head out --store land.fstore", code=1).stderr
    run(f"export moved.head out --store land.fstore --format keras --weights {made / 'tiny.keras'}")

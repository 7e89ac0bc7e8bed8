"""`featstore predict` and `featstore export` with heads of several views, and of several spaces."""

import json
import shlex
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import featstore
from featstore_cli.main import main


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Photos, a tiny network, and a store with a head of two views, one of three and one of two networks."""
    folder = tmp_path_factory.mktemp("made")
    keras.utils.set_random_seed(3)
    inputs = keras.Input((16, 16, 3))
    maps = keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="maps")(inputs)
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D(name="pooled")(maps)).save(folder / "tiny.keras")
    random = np.random.default_rng(0)
    for number in range(60):
        path = folder / "land" / ("fen", "moor")[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.normal(90 + 60 * (number % 2), 60, (20, 20, 3))
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    store = featstore.FeatureStore(folder / "land.fstore", create=True)
    own = {"backbone": folder / "tiny.keras", "preprocessing": "unit"}
    spaces = {
        "flips": featstore.extract(
            folder / "land", store, **own, views=featstore.ViewRecipe(flip=True), n_views=2
        ).space,
        "crops": featstore.extract(
            folder / "land", store, **own, views=featstore.ViewRecipe(random_crop=30), n_views=3
        ).space,
        "maxima": featstore.extract(folder / "land", store, **own, layer="maps", pooling="max").space,
    }
    fitted = {name: featstore.fit(store.table(space=space), head="ridge") for name, space in spaces.items()}
    replace(fitted["flips"], test_views=2).save(store.head_path("flips"))
    replace(fitted["crops"], test_views=3).save(store.head_path("crops"))
    both = store.table(space=[spaces["maxima"], spaces["flips"]])
    featstore.fit(both, head="ridge").save(store.head_path("both"))
    return folder


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """A folder with the store and the photos; the network is elsewhere."""
    shutil.copytree(made / "land.fstore", tmp_path / "land.fstore")
    shutil.copytree(made / "land", tmp_path / "land")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line, code=0):
    result = CliRunner().invoke(main, shlex.split(line))
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize("name", ["flips", "crops", "both"])
def test_a_head_remembers_what_it_looks_at(place, name):
    computed = json.loads(run(f"predict {name} land/fen --json").stdout)
    stored = run(f"predict {name} land/fen --json --store land.fstore")
    assert "the features of 30 reused" in stored.stderr
    for one, other in zip(computed, json.loads(stored.stdout), strict=True):
        assert one["label"] == other["label"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)


def test_an_image_that_cannot_be_used_is_one_failure(place):
    (place / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for name in ("crops", "both"):
        result = run(f"predict {name} land/moor/01.png broken.png --labels-only")
        assert result.stdout.splitlines()[1] == ""
        assert result.stderr.count("broken.png: ") == 1


def test_an_exported_model_takes_the_place_of_its_head(place):
    for name in ("flips", "both"):
        told = run(f"export {name} out-{name} --format keras").stdout
        assert "100.0% have the same label" in told
        assert ("views     2: probabilities are averaged over the image and its mirror image" in told) == (
            name == "flips"
        )
        of_head = run(f"predict {name} land/fen --labels-only").stdout
        assert run(f"predict out-{name} land/fen --labels-only").stdout == of_head


def test_views_that_a_model_cannot_draw_are_left_out_when_that_is_asked_for(place):
    told = run("export crops out --format keras", code=1).stderr
    assert "random_crop 30%" in told
    assert "--test-views 1" in told
    assert not (place / "out").exists()
    told = run("export crops out --format keras --test-views 1").stdout
    assert "views     1: the image itself, while the head averages over 3" in told
    assert "verified  on" in told
    assert json.loads((place / "out" / "model.json").read_text())["test_views"] == 1


def test_weights_of_several_networks_are_given_for_all_or_in_order(place, made):
    head = featstore.Head.load("land.fstore/heads/both.head")
    replace(head, weights=("/nowhere/tiny.keras",) * 2).save("land.fstore/heads/moved.head")
    moved = "export moved out --format keras --no-verify --force"
    assert f"It is about {head.spec.parts[0].name}, one of 2 backbones" in run(moved, code=1).stderr
    weights = f" --weights {made / 'tiny.keras'}"
    run(moved + weights)
    run(moved + 2 * weights)
    told = run("predict moved land/fen/00.png" + 3 * weights, code=1).stderr
    assert "3 weights files are given, for 2 backbones" in told
    assert run("predict moved land/fen/00.png" + 2 * weights).stdout

"""`featstore import-head` on a small network of one's own, and its example on real weights."""

import json
import shlex
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import featstore
from featstore_cli.main import main

TOP = Path(__file__).resolve().parents[3] / "shared" / "data" / "weights" / "mobilenet_v2_1.0_224.h5"

NETWORK = "--backbone land.keras --layer pooled --preprocess unit"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    keras.utils.set_random_seed(5)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(inputs)
    keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x)).save(folder / "land.keras")
    (folder / "names.txt").write_text("moor\nfen\n")
    random = np.random.default_rng(0)
    for number in range(40):
        path = folder / "land" / ("fen", "moor")[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    featstore.extract(
        folder / "land",
        folder / "land.fstore",
        backbone=str(folder / "land.keras"),
        layer="pooled",
        preprocessing="unit",
    )
    return folder


@pytest.fixture
def run(made, monkeypatch):
    monkeypatch.chdir(made)

    def invoke(line, code=0):
        result = CliRunner().invoke(main, shlex.split(line))
        assert result.exit_code == code, result.output
        return result

    return invoke


def test_it_says_what_it_made_and_evaluate_takes_it(run):
    result = run(f"import-head {NETWORK} --classes names.txt")
    head = featstore.Head.load("land.fstore/heads/imported.head")
    assert result.stdout.splitlines() == [
        "classes  2: fen, moor",
        f"space    {head.spec.name}",
        "head     land.fstore/heads/imported.head",
    ]
    assert result.stderr == ""
    told = json.loads(run("evaluate imported --json").stdout)
    assert (told["split"], told["n"], told["baseline"]["n"]) == ("all", 40, 40)
    assert told["baseline"]["top1"] == 0.5


def test_compare_export_and_predict_take_it(run, tmp_path):
    run(f"import-head {NETWORK} --classes names.txt -o own")
    run("fit --head ridge")
    assert json.loads(run("compare own ridge --json").stdout)["heads"][0]["head"] == "imported"
    assert "verified  on " in run(f"export own {tmp_path}/model --format keras").stdout
    assert run("predict own land/fen/00.png --top 2").stdout.startswith("land/fen/00.png\t")


def test_json_has_the_keys_of_the_head_and_its_path(run, tmp_path):
    told = json.loads(run(f"import-head {NETWORK} --classes names.txt -o {tmp_path}/a.head --json").stdout)
    head = featstore.Head.load(tmp_path / "a.head")
    assert told == {**head.to_dict(), "path": str(tmp_path / "a.head")}


def test_a_store_without_such_features_is_named(run):
    result = run(f"import-head {NETWORK} --resize crop --classes names.txt -o cropped")
    assert "land.fstore has no features of land-" in result.stderr
    assert "use the same backbone options for import-head and extract" in result.stderr


def test_a_space_of_views_is_met_by_the_same_options(run, tmp_path):
    recipe = "--flip --random-crop 10"
    store = f"--store {tmp_path}/views.fstore"
    run(f"extract land {NETWORK} --views 2 {recipe} {store}")
    result = run(f"import-head {NETWORK} {recipe} --classes names.txt {store}")
    assert result.stderr == ""
    assert json.loads(run(f"evaluate imported {store} --catalog land --json").stdout)["n"] == 40


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        (NETWORK, 1, "has 2 classes, but ImageNet has 1,000: name them with --classes FILE"),
        (f"{NETWORK} --classes nowhere.txt", 1, "nowhere.txt"),
        (f"{NETWORK} --classes names.txt -o nowhere/a.head", 1, "there is no folder"),
        ("--backbone land.keras --preprocess unit --classes names.txt", 1, "cut at --layer pooled"),
        ("--backbone land.keras --classes names.txt", 1, "--preprocess"),
        ("--backbone mobilenet_v4", 1, "mobilenet_v2"),
        ("--weights names.txt", 1, "names.txt"),
        ("--backbone scattering", 1, "scattering is a formula and has no classifier"),
    ],
)
def test_a_mistake_is_one_clear_line(line, code, says, run):
    result = run(f"import-head {line}", code=code)
    assert result.stdout == ""
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert says in last


@pytest.mark.skipif(not TOP.exists(), reason="needs the real weights beside the checkout")
def test_the_example_of_the_help_works_with_the_weights_at_hand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    example = runner.invoke(main, ["import-head", "--help"]).stdout.rstrip().splitlines()[-1]
    done = runner.invoke(main, [*shlex.split(example)[1:], "--weights", str(TOP)])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("classes  1,000: Afghan_hound, ")
    assert featstore.Head.load("imagenet.head").name == "imported"

"""Hierarchies of classes, from fit to predictions."""

import json
import shlex

import pytest
from click.testing import CliRunner

import featstore
from featstore_cli.main import main


@pytest.fixture
def run(small_demo, monkeypatch):
    monkeypatch.chdir(small_demo)
    rows = [f"{digit},{'round' if digit in (0, 6, 8, 9) else 'angular'}" for digit in range(10)]
    (small_demo / "parents.csv").write_text(
        "\n".join(["class,parent", *rows, "round,digit", "angular,digit"])
    )

    def invoke(line, code=0):
        result = CliRunner().invoke(main, shlex.split(line))
        assert result.exit_code == code, result.output
        return result

    return invoke


def test_levels_are_scored_and_predictions_back_off(run, small_demo):
    told = json.loads(
        run("fit digits.fstore --head ridge --hierarchy parents.csv --output tree --json").stdout
    )
    assert told["parents"]["0"] == "round"
    scores = json.loads(run("evaluate tree --store digits.fstore --json").stdout)
    assert [one["classes"] for one in scores["levels"]] == [1, 2, 10]
    assert scores["levels"][2]["top1"] == scores["top1"] <= scores["levels"][1]["top1"]
    assert scores["levels"][0]["top1"] == 1
    shown = run("evaluate tree --store digits.fstore").stdout
    assert "level  classes  accuracy" in shown
    folds = json.loads(run("evaluate tree --store digits.fstore --folds 3 --json").stdout)
    assert [one["classes"] for one in folds["levels"]] == [1, 2, 10]

    images = "digits --store digits.fstore"
    plain = [json.loads(line) for line in run(f"predict tree {images} --format jsonl").stdout.splitlines()]
    lines = run(f"predict tree {images} --format jsonl --back-off 0.999").stdout.splitlines()
    backed = [json.loads(line) for line in lines]
    assert {one["label"] for one in backed} & {"round", "angular", "digit"}
    for one, other in zip(plain, backed, strict=True):
        assert other["probability"] >= 0.999 - 1e-5
        assert (one["probability"] >= 0.999) == (one["label"] == other["label"])
        assert one["top"] == other["top"]
    rows = run(f"predict tree {images} --back-off 0.999").stdout.splitlines()
    for one, row in zip(backed, rows, strict=True):
        assert row.split("\t")[1].startswith(f"{one['label']} {one['probability']:.4f}")
    assert featstore.load_head(small_demo / "digits.fstore/heads/tree.head").parents == told["parents"]


def test_exported_models_back_off_too(run, small_demo):
    run("fit digits.fstore --head ridge --hierarchy parents.csv --output tree")
    run("export tree made --format openvino --no-verify --store digits.fstore")
    image = "digits/0/0000.png"
    of_head, of_model = (
        json.loads(run(f"predict {model} {image} --json --back-off 0.99").stdout)[0]
        for model in ("digits.fstore/heads/tree.head", "made")
    )
    assert of_head["label"] == of_model["label"]
    card = (small_demo / "made/model_card.md").read_text()
    assert "## Hierarchy" in card
    assert "- digit > round > 0" in card


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("fit digits.fstore --hierarchy nothing.csv", 1, "there is no file nothing.csv"),
        ("fit digits.fstore --hierarchy /", 1, "none of the classes 0, 1, 2"),
        ("predict logistic digits/0/0000.png --store digits.fstore --back-off 0.9", 1, "has no hierarchy"),
        ("predict logistic digits/0/0000.png --store digits.fstore --back-off 1", 2, "Invalid value"),
        (
            "predict logistic digits/0/0000.png --store digits.fstore --back-off 0.9 --reject 0.5",
            2,
            "leave out --top, --reject and --coverage",
        ),
    ],
)
def test_mistakes_are_said(run, line, code, words):
    assert words in run(line, code).stderr

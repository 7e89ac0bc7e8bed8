"""`featstore next`, from nothing labelled to labels that are taken in."""

import csv
import json
import os
import shlex

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import featstore
from fakes import CountingBackbone
from featstore_cli.main import main


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command line beside forty pictures without labels, half of them bright."""
    random = np.random.default_rng(0)
    os.mkdir(tmp_path / "inbox")
    for number in range(40):
        pixels = random.integers(130 * (number % 2), 130 * (number % 2) + 126, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"inbox/{number:02}.png")
    monkeypatch.chdir(tmp_path)
    extract("inbox")

    def invoke(line, code=0):
        result = CliRunner().invoke(main, shlex.split(line))
        assert result.exit_code == code, result.output
        return result

    return invoke


def extract(source):
    featstore.extract(source, "inbox.fstore", backbone=CountingBackbone())


def fill_in(path):
    """Label the images of a list as a person would."""
    with open(path, encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    for row in rows:
        row[header.index("label")] = ["dark", "bright"][int(row[0][-6:-4]) % 2]
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def test_labels_that_are_filled_in_count_in_the_next_choice(run):
    told = json.loads(run("next 8 -o first.csv --json").stdout)
    assert (told["by"], told["n_labelled"], told["n_unlabelled"]) == ("diverse", 0, 40)
    assert [image["exists"] for image in told["images"]] == [True] * 8
    assert "--force" in run("next 8 -o first.csv", code=1).stderr
    assert "is an input" in run("next 8 -o inbox/00.png --force", code=1).stderr
    fill_in("first.csv")
    extract("first.csv")
    line = "next 5 --catalog inbox --catalog first"
    again = json.loads(run(f"{line} --json").stdout)
    assert (again["by"], again["head"]) == ("margin", "logistic")
    assert (again["n_labelled"], again["n_unlabelled"]) == (8, 32)
    chosen = {image["content_hash"] for image in told["images"]}
    assert chosen.isdisjoint(image["content_hash"] for image in again["images"])
    title, blank, header, first, *_ = run(line).stdout.splitlines()
    assert title == "5 images of 32 without a label, by margin, logistic; 8 labelled"
    assert (blank, header.split()) == ("", ["image", "suggested", "probability", "margin"])
    assert first.split()[:2] == [os.path.relpath(again["images"][0]["path"]), again["images"][0]["suggested"]]


def test_where_all_have_labels_there_is_nothing_to_choose(run):
    run("next 40 -o first.csv")
    fill_in("first.csv")
    extract("first.csv")
    said = run("next 5 --catalog inbox --catalog first").stdout
    assert said == "nothing to choose from: 40 images, all with a label\n"


def test_a_choice_by_margin_needs_labels(run):
    assert "begin with --by diverse" in run("next 5 --by margin", code=1).stderr

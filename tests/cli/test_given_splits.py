"""Splits that people bring, through the command line."""

import json
import shlex

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from featstore_cli.main import main

EXTRACT = "extract photos --backbone scattering --image-size 32 -q"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """60 photos, dark cats and bright dogs, three of each plant; an official list of each split."""
    folder = tmp_path_factory.mktemp("given")
    random = np.random.default_rng(0)
    names = []
    for number in range(60):
        name = f"{'dog' if number % 2 else 'cat'}/plant{number // 6}_{number}"
        path = folder / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 100, (32, 32, 3)) + 150 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        names.append(name)
    (folder / "train.txt").write_text("\n".join(names[:42]))
    (folder / "test.txt").write_text("\r\n".join(names[42:]))
    return folder


@pytest.fixture
def run(folder, monkeypatch):
    monkeypatch.chdir(folder)

    def invoke(line, code=0):
        result = CliRunner().invoke(main, shlex.split(line))
        assert result.exit_code == code, result.output
        return result

    return invoke


@pytest.fixture
def listed(run):
    return run(f"{EXTRACT} --train-list train.txt --test-list test.txt")


def test_official_lists_reach_the_head(run, listed):
    assert "splits   given: 42 train, 18 test\n" in listed.stdout
    assert "  given splits: 42 train, 18 test\n" in run("info").stdout
    told = json.loads(run("fit --validation 0.3 --json").stdout)
    assert told["n_test"] == 18
    assert told["n_train"] + told["n_validation"] == 42
    assert told["n_validation"] > 0
    assert json.loads(run("evaluate logistic --json").stdout)["n"] == 18


def test_images_in_no_list_are_counted(run):
    told = run(f"{EXTRACT} --test-list test.txt").stdout
    assert "splits   given: 18 test; 42 images split by the rule of fit\n" in told
    assert "given splits: 18 test; 42 images split by the rule\n" in run("info").stdout


def test_without_lists_nothing_is_said_of_splits(run):
    assert "splits" not in run(EXTRACT).stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--train-list nowhere.txt", "nowhere.txt"),
        ("--train-list train.txt --test-list train.txt", "42 images in common"),
        ("--train-list photos", "a folder, not a regular file"),
    ],
)
def test_a_list_that_does_not_fit_is_one_clear_line(run, options, says):
    result = run(f"{EXTRACT} {options}", code=1)
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert says in result.stderr


def test_fit_keeps_together_what_a_pattern_finds(run):
    run(EXTRACT)
    told = json.loads(
        run(
            "fit --split-by pattern --group-pattern '(plant[0-9]+)_' --validation 0.2 --test 0.3 --json"
        ).stdout
    )
    assert all(sum(split.values()) % 6 == 0 for split in told["counts"].values())


def test_fit_refuses_lists_that_tear_a_group_apart(run, folder):
    names = [
        path.relative_to(folder / "photos").as_posix()
        for path in sorted((folder / "photos").glob("*/plant3_*"))
    ]
    (folder / "some.txt").write_text("\n".join(names[:2]))
    (folder / "others.txt").write_text("\n".join(names[2:]))
    run(f"{EXTRACT} --train-list some.txt --test-list others.txt")
    result = run("fit --split-by pattern --group-pattern plant[0-9]+", code=1)
    assert "'plant3' (2 in train, 4 in test)" in result.stderr.splitlines()[-1]


def test_fit_deals_as_retrain_py_did_and_says_what_it_needs(run):
    run(EXTRACT)
    assert "--retrain-prefix" in run("fit --split-by retrain --param C=1").stderr
    result = run("fit --split-by retrain --retrain-prefix photos --param C=1 --json")
    assert "--retrain-prefix" not in result.stderr
    assert sum(map(json.loads(result.stdout).get, ("n_train", "n_validation", "n_test"))) == 60


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--split-by pattern", "needs a regular expression"),
        ("--split-by pattern --group-pattern '('", "is not a valid regular expression"),
        ("--split-by pattern --group-pattern zebra", "matches none of the 60 paths"),
        ("--group-pattern a", "with a split by content"),
        ("--retrain-prefix a", "with a split by content"),
        ("--split-by retrain --salt a", "has no salt"),
        ("--split-by group", "no image has one"),
    ],
)
def test_a_rule_that_does_not_fit_is_one_clear_line(run, options, says):
    run(EXTRACT)
    result = run(f"fit {options}", code=1)
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert says in result.stderr.splitlines()[-1]


def test_a_list_of_kaggle_and_its_mistakes(run, folder):
    names = sorted(path.stem for path in (folder / "photos" / "cat").glob("*.png"))
    (folder / "labels.csv").write_text(
        "id,breed\n" + "".join(f"{name},b{number % 2}\n" for number, name in enumerate(names))
    )
    extract = "extract labels.csv --backbone scattering --image-size 32 -q --store kaggle.fstore"
    assert "ids with path_column" in run(extract, code=1).output
    named = "--path-column id --label-column breed --suffix .png"
    assert "no such file" in run(f"{extract} {named}", code=1).output
    told = json.loads(run(f"{extract} {named} --image-root photos/cat --json").stdout)
    assert (told["catalog"], told["images"], told["failed"]) == ("labels", 30, 0)
    assert "b1" in run("info kaggle.fstore").stdout
    assert run(f"collect kaggle.fstore labels.csv {named} --image-root photos/cat", code=1).output.startswith(
        "Error: no shard"
    )

"""Training and scoring on several views, and on several spaces, on the command line."""

import json
import shlex
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import featstore
from fakes import CountingBackbone
from featstore_cli.main import main

RECIPE = featstore.ViewRecipe(flip=True, random_crop=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a store of 90 small pictures: two spaces with views, of 24 and 32 features, one without."""
    folder = tmp_path_factory.mktemp("views")
    generator = np.random.default_rng(0)
    for number in range(90):
        place = folder / "photos" / ("dark", "grey", "bright")[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 160, (24, 24, 3)) + 45 * (number % 3)
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number:02d}.png")
    for dim, n_views in ((24, 3), (32, 3), (16, 1)):
        backbone = CountingBackbone(seed=dim, feature_dim=dim)
        backbone.spec = replace(backbone.spec, views=RECIPE if n_views > 1 else None)
        featstore.extract(folder / "photos", folder / "photos.fstore", backbone=backbone, n_views=n_views)
    return folder


@pytest.fixture
def run(folder, monkeypatch):
    monkeypatch.chdir(folder)

    def invoke(line, code=0):
        result = CliRunner().invoke(main, shlex.split(line))
        assert result.exit_code == code, result.output
        return result

    return invoke


@pytest.fixture(scope="module")
def spaces(folder):
    store = featstore.FeatureStore(folder / "photos.fstore")
    return {store.space(name).feature_dim: name for name in store.space_names}


def test_fit_trains_on_views_and_counts_images(run, spaces):
    line = f"fit --head ridge --space {spaces[24]} --views train=3,test=2 -o views.head --force"
    told = json.loads(run(f"{line} --json").stdout)
    assert (told["train_views"], told["test_views"]) == (3, 2)
    assert told["n_train"] + told["n_validation"] + told["n_test"] == 90
    printed = run(line)
    assert "trained on 3 views of each image; predictions are averaged over 2 views" in printed.stdout
    assert "views of each image" not in printed.stderr


@pytest.mark.parametrize(
    ("options", "views"),
    [
        ("--test-views 3", (1, 3)),
        ("--views test=3", (1, 3)),
        ("--views train=2", (2, 1)),
        ("--views train=2 --test-views 3", (2, 3)),
        ("--views train=2,test=3 --test-views 3", (2, 3)),
        ("", (1, 1)),
    ],
)
def test_both_ways_to_ask_for_views(run, spaces, options, views):
    told = run(f"fit --head centroid --space {spaces[24]} {options} -o some.head --force --json").stdout
    assert (json.loads(told)["train_views"], json.loads(told)["test_views"]) == views


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--views test=2 --test-views 3", "--views test=2 and --test-views 3 contradict"),
        ("--views 8", "not of the form train=N,test=N"),
        ("--views train=0", "not of the form"),
        ("--views train=2,train=3", "not of the form"),
        ("--views validation=2", "not of the form"),
        ("--test-views 0", "x>=1"),
    ],
)
def test_what_is_no_number_of_views_is_refused(run, options, message):
    assert message in run(f"fit {options}", code=2).stderr


def test_unused_views_are_noted(run, spaces):
    said = run(f"fit --head centroid --space {spaces[24]} -o some.head --force").stderr
    assert "the store has 3 views of each image, of which only the first, the image itself, is used" in said
    assert "--test-views 3" in said
    for options in (f"--space {spaces[24]} --views train=1", f"--space {spaces[16]}"):
        assert "views" not in run(f"fit --head centroid {options} -o some.head --force").stderr


def test_views_that_are_not_there_are_reported_with_the_command(run, spaces):
    said = run(f"fit --space {spaces[16]} --test-views 8", code=1).stderr
    assert "has only the images themselves; run featstore extract on them with --views 8" in said
    said = run(f"fit --space {spaces[24]} --views train=4", code=1).stderr
    assert "90 of 90 images lack some of their views 0 to 3" in said
    assert "--views 4 --flip --random-crop 20" in said


def test_evaluate_judges_by_the_views_of_the_head(run, spaces):
    run(f"fit --head ridge --param alpha=1 --space {spaces[24]} --test-views 3 -o three.head --force")
    told = json.loads(run("evaluate three.head --store photos.fstore --split all --json").stdout)
    head = featstore.Head.load("three.head")
    table = featstore.FeatureStore("photos.fstore").table(spaces[24])
    X = table.with_views(3).X.reshape(90, 3, -1)
    assert told["test_views"] == 3
    is_held_out = ~head.was_fitted_on(table)
    assert told["top1"] == np.mean((head.predict(X) == table.y)[is_held_out])
    printed = run("evaluate three.head --store photos.fstore --split all").stdout
    assert "predictions are averaged over 3 views of each image" in printed


def test_spaces_are_joined_and_found_again(run, spaces):
    both = f"--space {spaces[24][:-4]} --space {spaces[16]}"
    told = json.loads(run(f"fit --head ridge {both} -o heads-of-two.head --force --json").stdout)
    assert told["space"] == f"{spaces[24]}+{spaces[16]}"
    assert [part["architecture"] for part in told["spec"]["parts"]] == ["fake24", "fake16"]
    scores = json.loads(run("evaluate heads-of-two.head --store photos.fstore --json").stdout)
    assert (scores["top1"], scores["n"]) == (told["test"]["top1"], told["n_test"])


def test_joined_spaces_have_the_views_that_all_have(run, spaces):
    both = f"--space {spaces[24]} --space {spaces[32]}"
    told = json.loads(
        run(f"fit --head ridge {both} --views train=3,test=3 -o joined.head --force --json").stdout
    )
    assert (told["train_views"], told["feature_dim"]) == (3, 24 + 32)
    said = run(f"fit --space {spaces[24]} --space {spaces[16]} --test-views 3", code=1).stderr
    assert f"the space {spaces[16]} has only the images themselves" in said


def test_heads_of_one_space_of_two_and_of_views_are_compared(run, spaces):
    for name, options in {
        "one": f"--space {spaces[24]}",
        "views": f"--space {spaces[24]} --test-views 3",
        "two": f"--space {spaces[24]} --space {spaces[32]}",
    }.items():
        run(f"fit photos.fstore --head ridge {options} -o {name}")
    told = json.loads(run("compare one views two --store photos.fstore --json").stdout)
    assert [head["test_views"] for head in told["heads"]] == [1, 3, 1]
    assert told["heads"][2]["space"] == f"{spaces[24]}+{spaces[32]}"
    head = featstore.Head.load("photos.fstore/heads/views.head")
    assert told["heads"][1]["top1"] == head.test["top1"]
    assert "views" in run("compare one views --store photos.fstore").stdout


def test_a_space_of_a_head_that_is_elsewhere_is_named(run, spaces, tmp_path):
    run(f"fit --head centroid --space {spaces[24]} --space {spaces[32]} -o joined.head --force")
    featstore.extract("photos", tmp_path / "other.fstore", backbone=CountingBackbone())
    said = run(f"evaluate joined.head --store {tmp_path / 'other.fstore'}", code=2).stderr
    assert f"trained on features of {spaces[24]}, {spaces[32]}" in said


@pytest.mark.parametrize("command", ["curve --fractions 1/2,1 --repeats 1", "suspects --folds 3"])
def test_curves_and_suspects_take_views_and_spaces(run, spaces, command):
    plain = json.loads(run(f"{command} --head centroid --space {spaces[24]} --json").stdout)
    options = f"--space {spaces[24]} --space {spaces[32]} --views train=3,test=3"
    told = json.loads(run(f"{command} --head centroid {options} --json").stdout)
    for name in ("n", "n_images"):
        assert told.get(name) == plain.get(name)
    assert "only the first, the image itself" in run(f"{command} --head centroid --space {spaces[24]}").stderr


def test_duplicates_are_looked_for_among_images(run, spaces):
    told = json.loads(run(f"duplicates --space {spaces[24]} --space {spaces[32]} --json").stdout)
    assert told["n_images"] == 90


def test_the_same_space_twice_is_refused(run, spaces):
    assert "different backbones" in run(f"fit --space {spaces[24]} --space {spaces[24]}", code=1).stderr

"""What `featstore fit`, `predict` and `heads` can be told about heads."""

import json
import os
import shlex
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import featstore
from featstore_cli.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a store of 90 small pictures of three classes, and a module with a head."""
    folder = tmp_path_factory.mktemp("fit")
    generator = np.random.default_rng(0)
    for number in range(90):
        place = folder / "photos" / ("dark", "grey", "bright")[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 120, (24, 24, 3)) + 65 * (number % 3)
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number:02d}.png")
    featstore.extract(folder / "photos", folder / "photos.fstore", backbone="scattering")
    (folder / "my_cli_heads.py").write_text(
        "def tree():\n"
        "    from sklearn.tree import DecisionTreeClassifier\n\n"
        "    return DecisionTreeClassifier()\n"
    )
    return folder


@pytest.fixture
def run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    # The command adds the current folder for modules of the user's own.
    monkeypatch.setattr("sys.path", [*sys.path])

    def invoke(line, code=0):
        result = CliRunner().invoke(main, shlex.split(line))
        assert result.exit_code == code, result.output
        return result

    return invoke


def test_every_head_is_fitted_by_its_name(run):
    for info in featstore.known_heads():
        told = json.loads(run(f"fit --head {info.name} --json").stdout)
        assert told["head"] == info.name
        assert told["path"].endswith(f"{info.name}.head")


def test_options_reach_the_head(run):
    line = "fit --head ridge --class-weight balanced --seed 7 --folds 3 --jobs 2 --reject 0.5 --json"
    told = json.loads(run(line).stdout)

    assert told["params"]["class_weight"] == "balanced"
    assert told["seed"] == 7
    assert (told["choice"]["by"], told["choice"]["folds"]) == ("cross_entropy", 3)
    assert told["choice"]["fitted_on"] == ["train", "validation"]
    assert set(told["reject"]) == {"below", "validation", "test"}


def test_no_refit_leaves_validation_alone(run):
    told = json.loads(run("fit --head ridge --folds 3 --no-refit --json").stdout)

    assert told["choice"]["fitted_on"] == ["train"]


def test_truth_values_and_nothing_are_read(run):
    told = json.loads(run("fit --head ridge --param fit_intercept=false --param alpha=10 --json").stdout)
    assert told["params"] == {"fit_intercept": False, "alpha": 10}
    told = json.loads(run("fit --head centroid --param shrink_threshold=None --json").stdout)
    assert told["params"] == {"shrink_threshold": None}


def test_what_was_done_is_reported(run):
    shown = run("fit --head lda --folds 3 --reject 0.1").stdout
    assert "accuracy in 3 folds" in shown
    assert "fitted on train and validation; the validation accuracy is from cross-validation" in shown
    assert "of these answered, unknown below 0.1: accuracy" in shown
    shown = run("fit --head knn --refit").stdout
    assert "n_neighbors=50, weights=uniform" in shown
    assert "the validation accuracy is that of the fit on train alone" in shown


def test_a_head_of_ones_own_module_is_fitted(run):
    told = json.loads(run("fit --head my_cli_heads:tree --param max_depth=3 --json").stdout)

    assert told["head"] == "tree"
    assert told["params"] == {"max_depth": 3}
    assert told["path"].endswith("tree.head")


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("fit --head my_cli_heads:leaf", 1, "the head my_cli_heads:leaf cannot be loaded"),
        ("fit --head knn --class-weight balanced", 1, "knn does not support class weights"),
        ("fit --folds 1", 2, "--folds"),
        ("fit --reject 1", 2, "--reject"),
        ("fit --seed -1", 2, "--seed"),
        ("fit --jobs 0", 2, "--jobs"),
        ("fit --param C", 2, "not of the form NAME=VALUE"),
        ("predict logistic photos --reject 2", 2, "--reject"),
    ],
)
def test_wrong_usage_is_reported(run, line, code, message):
    assert message in run(line, code).output


def test_unknown_images_are_shown_as_such(run):
    run("fit --head ridge --reject 0.999")
    shown = run("predict ridge photos/dark").stdout.splitlines()
    assert any("\tunknown (" in line for line in shown)
    sure = run("predict ridge photos/dark --reject 0").stdout
    assert "unknown" not in sure
    told = json.loads(run("predict ridge photos/dark --json").stdout)
    assert any(entry["label"] is None and entry["probability"] is not None for entry in told)


def test_heads_are_listed_with_what_they_choose(run):
    shown = run("heads").stdout
    assert "knn        votes of the nearest images" in shown
    assert "tunes n_neighbors from 50 to 1; weights from uniform to distance" in shown
    assert "tunes nothing" in shown
    told = json.loads(run("heads --json").stdout)
    assert [one["name"] for one in told] == sorted(one["name"] for one in told)


def test_auto_chooses_a_head_and_fits_it(run):
    # No time: only the first head is tried.
    result = run("fit --head auto --budget 0.001s --no-leakage --force")

    assert "accuracy in 5 folds" in result.stdout
    assert "ridge is the most accurate; ridge is chosen\n" in result.stdout
    assert "nested accuracy, of the choice made without each fold: " in result.stdout
    assert "lda was left out: the budget was spent" in result.stderr
    assert "\nridge on scattering-" in result.stdout
    assert result.stdout.endswith("saved to photos.fstore/heads/auto.head\n")
    assert featstore.Head.load("photos.fstore/heads/auto.head").name == "ridge"


def test_auto_takes_the_options_of_fit(run):
    told = json.loads(run("fit --head auto --budget 1ms --class-weight balanced --seed 3 --json").stdout)

    assert (told["head"], told["seed"], told["params"]["class_weight"]) == ("ridge", 3, "balanced")
    assert told["auto"]["budget_s"] == 0.001
    assert {"head": "knn", "reason": "it has no class weights"} in told["auto"]["skipped"]
    assert json.loads(run("fit --head ridge --json").stdout)["auto"] is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fit --budget 60s", "--budget is the time in which --head auto compares heads; add --head auto"),
        ("fit --head auto --param C=1", "--param fixes a parameter of one head; name it with --head"),
        ("fit --head auto --budget soon", "'soon' is no time above 0"),
        ("fit --head auto --budget 0s", "'0s' is no time above 0"),
    ],
)
def test_unfit_options_of_auto_are_refused(run, line, message):
    assert message in run(line, code=2).stderr


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("1.5h", 5400), ("2 min", 120), ("3m", 180)])
def test_a_budget_is_read_with_its_unit(text, seconds):
    [option] = [one for one in main.commands["fit"].params if one.name == "budget_s"]
    assert option.type.convert(text, None, None) == seconds


def test_weights_of_a_list_are_honoured_and_can_be_ignored(run, folder):
    paths = sorted(path.relative_to(folder).as_posix() for path in (folder / "photos").rglob("*.png"))
    rows = [f"{path},{path.split('/')[1]},{0.5 + number % 3}" for number, path in enumerate(paths)]
    (folder / "list.csv").write_text("path,label,counts\n" + "\n".join(rows) + "\n")
    run("extract list.csv --weight-column counts --backbone scattering --store weighted.fstore")

    told = json.loads(run("fit weighted.fstore --head ridge --json").stdout)
    assert told["weighted"] is True
    assert "images weighted as the catalog says" in run("fit weighted.fstore --head ridge").stdout
    assert (
        json.loads(run("fit weighted.fstore --head knn --ignore-weights --json").stdout)["weighted"] is False
    )
    refused = run("fit weighted.fstore --head knn", 1)
    assert "knn does not take the weights of images that the catalog has" in refused.stderr
    # Without the option, the weights are forgotten.
    run("extract list.csv --backbone scattering --store weighted.fstore")
    assert json.loads(run("fit weighted.fstore --head knn --json").stdout)["weighted"] is False


@pytest.mark.parametrize("command", ["suspects", "curve", "fit"])
def test_a_fitted_head_in_place_of_a_kind_of_head_is_explained(run, folder, command):
    store = featstore.FeatureStore(folder / "photos.fstore")
    featstore.fit(store.table(), head="centroid").save(store.head_path("mine"))
    told = " ".join(run(f"{command} photos.fstore --head mine", 2).stderr.split())
    os.unlink(store.head_path("mine"))
    assert "--head takes a kind of head, one of `featstore heads`, and mine is a head of" in told
    assert f"for the features that it takes give --space {store.space_names[0]}" in told

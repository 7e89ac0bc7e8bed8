"""`featstore finetune`."""

import json
import os
import shutil
from dataclasses import replace

import pytest
from click.testing import CliRunner

import featstore
from featstore import FeatureStore, Head
from featstore_cli.main import main
from tuning_material import draw, small_network


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    from featstore.backbones.keras.models import keras

    folder = tmp_path_factory.mktemp("tuning")
    keras.utils.set_random_seed(2)
    small_network(keras).save(folder / "small.keras")
    draw(folder / "photos")
    store = folder / "photos.fstore"
    featstore.extract(
        folder / "photos", store, backbone=folder / "small.keras", preprocess="tf", engine="keras"
    )
    table = FeatureStore(store).table()
    rule = featstore.SplitRule(validation=0.2, test=0.2)
    featstore.fit(table, params={"C": 1.0}, rule=rule).save(FeatureStore(store).head_path("logistic"))
    return folder


@pytest.fixture
def here(prepared, tmp_path, monkeypatch):
    shutil.copytree(prepared / "photos.fstore", tmp_path / "photos.fstore")
    shutil.copy(prepared / "small.keras", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments, status=0):
    result = CliRunner().invoke(main, ["finetune", *arguments])
    assert result.exit_code == status, result.output
    return result


def tune(*arguments, status=0):
    usual = ("logistic", "--from-layer", "block", "--engine", "keras", "--batch-size", "16", "--epochs", "1")
    return run(*usual, *arguments, status=status)


def test_a_head_is_tuned_and_what_came_of_it_is_reported(here):
    result = tune()
    assert "above block" in result.stdout
    assert "images   " in result.stdout
    assert "logistic-tuned" in FeatureStore(here / "photos.fstore").head_names
    assert {"logistic-tuned.keras", "logistic-tuned.report.json", "logistic-tuned.report.txt"} <= {
        *os.listdir(here)
    }
    written = json.loads((here / "logistic-tuned.report.json").read_text())
    assert written["options"]["batch_size"] == 16


def test_the_tuned_head_is_compared_by_name(here, monkeypatch):
    monkeypatch.setattr("featstore.tuning.training._is_better", lambda *entries: True)
    told = json.loads(tune("--json", "-o", "better").stdout)
    assert told["chosen"] == 1
    result = CliRunner().invoke(main, ["compare", "logistic", "better", "--json"])
    assert result.exit_code == 0, result.output
    (pair,) = json.loads(result.stdout)["pairs"]
    (expected,) = told["comparison"]["pairs"]
    assert (pair["only_a"], pair["only_b"], pair["p"]) == tuple(
        expected[k] for k in ("only_a", "only_b", "p")
    )


def test_a_recipe_is_printed_and_options_win_over_it(here):
    result = tune("--recipe", "inception", "--ema", "0")
    assert "recipe inception: epochs=1" in result.stderr
    assert "optimizer=rmsprop" in result.stderr
    options = json.loads((here / "logistic-tuned.report.json").read_text())["options"]
    assert (options["epochs"], options["ema"], options["label_smoothing"]) == (1, None, 0.1)


def test_results_are_not_replaced_unasked(here):
    tune()
    assert "exists" in tune(status=1).stderr
    tune("--force")


def test_cuts_are_listed_with_what_they_cost(here):
    result = run("--cuts", "small.keras", "--preprocess", "tf")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["block", "16x16x8", "4,096"] in [line[:3] for line in lines]
    assert "inside" not in result.stdout
    told = json.loads(run("--cuts", "small.keras", "--preprocess", "tf", "--json").stdout)
    assert {"layer", "shape", "bytes_a_view", "share", "parameters"} == set(told["cuts"][0])
    assert told["auto"] in {cut["layer"] for cut in told["cuts"]} | {None}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give a HEAD to tune, or --cuts BACKBONE"),
        (("logistic", "--cuts", "small.keras"), "give a HEAD to tune, or --cuts BACKBONE"),
        (("logistic", "--alpha", "0.5"), "only with --cuts"),
        (("nobody",), "has no head 'nobody'"),
        (("logistic", "--precision", "bfloat16"), "bfloat16 makes it no faster on a processor"),
        (("logistic", "--devices", "0"), "0 is not in the range x>=1"),
    ],
)
def test_wrong_usage_is_reported(here, arguments, said):
    assert said in run(*arguments, status=2).stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--from-layer", "inside"), "inside a block"),
        (("--views", "4"), "need a recipe"),
        (("--dropout", "2"), "dropout must be"),
        (("-o", "photos.fstore/x"), "lies in the store"),
    ],
)
def test_what_cannot_be_done_is_one_line(here, arguments, said):
    result = tune(*arguments, status=1)
    assert said in result.stderr
    assert [line.startswith("Error: ") for line in result.stderr.splitlines()].count(True) == 1
    assert sorted(os.listdir(here)) == ["photos.fstore", "small.keras"]


def test_ctrl_c_keeps_the_best_and_the_same_command_goes_on(here, monkeypatch):
    from featstore.tuning.trainer import Trainer

    plain = Trainer.begin_epoch

    def interrupted(self, epoch):
        if epoch == 1:
            raise KeyboardInterrupt
        plain(self, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "begin_epoch", interrupted)
        result = tune("--epochs", "2", status=130)
    assert "run the same command to resume" in result.stderr
    assert (here / "logistic-tuned.tuning").exists()
    tune("--epochs", "2")
    assert not (here / "logistic-tuned.tuning").exists()
    assert Head.load(FeatureStore(here / "photos.fstore").head_path("logistic-tuned"))


def test_folds_of_features_that_saw_the_labels_are_warned_of(here, monkeypatch, caplog):
    monkeypatch.setattr("featstore.tuning.training._is_better", lambda *entries: True)
    space = json.loads(tune("--json").stdout)["space"]

    def said(*command):
        caplog.clear()
        assert CliRunner().invoke(main, [*command]).exit_code == 0
        return f"the network of {space} was fine-tuned on labels of these images" in caplog.text

    assert said("evaluate", "logistic-tuned", "--folds", "2")
    assert said("suspects", "--space", space, "--folds", "2")
    assert not said("evaluate", "logistic", "--folds", "2")
    assert not said("evaluate", "logistic-tuned")


def test_maps_are_no_features_that_anybody_lacks_or_chooses(here):
    store = FeatureStore(here / "photos.fstore")
    spec, feature_dim = store.space().spec, store.space().feature_dim
    tune("--views", "2", "--flip")
    maps = json.loads((here / "logistic-tuned.report.json").read_text())["maps"]["space"]
    store.create_space(replace(spec, resize="crop"), feature_dim=feature_dim)
    told = CliRunner().invoke(main, ["info"]).stdout
    assert f"{maps}: activation maps, which finetune trains on" in told
    assert f"views in {maps}" not in told
    asked = CliRunner().invoke(main, ["fit"])
    assert asked.exit_code == 1
    assert "which space? name one" in asked.stderr
    assert maps not in asked.stderr


def test_images_with_nothing_but_maps_have_no_features(here):
    maps = json.loads(tune("--json").stdout)["maps"]["space"]
    names = FeatureStore(here / "photos.fstore").space_names
    spaces = [f"--space={name}" for name in names if name != maps]
    told = CliRunner().invoke(main, ["remove", *spaces])
    assert "will have no features" in told.stdout + told.stderr


def test_few_steps_of_the_default_epochs_are_noted(here):
    usual = ("logistic", "--from-layer", "block", "--engine", "keras")
    assert "are 3 steps; with so few, more --epochs can gain more" in run(*usual).stderr
    assert "steps" not in run(*usual, "--epochs", "3", "--force").stderr

"""What `featstore finetune` cannot do: one line that says why, and nothing half written."""

import os
import shutil

import pytest
from click.testing import CliRunner

import featstore
from featstore import FeatureStore, SplitRule
from featstore_cli.main import main
from tuning_material import draw, small_network

RULE = SplitRule(validation=0.2, test=0.2)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A store with heads that cannot be tuned beside one that can, and one of other features."""
    from featstore.backbones.keras.models import keras

    folder = tmp_path_factory.mktemp("untunable")
    keras.utils.set_random_seed(2)
    small_network(keras).save(folder / "small.keras")
    draw(folder / "photos", 60)
    options = {"backbone": folder / "small.keras", "preprocess": "tf", "engine": "keras"}
    os.mkdir(folder / "other")
    for name, resize in (("photos", "stretch"), ("other/cropped", "crop")):
        featstore.extract(folder / "photos", folder / f"{name}.fstore", resize=resize, **options)
    store = FeatureStore(folder / "photos.fstore")
    table = store.table()
    heads = {
        "logistic": featstore.fit(table, params={"C": 1.0}, rule=RULE, refit=False),
        "knn": featstore.fit(table, head="knn", params={"n_neighbors": 3}, rule=RULE),
        "two": featstore.fit(table.select(table.y != "rings"), params={"C": 1.0}, rule=RULE),
        "unvalidated": featstore.fit(
            table, params={"C": 1.0}, rule=SplitRule(validation=0, test=0.2, stratify=False)
        ),
    }
    for name, head in heads.items():
        head.save(store.head_path(name))
    return folder


@pytest.fixture
def here(prepared, tmp_path, monkeypatch):
    for name in ("photos.fstore", "other"):
        shutil.copytree(prepared / name, tmp_path / name)
    shutil.copy(prepared / "small.keras", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tune(*arguments, status):
    usual = ("--engine", "keras", "--epochs", "1")
    result = CliRunner().invoke(main, ["finetune", *arguments, *usual])
    assert result.exit_code == status, result.output
    return result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("knn",), "the head knn is not linear; tuning starts from a linear head, such as logistic or svm"),
        (("two",), "does not know the classes rings; fit a head on these images"),
        (("unvalidated",), "no labelled image is in validation, by which the epoch is chosen"),
        (("logistic", "--from-layer", "blocks"), "has no layer 'blocks'; did you mean block"),
        (("logistic", "--from-layer", "inside"), "it is inside a block, other paths lead past it; cut at"),
        (("logistic", "--devices", "2"), "2 devices were asked for; found 1: "),
    ],
)
def test_what_cannot_be_tuned(here, arguments, said):
    before = {os.path.join(folder, name) for folder, _, names in os.walk(here) for name in names}
    stderr = tune(*arguments, status=1)
    assert said in stderr
    assert [line.startswith("Error: ") for line in stderr.splitlines()].count(True) == 1
    assert {os.path.join(folder, name) for folder, _, names in os.walk(here) for name in names} == before


def test_a_store_of_other_features_is_wrong_usage(here):
    stderr = tune("photos.fstore/heads/logistic.head", "--store", "other/cropped.fstore", status=2)
    assert "the head was trained on features of small-" in stderr
    assert "cropped.fstore has small-" in stderr
    assert sorted(os.listdir(here)) == ["other", "photos.fstore", "small.keras"]


def test_photos_that_are_gone_are_listed_for_all_and_not_needed_for_maps(here, prepared):
    tune("logistic", "--from-layer", "block", status=0)
    (prepared / "photos" / "rings").rename(prepared / "rings")
    try:
        stderr = tune("logistic", "--from-layer", "all", "-o", "whole", status=1)
        assert "20 of 60 images are not where the catalog has them: " in stderr
        assert stderr.count("/photos/rings/") == 8
        assert "and 12 more" in stderr
        assert not [name for name in os.listdir(here) if name.startswith("whole")]
        tune("logistic", "--from-layer", "block", "-o", "again", status=0)
    finally:
        (prepared / "rings").rename(prepared / "photos" / "rings")


def test_want_of_memory_is_told_and_the_run_goes_on(here, monkeypatch, caplog):
    from featstore.tuning.trainer import Trainer

    class ResourceExhaustedError(Exception):
        """As TensorFlow names it."""

    plain = Trainer.step

    def narrow(self, inputs, *args):
        if len(inputs) > 8:
            raise ResourceExhaustedError("OOM when allocating tensor with shape[16,8]")
        return plain(self, inputs, *args)

    monkeypatch.setattr(Trainer, "step", narrow)
    tune("logistic", "--from-layer", "block", "--batch-size", "16", status=0)
    # Where no test listens, the command line prints warnings on stderr.
    assert "OOM when allocating tensor with shape[16,8]): repeating the epoch in batches of 8" in caplog.text

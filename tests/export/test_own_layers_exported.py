"""Exported models with layers that the user's own code defines: their module is named when they are run."""

import shlex
import sys

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import featstore
from fakes import GAIN_LAYERS
from featstore.errors import ExportError
from featstore.export import ExportedModel
from featstore_cli.main import main


def forget():
    """As in a program that is started anew."""
    sys.modules.pop("gain_layers", None)
    keras.saving.get_custom_objects().clear()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the module, photos, and a head on a network with a layer of the module."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "gain_layers.py").write_text(GAIN_LAYERS)
    sys.path.insert(0, str(folder))
    from gain_layers import Gain

    inputs = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(Gain(3.0, name="gain")(inputs))
    keras.Model(inputs, pooled).save(folder / "gain.keras")
    forget()
    random = np.random.default_rng(0)
    for number in range(40):
        path = folder / "land" / ("fen", "moor")[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.normal(90 + 60 * (number % 2), 40, (8, 8, 3))
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    backbone = featstore.load_backbone(
        str(folder / "gain.keras"), preprocessing="unit", imports=["gain_layers"]
    )
    featstore.extract(folder / "land", folder / "land.fstore", backbone=backbone)
    table = featstore.FeatureStore(folder / "land.fstore").table()
    head = featstore.fit(table, head="centroid")
    featstore.export_head(head, folder / "model", format="keras", table=table, imports=["gain_layers"])
    featstore.export_head(head, folder / "saved", format="saved_model", verify=False, imports=["gain_layers"])
    forget()
    yield folder
    sys.path.remove(str(folder))
    forget()


@pytest.fixture(autouse=True)
def _forget(made, monkeypatch):
    monkeypatch.chdir(made)
    forget()
    yield
    forget()


def run(line, code=0):
    result = CliRunner().invoke(main, shlex.split(line))
    assert result.exit_code == code, result.output
    return result


def test_an_exported_model_is_run_with_the_module_of_its_layers(made):
    told = run("predict model land/moor/01.png --import gain_layers --labels-only -q")
    assert told.stdout == "moor\n"
    assert ExportedModel.load(made / "model").description.verification["largest_difference"] < 1e-3


def test_without_the_module_the_message_names_the_option(made):
    told = run("predict model land/moor/01.png", code=1)
    assert "--import" in told.stderr
    assert "Gain" in told.stderr


def test_code_for_a_model_that_has_no_use_for_it_is_refused(made):
    told = run("predict saved land/moor/01.png --import gain_layers", code=1)
    assert "a model exported as saved_model needs no code of its layers; leave out: imports" in told.stderr
    with pytest.raises(ExportError, match="leave out: trust_model"):
        ExportedModel.load(made / "saved", trust_model=True)
    opened = ExportedModel.load(made / "model")
    with pytest.raises(ExportError, match=r"ExportedModel\.load"):
        featstore.Predictor(opened, imports=["gain_layers"])
    model = ExportedModel.load(made / "model", imports=["gain_layers"])
    assert featstore.Predictor(model).predict("land/fen/00.png").label == "fen"

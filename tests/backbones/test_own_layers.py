"""Models with layers that the user's own code defines: the module is named, and only then imported."""

import sys

import numpy as np
import pytest

from fakes import GAIN_LAYERS
from featstore.backbones import load_backbone
from featstore.backbones.files.own_code import code_digest
from featstore.errors import BackboneError


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "gain_layers.py").write_text(GAIN_LAYERS)
    yield "gain_layers"
    sys.modules.pop("gain_layers", None)
    import keras

    keras.saving.get_custom_objects().clear()


@pytest.fixture(params=["keras", "h5"])
def model(request, module, tmp_path, keras, monkeypatch):
    """A model that was saved by a program that is no longer running."""
    Gain = __import__(module).Gain
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(Gain(3.0, name="gain")(inputs))
    path = str(tmp_path / f"gain.{request.param}")
    monkeypatch.setattr("absl.logging.warning", lambda *_: None)
    keras.Model(inputs, x).save(path)
    keras.saving.get_custom_objects().clear()
    del sys.modules[module]
    return path


OWN = {"preprocessing": "none"}


def test_with_its_module_it_works(model, module, cache):
    pixels = np.random.default_rng(0).integers(0, 80, (2, 8, 8, 3), dtype=np.uint8)
    backbone = load_backbone(model, imports=[module], **OWN)
    np.testing.assert_allclose(backbone.forward(pixels), 3 * pixels.mean((1, 2)), rtol=1e-4)


def test_without_it_the_error_names_the_class_the_layer_and_the_option(model, module, cache):
    with pytest.raises(BackboneError, match=r"'(ours>)?Gain'.*layer 'gain'.*--import"):
        load_backbone(model, **OWN)
    assert module not in sys.modules


def test_a_module_that_is_missing_or_fails_is_named(model, tmp_path, cache):
    with pytest.raises(BackboneError, match="no module 'nowhere_layers'"):
        load_backbone(model, imports=["nowhere_layers"], **OWN)
    (tmp_path / "failing_layers.py").write_text("1 / 0")
    with pytest.raises(BackboneError, match=r"'failing_layers'.* ZeroDivisionError"):
        load_backbone(model, imports=["failing_layers"], **OWN)


def test_imports_are_for_models_of_ones_own(module):
    with pytest.raises(BackboneError, match="--import is for a model of your own"):
        load_backbone("mobilenet_v2", imports=[module])
    with pytest.raises(BackboneError, match="imports is a list"):
        load_backbone("own.keras", imports=module, **OWN)


def test_what_the_code_does_is_a_part_of_the_fingerprint(module, tmp_path):
    before = code_digest([module])
    code = tmp_path / "gain_layers.py"
    code.write_text('"""Text."""\n# A comment.\n\n' + GAIN_LAYERS)
    assert code_digest([module]) == before
    code.write_text(GAIN_LAYERS.replace("inputs * self.factor", "inputs + self.factor"))
    assert code_digest([module]) != before


def test_the_command_line_finds_the_module_in_the_current_folder(model, module, cache, tmp_path, monkeypatch):
    import json

    from click.testing import CliRunner
    from PIL import Image

    from featstore_cli.main import main

    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 8), (10, 20, 30)).save(tmp_path / "photos" / "1.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path)])
    command = ["extract", "photos", "--backbone", model, "--preprocess", "none", "--json", "--quiet"]
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 1
    assert "--import" in refused.stderr
    result = CliRunner().invoke(main, [*command, "--import", module])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["extracted"] == 1
    assert sys.path[-1] == str(tmp_path)

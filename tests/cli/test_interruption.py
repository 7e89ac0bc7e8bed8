import json
import signal

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import featstore
from fakes import CountingBackbone
from featstore_cli.main import main


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos" / "cat"
    folder.mkdir(parents=True)
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return tmp_path / "photos"


def press_ctrl_c():
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("code", "stop"), [(130, press_ctrl_c), (143, lambda: signal.raise_signal(signal.SIGTERM))]
)
def test_a_stopped_extraction_seals_and_says_how_to_go_on(photos, tmp_path, monkeypatch, code, stop):
    def press(number):
        if number == 2:
            stop()

    backbone = CountingBackbone(before_batch=press)
    monkeypatch.setattr("featstore.extraction.load_backbone", lambda name, **options: backbone)
    store = tmp_path / "photos.fstore"
    result = CliRunner().invoke(main, ["extract", str(photos), "--store", str(store), "--json"])
    assert result.exit_code == code
    assert json.loads(result.stdout)["extracted"] == 8
    assert "the same command goes on" in result.stderr
    assert featstore.FeatureStore(store).space().n_rows == 8

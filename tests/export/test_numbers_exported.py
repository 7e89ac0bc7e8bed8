"""Heads that predict a number, as model files."""

import ast
import csv
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import featstore
from featstore.errors import ExportError, FormatVersionError
from featstore.export import ExportedModel

PARAMS = {"rbf": {"gamma": 1.0, "alpha": 1e-3}, "ridge": {"alpha": 10.0}}


@pytest.fixture(scope="module")
def table(original, tiny_backbone, tmp_path_factory):
    """The photos of land, and how bright each is, in thousandths."""
    folder = tmp_path_factory.mktemp("numbers")
    rows = []
    for path in sorted((original / "land").rglob("*.*")):
        with Image.open(path) as photo:
            rows.append([str(path), 1000 + float(np.asarray(photo.convert("L")).mean()) / 0.255])
    with open(folder / "list.csv", "w", newline="") as file:
        csv.writer(file).writerows([["path", "light"], *rows])
    options = {"backbone": tiny_backbone, "preprocessing": "unit", "target": "light"}
    featstore.extract(folder / "list.csv", folder / "numbers.fstore", **options)
    return featstore.FeatureStore(folder / "numbers.fstore").table()


@pytest.mark.parametrize(
    ("name", "runtime"),
    [
        ("ridge", "onnx"),
        ("ridge", "saved_model"),
        ("rbf", "tflite"),
        ("rbf", "openvino"),
        ("ridge", "keras"),
    ],
)
def test_a_model_gives_the_numbers_of_its_head(name, runtime, table, tmp_path):
    head = featstore.fit_regression(table, head=name, params=PARAMS[name])
    model = featstore.export_head(head, tmp_path / "model", format=runtime, table=table)
    result = model.description.verification

    assert result["n"] == head.test["n"]
    assert result["largest_difference"] < result["tolerance"]["largest_difference"]
    assert result["mae_head"] == pytest.approx(head.test["mae"])
    photos = table.paths[:6].tolist()
    loaded = ExportedModel.load(model.path)
    assert loaded.target == "light"
    for one, other in zip(
        featstore.predict(loaded, photos, coverage=0.5),
        featstore.predict(head, photos, coverage=0.5),
        strict=True,
    ):
        assert one.value == pytest.approx(other.value, abs=1e-3 * head.train_numbers["std"])
        assert one.interval == pytest.approx(other.interval, abs=1e-3 * head.train_numbers["std"])
        assert one.label is None
        assert not one.is_rejected
    described = json.loads((tmp_path / "model/model.json").read_text())
    assert described["format_version"] == 3
    assert described["output"] == {"shape": [None, 1], "dtype": "float32", "values": "values"}
    assert not (tmp_path / "model/labels.txt").exists()


def test_the_program_of_the_card_prints_the_number(table, tmp_path):
    head = featstore.fit_regression(table, params=PARAMS["ridge"])
    model = featstore.export_head(head, tmp_path / "model", format="onnx", table=table)
    card = (tmp_path / "model/model_card.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    path = next(path for path in table.paths.tolist() if path.endswith(".jpg"))
    shutil.copy(path, tmp_path / "model/photo.jpg")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=model.path, capture_output=True, text=True, check=True
    )
    [wanted] = featstore.predict(head, [path])
    assert float(ast.literal_eval(done.stdout)) == pytest.approx(wanted.value, abs=0.1)
    assert "mean absolute error" in card
    assert "`values`: (n, 1) float32, light of each image" in card
    assert "conformal prediction" in card
    assert "labels.txt" not in card


def test_earlier_readers_refuse_the_description(table, tmp_path, monkeypatch):
    head = featstore.fit_regression(table, params=PARAMS["ridge"])
    model = featstore.export_head(head, tmp_path / "model", format="openvino", verify=False)
    monkeypatch.setattr("featstore.export.description.FORMAT_VERSION", 2)
    with pytest.raises(FormatVersionError, match="upgrade"):
        ExportedModel.load(model.path)


def test_what_holds_no_number_is_refused(table, tmp_path):
    knn = featstore.fit_regression(table, head="knn", params={"n_neighbors": 3, "weights": "uniform"})
    with pytest.raises(ExportError, match="of heads that predict a number ridge and rbf can"):
        featstore.export_head(knn, tmp_path / "model")
    ridge = featstore.fit_regression(table, params=PARAMS["ridge"])
    with pytest.raises(ExportError, match="int8 rounds more than numbers tolerate"):
        featstore.export_head(ridge, tmp_path / "model", format="tflite", quantize="int8", table=table)
    with pytest.raises(ExportError, match="looks at one view; found test_views=2"):
        featstore.export_head(ridge, tmp_path / "model", format="keras", test_views=2)

"""Heads that give several labels, as model files."""

import ast
import csv
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import featstore
from featstore.errors import ExportError, FormatVersionError
from featstore.export import ExportedModel, description
from featstore.export.card import model_card

PARAMS = {
    "logistic": {"C": 1.0},
    "rbf": {"gamma": 1.0, "alpha": 1e-3},
    "ridge": {"alpha": 10.0},
    "svm": {"C": 1.0},
}


@pytest.fixture(scope="module")
def table(original, tiny_backbone, tmp_path_factory):
    """The photos of land, and whether each is a JPEG: of all wood also fen, of moor some nothing."""
    folder = tmp_path_factory.mktemp("several")
    rows = []
    for path in sorted((original / "land").rglob("*.*")):
        labels = {"fen": ["fen"], "moor": [], "wood": ["fen", "wood"]}[path.parent.name]
        rows.append(
            [str(path), "|".join([*labels, *(["moor"] if path.parent.name == "moor" else [])]) or "|"]
        )
    with open(folder / "list.csv", "w", newline="") as file:
        csv.writer(file).writerows([["path", "label"], *rows])
    options = {"backbone": tiny_backbone, "preprocessing": "unit", "label_separator": "|"}
    featstore.extract(folder / "list.csv", folder / "several.fstore", **options)
    return featstore.FeatureStore(folder / "several.fstore").table()


@pytest.mark.parametrize(
    ("name", "runtime"),
    [
        ("logistic", "onnx"),
        ("ridge", "saved_model"),
        ("svm", "tflite"),
        ("rbf", "openvino"),
        ("ridge", "keras"),
    ],
)
def test_a_model_gives_the_labels_of_its_head(name, runtime, table, tmp_path):
    head = featstore.fit_labels(table, head=name, params=PARAMS[name])
    model = featstore.export_head(head, tmp_path / "model", format=runtime, table=table)
    result = model.description.verification

    assert result["n"] == head.test["n"]
    assert result["largest_difference"] < 1e-3
    assert result["map_head"] == pytest.approx(head.test["map"])
    photos = table.paths[:12].tolist()
    for one, other in zip(
        featstore.predict(ExportedModel.load(model.path), photos),
        featstore.predict(head, photos),
        strict=True,
    ):
        assert [label for label, _ in one.labels] == [label for label, _ in other.labels]
        assert one.label is None
    assert json.loads((tmp_path / "model/model.json").read_text())["format_version"] == 2


def test_the_program_of_the_card_prints_the_labels(table, tmp_path):
    head = featstore.fit_labels(table, head="ridge", params=PARAMS["ridge"])
    model = featstore.export_head(head, tmp_path / "model", format="onnx", table=table)
    card = (tmp_path / "model/model_card.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    path = next(path for path in table.paths.tolist() if path.endswith(".jpg"))
    shutil.copy(path, tmp_path / "model/photo.jpg")
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=model.path,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )

    (wanted,) = featstore.predict(head, [path])
    assert sorted(ast.literal_eval(ran.stdout)) == sorted(label for label, _ in wanted.labels)
    assert "An image may have several, or none." in card
    assert f"mAP {100 * head.test['map']:.1f}%" in card
    assert "each label by itself" in card


def test_what_is_for_one_label_is_refused(table, tmp_path):
    head = featstore.fit_labels(table, head="ridge", params=PARAMS["ridge"])
    with pytest.raises(ExportError, match="int8 rounds more than the thresholds"):
        featstore.export_head(head, tmp_path / "model", format="tflite", quantize="int8", table=table)
    with pytest.raises(ExportError, match="a model cannot look at 2 views of an image"):
        featstore.export_head(head, tmp_path / "model", test_views=2)


def test_a_model_averages_over_the_mirror_image_as_its_head_does(table, tiny_backbone, tmp_path):
    options = {"backbone": tiny_backbone, "preprocessing": "unit", "label_separator": "|"}
    with open(tmp_path / "list.csv", "w", newline="") as file:
        rows = zip(table.paths.tolist(), table.label_texts.tolist(), strict=True)
        csv.writer(file).writerows([["path", "label"], *rows])
    flip = {"n_views": 2, "views": featstore.ViewRecipe(flip=True)}
    featstore.extract(tmp_path / "list.csv", tmp_path / "a.fstore", **options, **flip)
    mirrored = featstore.FeatureStore(tmp_path / "a.fstore").table()
    head = featstore.fit_labels(mirrored, head="ridge", params=PARAMS["ridge"], views={"test": 2})
    model = featstore.export_head(head, tmp_path / "model", format="onnx", table=mirrored)

    assert (model.description.test_views, model.description.head["test_views"]) == (2, 2)
    assert model.description.verification["largest_difference"] < 1e-3
    (one,), (other,) = (
        [*featstore.predict(of, [mirrored.paths[0]])] for of in (ExportedModel.load(model.path), head)
    )
    assert dict(one.labels) == pytest.approx(dict(other.labels), abs=1e-3)


def test_half_precision_keeps_the_decisions(table, tmp_path):
    head = featstore.fit_labels(table, head="ridge", params=PARAMS["ridge"])
    options = {"format": "tflite", "quantize": "float16"}
    model = featstore.export_head(head, tmp_path / "model", table=table, **options)

    assert model.description.verification["label_agreement"] > 0.98


def test_old_readers_refuse_the_description_and_damage_is_found(table, tmp_path, monkeypatch):
    head = featstore.fit_labels(table, head="ridge", params=PARAMS["ridge"])
    model = featstore.export_head(head, tmp_path / "model", format="keras", verify=False)
    described = model.description

    assert described.thresholds == tuple(head.thresholds.tolist())
    assert "thresholds" not in replace(described, thresholds=None).to_dict()
    assert replace(described, thresholds=None).to_dict()["format_version"] == 1
    assert Path(model.path, "labels.txt").read_text().split() == head.classes.tolist()
    assert np.all(model.thresholds == head.thresholds)
    assert "each label by itself" in model_card(described)
    with pytest.raises(ExportError, match="invalid thresholds"):
        replace(described, thresholds=(0.5,))
    monkeypatch.setattr(description, "FORMAT_VERSION", 1)
    with pytest.raises(FormatVersionError, match="upgrade"):
        ExportedModel.load(model.path)

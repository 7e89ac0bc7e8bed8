"""What every exported model is: the head's probabilities, described, whole or not there."""

import json
import logging
import os
import shutil
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

import featstore
from featstore.backbones.engines.openvino import openvino_core
from featstore.errors import (
    BackboneError,
    ExportError,
    FingerprintMismatchError,
    MissingExtraError,
    VerificationError,
)
from featstore.export import FORMATS, verification
from featstore.images.decode import decode_image

FILES = {
    "keras": {"model.keras"},
    "saved_model": {"saved_model.pb", "variables", "fingerprint.pb", "assets"},
    "tflite": {"model.tflite"},
    "onnx": {"model.onnx"},
    "openvino": {"model.xml", "model.bin"},
}


def pixels_of(paths, size_px=(16, 20)):
    return np.stack([decode_image(Path(path).read_bytes(), size_px=size_px) for path in paths])


@pytest.mark.parametrize("runtime", FORMATS)
def test_the_model_gives_the_heads_probabilities(exported, head, shared_table, runtime):
    model = featstore.ExportedModel.load(exported(runtime).path)
    found = np.concatenate(
        list(model.run([pixels_of(shared_table.paths[:5]), pixels_of(shared_table.paths[5:6])]))
    )
    np.testing.assert_allclose(found, head.predict_proba(shared_table.X[:6]), atol=1e-5)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("runtime", FORMATS)
def test_it_was_verified_on_all_test_photos(exported, head, runtime):
    told = exported(runtime).description.verification
    assert (told["split"], told["n"], told["n_lost"]) == ("test", head.test["n"], 0)
    assert told["largest_difference"] < 1e-5
    assert (told["top1_agreement"], told["top1_model"]) == (1.0, pytest.approx(head.test["top1"]))


@pytest.mark.parametrize("runtime", FORMATS)
def test_the_folder_holds_the_model_and_what_describes_it(exported, head, runtime):
    folder = Path(exported(runtime).path)
    assert {entry.name for entry in folder.iterdir()} == {
        "labels.txt",
        "photo.py",
        "model.json",
        "model_card.md",
        *FILES[runtime],
    }
    assert (folder / "labels.txt").read_text() == "fen\nmoor\nwood\n"
    told = json.loads((folder / "model.json").read_text())
    assert (told["format"], told["format_version"]) == ("featstore-model", 1)
    assert (told["runtime"], told["classes"]) == (runtime, ["fen", "moor", "wood"])
    assert (told["size_px"], told["resize"]) == ([16, 20], "stretch")
    assert told["fingerprint"] == head.fingerprint
    assert (told["rejects_below"], told["quantization"]) == (0.4, None)


def test_the_card_says_how_good_it_is_and_when_it_does_not_answer(exported, head):
    card = (Path(exported("keras").path) / "model_card.md").read_text()
    low, high = head.test["top1_ci"]
    assert f"test: accuracy {head.test['top1']:.1%} (95% interval {low:.1%} to {high:.1%}" in card
    assert f"| moor | {head.counts['train']['moor']} |" in card
    assert "no class has a probability of 0.4" in card
    assert head.spec.weights_digest in card
    assert "largest difference of a probability" in card


@pytest.mark.parametrize("name", ["centroid", "lda", "logistic", "ridge", "sgd", "softmax", "svm"])
def test_every_linear_head_can_be_exported(shared_table, tmp_path, name):
    fitted = featstore.fit(shared_table, head=name)
    model = featstore.export_head(fitted, tmp_path / "out", format="keras", table=shared_table)
    assert model.description.verification["largest_difference"] < 1e-5


def test_two_classes_can_be_exported(shared_table, tmp_path):
    two = shared_table.select(shared_table.y != "moor")
    fitted = featstore.fit(two, head="svm", params={"C": 1.0})
    model = featstore.export_head(fitted, tmp_path / "out", format="keras", table=two)
    assert model.classes.tolist() == ["fen", "wood"]
    assert model.description.verification["largest_difference"] < 1e-5


def test_a_linear_classifier_of_ones_own_can_be_exported(shared_table, tmp_path):
    fitted = featstore.fit(shared_table, head=LogisticRegression())
    model = featstore.export_head(fitted, tmp_path / "out", format="keras", table=shared_table)
    assert model.description.verification["largest_difference"] < 1e-5


@pytest.mark.parametrize("own", ["knn", GaussianNB()])
def test_other_heads_are_refused_before_anything_is_built(shared_table, tmp_path, own):
    fitted = replace(featstore.fit(shared_table, head=own), weights="/nowhere.keras")
    with pytest.raises(
        ExportError, match=r"cannot be expressed as layers.*centroid, lda, logistic, ridge, sgd, softmax, svm"
    ):
        featstore.export_head(fitted, tmp_path / "out", table=shared_table)
    assert not (tmp_path / "out").exists()


def test_a_network_that_normalises_its_pixels_becomes_onnx(original, tmp_path):
    inputs = keras.Input((16, 20, 3))
    x = keras.layers.Normalization(mean=[100.0, 120.0, 80.0], variance=[400.0, 900.0, 2500.0])(inputs)
    x = keras.layers.Conv2D(6, 3, strides=2, activation="relu")(x)
    path, store = str(tmp_path / "own.keras"), tmp_path / "land.fstore"
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x)).save(path)
    featstore.extract(original / "land", store, backbone=path, preprocessing="none")
    table = featstore.FeatureStore(store).table()
    own = featstore.fit(table, params={"C": 0.1})
    model = featstore.export_head(own, tmp_path / "model", format="onnx", table=table)

    assert model.description.verification["largest_difference"] < 1e-5


def test_a_network_that_a_format_cannot_express_is_refused_and_others_named(original, tmp_path, caplog):
    inputs = keras.Input((16, 20, 3))
    x = keras.layers.Conv2D(6, 3, activation="gelu")(keras.layers.Rescaling(1 / 255)(inputs))
    path, store = str(tmp_path / "own.keras"), tmp_path / "land.fstore"
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(keras.ops.erfinv(x / 100))).save(path)
    featstore.extract(original / "land", store, backbone=path, preprocessing="none")
    own = featstore.fit(featstore.FeatureStore(store).table(), params={"C": 0.1})
    caplog.clear()
    with pytest.raises(ExportError, match=r"cannot be written as onnx: .* other formats may work: keras, "):
        featstore.export_head(own, tmp_path / "model", format="onnx", verify=False)

    assert not (tmp_path / "model").exists()
    assert caplog.records == []


def test_a_keras_model_loads_without_featstore(exported, head, shared_table):
    model = keras.saving.load_model(os.path.join(exported("keras").path, "model.keras"))
    found = model.predict(pixels_of(shared_table.paths[:3]), verbose=0)
    np.testing.assert_allclose(found, head.predict_proba(shared_table.X[:3]), atol=1e-5)


def test_the_essentials_are_inside_of_an_onnx_file(exported):
    session = onnxruntime.InferenceSession(os.path.join(exported("onnx").path, "model.onnx"))
    inside = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert inside["classes"] == ["fen", "moor", "wood"]
    assert (inside["size_px"], inside["resize"], inside["rejects_below"]) == ([16, 20], "stretch", 0.4)
    assert [one.name for one in session.get_inputs() + session.get_outputs()] == ["images", "probabilities"]


def test_the_essentials_are_inside_of_an_openvino_file(exported):
    model = openvino_core().read_model(os.path.join(exported("openvino").path, "model.xml"))
    assert json.loads(model.get_rt_info(["featstore", "classes"]).astype(str)) == ["fen", "moor", "wood"]
    assert [one.any_name for one in model.inputs + model.outputs] == ["images", "probabilities"]


def test_the_labels_are_inside_of_a_tflite_file(exported):
    with zipfile.ZipFile(os.path.join(exported("tflite").path, "model.tflite")) as archive:
        assert archive.read("labels.txt") == b"fen\nmoor\nwood\n"


@pytest.fixture(scope="module")
def rounded(head, shared_table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rounded")
    return {
        quantize: featstore.export_head(
            head, folder / quantize, format="tflite", quantize=quantize, table=shared_table
        )
        for quantize in ("float16", "int8")
    }


@pytest.mark.parametrize("quantize", ["float16", "int8"])
def test_a_rounded_model_says_what_rounding_cost(rounded, head, quantize):
    model = rounded[quantize]
    told = model.description.verification
    assert model.description.quantization == quantize
    assert set(told["tolerance"]) == {"mean_difference", "top1_agreement"}
    assert 0 < told["mean_difference"] <= told["tolerance"]["mean_difference"]
    assert told["top1_head"] == pytest.approx(head.test["top1"])


@pytest.mark.parametrize(("quantize", "dtype"), [("float16", np.float16), ("int8", np.int8)])
def test_the_kernels_are_stored_rounded(rounded, quantize, dtype):
    path = os.path.join(rounded[quantize].path, "model.tflite")
    kernels = [
        one["dtype"] for one in Interpreter(path).get_tensor_details() if tuple(one["shape"]) == (6, 3, 3, 3)
    ]
    assert dtype in kernels


def test_int8_needs_training_photos(head, land, tmp_path):
    with pytest.raises(ExportError, match="no store locates them"):
        featstore.export_head(head, tmp_path / "out", format="tflite", quantize="int8")
    divided = land.with_splits(land.splits(head.split_rule))
    gone = divided.select(divided.splits(head.split_rule) == "test")
    with pytest.raises(ExportError, match="none is unchanged at its path in the catalog"):
        featstore.export_head(head, tmp_path / "out", format="tflite", quantize="int8", table=gone)


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        ({"format": "abacus"}, "a format must be one of saved_model, keras|a format must be one of keras"),
        ({"format": "tflite", "quantize": "int4"}, "float16 or int8; found 'int4'"),
        ({"format": "onnx", "quantize": "int8"}, "only the format tflite is quantized"),
    ],
)
def test_wrong_choices_are_refused(head, tmp_path, choices, reason):
    with pytest.raises(ExportError, match=reason):
        featstore.export_head(head, tmp_path / "out", **choices)


def test_without_the_features_it_is_written_unverified_and_says_so(head, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        model = featstore.export_head(head, tmp_path / "out", format="keras")
    assert model.description.verification == {
        "skipped": "the features that the head was fitted on were not at hand"
    }
    assert "not verified" in caplog.text
    assert "Verification\n\nNone: the features" in (tmp_path / "out" / "model_card.md").read_text()


def test_photos_that_are_gone_or_changed_are_not_compared(original, tmp_path, tiny_backbone):
    shutil.copytree(original / "land", tmp_path / "land")
    store = tmp_path / "land.fstore"
    featstore.extract(tmp_path / "land", store, backbone=tiny_backbone, preprocessing="unit")
    table = featstore.FeatureStore(store).table()
    fitted = featstore.fit(table, head="ridge", params={"alpha": 10.0})
    held_out = table.split("test").paths
    os.unlink(held_out[0])
    Image.new("RGB", (30, 30)).save(held_out[1])

    model = featstore.export_head(fitted, tmp_path / "out", format="keras", table=table)
    told = model.description.verification
    assert (told["n"], told["n_lost"]) == (len(held_out) - 2, 2)

    shutil.rmtree(tmp_path / "land")
    model = featstore.export_head(fitted, tmp_path / "out2", format="keras", table=table)
    assert "none of the" in model.description.verification["skipped"]


def test_a_model_that_is_not_the_head_leaves_nothing_behind(head, shared_table, tmp_path, monkeypatch):
    monkeypatch.setattr(verification, "_EXACT", 0.0)
    with pytest.raises(VerificationError, match=r"on \d+ test photos the largest difference is .* at most 0"):
        featstore.export_head(head, tmp_path / "out", format="keras", table=shared_table)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_kept(head, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(ExportError, match=r"exists and is not an exported model; choose another folder$"):
        featstore.export_head(head, tmp_path / "out", format="keras")
    with pytest.raises(ExportError, match="not an exported model, and --force replaces nothing else"):
        featstore.export_head(head, tmp_path / "out", format="keras", overwrite=True)
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_in_place_of_the_folder_is_kept(head, tmp_path, overwrite):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ExportError, match=r"exists and is not an exported model.*; choose another place"):
        featstore.export_head(head, tmp_path / "out", format="keras", overwrite=overwrite)
    assert (tmp_path / "out").read_text() == "mine"


def test_an_exported_model_is_replaced_when_asked(head, tmp_path):
    featstore.export_head(head, tmp_path / "out", format="keras")
    other = replace(head, reject=None)
    with pytest.raises(ExportError, match="--force"):
        featstore.export_head(other, tmp_path / "out", format="keras")
    assert featstore.ExportedModel.load(tmp_path / "out").rejects_below == 0.4
    featstore.export_head(other, tmp_path / "out", format="keras", overwrite=True)
    assert featstore.ExportedModel.load(tmp_path / "out").rejects_below == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_an_exported_model_with_files_of_ones_own_beside_it_is_kept(head, tmp_path):
    featstore.export_head(head, tmp_path / "out", format="keras")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(ExportError, match=r"notes\.txt, which --force would remove"):
            featstore.export_head(head, tmp_path / "out", format="keras", overwrite=overwrite)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_an_empty_folder_is_filled(head, tmp_path):
    (tmp_path / "out").mkdir()
    assert featstore.export_head(head, tmp_path / "out", format="keras").runtime == "keras"


def test_the_folder_around_it_has_to_be_there(head, tmp_path):
    with pytest.raises(ExportError, match="does not exist; make it"):
        featstore.export_head(head, tmp_path / "missing" / "out")


def test_a_label_with_a_line_break_is_refused(head, tmp_path):
    odd = replace(head, classes=np.array(["fen", "moor\nor so", "wood"]))
    with pytest.raises(ExportError, match="line break"):
        featstore.export_head(odd, tmp_path / "out")


def test_weights_that_have_moved_are_asked_for(head, tiny_backbone, tmp_path):
    moved = replace(head, weights=str(tmp_path / "moved.keras"))
    with pytest.raises(BackboneError, match=r"moved\.keras; pass the weights file with --weights"):
        featstore.export_head(moved, tmp_path / "out", format="keras")
    model = featstore.export_head(moved, tmp_path / "out", format="keras", weights=tiny_backbone)
    assert model.description.spec == head.spec


def test_other_weights_are_refused(head, tiny_backbone, tmp_path):
    other = keras.saving.load_model(tiny_backbone)
    other.set_weights([2 * values for values in other.get_weights()])
    other.save(tmp_path / "tiny.keras")
    with pytest.raises(FingerprintMismatchError, match="are not those of"):
        featstore.export_head(head, tmp_path / "out", weights=tmp_path / "tiny.keras")


def test_features_of_another_backbone_are_refused(head, shared_table, tmp_path):
    other = replace(head, spec=replace(head.spec, pooling="max"))
    other = replace(other, fingerprint=other.spec.fingerprint)
    with pytest.raises(FingerprintMismatchError, match="pooling is max in the head"):
        featstore.export_head(other, tmp_path / "out", table=shared_table)


@pytest.mark.parametrize(
    ("runtime", "package", "verifies"),
    [
        ("onnx", "tf2onnx", False),
        ("onnx", "onnxruntime", True),
        ("tflite", "ai_edge_litert", True),
    ],
)
def test_a_missing_extra_is_named_before_anything_is_built(
    head, shared_table, tmp_path, monkeypatch, runtime, package, verifies
):
    monkeypatch.setitem(sys.modules, package, None)
    moved = replace(head, weights="/nowhere.keras")
    with pytest.raises(MissingExtraError, match=rf'{package}.*pip install "featstore\[{runtime}\]"'):
        featstore.export_head(moved, tmp_path / "out", format=runtime, table=shared_table, verify=verifies)


@pytest.mark.parametrize(("runtime", "package"), [("onnx", "onnxruntime"), ("tflite", "ai_edge_litert")])
def test_a_model_whose_runtime_is_missing_names_the_extra(exported, monkeypatch, runtime, package):
    model = featstore.ExportedModel.load(exported(runtime).path)
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf'pip install "featstore\[{runtime}\]"'):
        list(model.run([np.zeros((1, 16, 20, 3), np.uint8)]))


@pytest.mark.parametrize("seconds", [-86400.0, 4_420_000_000.0], ids=["1969", "2110"])
@pytest.mark.parametrize("runtime", FORMATS)
def test_a_model_is_exported_whatever_the_clock_shows(head, tmp_path, monkeypatch, runtime, seconds):
    monkeypatch.setattr(zipfile, "time", time)
    monkeypatch.setattr(time, "time", lambda: seconds)
    monkeypatch.setattr(time, "time_ns", lambda: int(seconds) * 10**9)
    model = featstore.export_head(head, tmp_path / "model", format=runtime)
    assert len(next(model.run([np.zeros((1, 16, 20, 3), np.uint8)]))) == 1

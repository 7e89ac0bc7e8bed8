import errno
import json
import os
from types import SimpleNamespace

import keras
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from featstore.backbones.spec import BackboneSpec
from featstore.errors import ExportError, FormatVersionError
from featstore.export import ExportedModel
from featstore.export.description import DESCRIPTION, ModelDescription, file_digests
from featstore.export.exported import _check_files
from featstore.export.folder import check_place

CLASSES = ("fen", "moor", "wood")
KERNEL = np.array([[1, -1, 0], [0, 1, -1], [-1, 0, 1]], np.float32) / 40


def by_hand(pixels):
    scores = pixels.astype(np.float32).mean((1, 2)) @ KERNEL
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def describe(folder, runtime, file, /, **changes):
    spec = BackboneSpec(
        architecture="mean", weights_digest="0" * 64, layer="mean", size_px=(8, 6), preprocessing="none"
    )
    description = ModelDescription(
        runtime=runtime, file=file, files=file_digests(folder, [file]), classes=CLASSES, spec=spec
    )
    folder.joinpath("model.json").write_text(json.dumps(description.to_dict() | changes), encoding="utf-8")
    return folder


@pytest.fixture
def keras_folder(tmp_path):
    inputs = keras.Input((8, 6, 3), dtype="uint8")
    mean = keras.layers.GlobalAveragePooling2D()(keras.ops.cast(inputs, "float32"))
    dense = keras.layers.Dense(3, activation="softmax", use_bias=False)
    model = keras.Model(inputs, dense(mean))
    dense.set_weights([KERNEL])
    model.save(tmp_path / "model.keras")
    return describe(tmp_path, "keras", "model.keras")


@pytest.fixture
def onnx_folder(tmp_path):
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "kernel"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [None, 8, 6, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 3])],
        [
            numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
            numpy_helper.from_array(KERNEL, "kernel"),
        ],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), tmp_path / "model.onnx")
    return describe(tmp_path, "onnx", "model.onnx")


@pytest.mark.parametrize("folder", ["keras_folder", "onnx_folder"])
def test_batches_of_any_size_come_back_in_order(folder, request):
    model = ExportedModel.load(request.getfixturevalue(folder))
    pixels = np.random.default_rng(0).integers(0, 256, (7, 8, 6, 3), dtype=np.uint8)
    rows = list(model.run([pixels[:4], pixels[4:5], pixels[5:]]))
    assert [row.shape for row in rows] == [(4, 3), (1, 3), (2, 3)]
    assert {row.dtype for row in rows} == {np.dtype(np.float32)}
    np.testing.assert_allclose(np.concatenate(rows), by_hand(pixels), atol=1e-6)


def test_it_says_what_a_caller_has_to_know(onnx_folder):
    model = ExportedModel.load(describe(onnx_folder, "onnx", "model.onnx", rejects_below=0.5))
    assert model.classes.tolist() == list(CLASSES)
    assert (model.size_px, model.resize) == ((8, 6), "stretch")
    assert (model.runtime, model.rejects_below) == ("onnx", 0.5)
    assert model.batch_size >= 1


def test_the_models_file_opens_it_too(onnx_folder):
    assert ExportedModel.load(onnx_folder / "model.onnx").runtime == "onnx"


def test_no_images_need_no_runtime(onnx_folder):
    model = ExportedModel.load(onnx_folder)
    assert list(model.run([])) == []


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((1, 6, 8, 3), np.uint8),
        np.zeros((1, 8, 6, 3), np.float32),
        np.zeros((8, 6, 3), np.uint8),
        np.zeros((0, 8, 6, 3), np.uint8),
    ],
    ids=["size", "type", "rank", "none"],
)
def test_images_of_another_shape_or_type_are_refused(onnx_folder, pixels):
    with pytest.raises(ValueError, match=r"expected uint8 pixels of shape \(n, 8, 6, 3\)"):
        list(ExportedModel.load(onnx_folder).run([pixels]))


def test_there_has_to_be_a_model(tmp_path):
    with pytest.raises(ExportError, match="there is no exported model"):
        ExportedModel.load(tmp_path / "missing")
    with pytest.raises(ExportError, match=r"there is no model\.json"):
        ExportedModel.load(tmp_path)


def test_another_file_beside_the_description_is_not_the_model(onnx_folder):
    (onnx_folder / "other.onnx").write_bytes(b"other")
    with pytest.raises(ExportError, match=r"is not the model that the model\.json beside it describes"):
        ExportedModel.load(onnx_folder / "other.onnx")


def test_a_changed_model_file_is_refused(onnx_folder):
    with (onnx_folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ExportError, match="is not the file that was exported"):
        ExportedModel.load(onnx_folder)


def test_a_missing_model_file_is_named(onnx_folder):
    (onnx_folder / "model.onnx").unlink()
    with pytest.raises(ExportError, match=r"model\.onnx cannot be read"):
        ExportedModel.load(onnx_folder)


def test_a_file_that_the_runtime_cannot_open_is_named(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    model = ExportedModel.load(describe(tmp_path, "onnx", "model.onnx"))
    with pytest.raises(ExportError, match=r"model\.onnx cannot be opened as onnx"):
        list(model.run([np.zeros((1, 8, 6, 3), np.uint8)]))


def test_a_newer_version_asks_for_an_upgrade(onnx_folder):
    with pytest.raises(FormatVersionError, match="upgrade featstore"):
        ExportedModel.load(describe(onnx_folder, "onnx", "model.onnx", format_version=4))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": "something"}, "not the description"),
        ({"runtime": "abacus"}, "invalid runtime"),
        ({"classes": ["fen", "fen", "moor"]}, "invalid classes"),
        ({"classes": ["", "fen", "moor"]}, "invalid classes"),
        ({"classes": None}, "incomplete"),
        ({"rejects_below": 1.0}, "invalid rejects_below"),
        ({"files": {"model.onnx": "0", "../outside": "0"}}, "invalid files"),
        ({"file": "other.onnx"}, "invalid file"),
        ({"head": {"held_out": {"fen": [2]}}}, "invalid head"),
        ({"fingerprint": "0" * 64}, "fingerprint"),
        ({"spec": {}}, "incomplete"),
    ],
)
def test_a_damaged_description_is_refused_by_what_is_wrong(onnx_folder, changes, reason):
    with pytest.raises(ExportError, match=reason):
        ExportedModel.load(describe(onnx_folder, "onnx", "model.onnx", **changes))


@pytest.mark.parametrize("change", [lambda text: text[:-20], lambda _: "[" * 100_000], ids=["short", "deep"])
def test_a_description_that_is_no_json_is_refused(onnx_folder, change):
    text = (onnx_folder / "model.json").read_text()
    (onnx_folder / "model.json").write_text(change(text))
    with pytest.raises(ExportError, match=r"model\.json cannot be used"):
        ExportedModel.load(onnx_folder)


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE, errno.EACCES])
def test_a_model_that_the_system_does_not_give_out_now_is_neither_foreign_nor_to_be_exported_again(
    tmp_path, monkeypatch, code
):
    (tmp_path / "model").mkdir()
    path = tmp_path / "model" / DESCRIPTION
    path.write_text("{}")
    real = open

    def refuse(name, *arguments, **options):
        if str(name).startswith(str(tmp_path / "model")):
            raise OSError(code, os.strerror(code), str(name))
        return real(name, *arguments, **options)

    monkeypatch.setattr("builtins.open", refuse)
    reason = os.strerror(code)
    with pytest.raises(ExportError, match=f"cannot be read: .*{reason}"):
        check_place(str(tmp_path / "model"), overwrite=True)
    with pytest.raises(ExportError, match=f"cannot be read: .*{reason}") as caught:
        _check_files(str(tmp_path / "model"), SimpleNamespace(files={"a.onnx": "0"}))
    assert "export it again" not in str(caught.value)

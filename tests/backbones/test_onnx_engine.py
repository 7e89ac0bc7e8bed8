"""ONNX networks run by ONNX Runtime, which has GPUs: the same features as OpenVINO's."""

import numpy as np
import onnx
import pytest
from graph_material import SIDE, write_tokens

from featstore import load_backbone
from featstore.backbones.joint import JointBackbone
from featstore.errors import BackboneError

TOKENS = {"mean": 0.4, "std": 0.3}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    write_tokens(folder / "tokens.onnx")
    write_tokens(folder / "one.onnx", batch=1)
    write_tokens(folder / "outside.onnx", outside="outside.bin")
    return folder


CASES = {
    "maps": ("tokens.onnx", {"preprocess": "caffe", "layer": "maps"}),
    "cls": ("tokens.onnx", {**TOKENS, "layer": "last_hidden_state", "pooling": "cls"}),
    "mean": ("tokens.onnx", {**TOKENS, "layer": "last_hidden_state", "pooling": "tokens"}),
    "all": ("tokens.onnx", {**TOKENS, "layer": "last_hidden_state", "pooling": "none"}),
    "inside": ("tokens.onnx", {**TOKENS, "layer": "maps", "pooling": "max"}),
    "one image": ("one.onnx", {**TOKENS, "layer": "pooler_output"}),
    "weights outside": ("outside.onnx", {**TOKENS, "layer": "pooler_output"}),
}


@pytest.mark.parametrize("case", CASES)
def test_features_are_those_of_openvino(case, folder, images, cache):
    name, options = CASES[case]
    wanted = load_backbone(folder / name, **options)
    found = load_backbone(folder / name, **options, engine="onnxruntime")
    assert found.spec == wanted.spec
    rows = found.forward(images)
    np.testing.assert_allclose(rows, wanted.forward(images), atol=1e-4 * np.abs(rows).max())
    assert found.provenance["engine"] == "onnxruntime"
    np.testing.assert_allclose(found.forward(images[3:4]), rows[3:4], atol=1e-5)


def test_several_layers_are_one_pass(folder, images, cache):
    options = {**TOKENS, "pooling": "tokens", "engine": "onnxruntime"}
    parts = [
        load_backbone(folder / "tokens.onnx", layer=one, **options)
        for one in ("last_hidden_state", "pooler_output")
    ]
    (rows,) = JointBackbone(parts).run([images])
    np.testing.assert_allclose(
        rows, np.concatenate([one.forward(images) for one in parts], axis=1), atol=1e-5
    )


def test_what_it_cannot_run_is_refused(folder, tmp_path, images, cache):
    options = {**TOKENS, "layer": "pooler_output", "engine": "onnxruntime"}
    with pytest.raises(BackboneError, match="leave --devices out"):
        load_backbone(folder / "tokens.onnx", **options, devices=["cpu:0"])
    with pytest.raises(BackboneError, match="in float32"):
        load_backbone(folder / "tokens.onnx", **options, precision="bfloat16").forward(images)
    with pytest.raises(BackboneError, match="ONNX models only"):
        load_backbone("scattering", engine="onnxruntime").forward(np.zeros((1, 96, 96, 3), np.uint8))
    model = onnx.load(folder / "tokens.onnx")
    model.opset_import.append(onnx.helper.make_opsetid("evil", 1))
    onnx.save(model, tmp_path / "evil.onnx")
    with pytest.raises(BackboneError, match="operations of evil"):
        load_backbone(tmp_path / "evil.onnx", **options).forward(images)

"""Networks in files of other libraries, run by OpenVINO."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from graph_material import SIDE, small_network, write_graphs, write_onnx, write_retrain_graph, write_tokens

from featstore import load_backbone
from featstore.backbones import backbone_from_spec
from featstore.backbones.joint import joint_backbones
from featstore.errors import BackboneError, FingerprintMismatchError

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module")
def network(keras):
    return small_network(keras)


@pytest.fixture(scope="module")
def paths(network, tmp_path_factory):
    return write_graphs(network, str(tmp_path_factory.mktemp("graphs")))


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(7).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokens") / "vit.onnx"
    write_tokens(str(path))
    return str(path)


@pytest.mark.parametrize("name", ["net.onnx", "saved", "net.tflite", "net.pb", "net.xml"])
def test_every_file_of_a_network_gives_the_features_of_the_keras_model(paths, network, pictures, name):
    backbone = load_backbone(paths[name], preprocess="tf")
    expected = np.asarray(network(pictures / np.float32(127.5) - 1))
    np.testing.assert_allclose(backbone.forward(pictures), expected, **CLOSE)
    assert backbone.spec.pooling == "none"
    assert (backbone.feature_dim, backbone.spec.size_px) == (40, (SIDE, SIDE))


def test_a_renamed_file_is_the_same_backbone_and_other_weights_are_another(tokens, tmp_path):
    options = {"preprocess": "tf", "layer": "pooler_output"}
    spec = load_backbone(tokens, **options).spec
    renamed = shutil.copy(tokens, tmp_path / "other name.onnx")
    assert load_backbone(renamed, **options).spec == spec
    write_tokens(str(tmp_path / "changed.onnx"), seed=5)
    assert load_backbone(tmp_path / "changed.onnx", **options).spec.fingerprint != spec.fingerprint
    with pytest.raises(FingerprintMismatchError, match="weights"):
        backbone_from_spec(spec, weights=tmp_path / "changed.onnx")


def test_layers_of_a_frozen_graph_are_tensors_and_come_in_one_pass(paths, network, pictures, keras):
    names = ["expand_relu_1", "out_relu"]
    found = [_tensor(paths["net.pb"], name) for name in names]
    backbones = [load_backbone(paths["net.pb"], preprocess="tf", layer=name) for name in found]
    ((joint, _),) = joint_backbones(backbones)
    cut = keras.Model(network.inputs[0], [network.get_layer(name).output for name in names])
    expected = [np.asarray(maps).mean((1, 2)) for maps in cut(pictures / np.float32(127.5) - 1)]
    (rows,) = joint.run([pictures])
    np.testing.assert_allclose(rows, np.concatenate(expected, axis=1), **CLOSE)


def _tensor(path, layer):
    import tensorflow as tf

    graph = tf.compat.v1.GraphDef.FromString(Path(path).read_bytes())
    return next(node.name for node in graph.node if f"{layer}_" in node.name and node.op == "Relu6")


def test_the_graph_of_retrain_takes_pixels_where_it_scaled_them(tmp_path, pictures):
    path = str(tmp_path / "tensorflow_inception_graph.pb")
    kernel = write_retrain_graph(path)
    options = {"layer": "pool_3/_reshape:0", "mean": 128, "std": 128, "scale": 1}
    backbone = load_backbone(path, input_name="Mul:0", layout="nhwc", image_size=SIDE, **options)
    import tensorflow as tf

    scaled = (pictures.astype(np.float32) - 128) / 128
    expected = tf.nn.relu(tf.nn.conv2d(scaled, kernel, 2, "VALID")).numpy().mean((1, 2))
    np.testing.assert_allclose(backbone.forward(pictures), expected, **CLOSE)
    with pytest.raises(BackboneError, match="--input"):
        load_backbone(path, **options)


def test_tokens_are_pooled_as_asked(tokens, pictures):
    options = {"layer": "last_hidden_state", "mean": 0.4, "std": 0.3}
    every = load_backbone(tokens, pooling="none", **options).forward(pictures).reshape(3, 17, 6)
    first = load_backbone(tokens, pooling="cls", **options)
    np.testing.assert_allclose(first.forward(pictures), every[:, 0], **CLOSE)
    mean = load_backbone(tokens, pooling="tokens", **options).forward(pictures)
    np.testing.assert_allclose(mean, every.mean(1), **CLOSE)
    with pytest.raises(BackboneError, match="--pooling cls"):
        load_backbone(tokens, **options)
    again = backbone_from_spec(first.spec, weights=tokens)
    np.testing.assert_array_equal(again.forward(pictures), first.forward(pictures))


def test_a_network_for_one_image_at_a_time_gives_every_image_its_row(tmp_path, pictures, tokens):
    write_tokens(str(tmp_path / "one.onnx"), batch=1)
    options = {"layer": "pooler_output", "preprocess": "unit"}
    expected = load_backbone(tokens, **options).forward(pictures)
    np.testing.assert_allclose(
        load_backbone(tmp_path / "one.onnx", **options).forward(pictures), expected, **CLOSE
    )


def test_a_pickled_one_needs_no_file(tmp_path, pictures, tokens):
    path = shutil.copy(tokens, tmp_path / "gone.onnx")
    backbone = load_backbone(path, layer="pooler_output", preprocess="torch")
    expected, pickled = backbone.forward(pictures), pickle.dumps(backbone)
    os.unlink(path)
    np.testing.assert_array_equal(pickle.loads(pickled).forward(pictures), expected)


def test_several_outputs_are_listed_and_a_wrong_name_has_its_likes(tokens):
    with pytest.raises(BackboneError, match=r"2 outputs.*last_hidden_state \[n,17,6\], pooler_output"):
        load_backbone(tokens, preprocess="tf")
    with pytest.raises(BackboneError, match="did you mean pooler_output"):
        load_backbone(tokens, preprocess="tf", layer="pooled_output")


def test_weights_beside_an_onnx_model_are_a_part_of_it_and_stay_in_its_folder(tmp_path, pictures, tokens):
    write_tokens(str(tmp_path / "vit.onnx"), outside="vit.onnx_data")
    options = {"layer": "pooler_output", "preprocess": "unit"}
    expected = load_backbone(tokens, **options).forward(pictures)
    before = load_backbone(tmp_path / "vit.onnx", **options)
    np.testing.assert_allclose(before.forward(pictures), expected, **CLOSE)
    weights = (tmp_path / "vit.onnx_data").read_bytes()
    (tmp_path / "vit.onnx_data").write_bytes(weights[:-8] + b"\1" * 8)
    after = load_backbone(tmp_path / "vit.onnx", **options)
    assert after.spec.weights_digest != before.spec.weights_digest
    model = (tmp_path / "vit.onnx").read_bytes()
    (tmp_path / "vit.onnx").write_bytes(model.replace(b"vit.onnx_data", b"../onnx_data_"))
    with pytest.raises(BackboneError, match="outside of its own folder"):
        load_backbone(tmp_path / "vit.onnx", **options)
    (tmp_path / "vit.onnx").write_bytes(model.replace(b"vit.onnx_data", b"vit.onnx_dat_"))
    with pytest.raises(BackboneError, match="no file"):
        load_backbone(tmp_path / "vit.onnx", **options)


@pytest.mark.parametrize("name", ["net.onnx", "net.xml", "net.tflite", "net.pb"])
def test_files_cut_short_are_refused_by_their_name(paths, tmp_path, name):
    content = Path(paths[name]).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    (tmp_path / "net.bin").write_bytes(b"")
    with pytest.raises(BackboneError, match=name):
        load_backbone(tmp_path / name, preprocess="tf")


def test_options_that_such_a_network_has_not_are_refused(paths, tmp_path):
    path = paths["net.onnx"]
    for options, message in (
        ({}, "preprocessor_config.json"),
        ({"preprocess": "tf", "weights": "x.h5"}, "leave --weights out"),
        ({"preprocess": "tf", "trust_model": True}, "leave --trust-model out"),
        ({"preprocess": "tf", "mean": 0.5}, "give either"),
        ({"mean": 128}, "--scale 1"),
        ({"preprocess": "tf", "image_size": 64}, "32x32 pixels only"),
        ({"preprocess": "tf", "layout": "nchw"}, "laid out as nchw"),
        ({"preprocess": "tf", "resize": "pad", "crop_fraction": 0.9}, "crop_fraction"),
    ):
        with pytest.raises(BackboneError, match=message):
            load_backbone(path, **options)
    with pytest.raises(BackboneError, match="leave --layout out"):
        load_backbone("scattering", layout="nchw")
    with pytest.raises(BackboneError, match="no Keras model"):
        load_backbone(path, preprocess="tf").build()
    with pytest.raises(BackboneError, match="leave --engine"):
        load_backbone(path, preprocess="tf", engine="keras").forward(np.zeros((1, SIDE, SIDE, 3), np.uint8))


def test_what_is_stated_beside_a_network_is_followed_and_options_take_precedence(tokens, tmp_path, caplog):
    (tmp_path / "onnx").mkdir()
    shutil.copy(tokens, tmp_path / "onnx" / "model.onnx")
    stated = {
        "do_center_crop": True,
        "crop_size": {"height": SIDE, "width": SIDE},
        "size": {"shortest_edge": 40},
        "resample": 3,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    spec = load_backbone(tmp_path, layer="pooler_output").spec
    assert (spec.resize, spec.crop_fraction, spec.interpolation) == ("crop", 0.8, "bicubic")
    assert spec.preprocessing == "tf"
    assert "expects pixels" not in caplog.text
    said = {"preprocess": "tf", "resize": "crop", "crop_fraction": 0.8, "interpolation": "bicubic"}
    assert load_backbone(tokens, layer="pooler_output", **said).spec == spec
    spec = load_backbone(
        tmp_path, layer="pooler_output", resize="pad", preprocess="unit", interpolation="bilinear"
    ).spec
    assert (spec.resize, spec.crop_fraction, spec.interpolation) == ("pad", None, None)
    assert spec.preprocessing == "unit"
    assert f"{tmp_path.name} expects pixels scaled as tf; scaling them as unit" in caplog.text


def test_efficientnet_lite_from_onnx_agrees_with_the_keras_model(tmp_path, keras, real_weights):
    own = real_weights("efficientnet_lite0.keras")
    model = keras.models.load_model(own, compile=False)
    model(np.zeros((1, 224, 224, 3), np.float32))
    write_onnx(model, tmp_path / "lite.onnx")
    pixels = np.random.default_rng(2).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    wanted = load_backbone(own, preprocess="tf", engine="keras").forward(pixels)
    found = load_backbone(tmp_path / "lite.onnx", preprocess="tf").forward(pixels)
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_a_keras_model_of_tokens_is_pooled_and_scaled_as_asked(tmp_path, keras, pictures):
    inputs = keras.Input((SIDE, SIDE, 3))
    tokens = keras.layers.Reshape((16, 192), name="tokens")(inputs)
    keras.Model(inputs, tokens).save(tmp_path / "tokens.keras")
    options = {"mean": (0.1, 0.2, 0.3), "std": 0.5, "engine": "keras"}
    scaled = ((pictures / np.float32(255) - np.float32([0.1, 0.2, 0.3])) / 0.5).reshape(3, 16, 192)
    for pooling, expected in (("cls", scaled[:, 0]), ("tokens", scaled.mean(1))):
        found = load_backbone(tmp_path / "tokens.keras", pooling=pooling, **options)
        assert found.spec.preprocessing == "custom"
        np.testing.assert_allclose(found.forward(pictures), expected, **CLOSE)
    with pytest.raises(BackboneError, match="--pooling cls"):
        load_backbone(tmp_path / "tokens.keras", **options)


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ({"op_type": "Secret", "domain": "evil"}, r"strange\.onnx: OpenVINO cannot read it: .*evil\.Secret"),
        ({"op_type": "ConstantOfShape"}, r"strange\.onnx: it needs more memory than there is"),
    ],
)
def test_operations_of_strangers_and_more_memory_than_there_is_are_refused(tmp_path, operation, message):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    huge = numpy_helper.from_array(np.array([10_000, 4_000_000, 1_000], np.int64), "huge")
    graph = helper.make_graph(
        [
            helper.make_node(inputs=["huge"], outputs=["constant"], **operation),
            helper.make_node("ReduceMean", ["constant"], ["mean"], axes=[0, 1], keepdims=0),
            helper.make_node("ReduceMean", ["pixels"], ["row"], axes=[2, 3], keepdims=0),
            helper.make_node("ReduceMean", ["row"], ["one"], axes=[1], keepdims=1),
            helper.make_node("Mul", ["one", "mean"], ["features"]),
        ],
        "strange",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 1000])],
        [huge],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("evil", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.save(model, tmp_path / "strange.onnx")
    with pytest.raises(BackboneError, match=message):
        load_backbone(tmp_path / "strange.onnx", preprocess="unit").forward(
            np.zeros((1, SIDE, SIDE, 3), np.uint8)
        )

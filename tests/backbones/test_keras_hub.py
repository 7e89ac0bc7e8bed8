"""Networks of KerasHub: presets in folders, their converters, towers and tokens."""

import json

import numpy as np
import pytest

from featstore import load_backbone
from featstore.backbones import backbone_from_spec
from featstore.backbones.graphs.preprocessor import read_preprocessor
from featstore.backbones.keras.models import forward_once
from featstore.errors import BackboneError, UnknownBackboneError, WeightsUnavailableError
from hub_material import SIDE, hub_network, keras_hub, save_preset

keras_hub()

# Of each network, the pooling that it needs, and what it says of scaled pixels.
NETWORKS = {
    "vit": ("cls", lambda net, images: np.asarray(net(images))[:, 0]),
    "dinov2": ("tokens", lambda net, images: np.asarray(net({"images": images})).mean(axis=1)),
    "dinov3": ("cls", lambda net, images: np.asarray(net({"pixel_values": images}))[:, 0]),
    "siglip": ("avg", lambda net, images: np.asarray(net.vision_encoder({"images": images}))),
    "clip": ("avg", lambda net, images: np.asarray(net.get_vision_embeddings(images))),
}

# Not after the network's own name, which counts those of the program that saved it.
LAYERS = {"dinov2": "layernorm", "siglip": "head", "clip": "vision_projection"}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(3).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_preset_gives_the_features_of_its_network(name, tmp_path, cache, images):
    pooling, features = NETWORKS[name]
    network = save_preset(name, tmp_path / "preset")
    wanted = features(network, images / np.float32(127.5) - 1)
    backbone = load_backbone(tmp_path / "preset", pooling=pooling)
    assert backbone.spec.architecture == f"keras_hub_{name}"
    assert backbone.spec.layer == LAYERS.get(name, backbone.spec.layer)
    assert (backbone.spec.size_px, backbone.spec.resize) == ((SIDE, SIDE), "crop")
    assert (backbone.spec.preprocessing, backbone.feature_dim) == ("tf", wanted.shape[1])
    np.testing.assert_allclose(backbone.forward(images), wanted, atol=1e-4)
    assert backbone.provenance["engine"] == "openvino"


@pytest.fixture
def preset(tmp_path, cache):
    save_preset("vit", tmp_path / "preset")
    return tmp_path / "preset"


def test_a_copied_preset_is_the_same_backbone_and_other_weights_are_not(preset, tmp_path):
    spec = load_backbone(preset, pooling="cls").spec
    assert spec.layer == "vit_encoder"
    preset.rename(tmp_path / "moved")
    assert load_backbone(tmp_path / "moved", pooling="cls").spec == spec
    assert backbone_from_spec(spec, weights=tmp_path / "moved").spec == spec
    network = hub_network("vit")
    network.weights[0].assign(network.weights[0] + 1)
    network.save_to_preset(str(tmp_path / "other"))
    assert (
        load_backbone(tmp_path / "other", pooling="cls", preprocess="tf").spec.weights_digest
        != spec.weights_digest
    )


def test_tokens_are_not_pooled_by_chance(preset):
    with pytest.raises(BackboneError, match=r"\(None, 17, 16\): set --pooling cls"):
        load_backbone(preset)


def test_layers_inside_are_named_as_in_keras(preset):
    backbone = load_backbone(preset, layer="vit_patching_and_embedding", pooling="none")
    assert backbone.feature_dim == 17 * 16
    with pytest.raises(BackboneError, match="did you mean vit_encoder"):
        load_backbone(preset, layer="vit_encodr", pooling="cls")


def test_images_of_another_size_where_the_network_takes_them(tmp_path, cache, preset):
    save_preset("dinov2", tmp_path / "dino")
    assert load_backbone(tmp_path / "dino", pooling="cls", image_size=64).spec.size_px == (64, 64)
    with pytest.raises(BackboneError, match="do not fit its ViTBackbone for images of 64x64 pixels"):
        load_backbone(preset, pooling="cls", image_size=64)


def test_the_converter_is_followed(tmp_path, cache):
    std = (0.229, 0.224, 0.225)
    mean = (0.485, 0.456, 0.406)
    converter = {
        "scale": [1 / 255 / one for one in std],
        "offset": [-of / one for of, one in zip(mean, std, strict=True)],
        "interpolation": "bicubic",
        "crop_to_aspect_ratio": False,
    }
    save_preset("vit", tmp_path / "preset", **converter)
    stated = read_preprocessor(tmp_path / "preset")
    assert str(stated) == "32 x 32 px, stretch, bicubic, scaling torch"
    save_preset("vit", tmp_path / "other", interpolation="nearest")
    with pytest.raises(BackboneError, match="interpolated by 'nearest'"):
        load_backbone(tmp_path / "other", pooling="cls")


def test_without_a_converter_the_scaling_is_asked_for(preset):
    (preset / "image_converter.json").unlink()
    with pytest.raises(BackboneError, match=r"no image_converter\.json.*--preprocess"):
        load_backbone(preset, pooling="cls")


def test_a_network_of_text_alone_is_refused(tmp_path, cache):
    hub_network("clip").text_encoder.save_to_preset(str(tmp_path / "text"))
    with pytest.raises(BackboneError, match="does not take colour images"):
        load_backbone(tmp_path / "text", preprocess="tf")


def change(preset, edit):
    path = preset / "config.json"
    config = json.loads(path.read_text())
    edit(config)
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda config: config["config"].update(more={"class_name": "system", "module": "os"}),
            "'system' of the module 'os'",
        ),
        (lambda config: config["config"].update(mlp_dim=64), "do not fit its ViTBackbone"),
        (lambda config: config["config"].pop("mlp_dim"), "cannot build the ViTBackbone of .*mlp_dim"),
        (lambda config: config["config"].update(dtype="int8_from_float32"), "quantized weights"),
        (
            lambda config: config["config"].update(
                more={"class_name": "BytePairTokenizer", "module": "keras_hub.src.models.x", "config": {}}
            ),
            "BytePairTokenizer",
        ),
    ],
)
def test_a_changed_configuration_is_refused(preset, edit, message):
    change(preset, edit)
    with pytest.raises(BackboneError, match=message):
        load_backbone(preset, pooling="cls")


def test_damaged_or_missing_weights_are_named(preset):
    weights = preset / "model.weights.h5"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(BackboneError, match=r"model\.weights\.h5"):
        load_backbone(preset, pooling="cls")
    weights.unlink()
    with pytest.raises(BackboneError, match=r"no model file at .*model\.weights\.h5"):
        load_backbone(preset, pooling="cls")


def test_options_that_a_preset_has_no_use_for_are_refused(preset):
    with pytest.raises(BackboneError, match="leave --weights out"):
        load_backbone(preset, pooling="cls", weights="some.h5")
    with pytest.raises(BackboneError, match="leave --trust-model out"):
        load_backbone(preset, pooling="cls", trust_model=True)


@pytest.mark.parametrize("name", ["vit", "clip"])
def test_a_keras_file_with_classes_of_keras_hub_needs_no_trust(name, tmp_path, cache, images):
    pooling, features = NETWORKS[name]
    network = hub_network(name)
    network.save(str(tmp_path / "net.keras"))
    backbone = load_backbone(tmp_path / "net.keras", pooling=pooling, preprocess="tf")
    wanted = features(network, images / np.float32(127.5) - 1)
    np.testing.assert_allclose(forward_once(backbone.build(), images), wanted, atol=1e-4)


def test_a_network_that_does_not_say_what_it_is_is_an_error_of_ours(keras, tmp_path, cache, monkeypatch):
    network = hub_network("deit")
    network.save(str(tmp_path / "net.keras"))
    layer = type(network.layers[-1])

    def broken(self):
        return {"key_dim": self.key_dim}

    monkeypatch.setattr(layer, "get_config", broken)
    with pytest.raises(BackboneError, match=r"net\.keras.*key_dim"):
        load_backbone(tmp_path / "net.keras", pooling="cls", preprocess="tf")


def test_a_model_in_memory_is_one_too(cache, images):
    network = hub_network("vit")
    backbone = load_backbone(network, pooling="cls", preprocess="tf")
    wanted = NETWORKS["vit"][1](network, images / np.float32(127.5) - 1)
    np.testing.assert_allclose(forward_once(backbone.build(), images), wanted, atol=1e-4)


def test_a_preset_is_downloaded_once_and_then_known(tmp_path, cache, monkeypatch):
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kaggle"))
    name = "vit_base_patch16_224_imagenet"
    handle = keras_hub().models.Backbone.presets[name]["kaggle_handle"].removeprefix("kaggle://")
    folder = tmp_path / "kaggle" / "models" / handle
    folder.parent.mkdir(parents=True)
    save_preset("vit", folder)
    (folder.parent / f"{folder.name}.complete").touch()
    backbone = load_backbone(f"keras_hub:{name}", pooling="cls")
    assert backbone.weights == str(folder)
    monkeypatch.setattr("featstore.backbones.keras.hub.download_preset", None)
    again = backbone_from_spec(backbone.spec, weights=f"keras_hub:{name}")
    assert again.spec == backbone.spec


def test_a_preset_that_is_unknown_or_out_of_reach_is_named(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kaggle"))
    with pytest.raises(UnknownBackboneError, match="did you mean vit_base_patch16_224_imagenet"):
        load_backbone("keras_hub:vit_base_patch16_224_imagenat")

    def offline(handle):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("kagglehub.model_download", offline)
    with pytest.raises(WeightsUnavailableError, match=r"cannot be fetched.*no route to host.*save_to_preset"):
        load_backbone("keras_hub:vit_base_patch16_224_imagenet")

import json
import shutil
import zipfile

import numpy as np
import pytest

from featstore.backbones.caches.facts import network_facts
from featstore.backbones.request import request_network
from featstore.errors import BackboneError, UnknownBackboneError, WeightsError, WeightsUnavailableError

from .conftest import randomize, save_legacy


@pytest.fixture
def build(keras, cache):
    from featstore.backbones.keras.models import build_network

    def build(name="mobilenet", **options):
        if name == "mobilenet":
            options = {"alpha": 0.25, "size_px": (64, 64), **options}
        return build_network(request_network(name, **options))

    return build


@pytest.fixture
def offline(keras, monkeypatch):
    """Keras' download as it is without a network, or answered by a file."""
    from keras.src.utils import file_utils

    def fail(name, origin, **_):
        raise Exception(f"URL fetch failure on {origin}: None -- [Errno -3] no network")  # noqa: TRY002

    monkeypatch.setattr(file_utils, "get_file", fail)
    return lambda path: monkeypatch.setattr(file_utils, "get_file", lambda *_, **__: path)


def rewrite(source, target, change):
    """Copy a model, with its configuration changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json":
                config = json.loads(data)
                change(config)
                data = json.dumps(config)
            new.writestr(name, data)


def rows(network, pixels):
    from featstore.backbones.keras.models import forward_once

    return forward_once(network, pixels)


FORMS = ["no_top.h5", "top.h5", "no_top.weights.h5", "top.weights.h5", "no_top.keras", "top.keras"]


def test_features_are_those_of_keras_applications(build, mobilenet_files, pixels, keras):
    expected = keras.applications.MobileNet(
        alpha=0.25,
        weights=mobilenet_files["no_top.h5"],
        include_top=False,
        pooling="avg",
        input_shape=(64, 64, 3),
    )(keras.applications.mobilenet.preprocess_input(pixels.astype(np.float32)), training=False)
    network = build(weights=mobilenet_files["no_top.h5"])
    assert network.facts.feature_dim == 256
    np.testing.assert_allclose(rows(network, pixels), np.asarray(expected), atol=1e-5)


def test_digest_is_the_same_from_every_form_of_file(build, mobilenet_files):
    digests = {build(weights=mobilenet_files[form]).facts.weights_digest for form in FORMS}
    assert len(digests) == 1


def test_digest_changes_with_one_weight(build, mobilenet_files, tmp_path, keras):
    options = {"alpha": 0.25, "weights": mobilenet_files["no_top.h5"], "input_shape": (64, 64, 3)}
    network = keras.applications.MobileNet(include_top=False, **options)
    bias = network.weights[-1]
    bias.assign(np.asarray(bias) + np.eye(1, bias.shape[0], dtype=np.float32)[0] * 1e-6)
    save_legacy(network, tmp_path / "changed.h5")
    before, after = (build(weights=str(path)) for path in (options["weights"], tmp_path / "changed.h5"))
    assert before.facts.weights_digest != after.facts.weights_digest


def test_a_layer_given_by_name_is_the_cut(build, mobilenet_files, pixels, keras):
    whole = keras.applications.MobileNet(
        alpha=0.25, weights=mobilenet_files["no_top.h5"], include_top=False, input_shape=(64, 64, 3)
    )
    cut = keras.Model(whole.inputs[0], whole.get_layer("conv_pw_6_relu").output)
    expected = np.asarray(cut(pixels / np.float32(127.5) - 1, training=False)).max((1, 2))
    network = build(weights=mobilenet_files["top.h5"], layer="conv_pw_6_relu", pooling="max")
    np.testing.assert_allclose(rows(network, pixels), expected, atol=1e-5)


def test_the_default_layer_by_its_name_is_the_default_cut(build, mobilenet_files):
    files = {"weights": mobilenet_files["no_top.h5"]}
    assert build(layer="conv_pw_13_relu", **files).facts == build(**files).facts


def test_a_layer_of_the_classifier_can_be_the_cut(build, tmp_path, keras, pixels):
    network = keras.applications.MobileNet(alpha=0.25, weights=None, input_shape=(64, 64, 3))
    save_legacy(randomize(network), tmp_path / "top.h5")
    built = build(weights=str(tmp_path / "top.h5"), layer="predictions")
    assert (built.facts.feature_dim, built.facts.pooling) == (1000, "none")
    np.testing.assert_allclose(rows(built, pixels).sum(1), 1, atol=1e-4)


def test_an_unknown_layer_is_answered_by_near_ones(build, mobilenet_files):
    with pytest.raises(BackboneError, match="no layer 'conv_pw_6_rel'; did you mean conv_pw_6_relu"):
        build(weights=mobilenet_files["no_top.h5"], layer="conv_pw_6_rel")


def test_pooling_none_flattens(build, mobilenet_files, pixels):
    network = build(weights=mobilenet_files["no_top.h5"], pooling="none")
    assert network.facts.feature_dim == 2 * 2 * 256
    pooled = rows(network, pixels).reshape(-1, 4, 256).mean(1)
    np.testing.assert_allclose(pooled, rows(build(weights=mobilenet_files["no_top.h5"]), pixels), atol=1e-5)


def test_layers_without_names_are_counted_from_the_networks_first(keras):
    from featstore.backbones.keras.cutting import stable_names

    def names():
        inputs = keras.Input((8, 8, 3))
        x = keras.layers.Conv2D(2, 1)(inputs)
        x = keras.layers.Conv2D(2, 1, name="named")(x)
        return list(stable_names(keras.Model(inputs, keras.layers.Conv2D(2, 1)(x))))

    assert names() == names()
    assert {"conv2d", "conv2d_1", "named"} <= set(names())


def test_a_file_of_another_width_says_which_alpha_fits(build, mobilenet_files):
    with pytest.raises(WeightsError, match=r"they fit with --alpha 0\.25"):
        build(weights=mobilenet_files["no_top.h5"], alpha=0.5)


@pytest.mark.parametrize("form", ["no_top.h5", "no_top.weights.h5", "no_top.keras"])
def test_a_file_of_another_architecture_is_refused_in_one_line(form, build, mobilenet_files):
    with pytest.raises(WeightsError, match=r"does not hold the weights of vgg16: .* expected") as caught:
        build("vgg16", weights=mobilenet_files[form], size_px=(32, 32))
    assert "\n" not in str(caught.value)


def test_a_keras_model_with_other_layers_of_the_same_shapes_is_refused(
    build, mobilenet_files, tmp_path, keras
):
    model = keras.models.load_model(mobilenet_files["no_top.keras"])

    def other(layer):
        if isinstance(layer, keras.layers.ReLU):
            return keras.layers.Activation("tanh", name=layer.name)
        return layer.__class__.from_config(layer.get_config())

    path = str(tmp_path / "tanh.keras")
    keras.models.clone_model(model, clone_function=other).save(path)
    with pytest.raises(WeightsError, match="layer 3 is a Activation, expected a ReLU"):
        build(weights=path)


def test_weights_that_are_not_numbers_are_refused(build, mobilenet_files, tmp_path, keras):
    network = keras.applications.MobileNet(
        alpha=0.25, weights=mobilenet_files["no_top.h5"], include_top=False, input_shape=(64, 64, 3)
    )
    network.weights[3].assign(np.full(network.weights[3].shape, np.nan, np.float32))
    save_legacy(network, tmp_path / "nan.h5")
    with pytest.raises(WeightsError, match="not finite"):
        build(weights=str(tmp_path / "nan.h5"))


def test_without_a_network_the_error_says_what_to_do(build, offline):
    with pytest.raises(WeightsUnavailableError, match="no network") as caught:
        build()
    message = str(caught.value)
    assert "\n" not in message
    assert all(hint in message for hint in ("storage.googleapis.com", "--weights", "--backbone scattering"))
    assert isinstance(caught.value, OSError)


def test_keras_own_weights_serve_other_sizes_too(build, offline, mobilenet_files, pixels):
    offline(mobilenet_files["no_top.h5"])
    downloaded, file = build(), build(weights=mobilenet_files["no_top.h5"])
    assert downloaded.facts == file.facts


def test_widths_that_keras_has_no_weights_for_are_refused(build, offline):
    with pytest.raises(BackboneError, match=r"no ImageNet weights of mobilenet with alpha 0\.3"):
        build(alpha=0.3)


def test_efficientnet_from_a_file_is_the_network_that_keras_builds_for_its_download(
    build, offline, tmp_path, keras
):
    path = str(tmp_path / "efficientnet.h5")
    size = {"include_top": False, "input_shape": (32, 32, 3)}
    save_legacy(randomize(keras.applications.EfficientNetB0(weights=None, **size)), path)
    offline(path)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    expected = keras.applications.EfficientNetB0(weights="imagenet", pooling="avg", **size)(
        pixels, training=False
    )
    network = build("efficientnet_b0", weights=path, size_px=(32, 32))
    difference = np.linalg.norm(rows(network, pixels) - np.asarray(expected))
    assert difference <= 1e-5 * np.linalg.norm(np.asarray(expected))


def test_convnext_is_normalised_after_the_pooling_as_in_keras(build, tmp_path, keras):
    path = str(tmp_path / "convnext.h5")
    size = {"include_top": False, "pooling": "avg", "input_shape": (64, 64, 3)}
    reference = randomize(keras.applications.ConvNeXtTiny(weights=None, **size))
    save_legacy(reference, path)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    network = build("convnext_tiny", weights=path, size_px=(64, 64))
    np.testing.assert_allclose(rows(network, pixels), np.asarray(reference(pixels)), atol=1e-4)
    assert network.facts.pooling == "avg"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vgg16", {"alpha": 0.5}, "no width multiplier"),
        ("xception", {"size_px": (70, 71)}, "at least 71x71 pixels; found 70x71"),
        ("scattering", {"weights": "w.h5"}, "takes no weights"),
        ("scattering", {"preprocessing": "tf"}, "scales its pixels itself"),
        ("models/net.h5", {}, "there is no model file at"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_built(name, options, message):
    with pytest.raises(BackboneError, match=message):
        request_network(name, **options)


def test_a_file_that_is_missing_is_refused_before_anything_is_built():
    with pytest.raises(WeightsError, match=r"no weights file at .*nowhere\.h5"):
        network_facts(request_network("mobilenet", weights="nowhere.h5"))


def test_an_unknown_name_is_refused():
    with pytest.raises(UnknownBackboneError):
        request_network("mobilenet_v9")


def test_scattering_has_the_digest_that_is_known_without_building_it(build):
    request = request_network("scattering", size_px=(32, 48))
    facts, built = network_facts(request)
    assert built is None
    assert build("scattering", size_px=(32, 48)).facts == facts


class TestOwnModel:
    def test_its_preprocessing_must_be_said(self, tiny_keras_file):
        with pytest.raises(BackboneError, match="set --preprocess: tf"):
            request_network(tiny_keras_file)

    def test_it_ends_at_its_output_unless_a_layer_is_named(self, build, tiny_keras_file, keras):
        pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
        network = build(tiny_keras_file, preprocessing="unit")
        expected = keras.models.load_model(tiny_keras_file)(pixels / np.float32(255))
        np.testing.assert_allclose(rows(network, pixels), np.asarray(expected), atol=1e-6)
        facts = network.facts
        assert (facts.layer, facts.pooling, facts.size_px, facts.feature_dim) == (
            "classes",
            "none",
            (16, 16),
            3,
        )

    def test_it_is_cut_and_pooled_like_any_other(self, build, tiny_keras_file):
        pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
        by_pooling = build(tiny_keras_file, preprocessing="unit", layer="maps", pooling="avg")
        by_layer = build(tiny_keras_file, preprocessing="unit", layer="pooled")
        np.testing.assert_allclose(rows(by_pooling, pixels), rows(by_layer, pixels), atol=1e-6)
        assert by_pooling.facts.pooling == "avg"

    def test_its_digest_is_the_same_when_its_last_layer_is_named(self, build, tiny_keras_file):
        default = build(tiny_keras_file, preprocessing="unit")
        assert build(tiny_keras_file, preprocessing="unit", layer="classes").facts == default.facts

    def test_its_digest_is_the_same_after_it_is_saved_again(self, build, tiny_keras_file, tmp_path, keras):
        again = str(tmp_path / "again.keras")
        keras.models.load_model(tiny_keras_file).save(again)
        assert build(again, preprocessing="unit").facts == build(tiny_keras_file, preprocessing="unit").facts

    def test_its_digest_depends_on_what_its_layers_do(self, build, tiny_keras_file, tmp_path, keras):
        def other(layer):
            config = layer.get_config()
            return layer.__class__.from_config(
                {**config, "activation": "tanh"} if layer.name == "maps" else config
            )

        model = keras.models.load_model(tiny_keras_file)
        changed = keras.models.clone_model(model, clone_function=other)
        changed.set_weights(model.get_weights())
        changed.save(tmp_path / "tanh.keras")
        one, two = (
            build(str(path), preprocessing="unit") for path in (tiny_keras_file, tmp_path / "tanh.keras")
        )
        assert one.facts.weights_digest != two.facts.weights_digest

    def test_one_that_takes_any_size_needs_one(self, build, tmp_path, keras):
        path = str(tmp_path / "any.keras")
        inputs = keras.Input((None, None, 3))
        keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs)).save(path)
        with pytest.raises(BackboneError, match="choose one with --image-size"):
            build(path, preprocessing="unit")
        assert build(path, preprocessing="unit", size_px=(9, 12)).facts.size_px == (9, 12)

    @pytest.mark.parametrize(
        ("shape", "make", "options", "message"),
        [
            ((16, 16, 1), lambda keras, x: keras.layers.Flatten()(x), {}, "does not take colour images"),
            (
                (16, 16, 3),
                lambda keras, x: keras.layers.Reshape((8, 96))(x),
                {},
                "output of the network has .* set --pooling cls",
            ),
            (
                (16, 16, 3),
                lambda keras, x: keras.layers.Reshape((2, 4, 4, 24))(x),
                {},
                "cut at another --layer",
            ),
            ((16, 16, 3), lambda keras, x: [x, keras.layers.Flatten()(x)], {}, "has 2 outputs"),
            ((16, 16, 3), lambda keras, x: x, {"layer": "nothing"}, "no layer 'nothing'"),
            ((16, 16, 3), lambda keras, x: x, {"size_px": (8, 8)}, "16x16 pixels only"),
        ],
    )
    def test_one_that_cannot_serve_is_refused(self, shape, make, options, message, build, tmp_path, keras):
        path = str(tmp_path / "model.keras")
        inputs = keras.Input(shape)
        keras.Model(inputs, make(keras, keras.layers.Rescaling(2.0)(inputs))).save(path)
        with pytest.raises(BackboneError, match=message):
            build(path, preprocessing="none", **options)

    def test_one_with_a_lambda_is_refused(self, tmp_path, keras):
        path = str(tmp_path / "lambda.keras")
        inputs = keras.Input((16, 16, 3))
        keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(inputs)).save(path)
        with pytest.raises(BackboneError, match=r"Python code that would run .* --trust-model"):
            network_facts(request_network(path, preprocessing="none"))

    def test_one_with_a_lambda_runs_where_it_is_trusted(self, build, pixels, tmp_path, keras):
        path = str(tmp_path / "lambda.keras")
        inputs = keras.Input((64, 64, 3))
        pooled = keras.layers.GlobalAveragePooling2D()(inputs)
        keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(pooled)).save(path)
        network = build(path, preprocessing="none", trust_model=True)
        np.testing.assert_allclose(rows(network, pixels), pixels.mean((1, 2)) + 1, rtol=1e-5)
        with pytest.raises(BackboneError, match="trust_model=True"):
            build(path, preprocessing="none")

    def test_trust_is_for_a_model_of_ones_own(self):
        with pytest.raises(BackboneError, match="runs no code of others"):
            request_network("mobilenet_v2", trust_model=True)

    @pytest.mark.parametrize(
        ("name", "module", "message"),
        [
            ("system", "os", "not one of Keras"),
            ("Popen", "subprocess", "not one of Keras"),
            ("TFSMLayer", "keras.layers", "runs a program"),
            ("Dense", "keras_hub.layers", "not one of Keras"),
        ],
    )
    def test_what_is_not_keras_own_is_refused(self, name, module, message, tiny_keras_file, tmp_path):
        path = str(tmp_path / "foreign.keras")

        def change(config):
            config["config"]["layers"][1].update(class_name=name, module=module)

        rewrite(tiny_keras_file, path, change)
        with pytest.raises(BackboneError, match=message):
            network_facts(request_network(path, preprocessing="unit"))

    @pytest.mark.parametrize("name", ["eval", "system", "get_file"])
    def test_keras_itself_refuses_functions_that_are_no_layers(self, name, keras, tiny_keras_file, tmp_path):
        from featstore.backbones.keras.weights import open_model

        path, canary = str(tmp_path / "function.keras"), tmp_path / "canary"

        def change(config):
            layer = config["config"]["layers"][1]
            layer["config"]["activation"] = {
                "module": "builtins" if name == "eval" else "keras.utils",
                "class_name": "function",
                "config": name,
                "registered_name": name,
            }

        rewrite(tiny_keras_file, path, change)
        with pytest.raises(BackboneError, match="Keras cannot open"):
            open_model(path)
        assert not canary.exists()

    @pytest.mark.parametrize("member", ["../canary", "/canary", "assets/../../canary", "assets\\..\\canary"])
    def test_a_member_that_leads_elsewhere_is_refused(self, member, tiny_keras_file, tmp_path):
        path = shutil.copy(tiny_keras_file, tmp_path / "slip.keras")
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(member, "x")
        with pytest.raises(BackboneError, match="leads out of the folder"):
            network_facts(request_network(str(path), preprocessing="unit"))
        assert not (tmp_path.parent / "canary").exists()

    def test_an_archive_that_unpacks_to_gigabytes_is_refused(self, tiny_keras_file, tmp_path):
        path = shutil.copy(tiny_keras_file, tmp_path / "bomb.keras")
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("assets/zeros", bytes(2**27))
        with pytest.raises(BackboneError, match="would unpack to far more"):
            network_facts(request_network(str(path), preprocessing="unit"))

    def test_a_name_of_the_table_is_not_taken(self, tiny_keras_file, tmp_path):
        path = tmp_path / "vgg16.keras"
        shutil.copy(tiny_keras_file, path)
        assert request_network(str(path), preprocessing="unit").architecture == "own_vgg16"


def test_keras_settings_are_left_as_they_were(build, mobilenet_files, keras):
    keras.config.enable_interactive_logging()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        build(weights=mobilenet_files["no_top.h5"])
        assert keras.config.dtype_policy().name == "mixed_float16"
        assert keras.config.is_interactive_logging_enabled()
    finally:
        keras.config.set_dtype_policy("float32")

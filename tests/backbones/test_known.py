import inspect
import os
import sys

import numpy as np
import pytest

from featstore.backbones import find_backbone, known_backbones
from featstore.errors import UnknownBackboneError

QUICK = {"mobilenet", "mobilenet_v3_small", "vgg16"}
KERAS = [info for info in known_backbones() if info.keras_name]


def test_every_network_of_keras_applications_is_known(keras):
    functions = {
        name for name in dir(keras.applications) if inspect.isfunction(getattr(keras.applications, name))
    }
    assert {info.keras_name for info in KERAS} == functions


@pytest.mark.parametrize("info", KERAS, ids=lambda info: info.name)
def test_preprocessing_is_that_of_the_networks_own_module(info, keras):
    from featstore.backbones.keras.models import scale_pixels
    from featstore.backbones.pixel_scaling import PixelScaling

    pixels = np.random.default_rng(0).integers(0, 256, (1, 2, 3, 3), dtype=np.uint8)
    module = getattr(keras.applications, info.module)
    expected = module.preprocess_input(pixels.astype(np.float32))
    scaling = PixelScaling(preprocessing=info.preprocessing)
    found = keras.ops.convert_to_numpy(scale_pixels(keras.ops.convert_to_tensor(pixels), scaling))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("info", KERAS, ids=lambda info: info.name)
def test_networks_that_scale_their_pixels_themselves_do_so_by_default(info, keras):
    function = getattr(keras.applications, info.keras_name)
    inside = inspect.signature(function).parameters.get("include_preprocessing")
    # EfficientNet has no such option: it always does.
    assert (info.preprocessing == "none") == (info.module == "efficientnet" or inside is not None)
    assert inside is None or inside.default is True


@pytest.mark.parametrize("info", KERAS, ids=lambda info: info.name)
def test_table_agrees_with_keras(info, keras, monkeypatch):
    if info.name not in QUICK and not os.environ.get("FEATSTORE_ALL_BACKBONES"):
        pytest.skip("builds a large network; set FEATSTORE_ALL_BACKBONES to run it")
    from featstore.backbones.keras.models import stable_names

    _zeros_for_random_numbers(keras, monkeypatch)
    build = getattr(keras.applications, info.keras_name)
    network = build(weights=None, include_top=False, input_shape=(*info.size_px, 3))
    assert network.output_shape[-1] == info.feature_dim
    assert network.count_params() == info.parameters
    assert stable_names(network)[info.layer] == network.outputs[0]._keras_history.operation.name
    with_top = build(weights=None, include_top=True)
    assert with_top.input_shape[1:3] in (info.size_px, (None, None))
    shapes, shapes_with_top = (
        [[tuple(one.shape) for one in layer.weights] for layer in model.layers if layer.weights]
        for model in (network, with_top)
    )
    assert shapes_with_top[: len(shapes)] == shapes
    assert len(shapes_with_top) - len(shapes) == info.top_layers


@pytest.mark.parametrize("info", KERAS, ids=lambda info: info.name)
def test_the_smallest_size_is_the_smallest_that_keras_takes(info, keras):
    build = getattr(keras.applications, info.keras_name)
    smallest = info.min_size_px
    with pytest.raises(ValueError, match=f"at least {smallest}x{smallest}"):
        build(weights=None, include_top=False, input_shape=(smallest - 1, smallest, 3))


def test_scattering_is_described_as_it_is_built():
    from featstore.backbones import scattering

    info = find_backbone("scattering")
    assert info.size_px == scattering.SIZE_PX
    assert info.feature_dim == scattering.FEATURE_DIM
    assert info.layer == scattering.LAYER_NAME
    assert info.parameters == sum(kernel.size for kernel in scattering.wavelet_kernels().values())


@pytest.mark.parametrize("typed", ["MobileNetV2", "mobilenet-v2", "mobilenetv2", "mobilenet_v22"])
def test_an_unknown_name_is_answered_by_near_ones(typed):
    with pytest.raises(UnknownBackboneError, match="did you mean mobilenet_v2") as caught:
        find_backbone(typed)
    assert "featstore backbones" in str(caught.value)
    assert isinstance(caught.value, LookupError)


def _zeros_for_random_numbers(keras, monkeypatch):
    """Make large networks quick to build: their weights do not matter here."""
    initializers = sys.modules["keras.src.initializers.random_initializers"]
    for one in vars(initializers).values():
        if (
            inspect.isclass(one)
            and issubclass(one, keras.initializers.Initializer)
            and "__call__" in vars(one)
        ):
            monkeypatch.setattr(
                one,
                "__call__",
                lambda self, shape, dtype=None, **_: keras.ops.zeros(shape, dtype or "float32"),
            )

"""The scattering network against its definition, its invariances and a classification task."""

import subprocess
import sys
from functools import cache

import numpy as np
import pytest

from featstore.backbones import scattering
from featstore.backbones.scattering import (
    FEATURE_DIM,
    LAYER_NAME,
    build_scattering,
    scattering_paths,
    wavelet_kernels,
)
from featstore.errors import BackboneError

SCALES, ORIENTATIONS, GAIN = 4, 8, scattering._GAIN
PATHS = scattering_paths()
ORDER = np.array([len(path) for _, path in PATHS])


@cache
def network(size_px=(96, 96)):
    return build_scattering(size_px)


@cache
def uncompressed(size_px=(96, 96)):
    import keras

    model = network(size_px)
    return keras.Model(model.inputs[0], model.get_layer("scattering").output)


def features(pixels):
    return np.asarray(network(pixels.shape[1:3])(pixels))


def coefficients(pixels):
    """S, before compression: (n, n_paths, 2, 2)."""
    return np.asarray(uncompressed(pixels.shape[1:3])(pixels))


def random_pictures(n, size_px=(96, 96), *, seed=0):
    """Noise with the falling spectrum of photographs (amplitude 1/frequency), uint8 RGB."""
    generator = np.random.default_rng(seed)
    noise = np.fft.fft2(generator.standard_normal((n, *size_px, 3)), axes=(1, 2))
    down, right = np.fft.fftfreq(size_px[0])[:, None], np.fft.fftfreq(size_px[1])[None, :]
    falling = 1 / (0.02 + np.hypot(down, right))
    pictures = np.fft.ifft2(noise * falling[None, :, :, None], axes=(1, 2)).real
    pictures = (pictures - pictures.mean()) / pictures.std()
    return np.clip(128 + 50 * pictures, 0, 255).astype(np.uint8)


# The definition, written down once more without approximations: whole filters, Fourier transforms, float64.


def reference_morlets(scale, shape):
    """ψ on a torus, at the offsets of block centres: (L, *shape), complex."""
    shift = 0.0 if scale == 0 else 0.5
    down, right = np.meshgrid(*(np.fft.fftfreq(side, 1 / side) + shift for side in shape), indexing="ij")
    deviation, frequency, slant = 0.8 * 2**scale, 3 * np.pi / 4 / 2**scale, 4 / ORIENTATIONS
    filters = []
    for angle in np.pi * np.arange(ORIENTATIONS) / ORIENTATIONS:
        a = right * np.cos(angle) + down * np.sin(angle)
        b = down * np.cos(angle) - right * np.sin(angle)
        gauss = np.exp(-(a**2 + (slant * b) ** 2) / (2 * deviation**2)) * slant / (2 * np.pi * deviation**2)
        wave = gauss * np.exp(1j * frequency * a)
        filters.append(GAIN * (wave - gauss * wave.sum() / gauss.sum()))
    return np.stack(filters)


def reference_low_pass(scale, shape):
    deviation = 0.8 * 2 ** (SCALES - 1 - scale)
    down, right = np.meshgrid(*(np.fft.fftfreq(side, 1 / side) for side in shape), indexing="ij")
    gauss = np.exp(-(down**2 + right**2) / (2 * deviation**2))
    return gauss / gauss.sum()


def mirrored(maps):
    maps = np.concatenate([maps, maps[..., ::-1, :]], axis=-2)
    return np.concatenate([maps, maps[..., ::-1]], axis=-1)


def convolved(maps, filters):
    """Circular convolution of the mirrored maps, cut back to the maps' own extent."""
    height, width = maps.shape[-2:]
    spectrum = np.fft.fft2(mirrored(maps))[..., None, :, :] * np.fft.fft2(filters)
    return np.fft.ifft2(spectrum)[..., :height, :width]


def reference_moduli(maps, scale):
    height, width = maps.shape[-2:]
    first, step = 2**scale // 2 - (scale > 0), 2**scale
    moduli = np.abs(convolved(maps, reference_morlets(scale, (2 * height, 2 * width))))
    return moduli[..., first::step, first::step]


def reference_average(maps, scale):
    height, width = maps.shape[-2:]
    smooth = convolved(maps, reference_low_pass(scale, (2 * height, 2 * width))[None]).real
    return smooth.reshape(*maps.shape[:-2], 2, height // 2, 2, width // 2).mean((-3, -1))


def reference(picture):
    """S of one picture: (n_paths, 2, 2)."""
    red, green, blue = np.moveaxis(picture.astype(np.float64) / 255, -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    parts = []
    for signal in (luma, (blue - luma) / 1.772, (red - luma) / 1.402):
        parts.append(reference_average(signal, 0)[None])
        for j1 in range(SCALES):
            first = reference_moduli(signal, j1)
            parts.append(reference_average(first, j1))
            if signal is luma:
                for j2 in range(j1 + 1, SCALES):
                    second = reference_average(reference_moduli(first, j2 - j1), j2)
                    parts.append(second.reshape(-1, 2, 2))
    return np.concatenate(parts)


def test_number_of_features_follows_from_the_paths():
    assert len(PATHS) == len(set(PATHS)) == 417 + 2 * 33
    assert FEATURE_DIM == 4 * len(PATHS) == 1932
    assert network().output_shape == (None, FEATURE_DIM)
    assert all(j1 < j2 for _, path in PATHS if len(path) == 2 for (j1, _), (j2, _) in [path])


@pytest.mark.parametrize("kind", ["noise", "picture"])
def test_coefficients_agree_with_the_definition_by_fourier_transforms(kind):
    pictures = random_pictures(2, seed=1)
    if kind == "noise":
        pictures = np.random.default_rng(1).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    found = coefficients(pictures).astype(np.float64)
    expected = np.stack([reference(picture) for picture in pictures])
    for order, tolerance in ((0, 1e-6), (1, 1e-3), (2, 1e-3)):
        rows = order == ORDER
        error = np.linalg.norm((found - expected)[:, rows]) / np.linalg.norm(expected[:, rows])
        assert error < tolerance, f"order {order}: {error:.2e}"


def test_features_are_the_documented_compression_of_the_coefficients():
    pictures = random_pictures(2, seed=2)
    scattered = coefficients(pictures).astype(np.float64)
    expected = scattered.copy()
    high = ORDER > 0
    norm = np.sqrt((scattered[:, high] ** 2).sum(1).mean((1, 2)))[:, None, None, None]
    expected[:, high] = np.log(0.01 + scattered[:, high] / (norm + 0.001))
    np.testing.assert_allclose(features(pictures), expected.reshape(2, -1), atol=2e-5)


def test_a_constant_image_has_only_its_colour():
    found = coefficients(np.full((1, 96, 96, 3), (250, 130, 20), dtype=np.uint8))[0]
    assert np.abs(found[ORDER > 0]).max() < 1e-6
    luma = (0.299 * 250 + 0.587 * 130 + 0.114 * 20) / 255
    expected = [luma, (20 / 255 - luma) / 1.772, (250 / 255 - luma) / 1.402]
    np.testing.assert_allclose(
        found[ORDER == 0].reshape(3, 4), np.repeat(expected, 4).reshape(3, 4), atol=1e-5
    )


def test_the_transform_is_non_expansive():
    first, second = random_pictures(6, seed=3), random_pictures(6, seed=4)
    second[:3] = np.clip(first[:3] + np.random.default_rng(5).normal(0, 20, first[:3].shape), 0, 255)
    luma = ORDER >= 0
    luma[417:] = False
    moved = np.sum((coefficients(first) - coefficients(second))[:, luma] ** 2, axis=1).mean((1, 2))
    difference = (first.astype(np.float64) - second) @ [0.299, 0.587, 0.114] / 255
    assert np.all(moved <= np.mean(difference**2, axis=(1, 2)))


def test_the_gain_is_the_largest_that_keeps_the_littlewood_paley_sum_at_one():
    shape = (192, 192)
    energy = np.abs(np.fft.fft2(reference_low_pass(0, shape))) ** 2
    for scale in range(SCALES):
        bank = np.sum(np.abs(np.fft.fft2(reference_morlets(scale, shape))) ** 2, axis=0)
        energy += (bank + np.roll(bank[::-1, ::-1], (1, 1), (0, 1))) / 2
    assert 0.99 < energy.max() <= 1


def relative_change(changed, original, other):
    distance = np.linalg.norm(changed.astype(np.float64) - original, axis=1)
    return distance / np.linalg.norm(other.astype(np.float64) - original, axis=1)


@pytest.mark.parametrize(("shift_px", "share"), [(1, 0.2), (2, 0.3), (4, 0.5)])
def test_a_small_shift_changes_less_than_another_picture(shift_px, share):
    wide = random_pictures(4, (96, 104), seed=6)
    original, shifted = (np.ascontiguousarray(wide[:, :, first : first + 96]) for first in (4, 4 + shift_px))
    found = features(original)
    change = relative_change(features(shifted), found, found[::-1])
    pixel_change = relative_change(
        shifted.reshape(4, -1), original.reshape(4, -1), original[::-1].reshape(4, -1)
    )
    assert np.all(change < share)
    assert np.all(change < pixel_change / 2)


def test_turning_a_picture_by_a_right_angle_permutes_orientations_and_quarters():
    pictures = random_pictures(2, seed=7)
    places = {path: place for place, path in enumerate(PATHS)}
    turned_places = [
        places[signal, tuple((j, (angle + ORIENTATIONS // 2) % ORIENTATIONS) for j, angle in path)]
        for signal, path in PATHS
    ]
    turned = coefficients(np.rot90(pictures, axes=(1, 2)).copy())
    expected = np.rot90(coefficients(pictures), axes=(2, 3))
    np.testing.assert_allclose(turned[:, turned_places], expected, atol=2e-6)
    assert np.abs(turned - expected).max() > 1e-3


def test_an_image_has_the_same_features_in_any_batch_and_any_build():
    pictures = random_pictures(5, seed=8)
    together = features(pictures)
    np.testing.assert_array_equal(together, features(pictures))
    np.testing.assert_allclose(features(pictures[3:4])[0], together[3], atol=1e-5)
    np.testing.assert_array_equal(np.asarray(build_scattering()(pictures)), together)


def test_floating_point_pixels_give_what_integers_give():
    pictures = random_pictures(2, seed=9)
    np.testing.assert_array_equal(features(pictures.astype(np.float32)), features(pictures))
    assert features(pictures).dtype == np.float32


@pytest.mark.parametrize("size_px", [(128, 96), (16, 48), (50, 75)])
def test_other_sizes_give_as_many_finite_features(size_px):
    found = features(random_pictures(2, size_px, seed=10))
    assert found.shape == (2, FEATURE_DIM)
    assert np.all(np.isfinite(found))
    assert np.linalg.norm(found[0] - found[1]) > 1


def test_a_size_that_is_no_multiple_of_sixteen_is_continued_by_mirroring():
    picture = random_pictures(1, (60, 84), seed=11)
    continued = np.pad(picture, ((0, 0), (2, 2), (6, 6), (0, 0)), mode="symmetric")
    np.testing.assert_allclose(coefficients(picture), coefficients(continued), atol=3e-6)


def test_a_rectangle_agrees_with_the_definition():
    picture = random_pictures(1, (64, 96), seed=12)
    expected = reference(picture[0])
    assert np.linalg.norm(coefficients(picture)[0] - expected) < 1e-3 * np.linalg.norm(expected[ORDER > 0])


def test_an_image_size_below_sixteen_is_refused():
    with pytest.raises(BackboneError, match=r"at least 16x16 pixels; found 96x15"):
        build_scattering((96, 15))


def test_weights_are_the_documented_kernels_and_constant():
    model = network()
    assert model.trainable_weights == []
    assert model.layers[-1].name == LAYER_NAME
    kernels = wavelet_kernels()
    assert [weight.path for weight in model.weights] == [f"{name}/kernel" for name in kernels]
    for found, expected in zip(model.get_weights(), kernels.values(), strict=True):
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(expected * 2.0**22, np.round(expected * 2.0**22))
        np.testing.assert_array_equal(expected.sum((0, 1, 2), dtype=np.float64), 0)


# OpenVINO's converter calls a Keras model with a tuple of inputs, which Keras remarks on.
@pytest.mark.filterwarnings("ignore:The structure of `inputs`:UserWarning")
def test_openvino_converts_the_network_and_agrees():
    openvino = pytest.importorskip("openvino")
    pictures = random_pictures(2, seed=13)
    converted = openvino.convert_model(network())
    compiled = openvino.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    (found,) = compiled(pictures.astype(np.float32)).values()
    np.testing.assert_allclose(found, features(pictures), atol=1e-4)


def test_importing_the_module_and_reading_its_constants_leaves_keras_out():
    code = (
        "import sys; from featstore.backbones.scattering import FEATURE_DIM, wavelet_kernels; wavelet_kernels();"
        "print(FEATURE_DIM, sorted({'keras', 'tensorflow', 'PIL'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == f"{FEATURE_DIM} []\n"


def test_the_network_that_comes_converted_is_the_one_that_keras_builds(cache, tmp_path):
    from featstore.backbones import load_backbone
    from featstore.backbones.engines import compiling
    from featstore.backbones.engines.openvino import OpenVINOEngine
    from featstore.backbones.keras.models import build_network, forward_once
    from featstore.backbones.request import request_network

    network = compiling._packaged(compiling._network_key(load_backbone("scattering").spec))
    assert network is not None
    pixels = np.random.default_rng(0).integers(0, 256, (4, 96, 96, 3), dtype=np.uint8)
    wanted = forward_once(build_network(request_network("scattering")), pixels)
    found = OpenVINOEngine(network)(pixels)
    assert np.linalg.norm(found - wanted) <= 1e-4 * np.linalg.norm(wanted)
    assert (
        compiling._packaged(compiling._network_key(load_backbone("scattering", image_size=32).spec)) is None
    )


def test_at_its_usual_size_it_runs_without_keras(cache):
    import subprocess
    import sys

    code = (
        "import sys, numpy, featstore\n"
        "featstore.load_backbone('scattering').forward(numpy.zeros((1, 96, 96, 3), numpy.uint8))\n"
        "assert not {'keras', 'tensorflow'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

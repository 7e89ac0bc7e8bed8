import subprocess
import sys
import threading

import numpy as np
import pytest

from featstore.backbones.keras.engine import KerasEngine
from featstore.errors import BackboneError
from featstore.store import FeatureStore
from featstore.store.segments.segment import read_description


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(1).integers(0, 256, (70, 16, 16, 3), dtype=np.uint8)


class Small:
    """A network on a device whose memory holds a few images; the mean of each image is its feature."""

    output_shape = (None, 1)
    layers = ()

    def __init__(self, room, error=None):
        self.room, self.sizes = room, []
        self.error = error or RuntimeError("RESOURCE_EXHAUSTED: failed to allocate")

    def predict_on_batch(self, pixels):
        self.sizes.append(len(pixels))
        if len(pixels) > self.room:
            raise self.error
        return pixels.reshape(len(pixels), -1).mean(1, keepdims=True)


@pytest.mark.usefixtures("keras")
def test_a_batch_too_large_for_the_device_is_halved_until_it_fits(pixels):
    network = Small(room=10)
    engine = KerasEngine(lambda device: network, devices=["cpu:0"])

    np.testing.assert_allclose(engine(pixels)[:, 0], pixels.reshape(70, -1).mean(1), rtol=1e-6)
    # 32 and 16 do not fit; from then on, eight at once.
    assert network.sizes[:3] == [32, 16, 8]
    assert set(network.sizes[2:]) == {8}


@pytest.mark.usefixtures("keras")
def test_a_device_without_room_for_one_image_says_so(pixels):
    engine = KerasEngine(lambda device: Small(room=0), devices=["cpu:0"])
    with pytest.raises(BackboneError, match="cpu:0 does not have enough memory for one image; use a smaller"):
        engine(pixels)


@pytest.mark.usefixtures("keras")
def test_another_error_of_the_device_names_the_device(pixels):
    engine = KerasEngine(lambda device: Small(room=0, error=RuntimeError("it broke")), devices=["cpu:0"])
    with pytest.raises(BackboneError, match="cannot run the network on cpu:0: it broke"):
        engine(pixels)


@pytest.mark.usefixtures("keras")
@pytest.mark.parametrize(("memory", "size"), [(2**40, 256), (2**22, 128), (2**10, 1)])
def test_the_batch_is_as_large_as_the_memory_allows(memory, size, monkeypatch):
    from featstore.backbones.keras import engine as keras_engine

    class Layer:
        class output:  # noqa: N801
            shape = (None, 8, 8, 16)

    class Network(Small):
        layers = (Layer(),)

    monkeypatch.setattr(keras_engine, "gpu_memory_bytes", lambda: memory)
    monkeypatch.setattr(keras_engine, "preferred_batch_size", lambda: 256)
    # An image takes 4 x 8 x 8 x 16 float32 = 16 KiB of half the memory.
    engine = KerasEngine(lambda device: Network(room=1), devices=["gpu:0"])
    assert engine._batch_size == size


@pytest.mark.usefixtures("keras")
def test_another_device_is_built_when_its_first_batch_comes(pixels):
    built = []

    def build(device):
        built.append(device)
        return Small(room=100)

    engine = KerasEngine(build, devices=["cpu:0", "cpu:0 again"])
    assert built == ["cpu:0"]
    list(engine.run([pixels[:3]]))
    assert built == ["cpu:0"]


def test_a_gpu_has_its_next_batch_before_the_last_one_is_done(pixels, monkeypatch, keras):
    import contextlib

    monkeypatch.setattr(keras, "device", lambda name: contextlib.nullcontext())
    both = threading.Barrier(2, timeout=300)

    class Meeting(Small):
        def predict_on_batch(self, pixels):
            both.wait()
            return super().predict_on_batch(pixels)

    engine = KerasEngine(lambda device: Meeting(room=100), devices=["gpu:0"])
    # Were they computed one after the other, the first would wait for the second in vain.
    assert len(list(engine.run([pixels[:3], pixels[3:5]]))) == 2


_TWO_DEVICES = """
import os, sys
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import featstore
from featstore.flow import sealing
sealing.SEAL_BYTES = 1
featstore.FeatureStore.compact = lambda *_: None
model, photos, *stores = sys.argv[1:]
for store in stores:
    devices = os.path.basename(store).split(",")
    report = featstore.extract(
        photos, store, backbone=model, preprocessing="torch", layer="maps", devices=devices
    )
    assert report.extracted == 150, report
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    for number in range(150):
        data = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(data).save(folder / f"{number:03d}.png")
    return folder


def test_two_devices_share_the_work_and_write_segments_of_their_own(tiny_keras_file, photos, tmp_path):
    """On two of TensorFlow's virtual devices, which is how its own tests stand in for GPUs."""
    stores = [tmp_path / devices for devices in ("cpu:0", "cpu:0,cpu:1")]
    done = subprocess.run(
        [sys.executable, "-c", _TWO_DEVICES, tiny_keras_file, str(photos), *map(str, stores)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tables = [FeatureStore(store).table() for store in stores]
    np.testing.assert_array_equal(*(table.content_hash for table in tables))
    np.testing.assert_allclose(*(table.X for table in tables), rtol=1e-5, atol=1e-6)
    devices = []
    for segment in FeatureStore(stores[1]).space().segments:
        _, provenance = read_description(segment.path)
        devices.append(provenance["device"])
    # 150 images are five batches of 32.
    assert sorted(devices) == ["cpu:0", "cpu:0", "cpu:0", "cpu:1", "cpu:1"]

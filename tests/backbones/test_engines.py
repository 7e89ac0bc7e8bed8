import errno
import json
import logging
import os
import subprocess
import sys

import numpy as np
import pytest

from featstore.backbones import load_backbone
from featstore.backbones.caches import cache as memory
from featstore.backbones.caches.cache import has_room
from featstore.backbones.engines import compiling
from featstore.backbones.engines import openvino as engines
from featstore.backbones.keras.quiet import quiet_import
from featstore.errors import BackboneError

ENGINES = ["openvino", "keras"]


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(1).integers(0, 256, (70, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def tiny(tiny_keras_file):
    """Load the user's own model, cut at its maps; each engine is compiled once."""
    loaded = {}

    def load(engine):
        if engine not in loaded:
            loaded[engine] = load_backbone(
                tiny_keras_file, preprocessing="torch", layer="maps", engine=engine
            )
        return loaded[engine]

    return load


@pytest.fixture(scope="module")
def expected(tiny_keras_file, keras, pixels):
    from featstore.backbones.keras.models import build_network, forward_once
    from featstore.backbones.request import request_network

    return forward_once(
        build_network(request_network(tiny_keras_file, preprocessing="torch", layer="maps")), pixels
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_features_are_keras_own(engine, tiny, pixels, expected):
    found = tiny(engine).forward(pixels)
    assert found.dtype == np.float32
    assert np.linalg.norm(found - expected) <= 2e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("n_images", [0, 1, 3, 32, 33, 70])
def test_any_number_of_images_gives_as_many_rows(engine, n_images, tiny, pixels, expected):
    found = tiny(engine).forward(pixels[:n_images])
    assert found.shape == (n_images, 6)
    np.testing.assert_allclose(found, expected[:n_images], atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_come_in_the_order_of_their_batches(engine, tiny, pixels, expected):
    sizes = [5, 1, 32, 0, 7, 25]
    ends = np.cumsum(sizes)
    batches = [pixels[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    found = list(tiny(engine).run(iter(batches)))
    assert [len(rows) for rows in found] == sizes
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_next_batch_is_asked_for_while_one_is_computed(engine, tiny, pixels):
    asked = []

    def batches():
        for number in range(5):
            asked.append(number)
            yield pixels[number : number + 1]

    rows = tiny(engine).run(batches())
    next(rows)
    assert asked == [0, 1]
    assert len(list(rows)) == 4


@pytest.mark.parametrize("engine", ENGINES)
def test_stopping_in_the_middle_leaves_the_engine_usable(engine, tiny, pixels, expected):
    rows = tiny(engine).run(pixels[start : start + 10] for start in range(0, 70, 10))
    next(rows)
    rows.close()
    np.testing.assert_allclose(tiny(engine).forward(pixels), expected, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_error_of_the_caller_comes_through(engine, tiny, pixels):
    def batches():
        yield pixels[:3]
        raise KeyError("the caller's")

    with pytest.raises(KeyError, match="the caller's"):
        list(tiny(engine).run(batches()))


@pytest.mark.parametrize("engine", ENGINES)
def test_pixels_that_are_no_block_of_memory_are_taken(engine, tiny, pixels, expected):
    found = tiny(engine).forward(pixels[::-2])
    np.testing.assert_allclose(found, expected[::-2], atol=1e-6)


def test_a_row_is_bitwise_the_same_whatever_its_batch(tiny, pixels):
    whole = tiny("openvino").forward(pixels)
    parts = [tiny("openvino").forward(pixels[number : number + 1]) for number in range(5)]
    np.testing.assert_array_equal(whole[:5], np.concatenate(parts))


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 16, 16, 3), np.float32),
        np.zeros((2, 16, 15, 3), np.uint8),
        np.zeros((16, 16, 3), np.uint8),
    ],
)
def test_pixels_of_another_shape_or_type_are_refused(wrong, tiny):
    with pytest.raises(ValueError, match=r"expected uint8 pixels of shape \(n, 16, 16, 3\)"):
        tiny("openvino").forward(wrong)


def test_provenance_names_engine_versions_and_weights(tiny, pixels, tiny_keras_file):
    tiny("openvino").forward(pixels[:1])
    provenance = tiny("openvino").provenance
    assert provenance["engine"] == "openvino"
    assert provenance["openvino"] == engines.openvino_version()
    assert provenance["weights"] == tiny_keras_file
    tiny("keras").forward(pixels[:1])
    assert {"engine", "keras", "featstore"} <= set(tiny("keras").provenance)


def test_a_damaged_converted_network_is_made_again(cache, tiny_keras_file, pixels):
    options = {"preprocessing": "torch", "layer": "maps", "engine": "openvino"}
    before = load_backbone(tiny_keras_file, **options).forward(pixels[:3])
    (network,) = (cache / "networks").glob("*/network.bin")
    damaged = bytearray(network.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    network.write_bytes(damaged)
    np.testing.assert_array_equal(load_backbone(tiny_keras_file, **options).forward(pixels[:3]), before)
    (network,) = (cache / "networks").glob("*/network.bin")
    assert network.read_bytes() != damaged


def test_what_openvino_cannot_convert_runs_with_one_warning(
    cache, tiny_keras_file, pixels, monkeypatch, caplog
):
    def fail(*_):
        raise RuntimeError("no such operation")

    monkeypatch.setattr("featstore.backbones.keras.models.export_openvino", fail)
    options = {"preprocessing": "torch", "layer": "maps"}
    with caplog.at_level(logging.WARNING):
        backbone = load_backbone(tiny_keras_file, **options)
        assert backbone.forward(pixels[:3]).shape == (3, 6)
        backbone.forward(pixels)
    (record,) = caplog.records
    assert "OpenVINO cannot convert tiny-" in record.message
    assert "no such operation" in record.message
    with pytest.raises(BackboneError, match="use --engine keras"):
        load_backbone(tiny_keras_file, engine="openvino", **options).forward(pixels[:3])


def test_what_cannot_be_converted_is_not_tried_again(cache, tiny_keras_file, pixels, monkeypatch):
    tried = []

    def fail(*_):
        tried.append(1)
        raise RuntimeError("no such operation")

    monkeypatch.setattr("featstore.backbones.keras.models.export_openvino", fail)
    for _ in range(2):
        load_backbone(tiny_keras_file, preprocessing="torch", layer="maps").forward(pixels[:1])
    assert len(tried) == 1


@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError("ResourceExhaustedError: /tmp/x/variables; No space left on device"),
        RuntimeError("cannot save the model: Input/output error"),
    ],
)
def test_what_the_system_refuses_is_not_remembered_of_the_network(
    failure, cache, tiny_keras_file, pixels, monkeypatch, caplog
):
    from featstore.backbones.keras import models as keras_models

    def fail(*_):
        raise failure

    with monkeypatch.context() as full:
        full.setattr(keras_models, "export_openvino", fail)
        backbone = load_backbone(tiny_keras_file, preprocessing="torch", layer="maps")
        backbone.forward(pixels[:1])
        assert backbone.provenance["engine"] != "openvino"
        assert "cannot be converted for OpenVINO now" in caplog.text
    again = load_backbone(tiny_keras_file, preprocessing="torch", layer="maps")
    again.forward(pixels[:1])
    assert again.provenance["engine"] == "openvino"


@pytest.mark.parametrize("error", [None, RuntimeError("ofstream failed")])
def test_a_full_cache_does_not_keep_the_network_from_being_converted(
    error, cache, tiny_keras_file, pixels, monkeypatch
):
    from featstore.backbones.engines import compiling
    from featstore.backbones.keras import models as keras_models

    export = keras_models.export_openvino

    def into(built, path):
        if str(cache) in path and error:
            raise error
        export(built, path)
        if str(cache) in path:
            os.truncate(path.replace(".xml", ".bin"), 5)

    monkeypatch.setattr(keras_models, "export_openvino", into)
    monkeypatch.setattr(compiling, "has_room", lambda folder, n_bytes: str(cache) not in folder)
    backbone = load_backbone(tiny_keras_file, preprocessing="torch", layer="maps", engine="openvino")
    backbone.forward(pixels[:1])
    assert not list(cache.glob("unconvertible/*"))
    assert not list(cache.glob("networks/*"))


def test_room_is_tried_by_writing(tmp_path):
    assert has_room(str(tmp_path), 2**20)
    assert not has_room(str(tmp_path / "nowhere"), 1)


def test_a_converted_network_that_cannot_be_read_now_is_left_alone(
    cache, tiny_keras_file, pixels, monkeypatch
):
    load_backbone(tiny_keras_file, preprocessing="torch", layer="maps").forward(pixels[:1])
    (manifest,) = cache.glob("networks/*/manifest.json")

    def refuse(path, *args, **kwargs):
        if str(path).endswith("network.bin"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return open(path, *args, **kwargs)

    monkeypatch.setattr(memory, "open", refuse, raising=False)
    key = json.loads(manifest.read_text())["key"]
    assert memory.recall_network(key) is None
    assert manifest.exists()


def test_a_conversion_that_gives_other_features_is_not_used(cache, tiny_keras_file, pixels, monkeypatch):
    from featstore.backbones.keras import models as keras_models

    monkeypatch.setattr(
        keras_models, "forward_once", lambda built, images: np.ones((len(images), 6), np.float32)
    )
    backbone = load_backbone(tiny_keras_file, preprocessing="torch", layer="maps", engine="openvino")
    with pytest.raises(BackboneError, match="differ from Keras' by"):
        backbone.forward(pixels[:1])


def test_bfloat16_is_near_float32_and_not_the_same(tiny_keras_file, pixels, expected):
    backbone = load_backbone(tiny_keras_file, preprocessing="torch", layer="maps", precision="bfloat16")
    try:
        found = backbone.forward(pixels)
    except BackboneError as error:
        if "has no bfloat16 arithmetic" not in str(error):
            raise
        pytest.skip(str(error))
    cosines = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() > 0.99
    assert not np.allclose(found, expected, rtol=1e-5)


def test_bfloat16_on_a_processor_without_it_is_refused(tiny_keras_file, pixels, monkeypatch):
    class Core:
        def get_property(self, device, name):
            return {"OPTIMIZATION_CAPABILITIES": ["FP32", "INT8"], "FULL_DEVICE_NAME": "An Older One"}[name]

    load_backbone(tiny_keras_file, preprocessing="torch", layer="maps", engine="openvino").forward(pixels[:1])
    monkeypatch.setattr(engines, "openvino_core", Core)
    backbone = load_backbone(tiny_keras_file, preprocessing="torch", layer="maps", precision="bfloat16")
    with pytest.raises(BackboneError, match=r"An Older One\) has no bfloat16"):
        backbone.forward(pixels[:1])


def test_bfloat16_with_keras_on_a_processor_is_refused(tiny_keras_file, pixels, monkeypatch):
    options = {"preprocessing": "torch", "precision": "bfloat16", "engine": "keras"}
    from featstore.backbones.keras import models as keras_models

    monkeypatch.setattr(keras_models, "device_names", lambda kind=None: ("cpu:0",))
    with pytest.raises(BackboneError, match="bfloat16 needs OpenVINO or a GPU"):
        load_backbone(tiny_keras_file, **options).forward(pixels[:1])


def test_a_machine_without_openvino_uses_keras(cache, tiny_keras_file, pixels, monkeypatch):
    monkeypatch.setattr(compiling, "openvino_version", lambda: None)
    backbone = load_backbone(tiny_keras_file, preprocessing="torch", layer="maps")
    backbone.forward(pixels[:1])
    assert "keras" in backbone.provenance


def test_an_unknown_engine_is_refused():
    with pytest.raises(
        BackboneError, match="engine must be one of auto, openvino, keras, onnxruntime; found 'onnx'"
    ):
        load_backbone("scattering", engine="onnx")


def test_the_old_word_for_keras_still_works():
    with pytest.warns(DeprecationWarning, match="is called 'keras' now") as caught:
        backbone = load_backbone("scattering", engine="tensorflow")
    assert caught[0].filename == __file__
    assert backbone._wanted == ("keras", None)


def test_openvino_is_imported_without_the_package_that_reports_it():
    code = """
import sys
from featstore.backbones.engines.openvino import import_openvino
import_openvino()
print([name for name in sys.modules if name.startswith("openvino_telemetry")])
import openvino_telemetry
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_signal_is_handled_after_engines_have_come_and_gone(tmp_path):
    code = """
import signal
import numpy as np
from featstore.backbones.caches.cache import ConvertedNetwork
from featstore.backbones.engines.openvino import OpenVINOEngine, import_openvino

openvino = import_openvino()
from openvino import opset13
pixels = opset13.parameter([1, 2, 2, 3], np.uint8)
rows = opset13.reduce_mean(opset13.convert(pixels, np.float32), np.array([1, 2]), False)
openvino.serialize(openvino.Model([rows], [pixels]), "network.xml")
xml, weights = (open(f"network.{ending}", "rb").read() for ending in ("xml", "bin"))
network = ConvertedNetwork(xml=xml, weights=weights, facts={})
first, second = OpenVINOEngine(network), OpenVINOEngine(network)
del first
del second
signal.signal(signal.SIGTERM, lambda number, frame: print("handled"))
signal.raise_signal(signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_chatter_is_held_back_and_the_rest_is_reported(capfd):
    with quiet_import():
        os.write(2, b"I0000 00:00:1 port.cc:153] oneDNN custom operations are on.\nsomething else\n")
    assert capfd.readouterr().err == "something else\n"


def test_nothing_is_held_back_where_the_import_fails(capfd):
    def fail():
        os.write(2, b"E0000 00:00:1 dso.cc:1] libfoo.so is missing\n")
        raise ImportError

    with pytest.raises(ImportError), quiet_import():
        fail()
    assert "libfoo.so is missing" in capfd.readouterr().err


def test_activations_that_keep_something_for_their_gradient_add_no_output(cache, tmp_path, keras, pixels):
    path = str(tmp_path / "swish.keras")
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, activation="swish")(inputs)
    keras.Model(inputs, keras.layers.Conv2D(5, 3, activation="swish")(x)).save(path)
    found, expected = (
        load_backbone(path, preprocessing="unit", engine=engine).forward(pixels[:4]) for engine in ENGINES
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)
    (network,) = (cache / "networks").glob("*/network.xml")
    assert network.read_text().count('type="Result"') == 1

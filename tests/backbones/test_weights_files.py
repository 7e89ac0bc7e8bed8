import json
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest

from featstore.backbones.files.sizing import check_size
from featstore.backbones.files.weights import (
    LayerShapes,
    check_keras_archive,
    check_layers,
    read_layers,
    weights_kind,
)
from featstore.backbones.known import find_backbone
from featstore.errors import BackboneError, WeightsError


def layers(*shapes):
    return [LayerShapes(name=f"layer{number}", shapes=(shape,)) for number, shape in enumerate(shapes)]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no weights file at"),
        (lambda path: path.mkdir(), "not a regular file"),
        (lambda path: path.write_text("these are no weights"), "is no weights file"),
        (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(40)), "cut short"),
        (lambda path: zipfile.ZipFile(path, "w").writestr("a.txt", "x"), "no Keras model"),
    ],
)
def test_what_is_no_weights_file_is_refused_in_one_line(tmp_path, write, message):
    path = tmp_path / "weights.h5"
    write(path)
    with pytest.raises(WeightsError, match=message) as caught:
        weights_kind(str(path))
    assert "expected a .h5 file" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_hdf5_file_of_something_else_is_refused(tmp_path):
    path = str(tmp_path / "features.h5")
    with h5py.File(path, "w") as file:
        file["features"] = np.zeros((3, 4))
    with pytest.raises(WeightsError, match="without a network's weights"):
        weights_kind(path)


def test_lists_of_layers_that_keras_cut_into_chunks_are_read_whole(tmp_path):
    path = str(tmp_path / "weights.h5")
    with h5py.File(path, "w") as file:
        file.attrs["layer_names0"] = [b"first"]
        file.attrs["layer_names1"] = [b"without", b"second"]
        for name in ("first", "without", "second"):
            group = file.create_group(name)
            group.attrs["weight_names"] = np.array([b"w"] if name != "without" else [], dtype="S1")
            if name != "without":
                group["w"] = np.ones(2)
    assert [layer.name for layer in read_layers(path)] == ["first", "second"]


@pytest.mark.parametrize("found", [[(3, 3), (4,)], [(3, 3), (4,), (5,)]])
def test_a_file_with_or_without_the_classifier_fits(found):
    check_layers("w.h5", "net", layers((3, 3), (4,)), layers(*found), top_layers=1)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([(3, 3), (5,)], "layer 2 is layer1 with shapes 5, expected layer1 with 4"),
        ([(3, 3)], "has 1 layers with weights, net has 2 or 3 with its classifier"),
        ([(3, 3), (4,), (5,), (6,)], "has 4 layers"),
        ([], "has 0 layers"),
    ],
)
def test_a_file_of_other_layers_is_refused(found, message):
    with pytest.raises(WeightsError, match=message):
        check_layers("w.h5", "net", layers((3, 3), (4,)), layers(*found), top_layers=1)


def test_a_lambda_is_found_however_deep_it_is(tmp_path):
    path = tmp_path / "model.keras"
    config = {
        "config": {"layers": [{"class_name": "Functional", "config": {"layers": [{"class_name": "Lambda"}]}}]}
    }
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
    with pytest.raises(BackboneError, match="Lambda layer, which is Python code"):
        check_keras_archive(str(path))


def test_what_is_no_keras_archive_is_refused(tmp_path):
    path = tmp_path / "model.keras"
    with pytest.raises(BackboneError, match="no model file"):
        check_keras_archive(str(path))
    path.write_text("not an archive")
    with pytest.raises(BackboneError, match=r"not a \.keras file"):
        check_keras_archive(str(path))


def weights_with(path, change):
    """Write weights of one layer in Keras' older layout, and change them."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([b"one"])
        file.create_group("one").attrs["weight_names"] = np.array([b"w"])
        file["one/w"] = np.ones(3, np.float32)
        change(file)
    return str(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda file, other: file.__setitem__("one/w", h5py.ExternalLink(other, "w")), "never followed"),
        (lambda file, other: file.__setitem__("one/w", h5py.SoftLink("/w")), "never followed"),
        (
            lambda file, other: file.create_dataset("one/w", (3,), "f4", external=[(other, 0, 12)]),
            "lies in another file",
        ),
        (lambda file, other: file.create_dataset("one/w", (2**40,), "f4", chunks=(1024,)), "far more memory"),
        (
            lambda file, other: file.create_dataset("one/w", (2**62, 2**62), "f4", chunks=(8, 8)),
            "far more memory",
        ),
        (lambda file, other: file.create_dataset("one/w", data=b"text"), "does not consist of numbers"),
    ],
)
def test_weights_that_lead_elsewhere_or_are_absurd_are_refused(make, message, tmp_path):
    other = weights_with(tmp_path / "other.h5", lambda file: file.__setitem__("w", np.ones(3)))

    def change(file):
        del file["one/w"]
        make(file, other)

    path = weights_with(tmp_path / "weights.h5", change)
    for read in (weights_kind, read_layers):
        with pytest.raises(WeightsError, match=message):
            read(path)


def test_groups_that_hold_themselves_are_walked_once(tmp_path):
    path = weights_with(tmp_path / "weights.h5", lambda file: file.__setitem__("one/again", file["one"]))
    assert [layer.name for layer in read_layers(path)] == ["one"]


def test_a_heap_of_texts_that_would_keep_hdf5_busy_for_ever_is_refused(tmp_path):
    path = tmp_path / "weights.h5"
    weights_with(path, lambda file: file.attrs.create("layer_names", ["one"], dtype=h5py.string_dtype()))
    assert weights_kind(str(path)) == "layers"
    data = path.read_bytes()
    heap = data.index(b"GCOL")
    # The heap's first text becomes free space of no length.
    path.write_bytes(data[: heap + 16] + bytes(16) + data[heap + 32 :])
    with pytest.raises(WeightsError, match=r"texts at byte .* are damaged"):
        weights_kind(str(path))


class TestSize:
    """A file with the wrong number of weights is refused before Keras is imported."""

    @pytest.fixture
    def write(self, tmp_path):
        def write(*sizes, whole=False):
            path = tmp_path / "weights.h5"
            with h5py.File(path, "w") as file:
                group = file.create_group("model_weights") if whole else file
                group.attrs["layer_names"] = [f"layer{number}".encode() for number in range(len(sizes))]
                for number, size in enumerate(sizes):
                    layer = group.create_group(f"layer{number}")
                    shapes = size if isinstance(size, list) else [size]
                    layer.attrs["weight_names"] = [f"w{one}".encode() for one in range(len(shapes))]
                    for one, shape in enumerate(shapes):
                        layer[f"w{one}"] = np.zeros(shape, np.float32)
            return str(path)

        return write

    def test_the_networks_own_pass_with_and_without_classifier(self, write):
        info = find_backbone("mobilenet_v2")
        for sizes in ((2_000_000, 257_984), (2_000_000, 257_984, 1_281_000), (2_000_000, 257_984, 6_405)):
            check_size(write(*sizes), info, None)
        check_size(write(400_000, 10_208), info, 0.35)
        check_size(write(5), info, 0.9)
        # A classifier may be smaller than most layers.
        check_size(write(*[20_000] * 20, 10_208, 1_799), info, 0.35)

    def test_weights_of_another_network_are_refused_and_named(self, write):
        with pytest.raises(
            WeightsError, match=r"does not hold .* resnet50: it has 2 layers .* of mobilenet_v2"
        ):
            check_size(write(2_000_000, 257_984), find_backbone("resnet50"), None)
        with pytest.raises(WeightsError, match=r"they fit with --alpha 0\.35"):
            check_size(write(400_000, 10_208), find_backbone("mobilenet_v2"), None)

    def test_those_of_a_model_with_a_network_in_it_say_what_to_do(self, write):
        path = write([1000] * 20, 500, whole=True)
        with pytest.raises(WeightsError, match=r"network in it, 'layer0'; .* --layer layer0"):
            check_size(path, find_backbone("mobilenet_v2"), None)
        whole, own = (
            [LayerShapes(name=name, shapes=((3,),) * count)] for name, count in (("net", 20), ("conv", 2))
        )
        with pytest.raises(WeightsError, match=r"network in it, 'net'; .* --layer net"):
            check_layers("tutorial.keras", "mobilenet_v2", own, whole, 1)

    def test_keras_is_not_imported_to_refuse_it(self, write, cache):
        code = (
            "import sys, featstore\n"
            "try: featstore.load_backbone('resnet50', weights=sys.argv[1])\n"
            "except featstore.FeatstoreError as error: print(error)\n"
            "assert 'keras' not in sys.modules"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, write(2_000_000, 257_984)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "does not hold the weights of resnet50" in done.stdout

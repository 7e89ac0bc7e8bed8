"""The program in a model card, run where there is nothing but what it names."""

import io
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featstore.errors import ExportError
from featstore.export.card import _RESIZE_CODE, labels_text
from featstore.images.decode import decode_image

# Refuses every package but those of the runtime; what these import of their own is theirs to have.
_ONLY = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        home = name.partition(".")[0]
        if home in {allowed!r} or home in sys.stdlib_module_names or home.startswith("_"):
            return None
        raise ModuleNotFoundError(f"no module named {{name!r}} in this test", name=name)

sys.meta_path.insert(0, Refuse())
"""


def program(model):
    card = (Path(model.path) / "model_card.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    return code


@pytest.fixture
def folder(exported, shared_table, tmp_path):
    """Copy an exported model to where nothing else is, with a photo of the test split."""

    def copy(runtime):
        shutil.copytree(exported(runtime).path, tmp_path / "model")
        Image.open(shared_table.paths[0]).save(tmp_path / "model" / "photo.jpg", quality=95)
        return tmp_path / "model"

    return copy


def expected(folder, head, shared_table):
    """Return what the head says of a photo, computed from its pixels."""
    from featstore.backbones import backbone_from_spec

    pixels = decode_image((folder / "photo.jpg").read_bytes(), size_px=head.spec.size_px)
    features = backbone_from_spec(head.spec, weights=head.weights).forward(pixels[None])
    labels, probabilities = head.top(features, 1)
    return str(labels[0, 0]), float(probabilities[0, 0])


@pytest.mark.parametrize(
    ("runtime", "allowed"),
    [
        ("onnx", {"numpy", "PIL", "onnxruntime"}),
        ("openvino", {"numpy", "PIL", "openvino"}),
        ("tflite", {"numpy", "PIL", "ai_edge_litert", "flatbuffers", "ml_dtypes", "backports", "tqdm"}),
    ],
)
def test_it_labels_a_photo_with_the_runtime_alone(exported, folder, head, shared_table, runtime, allowed):
    place = folder(runtime)
    done = subprocess.run(
        [sys.executable, "-c", _ONLY.format(allowed=allowed) + program(exported(runtime))],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    label, probability = done.stdout.split()
    wanted = expected(place, head, shared_table)
    assert (label, float(probability)) == (wanted[0], pytest.approx(wanted[1], abs=1e-4))


def test_the_readme_gives_the_same_program(exported):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (told,) = [
        code for code in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "onnxruntime" in code
    ]
    assert told.replace("(224, 224)", "(20, 16)") == program(exported("onnx"))


@pytest.mark.parametrize("runtime", ["keras", "saved_model"])
def test_it_labels_a_photo_with_tensorflow(exported, folder, head, shared_table, runtime, monkeypatch):
    place = folder(runtime)
    monkeypatch.chdir(place)
    with redirect_stdout(io.StringIO()) as said:
        exec(program(exported(runtime)), {})
    label, probability = said.getvalue().split()
    wanted = expected(place, head, shared_table)
    assert (label, float(probability)) == (wanted[0], pytest.approx(wanted[1], abs=1e-4))


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(97, 60), (60, 97), (31, 31), (33, 400)])
def test_it_resizes_as_featstore_does(resize, size):
    from PIL import ImageOps

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    file = io.BytesIO()
    image.save(file, "PNG")
    names = {"Image": Image, "ImageOps": ImageOps, "image": image}
    exec(_RESIZE_CODE[resize].format(height=48, width=64), names)
    wanted = decode_image(file.getvalue(), size_px=(48, 64), resize=resize)
    np.testing.assert_array_equal(np.asarray(names["image"]), wanted)


@pytest.mark.parametrize("label", ["a\nb", "a\rb", "a\x0bb", "a\u2028b"])
def test_labels_txt_has_a_line_for_each_label(label):
    with pytest.raises(ExportError, match="line break"):
        labels_text(["fen", label])
    assert labels_text(["fen", "moor and heath"]) == "fen\nmoor and heath\n"

"""The program in a model card, run where there is nothing but what it names."""

import io
import json
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featstore
from featstore.errors import ExportError, HeadError
from featstore.export import ExportedModel
from featstore.export.card import labels_text, model_card
from featstore.images.decode import decode_image, decode_views
from featstore.images.photo import read_photo
from odd_images import ODD

# Refuses every package but those of the runtime, and what lies in the folder; what these import of their own is theirs to have.
_ONLY = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        home = name.partition(".")[0]
        if home in {allowed!r} | {{"photo"}} or home in sys.stdlib_module_names or home.startswith("_"):
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


def expected(folder, head):
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
def test_it_labels_a_photo_with_the_runtime_alone(exported, folder, head, runtime, allowed):
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
    wanted = expected(place, head)
    assert (label, float(probability)) == (wanted[0], pytest.approx(wanted[1], abs=1e-4))


# Runs the card's program for each file of a folder under the name that it reads.
_EACH = """
import contextlib, io, json, os, shutil, sys, warnings

warnings.simplefilter("error")
told = {}
for name in sorted(os.listdir(sys.argv[1])):
    shutil.copy(os.path.join(sys.argv[1], name), "photo.jpg")
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(sys.argv[2], {})
    told[name] = said.getvalue().split()
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def odd_images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    for name, data in ODD.items():
        if name != "exif-broken.jpg":  # of which Pillow warns
            (folder / name.replace(" ", "_")).write_bytes(data)
    return folder


def test_it_answers_as_predict_does_for_every_odd_image(exported, folder, head, odd_images):
    place = folder("onnx")
    told = json.loads(
        subprocess.run(
            [sys.executable, "-c", _EACH, str(odd_images), program(exported("onnx"))],
            cwd=place,
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        ).stdout
    )
    assert len(told) > 80
    paths = sorted(odd_images.iterdir())
    for model in (exported("onnx").path, head):
        for path, answer in zip(paths, featstore.Predictor(model).stream(paths), strict=True):
            label, probability = told[path.name]
            assert label == ("unknown" if answer.is_unknown else answer.label), path.name
            assert float(probability) == pytest.approx(answer.probability, abs=1e-4), path.name


def test_it_says_unknown_where_predict_does(exported, head, tmp_path):
    described = exported("onnx").description
    assert 'if probabilities.max() >= 0.4 else "unknown"' in model_card(described)
    head_data = {**described.head, "held_out": {}}
    named = replace(described, classes=("unknown", *described.classes[1:]), head=head_data)
    assert 'else "unknown (rejected)"' in model_card(named)
    assert (
        "unknown"
        not in re.findall(r"```python.*?```", model_card(replace(described, rejects_below=0.0)), re.DOTALL)[0]
    )


def test_a_model_has_the_prediction_sets_of_its_head(exported, head, shared_table):
    model = exported("onnx")
    options = {"coverage": 0.8, "by_class": True}
    assert (model.set_thresholds(**options) == head.set_thresholds(**options)).all()
    photos = shared_table.paths[:6].tolist()
    found = [
        [sorted(name for name, _ in one.set) for one in featstore.predict(made, photos, **options)]
        for made in (model, head)
    ]
    assert found[0] == found[1]

    card = model_card(model.description)
    n_images = sum(map(len, head.held_out.values()))
    assert f"calibrated on {n_images} held-out images" in card
    assert f"| 80% | {head.set_thresholds(coverage=0.8)[0]:.4g} |" in card
    assert "| 99% |" not in card


def test_a_model_that_averages_over_fewer_views_than_its_head_has_no_prediction_sets(exported):
    described = exported("onnx").description
    other = replace(described, head={**described.head, "held_out": {}})
    assert "calibrated" not in model_card(other)
    with pytest.raises(HeadError, match=r"the exported model .* holds nothing to calibrate"):
        ExportedModel(other, path="model").set_thresholds(coverage=0.8)


def test_a_recipe_of_views_decides_how_finely_a_large_jpeg_is_decoded(exported):
    described = exported("onnx").description
    recipe = featstore.ViewRecipe(random_crop=50)
    card = model_card(replace(described, spec=replace(described.spec, views=recipe)))
    assert 'read_photo("photo.jpg", (16, 20), "stretch", magnification=1.5)' in card
    data = io.BytesIO()
    Image.effect_noise((240, 160), 90).convert("RGB").save(data, "JPEG", quality=95)
    wanted = decode_views(
        data.getvalue(), size_px=(16, 20), recipe=recipe, content_hash=bytes(32), views=[0]
    )[0]
    np.testing.assert_array_equal(read_photo(data, (16, 20), magnification=1.5), wanted)
    assert (read_photo(data, (16, 20)) != wanted).any()


def test_the_guide_to_exporting_gives_the_same_program(exported):
    guide = (Path(__file__).parents[2] / "docs" / "how-to" / "export.md").read_text(encoding="utf-8")
    (told,) = [code for code in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if "onnxruntime" in code]
    card = model_card(replace(exported("onnx").description, rejects_below=0.0))
    assert told.replace("(224, 224)", "(16, 20)") in card


@pytest.mark.parametrize("runtime", ["keras", "saved_model"])
def test_it_labels_a_photo_with_tensorflow(exported, folder, head, runtime, monkeypatch):
    place = folder(runtime)
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)
    monkeypatch.delitem(sys.modules, "photo", raising=False)
    with redirect_stdout(io.StringIO()) as said:
        exec(program(exported(runtime)), {})
    label, probability = said.getvalue().split()
    wanted = expected(place, head)
    assert (label, float(probability)) == (wanted[0], pytest.approx(wanted[1], abs=1e-4))


@pytest.mark.parametrize("label", ["a\nb", "a\rb", "a\x0bb", "a\u2028b"])
def test_labels_txt_has_a_line_for_each_label(label):
    with pytest.raises(ExportError, match="line break"):
        labels_text(["fen", label])
    assert labels_text(["fen", "moor and heath"]) == "fen\nmoor and heath\n"

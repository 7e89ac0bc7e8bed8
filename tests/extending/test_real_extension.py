"""ImageNet's classes plus five flowers, from the command line to an exported file, on real photos."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import featstore
from featstore.extending.imagenet import imagenet_classes

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
TOP = DATA / "weights" / "mobilenet_v2_1.0_224.h5"

pytestmark = pytest.mark.skipif(not TOP.exists(), reason="needs the real weights beside the checkout")


def featstore_in(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "featstore_cli", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(real_features, tmp_path_factory):
    """A store of flowers and of ImageNet's samples, ImageNet's own head, and the extended one."""
    folder = tmp_path_factory.mktemp("extended")
    photos = sorted((DATA / "imagenet_samples").glob("*.JPEG"))
    rows = [f"{path},{imagenet_classes()[int(path.name[:3])]}\n" for path in photos]
    (folder / "samples.csv").write_text("path,label\n" + "".join(rows), encoding="utf-8")
    shutil.copytree(real_features, folder / "f.fstore")
    for source in (DATA / "flowers", "samples.csv"):
        featstore_in(folder, "extract", source, "--store", "f.fstore", "--weights", TOP, "--quiet")
    featstore_in(folder, "import-head", "--weights", TOP, "-o", "imagenet", "--store", "f.fstore")
    featstore_in(
        folder, *("extend", "imagenet", "--catalog", "flowers", "--old-catalog", "samples", "-o", "head")
    )
    return folder


def test_new_classes_are_known_and_old_ones_kept(folder):
    head = featstore.Head.load(folder / "f.fstore" / "heads" / "head.head")
    scores = head.extension["scores"]
    assert len(head.classes) == 1005
    assert scores["new"]["top1"] >= 0.85
    assert scores["held_out"]["top1"] >= 0.84
    assert scores["old"]["n"] == 300
    assert scores["old"]["lost"] <= 0.03
    assert scores["calibration"]["calibration_error"] < 0.04


def test_exported_it_labels_a_sample_and_a_flower(folder):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    featstore_in(folder, *("export", "head", "model", "--format", "onnx"))
    told = json.loads((folder / "model" / "model.json").read_text())
    assert told["verification"]["largest_difference"] < 1e-3
    (shark,) = (DATA / "imagenet_samples").glob("002_*.JPEG")
    head = featstore.Head.load(folder / "f.fstore" / "heads" / "head.head")
    table = (
        featstore.FeatureStore(folder / "f.fstore").table(catalog="flowers").split("test", head.split_rule)
    )
    flower = table.paths[(table.y == "sunflowers") & (head.predict(table.X) == "sunflowers")][0]
    lines = featstore_in(folder, "predict", "model", shark, flower, "--labels-only").split()
    assert lines == ["great_white_shark", "sunflowers"]

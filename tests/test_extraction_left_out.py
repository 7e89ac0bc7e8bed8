"""What an extraction says of files that it left out and of classes that may not be what was meant."""

import json
import os
import unicodedata

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import featstore
from fakes import CountingBackbone
from featstore_cli.main import main

NFC, NFD = (unicodedata.normalize(form, "schön") for form in ("NFC", "NFD"))


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [
        "a/1.png",
        "a/2",
        "b/1.png?w=640",
        "b/.hidden.png",
        "raw/1.nef",
        "raw/2.nef",
        "root.png",
        "notes.txt",
    ]
    for seed, name in enumerate([*names, "b/@eaDir/1.png", "B/1.png"]):
        os.makedirs(os.path.dirname(f"photos/{name}"), exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(f"photos/{name}", "PNG")
    os.makedirs("photos/broken")
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / "photos/broken" / name).write_bytes(b"no photo")
    return tmp_path / "photos"


def test_the_report_names_what_is_left_out(photos, caplog):
    report = featstore.extract(photos, backbone=CountingBackbone())
    assert (report.images, report.extracted, report.failed) == (7, 5, 2)
    told = json.loads(json.dumps(report.to_dict()))
    assert told["ignored"] == 3
    assert told["ignored_endings"] == {".nef": 2, ".txt": 1}
    assert told["skipped"] == {"@eaDir": 1, "hidden images": 1}
    assert told["empty_classes"] == ["raw", "broken"]
    assert told["unlabelled"] == 1
    assert "some classes differ only by case" in caplog.text
    assert "'B' and 'b'" in caplog.text


def test_extract_prints_what_is_left_out(photos):
    arguments = ["extract", "photos", "--backbone", "scattering", "--image-size", "16", "-q"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "3 files ignored, not images by name or content: 2 .nef, 1 .txt" in lines
    assert "skipped, hidden or owned by other programs: @eaDir (1), hidden images (1)" in lines
    assert "no usable image in 2 classes: raw, broken" in lines
    assert "1 image without a label among labelled ones" in lines
    told = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
    assert told["empty_classes"] == ["raw", "broken"]


def test_a_clean_folder_is_no_occasion_for_words(tmp_path, caplog):
    for name in ("a/1.png", "b/1.png"):
        os.makedirs(tmp_path / os.path.dirname(name), exist_ok=True)
        Image.new("RGB", (8, 8), len(name)).save(tmp_path / name)
    report = featstore.extract(tmp_path, tmp_path / "s.fstore", backbone=CountingBackbone())
    assert (report.ignored_endings, report.skipped, report.empty_classes, report.unlabelled) == (
        {},
        {},
        (),
        0,
    )
    assert caplog.text == ""


def test_a_label_is_the_same_from_a_folder_and_from_a_list(tmp_path):
    for name in (f"photos/{NFD}/1.png", f"photos/{NFC}/2.png"):
        os.makedirs(tmp_path / os.path.dirname(name), exist_ok=True)
        Image.new("RGB", (8, 8), name.count("1") * 99).save(tmp_path / name)
    (tmp_path / "list.csv").write_text(f"path,label\nphotos/{NFC}/2.png,{NFD}\n", "utf-8")
    store = featstore.FeatureStore(tmp_path / "s.fstore", create=True)
    for source in ("photos", "list.csv"):
        featstore.extract(tmp_path / source, store, backbone=CountingBackbone())
    assert store.table(catalog=["photos", "list"]).classes.tolist() == [NFC]


def test_labels_that_an_older_version_kept_in_another_form_are_read_in_the_one_form(tmp_path):
    old = featstore.store.Catalog(
        name="old",
        root="/",
        location="/old",
        paths=[f"{NFD}.png"],
        labels=[NFD],
        groups=[NFD],
        splits=[None],
        content_hash=np.zeros((1, 32)),
        sizes=[0],
        mtimes_ns=[0],
        reasons=[None],
    )
    assert (old.paths, old.labels, old.groups) == ((f"{NFD}.png",), (NFC,), (NFD,))

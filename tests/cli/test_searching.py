"""`featstore similar` and `featstore centres` on a small demo."""

import csv
import json
import os
import shlex

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import featstore
from featstore_cli.main import main


@pytest.fixture
def run(small_demo, monkeypatch):
    monkeypatch.chdir(small_demo)

    def invoke(line, code=0):
        result = CliRunner().invoke(main, shlex.split(line))
        assert result.exit_code == code, result.output
        return result

    return invoke


@pytest.fixture
def table(small_demo):
    return featstore.FeatureStore(small_demo / "digits.fstore").table()


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_a_store_that_is_an_option_is_asked_for_as_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ("similar photo.png", "diff photos photos", "views photo.png --out o.png --space scattering")
    arguments = ("info", "suspects", "compact", "verify")

    def told(line):
        return " ".join(CliRunner().invoke(main, shlex.split(line)).stderr.split())

    for line in options:
        assert "give --store, or create one" in told(line)
    for line in arguments:
        assert "name one, or create one" in told(line)
    for name in "ab":
        featstore.FeatureStore(tmp_path / f"{name}.fstore", create=True)
    for line in options:
        assert "there are several stores here, give --store: a.fstore, b.fstore" in told(line)
    for line in arguments:
        assert "there are several stores here, name one: a.fstore, b.fstore" in told(line)


def test_similar_lists_what_the_library_finds(run, table, tmp_path):
    line = f"similar digits/7/0007.png --top 3 --csv {tmp_path}/a.csv"
    (told,) = json.loads(run(f"{line} --json").stdout)
    (row,) = np.flatnonzero([path.endswith("7/0007.png") for path in table.paths.tolist()])
    found = table.neighbors(table.X[row : row + 1], k=4)
    assert [image["row"] for image in told["images"]] == found.rows[0, 1:].tolist()
    assert told["copies"] == [str(table.paths[row])]
    assert told["images"][0]["exists"] is True
    printed = run(f"{line} --force").stdout.splitlines()
    assert printed[0] == "digits/7/0007.png (1 in the store)"
    assert printed[2].split() == [
        f"{told['images'][0]['similarity']:.4f}",
        told["images"][0]["label"],
        os.path.relpath(told["images"][0]["path"]),
    ]
    header, first, *_ = rows_of(tmp_path / "a.csv")
    assert header == ["path", "rank", "similar_path", "label", "similarity", "content_hash"]
    assert first[:3] == ["digits/7/0007.png", "1", told["images"][0]["path"]]


def test_similar_goes_on_after_an_image_that_cannot_be_read(run, tmp_path):
    result = run(f"similar {tmp_path}/gone.png digits/3/0003.png --top 1")
    assert "gone.png: no such file" in result.stderr
    assert "digits/3/0003.png (1 in the store)" in result.stdout
    result = run(f"similar {tmp_path}/gone.png", code=1)
    assert "none of the images could be compared" in result.stderr


def test_a_sheet_shows_the_images(run, small_demo, tmp_path):
    (told,) = json.loads(run(f"similar digits/3/0003.png --top 12 --sheet {tmp_path}/a.png --json").stdout)
    with Image.open(tmp_path / "a.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    # Ten in a line, below the title.
    assert pixels.shape == (6 + 16 + 2 * 182, 6 + 10 * 166, 3)
    paths = ["digits/3/0003.png", *(image["path"] for image in told["images"])]
    for number, path in enumerate(paths):
        top, left = 22 + number // 10 * 182, 6 + number % 10 * 166
        with Image.open(small_demo / path) as image:
            expected = image.convert("RGB").resize((160, 160), Image.Resampling.BILINEAR)
        difference = pixels[top : top + 160, left : left + 160].astype(int) - np.asarray(expected)
        assert np.abs(difference).max() <= 1, path
    assert "--force" in run(f"similar digits/3/0003.png --sheet {tmp_path}/a.png", code=1).stderr
    assert "a sheet ends in" in run(f"similar digits/3/0003.png --sheet {tmp_path}/a.gif", code=1).stderr
    assert "is an input" in run("similar digits/3/0003.png --sheet digits/3/0003.png --force", code=1).stderr


def test_centres_of_a_store_and_of_a_head(run, table, tmp_path):
    told = json.loads(run(f"centres digits.fstore --top 2 --csv {tmp_path}/a.csv --json").stdout)
    found = featstore.find_centres(table, top=2)
    assert [(one["label"], one["n_images"]) for one in told] == [(one.label, one.n_images) for one in found]
    paths = [image["path"] for one in told for image in one["images"]]
    assert paths == [image.path for one in found for image in one.images]
    assert [row[2] for row in rows_of(tmp_path / "a.csv")[1:]] == paths
    run("head classes logistic --store digits.fstore --remove 0 -o few --force")
    (first, *_) = json.loads(run(f"centres few --top 1 --sheet {tmp_path}/a.png --json").stdout)
    assert first["label"] == "1"
    assert first["images"] == told[1]["images"][:1]
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.size == (6 + 166, 6 + 9 * (16 + 182))


def test_centres_of_what_is_neither(run):
    assert "has no head 'nothing'" in run("centres nothing", code=2).stderr
    assert "--space is for a STORE" in run("centres logistic --space scattering", code=2).stderr
    assert "--store is for a HEAD" in run("centres digits.fstore --store digits.fstore", code=2).stderr


def test_a_sheet_says_which_file_is_gone(run, tmp_path):
    from featstore.images import contact_sheet

    sheet = contact_sheet([("gone", [(str(tmp_path / "gone.png"), "0.9")])])
    assert sheet.getpixel((100, 150)) == (211, 211, 211)


def test_a_sheet_of_too_many_is_refused():
    from featstore.errors import SearchError
    from featstore.images import contact_sheet

    with pytest.raises(SearchError, match="choose fewer"):
        contact_sheet([("many", [("a.png", "")] * 10_000)])

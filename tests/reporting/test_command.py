"""`featstore report`."""

import json
import os
import shlex

import pytest
from click.testing import CliRunner

from featstore_cli.main import main


@pytest.fixture
def run(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def invoke(line, code=0):
        result = CliRunner().invoke(main, [*shlex.split(line), "--store", str(photos / "photos.fstore")])
        assert result.exit_code == code, result.output
        return result

    return invoke


def test_it_prints_what_was_made(run, table):
    result = run("report ridge --no-suspects")
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert lines["report"] == "report.html"
    assert lines["size"] == f"{os.path.getsize('report.html') / 1e6:.1f} MB"
    assert lines["images"] == str(len(table))
    assert lines["photos"] == f"{len(table)}, up to 224 px"
    assert lines["test"].startswith("accuracy ")
    assert result.stderr == ""


def test_json_has_the_same(run, table):
    told = json.loads(run("report ridge --no-suspects --no-images --split all -o all.html --json").stdout)
    assert told["path"] == os.path.abspath("all.html")
    assert told["bytes"] == os.path.getsize("all.html")
    assert (told["images"], told["thumbnails"], told["split"]) == (len(table), 0, "all")
    assert told["left_out"] == {"suspects": "not asked for"}


def test_photos_that_do_not_fit_are_counted_with_what_to_do(run):
    result = run("report ridge --no-suspects --budget-mb 0.13")
    assert " without" in result.stdout
    assert "raise --budget-mb to show them" in result.stderr


def test_a_curve_is_added_where_asked_for(run):
    run("report ridge --no-suspects --no-images --curve -q")
    with open("report.html", encoding="utf-8") as file:
        assert "<figcaption>Learning curve" in file.read()


def test_an_ending_of_something_else_is_refused_before_the_work(run):
    assert "ends in .html" in run("report ridge -o report.png", code=1).stderr

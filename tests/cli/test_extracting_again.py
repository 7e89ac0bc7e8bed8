"""`featstore extract` of a source that was extracted before, and has changed."""

import json
import os
import shlex
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from featstore_cli.main import main

EXTRACT = "extract photos --store s.fstore --backbone scattering --image-size 32 -q"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / "photos" / ("dog" if number % 2 else "cat") / f"{number:02d}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
        os.utime(path, (10**9, 10**9))

    def invoke(line):
        result = CliRunner().invoke(main, shlex.split(line))
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "12 extracted" in invoke(EXTRACT)
    return invoke


def test_what_is_gone_is_named(run, tmp_path):
    shutil.rmtree(tmp_path / "photos" / "dog")
    told = run(EXTRACT)
    assert "emptied  1 class: dog (6 before)\n" in told
    gone = "dog/01.bmp, dog/03.bmp, dog/05.bmp, dog/07.bmp, dog/09.bmp and 1 more\n"
    assert f"gone     6 images since the last run: {gone}" in told
    assert "gone" not in run(EXTRACT)


def test_what_is_gone_is_reported_as_json(run, tmp_path):
    (tmp_path / "photos" / "dog" / "01.bmp").unlink()
    told = json.loads(run(f"{EXTRACT} --json"))
    assert (told["gone"], told["emptied_classes"], told["moved_from"]) == (["dog/01.bmp"], {}, None)


def test_a_moved_folder_keeps_its_catalog(run, tmp_path):
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    told = run(EXTRACT.replace("photos", "elsewhere"))
    assert "moved    from photos\n" in told
    assert "catalog  photos\n" in told
    assert "0 extracted, 12 reused" in told
    run("fit --param C=0.1 -q")


def test_rehash_reads_every_file(run):
    assert json.loads(run(f"{EXTRACT} --json"))["read"] == 0
    assert json.loads(run(f"{EXTRACT} --rehash --json"))["read"] == 12


def test_what_has_changed_is_shown_before_extracting_again(run, tmp_path):
    assert "nothing was added, removed, renamed, changed or relabelled\n" in run("diff photos photos")
    (tmp_path / "photos" / "dog" / "01.bmp").rename(tmp_path / "photos" / "cat" / "01.bmp")
    (tmp_path / "photos" / "cat" / "00.bmp").unlink()
    told = run("diff photos photos --store s.fstore")
    assert told.startswith("12 images in the catalog, 11 in the source, 10 unchanged; 1 file read in "), told
    assert told.splitlines()[1:] == [
        "removed     1 image: cat/00.bmp",
        "renamed     1 image: dog/01.bmp to cat/01.bmp",
        "relabelled  1 image: cat/01.bmp (dog to cat)",
    ]
    told = json.loads(run("diff photos photos --json"))
    assert told["renamed"] == [{"path": "cat/01.bmp", "before": "dog/01.bmp"}]
    assert told["relabelled"] == [{"path": "cat/01.bmp", "before": "dog", "label": "cat"}]
    assert (told["is_empty"], told["removed"]) == (False, ["cat/00.bmp"])


def test_nothing_is_removed_without_yes(run):
    run("fit --param C=0.1 -q")
    told = run("remove s.fstore --catalog photos --head logistic")
    assert told.startswith("to remove: catalog photos; head logistic (2 files, "), told
    told = run("remove s.fstore --catalog photos")
    assert "  the head logistic was fitted on the catalog photos: it still predicts" in told
    assert json.loads(run("info --json"))["catalogs"]
    assert json.loads(run("remove --catalog photos --yes --json"))["removed"]
    [head] = json.loads(run("info --json"))["heads"]
    assert (head["catalogs"], head["up_to_date"]) == ({"photos": "missing"}, False)
    assert "logistic  photos: not in this store" in run("info")
    assert run("remove --head logistic --yes").startswith("removed: head logistic (1 file, ")
    told = run(EXTRACT)
    assert "0 extracted, 12 reused" in told


def test_a_removal_of_nothing_is_a_usage_error(run):
    result = CliRunner().invoke(main, ["remove", "s.fstore"])
    assert (result.exit_code, "give --space, --catalog or --head" in result.output) == (2, True)

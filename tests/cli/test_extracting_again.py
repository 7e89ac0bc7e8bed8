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


def test_what_is_gone_is_told_to_programs(run, tmp_path):
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

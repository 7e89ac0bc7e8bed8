"""Names of files and classes that a terminal would obey, and bytes that are not UTF-8: shown harmless, told exactly."""

import csv
import json
import logging
import os
import shlex

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import featstore
from corpus import NAMES
from fakes import CountingBackbone
from featstore_cli import printing
from featstore_cli.main import main

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")

RED = "red\n\x1b[31m\u202e rose"
LATIN = os.fsdecode(b"caf\xe9")


@pytest.fixture(scope="module", autouse=True)
def logs_that_can_be_sent():
    """Names that are not UTF-8 must not be in pytest's own record: its workers could not send it."""
    logger = logging.getLogger("featstore.heads.data.partition")
    logger.addFilter(_drop)
    yield
    logger.removeFilter(_drop)


def _drop(_record):
    return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A store of pictures under odd names in odd class folders: one broken, one twice, one in two classes."""
    folder = tmp_path_factory.mktemp("odd\x1b[5m")
    for number, label in enumerate((RED, LATIN, "white 🌹") * 20):
        path = folder / "photos" / label / f"{number} {NAMES[number % len(NAMES)]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 100, (9, 9, 3)) + 60 * (number % 3)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    (folder / "photos" / RED / "broken\x1b[2J.png").write_bytes(b"no picture")
    twice = (folder / "photos" / RED / f"0 {NAMES[0]}").read_bytes()
    (folder / "photos" / RED / "twice\x07.png").write_bytes(twice)
    (folder / "photos" / "white 🌹" / f"conflict{LATIN}\x07.png").write_bytes(twice)
    featstore.FeatureStore(folder / "other\x1b[1m.fstore", create=True)
    store = folder / "photos.fstore"
    featstore.extract(folder / "photos", store, backbone=CountingBackbone(feature_dim=40))
    for name, C in (("logistic", 1.0), ("other", 0.1)):
        featstore.fit(featstore.FeatureStore(store).table(), params={"C": C}).save(
            store / f"heads/{name}.head"
        )
    return folder


@pytest.fixture
def run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    # Without colours, click takes out what some of a terminal's commands begin with.
    return lambda line: CliRunner().invoke(main, shlex.split(line), color=True)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        *(("info photos.fstore", 0), ("fit photos.fstore --param C=1", 0), ("verify photos.fstore", 0)),
        *(("duplicates photos.fstore", 0), ("suspects photos.fstore", 0), ("info", 2)),
        ("evaluate logistic --store photos.fstore", 0),
        *(("compare logistic other --store photos.fstore", 0), ("projector photos.fstore 'p\x1b[1m'", 0)),
        *(("pack photos.fstore 'p\x1b[1m.h5'", 0), ("merge 'm\x1b[1m.fstore' photos.fstore", 0)),
        *(
            ("extract 'photos/red\n\x1b[31m\u202e rose/broken\x1b[2J.png'", 1),
            ("info 'no\x1b[31m.fstore'", 1),
        ),
    ],
)
def test_what_is_shown_is_printable(run, line, code):
    result = run(line)
    assert result.exit_code == code, result.output
    assert result.output
    for shown in result.output.splitlines():
        assert shown.isprintable(), shown


def test_a_strict_stop_names_the_file_harmlessly(run, monkeypatch):
    import featstore.flow.extraction

    monkeypatch.setattr(
        featstore.flow.extraction, "load_backbones", lambda name, **options: [CountingBackbone()]
    )
    result = run("extract photos --store strict.fstore --strict")
    assert result.exit_code == 1
    assert r"broken\x1b[2J.png" in result.output
    assert all(shown.isprintable() for shown in result.output.splitlines())


def test_a_warning_of_the_library_is_printable(monkeypatch, capsys):
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.getLogger("PIL"), "level", logging.NOTSET)
    printing.show_warnings()
    logging.getLogger("PIL.TiffImagePlugin").error("More samples per pixel than can be decoded: 2048")
    logging.getLogger("featstore.heads").warning("no image is in test for %s", RED)
    assert capsys.readouterr().err == r"WARNING: no image is in test for red\n\x1b[31m\u202e rose" + "\n"


def test_json_and_csv_tell_names_exactly(run, folder):
    result = run("duplicates photos.fstore --threshold 0.999 --json --csv found.csv --force")
    assert result.exit_code == 0, (result.output, result.exception)
    (group,) = json.loads(result.stdout)["groups"]
    names = {
        f"photos/{RED}/0 {NAMES[0]}",
        f"photos/{RED}/twice\x07.png",
        f"photos/white 🌹/conflict{LATIN}\x07.png",
    }
    assert {os.path.relpath(image["path"], folder) for image in group["images"]} == names
    assert {image["label"] for image in group["images"]} == {RED, "white 🌹"}
    with open("found.csv", encoding="utf-8", errors="surrogateescape", newline="") as file:
        assert {os.path.relpath(row["path"], folder) for row in csv.DictReader(file)} == names


def test_a_csv_that_was_written_is_read_as_a_list(run, folder):
    run("duplicates photos.fstore --threshold 0.999 --csv list.csv --force")
    report = featstore.extract(folder / "list.csv", folder / "listed.fstore", backbone=CountingBackbone())
    assert (report.images, report.failed) == (3, 0)

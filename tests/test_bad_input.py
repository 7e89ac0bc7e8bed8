"""What the corpus of bad files comes to in decoding, extraction and prediction, and files that change meanwhile."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import corpus
import featstore
from fakes import CountingBackbone
from featstore.errors import ImageError, SourceError
from featstore.images import reading
from featstore.images.decode import decode_image

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")

# In a process of its own, which can be stopped where one of the files blocks it, and give up root's right to read
# everything. What it imports must be loaded by then.
RUN = """
import json, os, resource, sys
import numpy as np
from PIL import Image
import corpus, featstore
from fakes import CountingBackbone

os.chdir(sys.argv[1])
for number in range(60):
    folder = f"source/{'bright' if number % 2 else 'dark'}"
    os.makedirs(folder, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 100, (9, 9, 3)) + 150 * (number % 2)
    Image.fromarray(pixels.astype(np.uint8)).save(f"{folder}/{number}.png")
featstore.extract("source", "alone.fstore", backbone=CountingBackbone())
head = featstore.fit(featstore.FeatureStore("alone.fstore").table(), params={"C": 1.0})
list(featstore.predict(head, ["source/dark/0.png"], backbone=CountingBackbone()))
outcomes = corpus.write_corpus("source")
if os.geteuid() == 0:
    os.setuid(65534)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
report = featstore.extract("source", "all.fstore", backbone=CountingBackbone())
paths = [f"source/{path}" for path in outcomes if not os.path.isdir(f"source/{path}")]
told = [prediction.to_dict() for prediction in featstore.predict(head, paths, backbone=CountingBackbone())]
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps({"outcomes": outcomes, "report": report.to_dict(), "told": told, "grown_kib": grown}))
"""


@pytest.fixture(scope="module")
def ran():
    """The corpus among sixty good pictures, gone through extraction and prediction without root's rights."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", RUN, folder],
            env={**os.environ, "PYTHONPATH": path, "FEATSTORE_CACHE": os.path.join(folder, "cache")},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        yield folder, done.stderr, json.loads(done.stdout)


def wrong(found, outcomes):
    """Return what differs: path → (reason given, reason expected)."""
    return {
        path: (found.get(path), expected)
        for path, expected in outcomes.items()
        if (path in found) != (expected is not None) or (expected and not re.search(expected, found[path]))
    }


def reason_of(data, **options):
    try:
        pixels = decode_image(data, size_px=(10, 14), **options)
    except ImageError as error:
        return str(error)
    assert pixels.shape == (10, 14, 3)
    assert pixels.dtype == np.uint8
    return None


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_decoding_gives_pixels_or_the_reason(resize):
    found = {name: reason_of(data, resize=resize) for name, (data, _) in corpus.IMAGES.items()}
    outcomes = {name: expected for name, (_, expected) in corpus.IMAGES.items()}
    assert wrong({name: reason for name, reason in found.items() if reason}, outcomes) == {}


@posix
def test_extraction_lists_each_bad_file_once_with_its_reason(ran):
    _, _, told = ran
    report, outcomes = told["report"], told["outcomes"]
    found = {failure["path"]: failure["reason"] for failure in report["failures"]}
    assert wrong(found, outcomes) == {}
    assert len(found) == len(report["failures"]) == report["failed"] == sum(map(bool, outcomes.values()))
    assert report["images"] == len(outcomes) + 60


@posix
def test_prediction_gives_each_bad_file_the_reason_in_its_place(ran):
    _, _, told = ran
    expected = {
        f"source/{path}": reason
        for path, reason in told["outcomes"].items()
        if os.path.basename(path) != "locked folder"
    }
    assert [one["path"] for one in told["told"]] == list(expected)
    found = {one["path"]: one["reason"] for one in told["told"] if "reason" in one}
    assert wrong(found, expected) == {}
    assert all((one["label"] is None) == (one["path"] in found) for one in told["told"])


@posix
def test_a_reason_is_one_line_for_people(ran):
    _, _, told = ran
    for failure in told["report"]["failures"]:
        assert failure["reason"].isprintable(), failure
        assert len(failure["reason"]) < 200
        assert "object at" not in failure["reason"]


@posix
def test_bad_files_leave_the_rows_of_good_ones_alone(ran):
    folder, _, _ = ran
    alone, beside = (featstore.FeatureStore(f"{folder}/{name}.fstore").table() for name in ("alone", "all"))
    at = {path: row for row, path in enumerate(beside.paths)}
    np.testing.assert_allclose(beside.X[[at[path] for path in alone.paths]], alone.X, rtol=1e-5)


@posix
def test_bad_files_cause_no_noise_and_take_little_memory(ran):
    _, stderr, told = ran
    assert stderr == ""
    assert told["grown_kib"] < 100 * 1024


@posix
def test_names_come_back_from_the_catalog_as_they_were(ran):
    folder, _, _ = ran
    catalog = featstore.FeatureStore(f"{folder}/all.fstore").catalog("source")
    for name in corpus.NAMES:
        assert f"class/{name}" in catalog.paths


@pytest.fixture
def photos(tmp_path):
    for number in range(6):
        path = tmp_path / "photos" / "cat" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        os.utime(path, ns=(10**18, 10**18))
    return tmp_path / "photos"


def extracted(photos, **options):
    store = photos.parent / "photos.fstore"
    return featstore.extract(photos, store, backbone=CountingBackbone(), **options)


def once_listed(change):
    """Return a progress callback that calls ``change`` when the files are listed and none is read yet."""
    return lambda done, total: change() if done == 0 else None


def test_a_file_that_vanishes_once_it_is_listed_is_a_failure(photos):
    report = extracted(photos, progress=once_listed(lambda: os.unlink(photos / "cat" / "3.png")))
    assert report.failures == (("cat/3.png", "no such file"),)
    assert (report.extracted, report.failed) == (5, 1)
    assert extracted(photos).images == 5


def test_a_file_replaced_once_it_is_listed_has_the_features_of_what_was_read(photos):
    new = (photos / "cat" / "1.png").read_bytes()
    report = extracted(photos, progress=once_listed(lambda: (photos / "cat" / "3.png").write_bytes(new)))
    assert (report.extracted, report.reused, report.failed) == (5, 1, 0)
    table = featstore.FeatureStore(report.store).table()
    assert table.content_hash[1].tobytes() == table.content_hash[3].tobytes()
    assert extracted(photos).read == 1


@pytest.mark.parametrize("change", ["grows", "shrinks"])
def test_a_file_that_changes_size_while_it_is_read_is_read_again_next_time(photos, change, monkeypatch):
    path = photos / "cat" / "3.png"
    whole = path.read_bytes()
    fstat = os.fstat

    def changing(descriptor):
        status = fstat(descriptor)
        if status.st_ino == os.stat(path).st_ino:
            path.write_bytes(whole + b"more" if change == "grows" else whole[:-30])
            os.utime(path, ns=(10**18, 10**18))
        return status

    with monkeypatch.context() as patch:
        patch.setattr(reading.os, "fstat", changing)
        report = extracted(photos)
    assert report.failures == (() if change == "grows" else (("cat/3.png", corpus.TRUNCATED),))
    path.write_bytes(whole)
    os.utime(path, ns=(10**18, 10**18))
    again = extracted(photos)
    assert (again.read, again.extracted, again.failed) == (1, 1, 0)


@posix
def test_thousands_of_names_of_a_few_pictures_pass_the_backbone_once_each(photos):
    for number in range(6, 3000):
        os.link(photos / "cat" / f"{number % 6}.png", photos / "cat" / f"{number}.png")
    report = extracted(photos)
    assert (report.images, report.extracted, report.reused, report.failed) == (3000, 6, 2994, 0)
    assert extracted(photos).read == 0


def test_a_name_that_no_file_can_have_is_a_reason():
    with pytest.raises(ImageError, match="no file has such a name"):
        reading.read_image("a\0b.png")


@pytest.mark.parametrize("content", [[], ["notes.txt"]])
def test_a_folder_without_images_is_refused_and_leaves_no_store(tmp_path, content):
    (tmp_path / "photos").mkdir()
    for name in content:
        (tmp_path / "photos" / name).write_text("")
    with pytest.raises(SourceError, match="no image in"):
        extracted(tmp_path / "photos")
    assert not (tmp_path / "photos.fstore").exists()

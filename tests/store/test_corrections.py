"""Corrections of labels: their file, and what they do to tables and catalogs."""

import csv
import logging
import shlex
import threading

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import featstore
from fakes import CountingBackbone
from featstore import Correction, Corrections
from featstore.errors import CorrectionsError, OutputError
from featstore_cli.main import main

NAMES = ("a/1.png", "a/2.png", "b/3.png", "b/4.png", "b/copy.png", "c/5.png")


@pytest.fixture
def photos(tmp_path):
    """Photos of three classes; one of b is a copy of one of a."""
    random = np.random.default_rng(0)
    for name in NAMES:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (9, 9, 3), np.uint8)).save(path)
    (tmp_path / "photos" / "b/copy.png").write_bytes((tmp_path / "photos" / "a/1.png").read_bytes())
    return tmp_path / "photos"


@pytest.fixture
def extract(photos):
    def run(**options):
        return featstore.extract(photos, photos.parent / "x.fstore", backbone=CountingBackbone(), **options)

    return run


def opened(photos):
    return featstore.FeatureStore(photos.parent / "x.fstore").table()


def by_name(table):
    return dict(zip(table.relative_paths, table.y.tolist(), strict=True))


def hashes(table):
    return dict(zip(table.relative_paths, table.content_hash.tolist(), strict=True))


@pytest.fixture
def table(photos, extract):
    extract()
    return opened(photos)


@pytest.fixture
def corrections(table):
    of = hashes(table)
    return Corrections(
        (
            Correction(content_hash=of["a/2.png"], decision="relabel", old="a", new="c"),
            Correction(content_hash=of["b/3.png"], decision="accept", old="b", new="b"),
            Correction(content_hash=of["c/5.png"], decision="exclude", old="c"),
            Correction(content_hash=of["b/4.png"], decision="duplicate", old="b", new=of["b/3.png"]),
            Correction(content_hash=of["a/1.png"], decision="relabel", old="a", new="b"),
        )
    )


CORRECTED = {"a/1.png": "b", "a/2.png": "c", "b/3.png": "b", "b/copy.png": "b"}


def test_labels_are_corrected_by_content_and_what_is_excluded_is_left_out(table, corrections):
    assert by_name(featstore.correct_labels(table, corrections)) == CORRECTED
    effect = featstore.correction_effect(table, corrections)
    # The copy in b has the right label already.
    assert (effect.relabelled, effect.confirmed, effect.left_out) == (2, 2, 2)
    assert effect.doubts("c.csv") == []
    assert len(table) == 6


def test_corrected_images_stay_in_their_splits(table, corrections):
    rule = featstore.SplitRule(test=0.3, stratify=True)
    corrected = featstore.correct_labels(table, corrections)
    before = dict(zip(table.relative_paths, table.splits(rule), strict=True))
    assert corrected.splits(rule).tolist() == [before[name] for name in corrected.relative_paths]


def test_extract_writes_corrected_labels_which_survive_renaming(photos, extract, table, corrections):
    (photos / "a/2.png").rename(photos / "c/renamed.png")
    (photos / "b/3.png").rename(photos / "a/moved.png")
    report = extract(corrections=corrections)
    assert by_name(opened(photos)) == {
        "a/1.png": "b",
        "c/renamed.png": "c",
        "a/moved.png": "b",
        "b/copy.png": "b",
    }
    assert report.failures == report.gone == ()
    assert report.corrections["left_out"] == 2
    assert report.corrections["relabelled"] == 2


def test_without_them_the_source_decides_again_and_nothing_is_computed_anew(
    photos, extract, table, corrections
):
    before = by_name(table)
    for _ in range(2):
        extract(corrections=corrections)
        assert by_name(opened(photos)) == CORRECTED
    report = extract()
    assert by_name(opened(photos)) == before
    assert (report.extracted, report.read, report.failed) == (0, 0, 0)


def test_corrections_of_other_photos_are_refused_and_the_catalog_stays(photos, extract, table, corrections):
    extract(corrections=corrections)
    before = opened(photos)
    wrong = Corrections((Correction(content_hash="0" * 64, decision="exclude"),), "wrong.csv")
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(photos / "c" / "6.png")
    message = (
        "none of the 1 corrections in wrong.csv is of an image of the catalog photos.*features are stored"
    )
    with pytest.raises(CorrectionsError, match=message):
        extract(corrections=wrong)
    assert by_name(opened(photos)) == by_name(before)
    assert (extract().extracted, extract(corrections=Corrections()).corrections["relabelled"]) == (0, 0)
    with pytest.raises(CorrectionsError, match="none of the 1 corrections"):
        featstore.diff(photos.parent / "x.fstore", "photos", photos, corrections=wrong)


def test_a_collected_source_is_corrected_and_a_shard_is_not(photos, corrections):
    backbone, store = CountingBackbone(), photos.parent / "x.fstore"
    with pytest.raises(CorrectionsError, match="give the corrections to collect"):
        featstore.extract(photos, store, backbone=backbone, shard=(1, 1), corrections=corrections)
    featstore.extract(photos, photos.parent / "shards.fstore", backbone=backbone, shard=(1, 1))
    featstore.collect(photos.parent / "shards.fstore", photos, corrections=corrections)
    assert by_name(featstore.FeatureStore(photos.parent / "shards.fstore").table()) == CORRECTED


def one(number, decision="relabel", new="a", **more):
    return Correction(content_hash=f"{number:064x}", decision=decision, new=new, **more)


def test_the_file_keeps_what_was_decided_in_order_and_the_last_counts(tmp_path):
    path = tmp_path / "corrections.csv"
    told = [
        one(1, new='odd "label", =1+1\nnext', old=" b", path="caf\udce9.jpg", who="Ada, Ltd", when="now"),
        one(2, "exclude", ""),
        one(1, new="b"),
    ]
    for correction in told:
        featstore.record_correction(path, correction)
    found = featstore.read_corrections(path)
    assert list(found) == told
    assert [*found.current.values()] == told[1:]
    assert featstore.undo_correction(path, told[0].content_hash) == told[2]
    assert featstore.read_corrections(path).current[told[0].content_hash] == told[0]
    featstore.undo_correction(path, told[0].content_hash)
    with pytest.raises(CorrectionsError, match="no correction of the image 000000000000"):
        featstore.undo_correction(path, told[0].content_hash)
    assert list(featstore.read_corrections(path)) == told[1:2]


def test_what_a_spreadsheet_makes_of_the_file_is_read_and_kept(tmp_path):
    path = tmp_path / "corrections.csv"
    lines = ["content_hash;decision;new;comment", f"{1:064x};relabel;é, b;why", "", f"{2:064x};exclude;;"]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    featstore.record_correction(path, one(3))
    assert [correction.new for correction in featstore.read_corrections(path)] == ["é, b", "", "a"]
    with open(path, encoding="utf-8", newline="") as file:
        assert next(csv.DictReader(file))["comment"] == "why"


def test_decisions_of_several_at_once_are_all_kept(tmp_path):
    path = tmp_path / "corrections.csv"
    threads = [
        threading.Thread(target=lambda at=at: featstore.record_correction(path, one(at))) for at in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {int(told.content_hash, 16) for told in featstore.read_corrections(path)} == set(range(8))


def test_a_file_that_could_not_be_replaced_is_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "corrections.csv"
    featstore.record_correction(path, one(1))
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space left"):
        featstore.record_correction(path, one(2))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["corrections.csv"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "lacks the column 'decision'; found nothing"),
        ("path,label\nx,y\n", "is no file of corrections: it lacks the column 'decision'; found 'path', 'label'"),
        ("decision,content_hash,new\nrelabel,xyz,a\n", "line 2: content_hash must be 64 hexadecimal digits"),
        (f"decision,content_hash,new\nkeep,{1:064x},a\n", "line 2: a decision must be one of accept, relabel"),
        (f"decision,content_hash,new\nrelabel,{1:064x},\n", "line 2: relabel needs the label"),
        (f"decision,content_hash,new\nexclude,{1:064x},a\n", "line 2: exclude takes no label; found 'a'"),
        (f"decision,content_hash,new\nduplicate,{1:064x},a\n", "content hash of the image that stays"),
        (f"decision,content_hash,new\nduplicate,{1:064x},{1:064x}\n", "cannot be a duplicate of itself"),
        (f"decision,content_hash,new\nexclude,{1:064x},,,\n", "line 2: 5 fields in 3 columns"),
        ('decision,content_hash,new\n"exclude,', "cannot read"),
    ],
)  # fmt: skip
def test_what_is_no_correction_is_named_by_its_line_and_never_written_over(tmp_path, text, says):
    path = tmp_path / "corrections.csv"
    path.write_text(text)
    for use in (featstore.read_corrections, lambda path: featstore.record_correction(path, one(1))):
        with pytest.raises(CorrectionsError) as caught:
            use(path)
        assert says in str(caught.value)
        assert str(path) in str(caught.value)
    assert path.read_text() == text


def test_places_where_no_file_can_be(tmp_path, table):
    with pytest.raises(CorrectionsError, match="there is no file"):
        featstore.read_corrections(tmp_path / "none.csv")
    with pytest.raises(CorrectionsError, match="there is no folder"):
        featstore.record_correction(tmp_path / "none" / "x.csv", one(1))
    with pytest.raises(OutputError):
        featstore.record_correction(tmp_path / "x.fstore" / "x.csv", one(1))


def test_duplicates_of_each_other_are_refused(tmp_path):
    path = tmp_path / "corrections.csv"
    featstore.record_correction(path, one(1, "duplicate", f"{2:064x}"))
    with pytest.raises(CorrectionsError, match="duplicates of each other"):
        featstore.record_correction(path, one(2, "duplicate", f"{1:064x}"))
    assert len(featstore.read_corrections(path)) == 1


def test_a_duplicate_stays_where_the_other_image_is_not(table, corrections):
    kept = table.select([name != "b/3.png" for name in table.relative_paths])
    assert by_name(featstore.correct_labels(kept, corrections))["b/4.png"] == "b"


def test_doubtful_corrections_are_warned_of(table, caplog):
    of = hashes(table)
    told = Corrections(
        (
            Correction(content_hash=of["a/1.png"], decision="relabel", old="a", new="c"),
            Correction(content_hash=of["a/2.png"], decision="relabel", old="x", new="c"),
            Correction(content_hash=of["b/3.png"], decision="relabel", old="b", new="C "),
            Correction(content_hash=of["b/3.png"], decision="relabel", old="b", new="C"),
            one(1),
        ),
        "mine.csv",
    )
    with caplog.at_level(logging.WARNING):
        featstore.correct_labels(table, told)
    assert [record.getMessage() for record in caplog.records] == [
        "mine.csv: 1 corrections of images that are not here",
        "mine.csv: 1 corrections replaced by later lines on the same image",
        "mine.csv: 1 images have got other labels since they were corrected; the corrections count",
        "mine.csv: labels that no image had before: 'C'",
        "some classes differ only by case, white space or Unicode form: 'C' and 'c'; if they are one class, give it one name",
    ]


def test_corrections_of_other_photos_are_refused(table):
    with pytest.raises(
        CorrectionsError, match=r"none of the 2 corrections in .* is of an image of the catalog photos"
    ):
        featstore.correct_labels(table, Corrections((one(1), one(2))))
    everything = tuple(
        Correction(content_hash=name, decision="exclude") for name in set(table.content_hash.tolist())
    )
    with pytest.raises(CorrectionsError, match="leaves out every image"):
        featstore.correct_labels(table, Corrections(everything))


def test_commands_apply_them(table, photos, corrections, monkeypatch):
    monkeypatch.chdir(photos.parent)
    for correction in corrections:
        featstore.record_correction("c.csv", correction)
    for line in (
        "fit --head centroid --no-leakage --test 0 --validation 0",
        "evaluate centroid --split train",
        "centres x.fstore",
    ):
        result = CliRunner().invoke(main, [*shlex.split(line), "--corrections", "c.csv", "--json"])
        assert result.exit_code == 0, result.output
        assert "c.csv: 2 labels corrected, 2 confirmed, 2 images left out" in result.stderr
        assert '"c"' in result.stdout
        assert '"a"' not in result.stdout
        missing = CliRunner().invoke(main, [*shlex.split(line), "--corrections", "none.csv"])
        assert missing.exit_code == 1
        assert missing.stderr.startswith("Error: there is no file none.csv of corrections")

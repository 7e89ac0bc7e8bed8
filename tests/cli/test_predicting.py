"""What `featstore predict` takes and prints; its network is a stand-in, and everything else real."""

import csv
import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import featstore
from fakes import CountingBackbone, write_mean_model
from featstore_cli.main import main


@pytest.fixture
def backbone(monkeypatch):
    backbone = CountingBackbone()
    monkeypatch.setattr("featstore.prediction.backbones_from_spec", lambda spec, **options: [backbone])
    return backbone


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with photos/bright, photos/dark, a store of their features and a head."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for label, low in (("bright", 150), ("dark", 0)):
        os.makedirs(f"photos/{label}")
        for number in range(40):
            pixels = generator.integers(low, low + 100, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(f"photos/{label}/{number:02d}.png")
    featstore.extract("photos", "photos.fstore", backbone=CountingBackbone())
    store = featstore.FeatureStore("photos.fstore")
    featstore.fit(store.table(), params={"C": 1.0}).save(store.head_path("two"))
    os.makedirs("more/deep")
    for number in range(3):
        pixels = generator.integers(0, 100, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(f"more/deep/{number}.png")
    return tmp_path


@pytest.fixture
def run(here, backbone):
    def invoke(*arguments, code=0, stdin=None):
        result = CliRunner().invoke(main, ["predict", *arguments], input=stdin)
        assert result.exit_code == code, result.output
        return result

    return invoke


DARK = [f"photos/dark/{number:02d}.png" for number in range(40)]


def test_files_folders_and_patterns_name_images(run):
    told = json.loads(run("two", "photos/bright", "more/deep/1.png", "more/**/[02].png", "--json").stdout)
    bright = [f"photos/bright/{number:02d}.png" for number in range(40)]
    assert [one["path"] for one in told] == [*bright, "more/deep/1.png", "more/deep/0.png", "more/deep/2.png"]
    assert [one["label"] for one in told] == ["bright"] * 40 + ["dark"] * 3


def test_a_file_with_the_letters_of_a_pattern_is_that_file(run):
    os.rename("more/deep/0.png", "more/deep/[1].png")
    told = json.loads(run("two", "more/deep/[1].png", "--json").stdout)
    assert [one["path"] for one in told] == ["more/deep/[1].png"]


def test_links_to_nothing_in_a_folder_are_reported(run):
    os.symlink("nowhere.png", "more/deep/link.png")
    told = json.loads(run("two", "more", "--json").stdout)
    assert [one["path"] for one in told if "reason" in one] == ["more/deep/link.png"]


@pytest.mark.parametrize(("end", "options"), [("\n", []), ("\r\n", []), ("\0", ["--null"]), ("\0", ["-0"])])
def test_paths_come_on_standard_input(run, end, options):
    lines = end.join(DARK[:9]) + end + end
    told = json.loads(run("two", "-", *options, "--json", stdin=lines).stdout)
    assert [one["path"] for one in told] == DARK[:9]


def test_paths_on_standard_input_take_their_place_among_the_others(run):
    told = json.loads(run("two", DARK[0], "-", DARK[1], "--json", stdin="\n".join(DARK[5:7])).stdout)
    assert [one["path"] for one in told] == [DARK[0], *DARK[5:7], DARK[1]]


def test_many_more_paths_than_are_held_come_through(run):
    told = run("two", "-", "--labels-only", "--store", "photos.fstore", stdin="\n".join(DARK * 100)).stdout
    assert told.split() == ["dark"] * 4000


def test_nothing_on_standard_input_is_nothing_to_do(run):
    result = run("two", "-", "--format", "csv", stdin="")
    assert result.stdout == "path,label,probability,reason\n"
    assert json.loads(run("two", "-", "--json", stdin="").stdout) == []


def test_json_is_what_python_writes_of_the_whole_list(run):
    printed = run("two", *DARK[:3], "nowhere.png", "--json", "--top", "2").stdout
    assert printed == json.dumps(json.loads(printed), indent=2) + "\n"
    assert [sorted(one) for one in json.loads(printed)] == [["label", "path", "probability", "top"]] * 3 + [
        ["label", "path", "probability", "reason", "top"]
    ]


def test_all_forms_say_the_same(run):
    arguments = ["two", *DARK[:3], "nowhere.png", "photos/bright/00.png", "--top", "2", "--reject", "0.9"]
    listed = json.loads(run(*arguments, "--json").stdout)
    assert [json.loads(line) for line in run(*arguments, "--format", "jsonl").stdout.splitlines()] == listed
    rows = list(csv.DictReader(io.StringIO(run(*arguments, "--format", "csv").stdout)))
    assert [list(row) for row in rows] == [
        ["path", "label", "probability", "reason", "label_1", "probability_1", "label_2", "probability_2"]
    ] * 5
    table = iter(run(*arguments).stdout.splitlines())
    labels = run(*arguments, "--labels-only").stdout.splitlines()
    for one, row, label in zip(listed, rows, labels, strict=True):
        assert row["path"] == one["path"]
        assert row["label"] == (one["label"] or "")
        assert row["reason"] == one.get("reason", "")
        if "reason" in one:
            assert label == row["probability"] == row["label_1"] == ""
            continue
        assert float(row["probability"]) == one["probability"]
        assert float(row["probability_2"]) == one["top"][1]["probability"]
        assert label == (one["label"] or "unknown")
        ranked = "  ".join(f"{entry['label']} {entry['probability']:.4f}" for entry in one["top"])
        assert next(table) == one["path"] + "\t" + (
            ranked if one["label"] else f"unknown (rejected; {ranked})"
        )
    assert next(table, None) is None


def test_more_classes_than_there_are_are_not_listed(run):
    printed = run("two", DARK[0], "--top", "9", "--format", "csv").stdout
    assert printed.splitlines()[0].endswith("label_2,probability_2")


def test_names_with_anything_in_them_are_exact_in_csv_and_json_and_harmless_in_tables(run):
    names = ["a\nb.png", 'c",\td.png', "e\rf.png", "g\x1b[2J.png", os.fsdecode(b"h\xff.png"), "ü.png"]
    for name in names:
        os.link(DARK[0], name)
    stdin = "\0".join(names).encode("utf-8", "surrogateescape")
    assert [one["path"] for one in json.loads(run("two", *names, "--json").stdout)] == names
    printed = run("two", "-0", "-", "--format", "csv", stdin=stdin).stdout_bytes
    rows = list(csv.reader(io.StringIO(printed.decode("utf-8", "surrogateescape"), newline="")))
    assert [row[0] for row in rows[1:]] == names
    lines = run("two", *names).stdout.splitlines()
    assert [line.partition("\t")[0] for line in lines] == [
        "a\\nb.png",
        'c",\\td.png',
        "e\\rf.png",
        "g\\x1b[2J.png",
        "h\\udcff.png",
        "ü.png",
    ]


def test_a_bad_image_is_reported_and_the_others_go_on(run):
    result = run("two", DARK[0], "no\nwhere.png", DARK[1], "--labels-only")
    assert result.stdout == "dark\n\ndark\n"
    assert "no\\nwhere.png: no such file" in result.stderr
    assert "3 images in " in result.stderr
    assert ": 2 labelled, 1 failed (" in result.stderr


def test_only_where_every_image_is_bad_the_command_fails(run):
    result = run("two", "nowhere.png", "a*.png", "--format", "jsonl", code=1)
    assert [json.loads(line)["path"] for line in result.stdout.splitlines()] == ["nowhere.png", "a*.png"]
    assert "none of the images could be labelled" in result.stderr


def test_features_in_the_store_are_reused_and_counted(run, backbone):
    result = run("two", "photos/dark", "more", "--store", "photos.fstore", "--reject", "0.5")
    assert "43 images in " in result.stderr
    assert ": 43 labelled, 0 failed, the features of 40 reused (" in result.stderr
    assert backbone.images == 3
    assert run("two", "photos/dark", "more").stdout == result.stdout


def test_one_image_is_labelled_without_more_words(run):
    assert run("two", DARK[0]).stderr == ""
    assert run("two", *DARK, "--quiet").stderr == ""


def test_an_exported_model_is_run_in_a_heads_place(run, here, backbone):
    write_mean_model(here / "out")
    for model in ("out", "out/model.onnx"):
        assert run(model, "photos/dark", "--labels-only").stdout.split() == ["dark"] * 40
    assert backbone.images == 0


def test_beside_several_stores_a_heads_name_says_which(run):
    shutil.copytree("photos.fstore", "other.fstore")
    os.rename("other.fstore/heads/two.head", "other.fstore/heads/three.head")
    assert (
        "none of the stores here has a head 'nothing': other.fstore has three; photos.fstore has two. File names "
        "end in .head"
    ) in " ".join(run("nothing", "more", code=2).stderr.split())
    found = run("three", "more", "--labels-only")
    assert found.stdout.split() == ["dark"] * 3
    assert found.stderr.count("other.fstore is taken, the only store here with a head 'three'\n") == 1
    shutil.copy("other.fstore/heads/three.head", "photos.fstore/heads/three.head")
    told = " ".join(run("three", "more", code=2).stderr.split())
    assert "other.fstore, photos.fstore have the head 'three': give --store" in told
    assert run("three", "more", "--store", "other.fstore", "--labels-only").stdout.split() == ["dark"] * 3


def test_a_folder_with_a_heads_name_does_not_hide_the_head(run):
    os.mkdir("two")
    assert run("two", DARK[0], "--labels-only").stdout == "dark\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--format", "csv", "--json"], "one of --format"),
        (["--labels-only", "--json"], "one of --format"),
        (["--null"], "give - as an IMAGE"),
        (["--format", "xml"], "xml"),
    ],
)
def test_options_that_do_not_go_together_are_refused(run, arguments, says):
    result = run("two", DARK[0], *arguments, code=2)
    assert result.stdout == ""
    assert says in result.stderr


def test_files_of_a_folder_that_are_left_alone_are_counted(run, backbone):
    for name in ("notes.txt", "list.csv", "raw.nef", "@eaDir/0.png", "._0.png"):
        os.makedirs(os.path.dirname(f"more/{name}"), exist_ok=True)
        os.link(DARK[0], f"more/{name}")
    os.link(DARK[0], "more/deep/IMG_1")
    result = run("two", "more", DARK[0])
    assert len(result.stdout.splitlines()) == 5
    first, second, summary = result.stderr.splitlines()
    assert first == ("more: 3 files ignored, not images by name or content: 1 .csv, 1 .nef, 1 .txt")
    assert second == "more: skipped, hidden or owned by other programs: ._* (1), @eaDir (1)"
    assert ": 5 labelled, 0 failed, 3 files ignored (" in summary
    assert "1 .csv" in run("two", "-", "more", "--labels-only", stdin=DARK[0]).stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["photos", "two"], "the head comes first: featstore predict two photos"),
        (["more/deep/0.png", "two"], "the head comes first: featstore predict two more/deep/0.png"),
        (["more", "photos", "two"], "the head comes first: featstore predict two more photos"),
        (["more", "two", "photos"], "the head comes first: featstore predict two more photos"),
        (
            ["photos/dark", "photos.fstore/heads/two.head"],
            "the head comes first: featstore predict photos.fstore/heads/two.head photos/dark",
        ),
        (["photos/*/*.png", "two"], "the head comes first: featstore predict two 'photos/*/*.png'"),
        (["photos", "out"], "the head comes first: featstore predict out photos"),
        (["photos", "out/model.onnx"], "the head comes first: featstore predict out/model.onnx photos"),
        (["photos", "more"], "has no head 'photos'"),
        (["nowhere", "two"], "has no head 'nowhere'"),
    ],
)
def test_images_in_the_place_of_the_head_are_recognised(run, here, arguments, says):
    write_mean_model(here / "out")
    result = run(*arguments, code=2)
    assert says in result.stderr
    assert result.stdout == ""


def test_a_folder_with_a_heads_name_does_not_swap_the_arguments(run):
    os.mkdir("two")
    os.rename("more", "out")
    assert run("two", "out", "--labels-only").stdout.split() == ["dark"] * 3


def test_a_class_called_unknown_is_not_what_is_rejected(run):
    store = featstore.FeatureStore("photos.fstore")
    head = featstore.Head.load(store.head_path("two"))
    featstore.edit_classes(head, rename={"dark": "unknown"}).save("odd.head")
    for reject, rejected in (("0", False), ("0.9999999", True)):
        options = ("odd.head", DARK[0], "--store", "photos.fstore", "--reject", reject)
        (told,) = json.loads(run(*options, "--json").stdout)
        assert told["label"] == (None if rejected else "unknown")
        assert told.get("rejected", False) is rejected
        (row,) = csv.DictReader(io.StringIO(run(*options, "--format", "csv").stdout))
        assert row["label"] == ("" if rejected else "unknown")
        word = "unknown (rejected)" if rejected else "unknown"
        assert run(*options, "--labels-only").stdout == f"{word}\n"
        assert ("(rejected; " in run(*options).stdout) is rejected


def test_images_are_sorted_by_their_label(run, here, tmp_path):
    (here / "more/broken.png").write_bytes(b"nothing")
    Image.fromarray(np.full((8, 8, 3), 125, np.uint8)).save("more/between.png")
    line = (
        "two",
        "photos/bright/00.png",
        "more",
        "--reject",
        "0.9",
        "--sort-into",
        "sorted",
        "--overlay",
        "sheets",
    )
    said = run(*line).stderr
    assert {str(path.relative_to("sorted")) for path in Path("sorted").rglob("*.png")} == {
        *("bright/00.png", "dark/0.png", "dark/1.png", "dark/2.png", "unknown/between.png")
    }
    assert sorted(os.listdir("sheets")) == ["bright-001.png", "dark-001.png", "unknown-001.png"]
    assert "5 images copied into sorted\n" in said
    assert "3 contact sheets in sheets\n" in said
    assert "0 images linked into sorted, 5 there already\n" in run(*line[:-2], "--link").stderr
    assert sorted(os.listdir("more")) == ["between.png", "broken.png", "deep"]


def test_what_cannot_be_sorted_is_said_before_anything_is_done(run, here, backbone):
    for options, code, says in (
        (("--link",), 2, "--link is for --sort-into"),
        (("--sort-into", "photos/sorted"), 2, "lies in photos"),
        (("--overlay", "photos"), 2, "lies in photos"),
        (("--overlay", "more"), 1, "is not an empty folder"),
        (("--sort-into", "photos.fstore/sorted"), 1, "lies in the store"),
    ):
        result = run("two", "photos", *options, code=code)
        assert says in result.stderr
        assert result.stdout == ""
    assert backbone.images == 0


def test_a_coverage_lists_sets_of_labels(run):
    told = json.loads(run("two", *DARK[:2], "--coverage", "0.8", "--json").stdout)
    assert [[one["label"] for one in image["set"]] for image in told] == [["dark"], ["dark"]]

    rows = [*csv.DictReader(io.StringIO(run("two", DARK[0], "--coverage", "0.8", "--format", "csv").stdout))]
    assert json.loads(rows[0]["set"]) == ["dark"]
    assert run("two", DARK[0], "--coverage", "0.8").stdout.startswith(f"{DARK[0]}\tdark ")
    assert "set" not in json.loads(run("two", DARK[0], "--json").stdout)[0]


def test_a_set_of_both_classes_lists_the_more_probable_one_first(run, here):
    store = featstore.FeatureStore("photos.fstore")
    head = featstore.Head.load(store.head_path("two"))
    # As if one held-out image of each class had been taken for the other.
    doubtful = replace(head, held_out={"bright": [1e-9] * 20, "dark": [1e-9] * 20})
    doubtful.save(store.head_path("doubtful"))

    (told,) = json.loads(run("doubtful", DARK[0], "--coverage", "0.8", "--json").stdout)
    assert [one["label"] for one in told["set"]] == ["dark", "bright"]
    assert run("doubtful", DARK[0], "--coverage", "0.8", "-q").stdout.count("bright") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--by-class"], "--by-class is for --coverage"),
        (["--coverage", "0.9", "--top", "2"], "leave out --top"),
        (["--coverage", "0.9", "--labels-only"], "leave out --top and --labels-only"),
        (["--coverage", "95"], "is not in the range"),
    ],
)
def test_coverage_is_refused_where_it_cannot_be_answered(run, options, words):
    assert words in run("two", DARK[0], *options, code=2).stderr


def test_a_coverage_for_which_too_few_images_were_held_out_is_refused_before_any_image(run):
    result = run("two", DARK[0], "--coverage", "0.999", code=1)

    assert "takes at least 999 held-out images" in result.stderr
    assert result.stdout == ""

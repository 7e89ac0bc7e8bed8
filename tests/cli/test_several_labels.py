"""Images with several labels, from the list to predictions."""

import csv
import json
import os
import shlex
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from digit_pairs import write_pairs

import featstore
from featstore.errors import SourceError
from featstore.images.sources.opening import open_source
from featstore_cli.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("pairs")
    write_pairs(home / "pairs", 200)
    options = {"label_column": "labels", "label_separator": "|"}
    featstore.extract(home / "pairs/pairs.csv", home / "pairs.fstore", backbone="scattering", **options)
    return home


@pytest.fixture
def run(folder, monkeypatch):
    monkeypatch.chdir(folder)

    def invoke(line, code=0):
        result = CliRunner().invoke(main, shlex.split(line))
        assert result.exit_code == code, result.output
        return result

    return invoke


def test_pairs_of_digits_are_learnt_scored_and_predicted(run):
    told = json.loads(run("fit pairs.fstore --head ridge --json").stdout)
    assert told["classes"] == ["0", "1", "2", "3", "4"]
    assert told["test"]["map"] > 0.75
    shown = run("fit pairs.fstore --head ridge").stdout
    assert "ridge for each label on scattering" in shown
    assert f"mean average precision {100 * told['test']['map']:.1f}%" in shown

    scores = json.loads(run("evaluate ridge --json").stdout)
    assert scores["map"] == pytest.approx(told["test"]["map"])
    assert all(one["exists"] for one in scores["mistakes"])
    assert f"{100 * scores['micro_f1']:.1f}%" in run("evaluate ridge").stdout

    images = "pairs/0001.png pairs/0000.png --store pairs.fstore"
    both, none = json.loads(run(f"predict ridge {images} --json").stdout)
    assert sorted(one["label"] for one in both["labels"]) == ["3", "4"]
    assert both["labels"][0]["probability"] >= both["labels"][1]["probability"]
    assert both["label"] is None
    assert "rejected" not in both
    assert none["labels"] == []
    assert run(f"predict ridge {images}").stdout.splitlines()[1] == "pairs/0000.png\tnone"
    only = run(f"predict ridge {images} --labels-only").stdout.splitlines()
    assert [sorted(json.loads(line)) for line in only] == [["3", "4"], []]
    assert (
        run(f"predict ridge {images} --format csv").stdout.splitlines()[0]
        == "path,label,probability,reason,labels"
    )
    assert "replacing the head" in run("fit pairs.fstore --head ridge").stderr


def test_columns_of_0_and_1_are_the_same_labels(run, folder):
    shutil.copytree(folder / "pairs.fstore", folder / "made/columns.fstore")
    run("extract pairs/pairs.csv --label-columns 0,1,2,3,4 --backbone scattering --store made/columns.fstore")
    one, other = (
        featstore.FeatureStore(folder / f"{name}.fstore").table() for name in ("pairs", "made/columns")
    )

    assert one.classes.tolist() == other.classes.tolist()
    assert (one.label_sets == other.label_sets).all()
    assert (~one.label_sets.any(axis=1)).sum() == 20
    info = json.loads(run("info made/columns.fstore --json").stdout)["catalogs"][0]
    assert [entry["images"] for entry in info["classes"]] == one.label_sets.sum(axis=0).tolist()
    assert info["labeled"] == 200


def test_copies_and_links_in_several_class_folders_have_all_their_labels(run, folder, tmp_path):
    for label, number, make in (("low", 1, shutil.copy), ("high", 1, shutil.copy), ("low", 2, os.link)):
        (folder / "classes" / label).mkdir(parents=True, exist_ok=True)
        make(folder / f"pairs/000{number}.png", folder / f"classes/{label}/{number}.png")
    run("extract classes --label-separator / --backbone scattering --store made/classes.fstore")
    table = featstore.FeatureStore(folder / "made/classes.fstore").table()

    assert table.classes.tolist() == ["high", "low"]
    assert sorted(table.label_sets.tolist()) == [[False, True], [True, True]]
    assert sorted(table.label_texts.tolist()) == ["high/low", "low"]


def test_folds_choose_and_score_and_curves_are_plotted(run, folder):
    told = json.loads(
        run("fit pairs.fstore --head ridge --folds 3 --class-weight balanced -o f --json").stdout
    )
    assert told["folds"] == 3
    assert told["validation"]["n"] == told["n_images"]["train"] + told["n_images"]["validation"]
    shown = run(
        "fit pairs.fstore --head ridge --folds 3 --class-weight balanced -o f --plot sweep.svg"
    ).stdout
    assert "mean average precision" in (folder / "sweep.svg").read_text()
    assert "mAP in 3 folds" in shown
    assert "thresholds and validation scores are from cross-validation in 3 folds" in shown

    scores = json.loads(run("evaluate f --folds 3 --plot curves.svg --json").stdout)
    assert (scores["split"], scores["n"], len(scores["folds"])) == ("cross-validation", 200, 3)
    assert {one["params"]["class_weight"] for one in scores["folds"]} == {"balanced"}
    assert "precision at each recall" in (folder / "curves.svg").read_text()
    assert "on 200 images by cross-validation" in run("evaluate f --folds 3").stdout


def test_suspects_comparisons_and_curves_are_shown(run, folder):
    run("fit pairs.fstore --head ridge --param alpha=30")
    run("fit pairs.fstore --head ridge --param alpha=30000 -o weak")
    told = json.loads(run("compare weak ridge --json").stdout)
    assert "ridge is given twice" in run("compare ridge ridge", code=2).stderr
    shown = run("compare weak ridge").stdout
    assert f"{100 * told['heads'][1]['map']:.1f}%" in shown
    assert told["pairs"][0]["verdict"] in shown

    found = json.loads(run("suspects pairs.fstore --head ridge --folds 3 --csv s.csv --json").stdout)
    with open(folder / "s.csv", newline="") as file:
        first = next(csv.DictReader(file))
    assert first["path"] == found["suspects"][0]["path"]
    assert first["labels"] == "|".join(found["suspects"][0]["labels"]) or "|"
    assert all(one["exists"] for one in found["suspects"])
    listed = run("suspects pairs.fstore --head ridge --folds 3 --top 1").stdout
    assert f"{len(found['suspects'])} suspects" in listed
    assert f"… and {len(found['suspects']) - 1} more" in listed

    told = json.loads(run("report ridge -o report.html --no-suspects --json").stdout)
    assert told["n"] == featstore.load_head(folder / "pairs.fstore/heads/ridge.head").test["n"]
    assert "test mean average precision" in (folder / "report.html").read_text()
    assert "mAP " in run("report ridge -o report.html --no-suspects --no-images --force").stdout

    curve = run("curve pairs.fstore --head ridge --fractions 1/2 --repeats 1 --plot curve.svg").stdout
    assert "test mAP (n = " in curve
    assert "test mAP" in (folder / "curve.svg").read_text()


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("fit pairs.fstore --head knn", 1, "knn does not learn several labels of an image"),
        ("fit pairs.fstore --min-images 3 --reject 0.5", 2, "--min-images and --reject are for one label"),
        ("fit pairs.fstore --head auto", 2, "--head auto is for one label an image"),
        ("fit pairs.fstore --ray", 2, "--ray is for one label an image"),
        ("fit pairs.fstore --head rbf --class-weight balanced", 1, "rbf solves all labels together"),
        ("suspects pairs.fstore --head knn", 1, "knn does not learn several labels of an image"),
        ("curve pairs.fstore --head lda", 1, "lda does not learn several labels of an image"),
        ("centres pairs.fstore", 1, "may have several labels"),
        ("evaluate svm --folds 3 --split test", 2, "--folds predicts all labelled images"),
        ("evaluate svm --coverage 0.9", 2, "--coverage is for one label an image"),
        (
            "compare svm made/one.head",
            2,
            "svm gives several labels an image, and others of svm, made/one.head",
        ),
        ("extend svm", 1, "gives several labels, and this takes heads with one"),
        ("finetune svm", 1, "gives several labels, and this takes heads with one"),
        ("predict svm pairs/0001.png --reject 0.5", 2, "are for heads that give one"),
        ("predict svm pairs/0001.png --top 3", 2, "are for heads that give one"),
        (
            "extract pairs/pairs.csv --label-columns 0,9 --backbone scattering",
            1,
            "there is no column '9' of its own",
        ),
        (
            "extract pairs/pairs.csv --label-columns 0,labels --backbone scattering",
            1,
            "'labels' holds 0 or 1",
        ),
        ("extract pairs/pairs.csv --label-column labels --label-columns 0,1", 1, "give one of them"),
    ],
)
def test_what_takes_one_label_says_so(run, folder, line, code, words):
    if not (folder / "pairs.fstore/heads/svm.head").exists():
        run("fit pairs.fstore --head svm --param C=1")
    if "one.head" in line:
        run("extract pairs/pairs.csv --label-column labels --backbone scattering --store made/one.fstore")
        run(
            "fit made/one.fstore --head centroid -o made/one.head --split-by content --validation 0 --min-images 8"
        )
    result = run(line if "pairs/pairs.csv" not in line else f"{line} --store made/other.fstore", code)
    assert words in result.stderr


def test_similar_duplicates_and_packs_show_the_labels_joined(run):
    found = json.loads(run("similar pairs/0001.png --store pairs.fstore --json").stdout)
    assert found[0]["images"][0]["label"]
    run("duplicates pairs.fstore")
    run("pack pairs.fstore pairs.npz")
    assert "3|4" in np.load("pairs.npz", allow_pickle=False)["label"].tolist()


def test_labels_may_be_words_with_spaces_between(tmp_path):
    rows = [
        "path,tags",
        "0.png,haze primary",
        "1.png,primary",
        "2.png,",
        "3.png,water  haze",
        "4.png,primary",
    ]
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(b"not looked at")
    (tmp_path / "tags.csv").write_text("\n".join([*rows, "4.png,clear"]) + "\n")
    source = open_source(tmp_path / "tags.csv", label_column="tags", label_separator=" ")
    labels = [(record.path, record.label) for record in source.records]

    wanted = ["haze primary", "primary", None, "haze water", "primary", "clear"]
    assert labels == [*zip([*(f"{number}.png" for number in range(5)), "4.png"], wanted, strict=True)]
    with pytest.raises(SourceError, match="label_separator is what stands between labels"):
        open_source(tmp_path / "tags.csv", label_column="tags", label_separator="")

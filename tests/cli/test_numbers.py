"""Images with a number, from the list to predictions."""

import csv
import json
import shlex

import numpy as np
import pytest
from click.testing import CliRunner
from drawn_numbers import write_discs

import featstore
from featstore_cli.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("discs")
    write_discs(home / "discs", 160)
    featstore.extract(home / "discs/discs.csv", home / "discs.fstore", backbone="scattering", target="area")
    (home / "made").mkdir()
    return home


@pytest.fixture
def run(folder, monkeypatch):
    monkeypatch.chdir(folder)

    def invoke(line, code=0):
        result = CliRunner().invoke(main, shlex.split(line))
        assert result.exit_code == code, result.output
        return result

    return invoke


def test_areas_of_discs_are_learnt_scored_and_predicted(run):
    told = json.loads(run("fit discs.fstore --head ridge --json").stdout)
    assert told["target"] == "area"
    assert told["test"]["r2"] > 0.8
    result = run("fit discs.fstore")
    assert "replacing the head discs.fstore/heads/ridge.head" in result.stderr
    assert "test mean absolute error" in result.stderr
    assert "ridge for area on scattering" in result.stdout
    assert f"mean absolute error {told['test']['mae']:.4g}" in result.stdout

    scores = json.loads(run("evaluate ridge --json --split validation").stdout)
    assert scores["n"] == told["validation"]["n"]
    assert all(one["exists"] for one in scores["predictions"])
    shown = run("evaluate ridge").stdout
    assert f"{told['test']['rmse']:.4g}" in shown
    assert "true area" in shown
    folds = run("evaluate ridge --folds 3 --plot made/folds.png").stdout
    assert "3 folds, each predicted by a head fitted on the others: mean absolute error" in folds
    assert "area of 160 images by cross-validation" in folds


def test_predictions_in_every_format(run, folder):
    run("fit discs.fstore --head ridge --validation 0.2")
    images = "discs/0000.png discs/0001.png --store discs.fstore"
    one, other = json.loads(run(f"predict ridge {images} --json --coverage 0.9").stdout)
    assert one["interval"][0] < one["value"] < one["interval"][1]
    assert (one["label"], other["top"]) == (None, [])
    assert "rejected" not in one
    with open(folder / "discs/discs.csv") as file:
        true = float(next(csv.DictReader(file))["area"])
    assert abs(one["value"] - true) < 10
    lines = run(f"predict ridge {images}").stdout.splitlines()
    assert lines[0] == f"discs/0000.png\t{one['value']:.6g}"
    lines = run(f"predict ridge {images} --coverage 0.9").stdout.splitlines()
    assert lines[0] == f"discs/0000.png\t{one['value']:.6g} ({one['interval'][0]:.6g} to " + (
        f"{one['interval'][1]:.6g})"
    )
    assert run(f"predict ridge {images} --labels-only").stdout.split()[0] == f"{one['value']:.6g}"
    rows = [*csv.DictReader(run(f"predict ridge {images} --format csv").stdout.splitlines())]
    assert [*rows[0]] == ["path", "value", "reason"]
    rows = [*csv.DictReader(run(f"predict ridge {images} --format csv --coverage 0.9").stdout.splitlines())]
    assert [*rows[0]] == ["path", "value", "low", "high", "reason"]
    assert float(rows[0]["low"]) == one["interval"][0]
    [first, _] = run(f"predict ridge {images} --format jsonl").stdout.splitlines()
    assert json.loads(first)["value"] == one["value"]


def test_a_column_of_counts_is_another_catalog_of_the_same_features(run):
    told = json.loads(
        run(
            "extract discs/discs.csv --target discs --catalog counts --backbone scattering --store "
            "discs.fstore --json"
        ).stdout
    )
    assert (told["extracted"], told["reused"]) == (0, 160)
    [counts] = [one for one in json.loads(run("info --json").stdout)["catalogs"] if one["name"] == "counts"]
    assert (counts["target"]["name"], counts["target"]["largest"]) == ("discs", 4)
    shown = run("info").stdout
    assert "discs" in shown
    assert "smallest" in shown
    run("fit discs.fstore --catalog counts --head knn --output counts")
    assert (
        "predicts discs, and the catalog discs holds area" in run("evaluate counts --catalog discs", 1).stderr
    )
    run("remove discs.fstore --catalog counts --head counts --yes")


def test_changed_numbers_are_shown_and_make_a_head_out_of_date(run, folder):
    run("fit discs.fstore --head ridge --output again")
    rows = (folder / "discs/discs.csv").read_text().splitlines()
    path, area, *rest = rows[1].split(",")
    changed = [rows[0], ",".join([path, "50", *rest]), *rows[2:]]
    (folder / "discs/changed.csv").write_text("\n".join(changed) + "\n")
    found = json.loads(run("diff discs discs/changed.csv --json").stdout)
    assert found["relabelled"] == [{"path": path, "before": area.removesuffix(".0"), "label": "50"}]
    run("extract discs/changed.csv --target area --catalog other --backbone scattering --store discs.fstore")
    store = featstore.FeatureStore(folder / "discs.fstore")
    assert store.catalog("other").targets[0] == 50
    assert np.isfinite(store.catalog("other").targets).all()
    run("remove discs.fstore --catalog other --yes")


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("fit discs.fstore --head svm", 1, "svm does not predict numbers; heads that do are knn, rbf, ridge"),
        ("fit discs.fstore --head auto", 2, "--head auto is for labels"),
        ("fit discs.fstore --folds 3 --reject 0.5", 2, "--folds and --reject are for labels"),
        ("fit discs.fstore --ray", 2, "--ray is for labels"),
        ("fit discs.fstore --class-weight balanced", 2, "--class-weight is for labels"),
        ("fit discs.fstore --test-views 2", 2, "--views is for labels"),
        ("suspects discs.fstore", 1, "have a number, area, and this takes labels"),
        ("curve discs.fstore", 1, "have a number, area, and this takes labels"),
        ("centres discs.fstore", 1, "no image of the catalog discs has a label; centres are of classes"),
        ("evaluate kept --by-class --coverage 0.9", 2, "--by-class is for labels"),
        ("evaluate kept --coverage 0.999", 1, "takes at least 999 held-out images"),
        ("report kept -o report.html", 1, "predicts a number, and this takes heads with one label"),
        ("serve kept", 2, "kept predicts a number, area; models that are served give labels"),
        ("predict kept discs/0001.png --top 3", 2, "predicts a number, area; --top, --reject"),
        ("predict kept discs/0001.png --sort-into made/sorted", 2, "are for labels"),
        ("extract discs/discs.csv --target size --backbone scattering", 1, "there is no column 'size'"),
        ("extract discs/discs.csv --target sheet --backbone scattering", 1, "line 2: the target sheet is a"),
        (
            "extract discs --target area --backbone scattering",
            1,
            "target (--target): for lists, not for the images",
        ),
        ("extract discs/discs.csv --target area --label-column discs", 1, "either these or labels"),
    ],
)
def test_what_takes_labels_says_so(run, folder, line, code, words):
    if not (folder / "discs.fstore/heads/kept.head").exists():
        run("fit discs.fstore --param alpha=100 --output kept")
    result = run(line if "extract" not in line else f"{line} --store made/other.fstore", code)
    assert words in result.stderr


def test_heads_are_compared_by_their_errors(run):
    for head in ("ridge", "knn"):
        run(f"fit discs.fstore --head {head}")
    told = json.loads(run("compare ridge knn --store discs.fstore --json").stdout)
    shown = run("compare ridge knn --store discs.fstore").stdout
    assert told["pairs"][0]["verdict"] in shown
    assert f"{told['heads'][1]['mae']:.4g}" in shown


def test_similar_and_duplicates_show_the_numbers(run):
    found = json.loads(run("similar discs/0001.png --store discs.fstore --json").stdout)
    assert float(found[0]["images"][0]["label"]) > 0
    run("duplicates discs.fstore")

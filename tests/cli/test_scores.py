"""What says how good heads are, on the command line."""

import dataclasses
import json
import shlex

import numpy as np
import pytest
from click.testing import CliRunner

import featstore
from fakes import CountingBackbone
from featstore_cli.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two stores of the same 240 tiny images, as two backbones see them, and their heads."""
    from PIL import Image

    home = tmp_path_factory.mktemp("scores")
    random = np.random.default_rng(0)
    for number in range(240):
        label = ("moss", "rock", "sand")[number % 3]
        (home / "photos" / label).mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (8, 8, 3))
        pixels[:, :, number % 3] = np.minimum(pixels[:, :, number % 3] + 60, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(home / "photos" / label / f"{number}.png")
    for name, seed, dim in (("one", 1, 24), ("two", 2, 3)):
        backbone = CountingBackbone(seed=seed, feature_dim=dim)
        featstore.extract(home / "photos", home / f"{name}.fstore", backbone=backbone)
        store = featstore.FeatureStore(home / f"{name}.fstore")
        rule = featstore.SplitRule(test=0.3)
        featstore.fit(store.table(), rule=rule).save(store.head_path("logistic"))
    return home


@pytest.fixture
def run(folder, monkeypatch):
    monkeypatch.chdir(folder)

    def invoke(line, code=0):
        result = CliRunner().invoke(main, shlex.split(line))
        assert result.exit_code == code, result.output
        return result

    return invoke


def test_evaluate_prints_every_score_that_json_has(run):
    told = json.loads(run("evaluate logistic --store one.fstore --json").stdout)
    printed = run("evaluate logistic --store one.fstore").stdout

    for name in ("top1", "macro_f1", "balanced_accuracy", "calibration_error"):
        assert f"{100 * told[name]:.1f}%" in printed
    for name in ("log_loss", "brier_score"):
        assert f"{told[name]:.3f}" in printed
    assert f"always {told['baseline']['label']}" in printed
    assert "precision@1 (accuracy)" in printed
    assert "recall@5" not in printed


def test_evaluate_scores_prediction_sets(run):
    told = json.loads(run("evaluate logistic --store one.fstore --coverage 0.9 --json").stdout)["sets"]
    shown = run("evaluate logistic --store one.fstore --coverage 0.9").stdout

    assert (told["coverage"], told["by_class"]) == (0.9, False)
    assert sum(one["n"] for one in told["sizes"]) == sum(one["n"] for one in told["classes"]) == told["n"]
    assert f"calibrated on {told['n_calibrating']} held-out images: {told['mean_size']:.2f} labels" in shown
    assert f"{100 * told['covered']:.1f}%" in shown
    assert "for a coverage" not in run("evaluate logistic --store one.fstore").stdout
    assert "for each class" in run("evaluate logistic --store one.fstore --coverage 0.6 --by-class").stdout
    both = run("evaluate logistic --store one.fstore --coverage 0.9 --folds 2", code=2)
    assert "give one of them" in both.stderr


def test_heads_of_different_stores_are_compared(run):
    line = "compare one.fstore/heads/logistic.head two.fstore/heads/logistic.head"
    told = json.loads(run(f"{line} --json").stdout)
    (pair,) = told["pairs"]

    assert [one["space"].split("-")[0] for one in told["heads"]] == ["fake1", "fake2"]
    own = json.loads(run("evaluate logistic --store one.fstore --json").stdout)
    assert (told["n"], told["heads"][0]["top1"]) == (own["n"], own["top1"])
    assert pair["both_right"] + pair["only_a"] + pair["only_b"] + pair["both_wrong"] == told["n"]
    assert run(line).stdout.rstrip().endswith(pair["verdict"])


def test_different_split_rules_are_reported(run):
    run("fit one.fstore --test 0.3 --salt other -o other --param C=0.1")
    result = run("compare logistic other --store one.fstore")
    assert "use different split rules" in result.stderr
    assert "left out: another head was trained or tuned on them" in result.stderr


def test_a_curve_is_printed_drawn_and_reported_as_json(run, tmp_path):
    line = "curve one.fstore --test 0.3 --fractions 1/4,1/2,3/4 --repeats 2"
    told = json.loads(run(f"{line} --json --plot {tmp_path}/curve.svg").stdout)
    printed = run(line).stdout

    assert [point["fraction"] for point in told["points"]] == [0.25, 0.5, 0.75, 1]
    assert printed.rstrip().endswith(told["verdict"])
    assert f"{100 * told['points'][0]['top1']:.1f}%" in printed
    assert (tmp_path / "curve.svg").stat().st_size > 1000


def test_fit_draws_its_sweep_and_writes_it_for_tensorboard(run, tmp_path):
    result = run(f"fit one.fstore -o swept --plot {tmp_path}/sweep.png --tensorboard {tmp_path}/runs")

    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.glob("runs/logistic-fake1-*/events.out.tfevents.*"))) == 1
    assert "plotted to" in result.stderr
    assert "plotted to" not in result.stdout


def test_fit_says_where_there_is_no_sweep_to_draw(run, tmp_path):
    result = run(f"fit one.fstore -o fixed --param C=0.1 --plot {tmp_path}/sweep.png")
    assert "tried no settings" in result.stderr
    assert not (tmp_path / "sweep.png").exists()


def test_the_projectors_files_are_written(run, tmp_path):
    told = json.loads(run(f"projector one.fstore {tmp_path}/projector --limit 50 --json").stdout)
    assert told == {"path": f"{tmp_path}/projector", "images": 50, "of": 240}
    assert (tmp_path / "projector" / "features.bytes").stat().st_size == 50 * 24 * 4


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("evaluate logistic --store one.fstore --plot scores.jpg", 1, ".pdf, .png, .svg"),
        ("fit one.fstore -o never --plot nowhere/sweep.png", 1, "no folder"),
        ("curve one.fstore --fractions 0,1/2", 2, "above 0 and up to 1"),
        ("curve one.fstore --fractions half", 2, "1/8,1/4,1/2"),
        ("curve one.fstore --fractions 1/0", 2, "1/8,1/4,1/2"),
        ("compare logistic --store one.fstore", 2, "at least two heads; found 1"),
        ("compare logistic missing --store one.fstore", 2, "has no head 'missing'"),
        ("evaluate one.fstore", 2, "one.fstore is a store, and HEAD is one of its heads"),
        ("evaluate ./one.fstore", 2, "one.fstore is a store, and HEAD is one of its heads"),
        ("predict one.fstore one.fstore", 2, "given by its name: "),
        ("extract one.fstore --backbone scattering", 1, "is a store, which holds features of images"),
        ("projector one.fstore one.fstore/runs", 1, "lies in the store"),
    ],
)
def test_a_mistake_is_one_clear_line(run, folder, line, code, says):
    result = run(line, code=code)
    assert result.stdout == ""
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert says in last
    assert not (folder / "one.fstore" / "heads" / "never.head").exists()


def test_evaluate_gives_the_honest_part_first_and_says_what_was_fitted_on(run):
    told = json.loads(run("evaluate logistic --store one.fstore --split all --json").stdout)
    lines = run("evaluate logistic --store one.fstore --split all").stdout.splitlines()
    assert told["n"] + told["parts"][-1]["n"] == 240
    assert lines[0].startswith("all accuracy ")
    assert lines[0].endswith(f"n = {told['n']:,})")
    assert lines[1].startswith("  held out: ")
    assert any(line.startswith("  used to fit it: ") for line in lines)
    assert "excluded from all other scores" in "\n".join(lines)

    result = run("evaluate logistic --store one.fstore --split train")
    first, second, *_ = result.stdout.splitlines()
    assert first.startswith("test accuracy when fitted ")
    assert second.startswith("train accuracy ")
    assert "accuracy on images that a head was fitted on is optimistic" in result.stdout


def test_evaluate_by_folds_judges_all_images(run):
    told = json.loads(run("evaluate logistic --store one.fstore --folds 3 --json").stdout)
    printed = run("evaluate logistic --store one.fstore --folds 3").stdout
    assert (told["split"], told["n"], len(told["folds"])) == ("cross-validation", 240, 3)
    assert printed.startswith(f"cross-validated accuracy {100 * told['top1']:.1f}%")
    assert "3 folds, each predicted by a head fitted on the others" in printed
    assert "parameters: C=" in printed
    refused = run("evaluate logistic --store one.fstore --folds 3 --split test", code=2)
    assert "give one of them" in refused.stderr


def test_compare_names_the_head_that_does_not_know_a_label_and_what_to_do(folder, run):
    store = featstore.FeatureStore(folder / "one.fstore")
    head = featstore.Head.load(store.head_path("logistic"))
    renamed = featstore.edit_classes(head, rename={"sand": "Sand"})
    renamed.save(folder / "october.head")
    line = "compare october.head logistic --store one.fstore"
    assert "is within chance" in run(line).stdout

    # The catalog's class was called otherwise when the head was fitted.
    dataclasses.replace(renamed, renamed={}).save(folder / "october.head", overwrite=True)
    result = run(line, code=1)
    assert "that the head october.head does not know: sand" in result.stderr
    assert "rename them with `featstore head classes --rename Sand=sand`" in result.stderr


def test_a_head_that_is_replaced_is_named_with_what_it_was_worth(run):
    first = run("fit one.fstore -o again --param C=0.1")
    assert "replacing" not in first.stderr
    was = json.loads(run("fit one.fstore -o again --param C=1 --json").stdout)
    told = run("fit one.fstore -o again --param C=0.1").stderr
    assert "replacing the head one.fstore/heads/again.head of 20" in told
    assert f"test accuracy {100 * was['test']['top1']:.1f}%" in told
    renamed = run("head classes again --store one.fstore --rename sand=Sand -o again")
    assert "replacing the head one.fstore/heads/again.head" in renamed.stderr


def test_suspects_take_class_weights(run):
    told = json.loads(run("suspects one.fstore --class-weight balanced --folds 3 --json").stdout)
    assert told["params"]["class_weight"] == "balanced"

"""The main job through the command line, as the demo runs it, and everything that can be tried on what it leaves."""

import json
import os
import shlex
import subprocess
import sys

import click
import numpy as np
import pytest
from click.testing import CliRunner

import featstore
from featstore_cli.main import main

N_SMALL = 300


@pytest.fixture
def run(small_demo, monkeypatch):
    """Run a command line in a small demo's folder and return the result."""
    monkeypatch.chdir(small_demo)

    def invoke(line, code=0):
        result = CliRunner().invoke(main, shlex.split(line))
        assert result.exit_code == code, result.output
        return result

    return invoke


def test_the_demo_reaches_its_accuracy(demo, monkeypatch):
    monkeypatch.chdir(demo)
    told = json.loads(CliRunner().invoke(main, ["evaluate", "logistic", "--json"]).stdout)
    assert told["split"] == "test"
    assert told["n"] > 150
    assert told["top1"] >= 0.97


def test_the_demo_shows_each_command_before_it_runs(made_demo):
    shown = [line.split()[2] for line in made_demo[1].splitlines() if line.startswith("$ featstore")]
    assert shown == ["extract", "fit", "evaluate", "predict"]


def test_a_second_extraction_computes_and_reads_nothing(run):
    told = json.loads(run("extract digits --backbone scattering --store digits.fstore --json").stdout)
    assert (told["extracted"], told["reused"], told["failed"], told["read"]) == (0, N_SMALL, 0, 0)
    assert told["failures"] == []


def test_fit_reports_for_programs(run):
    told = json.loads(run("fit digits.fstore --head svm --param C=0.1 -o other --json").stdout)
    assert told["head"] == "svm"
    assert told["classes"] == [str(digit) for digit in range(10)]
    assert told["n_train"] + told["n_validation"] + told["n_test"] == N_SMALL
    assert told["params"] == {"C": 0.1}
    low, high = told["test"]["top1_ci"]
    assert low < told["test"]["top1"] <= high
    assert os.path.exists("digits.fstore/heads/other.head")


def test_predict_reports_for_programs_what_it_prints_for_people(run):
    told = json.loads(run("predict logistic digits/7/0007.png digits/3/0003.png --top 3 --json").stdout)
    assert [entry["label"] for entry in told] == ["7", "3"]
    for entry in told:
        assert entry["top"][0] == {"label": entry["label"], "probability": entry["probability"]}
        assert len(entry["top"]) == 3
    printed = run("predict logistic digits/7/0007.png --top 3").stdout
    assert printed.startswith(f"digits/7/0007.png\t7 {told[0]['probability']:.4f}  ")


def test_predict_labels_a_folder_as_the_stored_features_say(run):
    told = json.loads(run("predict logistic digits/5 --json").stdout)
    store = featstore.FeatureStore("digits.fstore")
    table = store.table()
    table = table.select(table.y == "5")
    head = featstore.Head.load(store.head_path("logistic"))
    by_name = dict(zip((os.path.basename(path) for path in table.paths), head.predict(table.X), strict=True))
    assert {os.path.basename(entry["path"]): entry["label"] for entry in told} == by_name


def test_predict_goes_on_after_a_broken_image(run, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    result = run(f"predict logistic {tmp_path}/broken.png digits/7/0007.png --json")
    told = json.loads(result.stdout)
    assert told[0]["label"] is None
    assert told[0]["reason"]
    assert told[1]["label"] == "7"
    assert "broken.png" in result.stderr


def test_predict_fails_where_no_image_can_be_labelled(run, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    result = run(f"predict logistic {tmp_path}/broken.png", code=1)
    assert "none of the images could be labelled" in result.stderr


def test_threads_predict_as_one_does_without_tensorflow(run):
    code = (
        "import sys, featstore\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "one, shared = (featstore.Predictor('digits.fstore/heads/logistic.head') for _ in range(2))\n"
        "paths = sys.argv[1:]\n"
        "alone = [one.predict(path, top=3) for path in paths]\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    assert list(pool.map(lambda path: shared.predict(path, top=3), paths)) == alone\n"
        "print(*sys.modules)"
    )
    paths = [f"digits/{digit}/000{digit}.png" for digit in range(10)] * 4
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    assert not {"tensorflow", "keras"} & set(done.stdout.split())


def start_predict(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "featstore_cli", "predict", "logistic", *arguments],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_program_gets_each_answer_before_it_asks_on(small_demo):
    with start_predict(small_demo, "-", "--labels-only", "--quiet") as running:
        for digit in "73":
            running.stdin.write(f"digits/{digit}/000{digit}.png\n")
            running.stdin.flush()
            assert running.stdout.readline() == f"{digit}\n"
        assert running.communicate(timeout=300) == ("", "")
        assert running.returncode == 0


def test_predict_ends_quietly_when_nobody_reads_on(small_demo):
    with start_predict(small_demo, "digits") as running:
        assert running.stdout.readline().startswith("digits/0/0000.png\t0 ")
        running.stdout.close()
        assert running.stderr.read() == ""
        running.wait(timeout=300)


def test_info_counts_classes_and_splits(run):
    told = json.loads(run("info digits.fstore --json").stdout)
    assert told["spaces"][0]["rows"] == N_SMALL
    catalog = told["catalogs"][0]
    assert sum(one["images"] for one in catalog["classes"]) == N_SMALL
    assert sum(catalog["splits"].values()) == N_SMALL
    assert "digits" in run("info").stdout


def test_verify_finds_a_flipped_byte(run, tmp_path):
    run(f"merge {tmp_path}/copy.fstore digits.fstore")
    told = json.loads(run(f"verify {tmp_path}/copy.fstore --json").stdout)
    assert (told["rows"], told["damaged"]) == (N_SMALL, [])
    segment = next(tmp_path.glob("copy.fstore/spaces/*/*.h5"))
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    told = json.loads(run(f"verify {tmp_path}/copy.fstore --json", code=1).stdout)
    assert len(told["damaged"]) == 1
    assert "DAMAGED" in run(f"verify {tmp_path}/copy.fstore", code=1).stdout


def test_pack_writes_plain_hdf5(run, tmp_path):
    import h5py

    run(f"pack digits.fstore {tmp_path}/digits.h5")
    table = featstore.FeatureStore("digits.fstore").table()
    with h5py.File(tmp_path / "digits.h5") as file:
        np.testing.assert_array_equal(file["features"][:], table.X)
        assert file["label"].asstr()[:].tolist() == table.y.tolist()
    assert "--force" in run(f"pack digits.fstore {tmp_path}/digits.h5", code=1).stderr


def test_pack_goes_by_the_ending(run, tmp_path):
    told = json.loads(run(f"pack digits.fstore {tmp_path}/digits.npz --json").stdout)
    assert told == {"path": str(tmp_path / "digits.npz"), "rows": N_SMALL}
    with np.load(tmp_path / "digits.npz") as file:
        assert file["features"].shape == (N_SMALL, 1932)
    run(f"pack digits.fstore {tmp_path}/digits.parquet")
    assert (tmp_path / "digits.parquet").read_bytes()[:4] == b"PAR1"


def test_pack_writes_shards_that_extract_reads(run, tmp_path):
    run(f"pack digits.fstore {tmp_path}/shards --format tfrecord --shards 2")
    shards = sorted(map(str, tmp_path.glob("shards/train-*")))
    assert len(shards) == 2
    told = json.loads(
        run(f"extract {tmp_path}/shards --backbone scattering --store {tmp_path}/a.fstore --json").stdout
    )
    assert (told["extracted"], told["failed"], told["given_splits"]["rule"]) == (N_SMALL, 0, 0)
    told = json.loads(
        run(f"extract {' '.join(shards)} --backbone scattering --store {tmp_path}/a.fstore --json").stdout
    )
    assert (told["catalog"], told["extracted"], told["images"]) == ("train", 0, told["reused"])
    assert (
        "--shards is for --format tfrecord"
        in run(f"pack digits.fstore {tmp_path}/x.h5 --shards 2", code=2).stderr
    )
    assert "found 2 sources" in run(f"extract digits {tmp_path} --store {tmp_path}/a.fstore", code=2).stderr


def test_evaluate_shows_the_confusion_and_the_mistakes(run):
    told = json.loads(run("evaluate logistic --json").stdout)
    confusion = np.array(told["confusion"])
    assert confusion.sum() == told["n"]
    assert np.trace(confusion) == round(told["top1"] * told["n"])
    printed = run("evaluate logistic").stdout
    for wrong in told["misclassified"][:3]:
        assert os.path.basename(wrong["path"]) in printed


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("extract nowhere --backbone scattering", 1, "nowhere"),
        ("extract digits --backbone scatering", 1, "scattering"),
        ("extract digits --backbone scattering --store digits/0/0000.png", 1, "0000.png"),
        ("extract digits --backbone mobilenet_v2 --weights digits/0/0000.png", 1, "0000.png"),
        ("extract digits --image-size 0", 2, "--image-size"),
        ("fit digits.fstore --head forest", 1, "logistic, mlp, rbf, ridge, sgd, softmax, svm"),
        ("fit digits.fstore --param C", 2, "NAME=VALUE"),
        ("fit digits.fstore --param D=1", 1, "C"),
        ("fit digits.fstore --space resnet50", 1, "scattering-"),
        ("fit digits.fstore --catalog cats", 1, "digits"),
        ("fit digits.fstore --test 0.6 --validation 0.5", 1, "leave images for train"),
        ("fit digits.fstore --validation 0", 1, "--validation"),
        ("fit nowhere.fstore", 1, "nowhere.fstore"),
        ("evaluate svm3", 2, "logistic"),
        ("evaluate digits/0/0000.png.head", 1, "0000.png.head"),
        ("predict logistic", 2, "IMAGE|FOLDER"),
        ("predict logistic digits/7/0007.png --weights digits/0/0000.png", 1, "scattering"),
        ("info digits", 1, "digits"),
        ("pack digits.fstore nowhere/digits.h5", 1, "nowhere"),
    ],
)
def test_a_mistake_is_one_clear_line(run, line, code, says):
    result = run(line, code=code)
    assert result.stdout == ""
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert says in last
    assert "Traceback" not in result.output


def commands():
    return [(), *((name,) for name in main.commands)]


@pytest.mark.parametrize("command", commands(), ids=lambda command: command[0] if command else "featstore")
def test_the_help_ends_in_an_example_that_works(run, command):
    lines = run(" ".join([*command, "--help"])).stdout.rstrip().splitlines()
    (title,) = [number for number, line in enumerate(lines) if line.strip().startswith("Example")]
    examples = [shlex.split(line) for line in lines[title + 1 :]]
    assert all(example[0] == "featstore" for example in examples)
    if command:
        assert examples[-1][1] == command[0]
    for example in examples:
        # The demo itself has just run, as the fixture of these tests. What is downloaded is tried on a file of
        # it, in the tests of the command.
        if not {example[1], command[0] if command else ""} & {
            "demo",
            "extend",
            "finetune",
            "import-head",
            "review",
            "serve",
        }:
            run(shlex.join(example[1:]))


def test_every_option_explains_itself():
    for command in main.commands.values():
        for param in command.params:
            if isinstance(param, click.Option):
                assert param.help, f"{command.name} --{param.name}"

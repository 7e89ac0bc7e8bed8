"""`featstore head classes` on a head of stored features."""

import json
import shlex
from dataclasses import replace

import click
import numpy as np
import pytest
from click.testing import CliRunner

import featstore
from fake_tables import blobs, table_of
from featstore_cli.main import main


@pytest.fixture(scope="module")
def head():
    X, y = blobs(n=200)
    return featstore.fit(table_of(X, np.char.replace(y, "class 0", "a=b")), head="ridge")


@pytest.fixture
def run(head, tmp_path, monkeypatch):
    head.save(tmp_path / "land.head")
    featstore.FeatureStore(tmp_path / "land.fstore", create=True)
    head.save(tmp_path / "land.fstore" / "heads" / "ridge.head")
    monkeypatch.chdir(tmp_path)

    def invoke(line, code=0):
        result = CliRunner().invoke(main, ["head", "classes", *shlex.split(line)])
        assert result.exit_code == code, result.output
        return result

    return invoke


def test_it_lists_the_classes_with_the_images_of_each(run, head):
    told = run("ridge").stdout.splitlines()
    assert told[0].split() == ["class", "train", "validation", "test"]
    assert told[1].split() == ["a=b", *(str(counts["a=b"]) for counts in head.counts.values())]
    assert told[-1].split()[0] == "all"
    assert len(told) == 5


def test_a_head_that_was_fitted_on_nothing_has_its_classes_alone(run, head, tmp_path):
    replace(head, counts={split: {} for split in head.counts}).save(tmp_path / "bare.head")
    assert run("bare.head").stdout.splitlines() == head.classes.tolist()


def test_removing_saves_a_head_beside_the_old_one(run, tmp_path):
    told = run("ridge --remove 'class 1' -o few").stdout.splitlines()
    assert told == ["classes  2, without class 1", "head     land.fstore/heads/few.head"]
    few = featstore.Head.load(tmp_path / "land.fstore" / "heads" / "few.head")
    assert few.classes.tolist() == ["a=b", "class 2"]
    assert len(featstore.Head.load("land.fstore/heads/ridge.head").classes) == 3


def test_its_own_name_replaces_it(run):
    assert "--force" in run("land.head --rename 'class 1=one' -o land.head", code=1).stderr
    run("land.head --rename 'class 1=one' -o land.head --force")
    assert featstore.Head.load("land.head").classes.tolist() == ["a=b", "class 2", "one"]


def test_a_name_with_an_equals_sign_can_be_changed(run):
    told = run("ridge --rename 'a=b=c=d' -o new").stdout
    assert told.startswith("classes  3, a=b as c=d\n")


def test_json_has_these_keys(run, tmp_path):
    told = json.loads(run("ridge --remove 'class 1' --rename 'class 2=two' -o few --json").stdout)
    assert set(told) == {"head", "classes", "removed", "renamed", "path"}
    assert [set(one) for one in told["classes"]] == [{"label", "train", "validation", "test"}] * 2
    assert (told["removed"], told["renamed"]) == (["class 1"], {"class 2": "two"})
    listed = json.loads(run("few --json").stdout)
    assert listed["classes"] == told["classes"]
    assert listed["path"] == told["path"] == str(tmp_path / "land.fstore" / "heads" / "few.head")


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("ridge --remove 'class 1'", 2, "give --output"),
        ("ridge -o few", 2, "nothing to save"),
        ("ridge --rename one -o few", 2, "OLD=NEW"),
        ("ridge --remove 'class 7' -o few", 1, "no class 'class 7'; did you mean class"),
        ("ridge --rename 'class 1=class 2' -o few", 1, "classes cannot be merged by renaming"),
        ("ridge --remove 'class 1' --remove 'class 2' -o few", 1, "at least 2 classes"),
        ("rigde", 2, "it has ridge"),
    ],
)
def test_a_mistake_is_one_clear_line(line, code, says, run):
    result = run(line, code=code)
    assert result.stdout == ""
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert says in last


def test_every_option_explains_itself_and_the_help_ends_in_the_example():
    command = main.commands["head"].commands["classes"]
    assert all(param.help for param in command.params if isinstance(param, click.Option))
    lines = CliRunner().invoke(main, ["head", "classes", "--help"]).stdout.rstrip().splitlines()
    assert lines[-1].strip().startswith("featstore head classes logistic --store digits.fstore")

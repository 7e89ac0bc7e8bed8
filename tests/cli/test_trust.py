"""Heads of types that featstore cannot validate are loaded by every command where the user trusts these."""

import shlex
import sys

import pytest
from click.testing import CliRunner
from sklearn.svm import SVC

import featstore
from featstore_cli.main import main

TYPE = "sklearn.svm._classes.SVC"
OWN = """
from sklearn.naive_bayes import GaussianNB

class Mine(GaussianNB):
    pass
"""


@pytest.fixture
def store(small_demo, monkeypatch):
    """The store of digits with a head that is validated, and one that is not."""
    path = next(small_demo.glob("**/*.fstore"))
    monkeypatch.chdir(path.parent)
    opened = featstore.FeatureStore(path)
    table = opened.table()
    featstore.fit(table, head="centroid").save(opened.head_path("centroid"), overwrite=True)
    featstore.fit(table, head=SVC(C=10.0)).save(opened.head_path("kernel"), overwrite=True)
    return opened


def run(line, code=0):
    result = CliRunner().invoke(main, shlex.split(line))
    assert result.exit_code == code, result.output
    return result


COMMANDS = {
    "evaluate": "evaluate kernel --store {store}",
    "compare": "compare centroid kernel --store {store}",
    "classes": "head classes kernel --store {store}",
    "predict": "predict kernel {image} --store {store} -q",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_type_is_refused_with_the_option_and_loaded_with_it(store, command):
    line = COMMANDS[command].format(store=store.path, image=store.table().paths[0])
    told = run(line, code=1).stderr
    assert f"types that are not trusted, because their content cannot be validated: {TYPE}" in told
    assert f"trusted=['{TYPE}'] (on the command line --trust {TYPE})" in told
    assert TYPE in run(f"{line} --trust sklearn.svm._classes.NuSVC", code=1).stderr
    assert run(f"{line} --trust other.Type --trust {TYPE}").stdout


def test_a_head_that_cannot_be_exported_or_extended_is_loaded_before_that_is_said(store, tmp_path):
    for line in (f"export kernel {tmp_path / 'out'}", "extend kernel"):
        assert "--trust" in run(f"{line} --store {store.path}", code=1).stderr
        told = CliRunner().invoke(main, shlex.split(f"{line} --store {store.path} --trust {TYPE}"))
        assert told.exit_code
        assert "not trusted" not in told.stderr


def test_a_class_of_ones_own_in_the_current_folder_is_found_when_it_is_trusted(store, tmp_path, monkeypatch):
    (tmp_path / "own_types.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    import own_types

    featstore.fit(store.table(), head=own_types.Mine()).save(tmp_path / "mine.head")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_types", raising=False)
    line = f"evaluate mine.head --store {store.path}"
    assert "own_types.Mine" in run(line, code=1).stderr
    assert "accuracy" in run(f"{line} --trust own_types.Mine").stdout


def test_an_installed_type_takes_nothing_from_the_current_folder(store, tmp_path, monkeypatch):
    for name in ("sklearn", "numpy", "joblib"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    run(f"evaluate kernel --store {store.path} --trust {TYPE}")
    assert sys.path == before


def test_an_exported_model_has_no_types_to_trust(tmp_path, monkeypatch):
    monkeypatch.setattr("featstore.prediction.is_exported", lambda _path: True)
    assert "--trust is for heads" in run("predict model a.jpg --trust a.B", code=2).stderr


def test_a_head_that_is_replaced_need_not_be_trusted(store):
    told = run(f"fit {store.path} --head centroid -o kernel -q").stderr
    assert "replacing the head" in told
    assert "cannot be read" not in told


def test_the_warning_on_saving_names_the_option(store, tmp_path, caplog):
    featstore.fit(store.table(), head=SVC()).save(tmp_path / "a.head")
    assert f"--trust {TYPE}" in caplog.text

"""Heads that packages register, and those of a module of the user's own."""

import os
import subprocess
import sys

import numpy as np
import pytest

from featstore.errors import HeadError, UnknownHeadError
from featstore.heads import find_head, fit, known_heads, load_head_factory

MODULE = """
from featstore import HeadInfo


def forest():
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=5)


def scaled():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    return make_pipeline(MinMaxScaler(), LogisticRegression())


def whitened():
    from sklearn.linear_model import Perceptron
    from sklearn.pipeline import make_pipeline

    return HeadInfo(
        name="mine",
        summary="a perceptron, for old times' sake",
        make=lambda: make_pipeline(Perceptron()),
        grid={"alpha": (0.01, 0.0001)},
        settings=("alpha", "max_iter"),
    )


def search():
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    from featstore import HashKFold

    return GridSearchCV(LogisticRegression(), {"C": [0.01, 1.0]}, cv=HashKFold(3))


def regression():
    from sklearn.linear_model import Ridge

    return Ridge()


def broken():
    raise RuntimeError("no licence found")
"""
ENTRIES = """[featstore.heads]
forest = my_heads:forest
scaled = my_heads:scaled
old = my_heads:whitened
broken = my_heads:broken
missing = my_heads:nothing
absent = no_such_module:head
ridge = my_heads:forest
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_heads.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_heads", raising=False)
    return tmp_path


@pytest.fixture
def package(module):
    """An installed package that registers heads, some of them broken."""
    folder = module / "my_heads-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: my-heads\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(ENTRIES)
    return module


def test_a_registered_head_is_listed_and_fitted(package, table, caplog):
    listed = {info.name: info for info in known_heads()}
    head = fit(table, head="forest", params={"max_depth": 3}, seed=4)

    assert listed["forest"].summary == "RandomForestClassifier, fitted as it is"
    assert (head.name, head.params, head.seed) == ("forest", {"max_depth": 3}, 4)
    assert head.estimator[-1].random_state == 4
    assert head.test["top1"] > 0.8


def test_a_registered_head_with_a_grid_chooses_from_it(package, table):
    head = fit(table, head="old")

    assert head.name == "old"
    assert [step["params"] for step in head.sweep] == [{"alpha": 0.01}, {"alpha": 0.0001}]
    assert head.temperature is not None


def test_broken_heads_are_left_out_of_the_list_and_named(package, caplog):
    names = [info.name for info in known_heads()]

    assert not {"broken", "missing", "absent"} & set(names)
    assert "the head broken of the package my-heads cannot be loaded: RuntimeError: no licence" in caplog.text
    assert "the head missing of the package my-heads cannot be loaded: AttributeError" in caplog.text
    assert "the head absent of the package my-heads cannot be loaded: ModuleNotFoundError" in caplog.text


def test_a_broken_head_that_is_asked_for_is_an_error(package, table):
    with pytest.raises(HeadError, match="the head broken of the package my-heads cannot be loaded"):
        fit(table, head="broken")


def test_a_name_of_our_own_is_not_taken_over(package):
    assert find_head("ridge").grid
    assert [info.name for info in known_heads()].count("ridge") == 1


def test_an_unknown_name_lists_registered_ones_without_loading_them(package, caplog):
    with pytest.raises(UnknownHeadError, match=r"absent, broken, centroid, forest, .*did you mean forest"):
        find_head("forrest")
    assert "my_heads" not in sys.modules
    assert not caplog.records


def test_a_pipeline_of_ones_own_keeps_its_own_scaling(module, table):
    head = fit(table, head=load_head_factory("my_heads:scaled"), params={"C": 0.5}, refit=False)

    assert [type(step).__name__ for _, step in head.estimator.steps] == ["MinMaxScaler", "LogisticRegression"]
    train = table.splits() == "train"
    plain = load_head_factory("my_heads:scaled").make().set_params(logisticregression__C=0.5)
    plain.fit(table.X[train], table.y[train])
    np.testing.assert_allclose(head.predict_proba(table.X), plain.predict_proba(table.X), atol=1e-6)


def test_a_search_of_a_module_becomes_its_best_estimator(module, table):
    head = fit(table, head=load_head_factory("my_heads:search"))

    assert type(head.estimator[-1]).__name__ == "LogisticRegression"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("my_heads", "given as MODULE:FACTORY, for example my_heads:forest; found 'my_heads'"),
        (":forest", "given as MODULE:FACTORY"),
        ("my_heads:", "given as MODULE:FACTORY"),
        ("my_heads:a.b", "given as MODULE:FACTORY"),
        ("./my_heads:forest", "given as MODULE:FACTORY"),
        ("my_heads.:forest", "given as MODULE:FACTORY"),
        ("no_such_module:head", "the head no_such_module:head cannot be loaded: ModuleNotFoundError"),
        ("my_heads:nothing", "cannot be loaded: AttributeError"),
        ("my_heads:broken", "cannot be loaded: RuntimeError: no licence found"),
        (
            "my_heads:regression",
            "returns Ridge; expected a featstore.HeadInfo or an unfitted scikit-learn classifier",
        ),
        ("math:floor", "cannot be loaded: TypeError"),
    ],
)
def test_what_is_no_head_is_refused(module, text, message):
    with pytest.raises(HeadError, match=message):
        load_head_factory(text)


def test_parameters_that_it_has_not_are_refused(module, table):
    with pytest.raises(HeadError, match="forest has no parameter C"):
        fit(table, head=load_head_factory("my_heads:forest"), params={"C": 1})


def test_help_loads_no_registered_head(package):
    code = (
        "import sys\nsys.path.insert(0, sys.argv[1])\n"
        "from featstore_cli.main import main\n"
        "try:\n    main(['fit', '--help'])\nexcept SystemExit:\n    pass\n"
        "print('my_heads' in sys.modules or 'sklearn' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(package)], capture_output=True, text=True, check=True
    )

    assert found.stdout.split()[-1] == "False"


HIJACK = "import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\nraise ImportError('hijacked')\n"


@pytest.fixture
def strangers_folder(tmp_path, monkeypatch):
    """A current folder with modules that are called as installed ones are."""
    folder = tmp_path / "stranger"
    folder.mkdir()
    for name in ("sklearn", "joblib", "pickle", "numpy", "scipy", "threadpoolctl", "signal", "lz4"):
        (folder / f"{name}.py").write_text(HIJACK)
    (folder / "own_head.py").write_text(MODULE)
    monkeypatch.chdir(folder)
    return folder


def test_what_is_installed_comes_before_the_current_folder(strangers_folder, monkeypatch):
    from featstore_cli.commands.fit import _own_head

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "sklearn.naive_bayes", raising=False)
    assert _own_head("sklearn.naive_bayes:GaussianNB").name == "GaussianNB"
    assert str(strangers_folder) not in sys.path
    assert _own_head("own_head:forest").name == "forest"
    assert sys.path[-1] == str(strangers_folder)
    monkeypatch.delitem(sys.modules, "own_head")
    assert not list(strangers_folder.glob("*.ran"))


@pytest.mark.parametrize(
    "start", [["-m", "featstore_cli"], ["-c", "from featstore_cli.entry import main; main()"]]
)
def test_the_command_line_imports_nothing_from_the_current_folder(start, strangers_folder):
    # Python itself reads what comes before: signal is there for what is imported after.
    (strangers_folder / "signal.py").unlink()
    done = subprocess.run(
        [sys.executable, *start, "heads"], capture_output=True, text=True, check=False, timeout=300
    )
    assert "logistic" in done.stdout, done.stderr
    assert not list(strangers_folder.glob("*.ran"))


def test_fits_in_other_processes_import_nothing_from_the_current_folder(strangers_folder):
    code = (
        "import sys\nsys.path[:] = [path for path in sys.path if path]\n"
        "import os\nfrom featstore.heads.solvers.parallel import WarningNotes, run_tasks\n"
        "with WarningNotes() as notes:\n"
        "    print(len(list(run_tasks([repr, repr], notes, jobs=2, prefer='processes'))))\n"
        "assert 'PYTHONSAFEPATH' not in os.environ\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"},
    )
    assert not list(strangers_folder.glob("*.ran"))
    assert done.returncode == 0, done.stderr

"""What every test runs with."""

import logging
import os
import shutil
import signal
import threading
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from filelock import FileLock
from hypothesis import HealthCheck, settings

from fake_tables import blobs, spec_of, table_of, viewed_table

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

# What runs in the background of a shell ignores Ctrl-C, and so would the programs that tests start and stop.
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    and threading.current_thread() is threading.main_thread()
):
    signal.signal(signal.SIGINT, signal.default_int_handler)


# No test depends on how fast the machine is.
settings.register_profile(
    "any machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("any machine")


@pytest.fixture(autouse=True, scope="session")
def cache_folder_of_the_tests(tmp_path_factory):
    """Keep what the tests remember of backbones apart from what the user's runs do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATSTORE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def loggers_are_left_alone():
    """What is warned of later must still be seen, whichever library was used before."""
    before = logging_state()
    yield
    assert logging_state() == before


def logging_state():
    ours = [name for name in logging.root.manager.loggerDict if name.startswith("featstore")]
    disabled = [name for name in ours if logging.getLogger(name).disabled]
    return logging.root.level, logging.root.manager.disable, [*logging.root.filters], disabled


@pytest.fixture
def table():
    return table_of(*blobs())


@pytest.fixture
def make_table():
    return table_of


@pytest.fixture
def make_blobs():
    return blobs


@pytest.fixture
def make_spec():
    return spec_of


@pytest.fixture
def make_viewed_table():
    return viewed_table


@pytest.fixture(scope="session")
def made_demo(tmp_path_factory):
    """The folder that `featstore demo` makes, and what it prints: made once for all processes of the tests."""
    folder = made_once(tmp_path_factory, "demo-of-all", make_demo)
    return folder, (folder / "printed.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def demo(made_demo, tmp_path_factory):
    """The folder that `featstore demo` makes, for one file of tests."""
    return copied_demo(made_demo[0], tmp_path_factory)


@pytest.fixture(scope="module")
def small_demo(tmp_path_factory):
    """What `featstore demo` makes of the first 300 digits, for one file of tests: where their number does not matter."""
    made = made_once(tmp_path_factory, "small-demo-of-all", partial(make_demo, n_images=300))
    return copied_demo(made, tmp_path_factory)


@pytest.fixture(scope="session")
def real_weights():
    """Return a function that finds a file of real weights beside the checkout, or skips the test."""

    def find(name):
        path = DATA / "weights" / name
        if not path.exists():
            pytest.skip(f"needs {name} in ../shared/data/weights")
        return str(path)

    return find


@pytest.fixture(scope="session")
def real_features(tmp_path_factory):
    """A store with a real network's features of all photos beside the checkout: computed once for all processes."""
    import featstore

    def make(path):
        for photos in ("flowers", "imagenet_samples"):
            weights = DATA / "weights" / "mobilenet_v2_1.0_224_no_top.h5"
            featstore.extract(DATA / photos, path, weights=weights)
        shutil.rmtree(path / "catalogs")

    return made_once(tmp_path_factory, "real.fstore", make)


def made_once(tmp_path_factory, name, make):
    folder = tmp_path_factory.getbasetemp()
    shared = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / name
    done = shared.with_suffix(".done")
    with FileLock(f"{shared}.lock"):
        if not done.exists():
            make(shared)
            done.touch()
    return shared


def make_demo(path, *, n_images=None):
    from featstore.images import write_digits

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featstore.images.write_digits", partial(write_digits, n_images=n_images))
        text = run_featstore("demo", str(path))
    (path / "printed.txt").write_text(text, encoding="utf-8")


def copied_demo(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "demo"
    # A catalog names the images where they were.
    shutil.copytree(made, folder, ignore=shutil.ignore_patterns("catalogs"))
    store = str(folder / "digits.fstore")
    run_featstore("extract", str(folder / "digits"), "--backbone", "scattering", "--store", store)
    return folder


def run_featstore(*arguments):
    from featstore_cli.main import main

    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout

"""What every test runs with."""

import logging
import os
import shutil
import signal
import threading

import pytest
from click.testing import CliRunner
from filelock import FileLock

from fake_tables import blobs, spec_of, table_of, viewed_table

# What runs in the background of a shell ignores Ctrl-C, and so would the programs that tests start and stop.
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    and threading.current_thread() is threading.main_thread()
):
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def cache_folder_of_the_tests(tmp_path_factory):
    """Keep what the tests remember of backbones apart from what the user's runs do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATSTORE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def warnings_are_logged():
    """Undo what a library may have done to loggers, once it was used in this process."""
    logging.disable(logging.NOTSET)
    logging.root.setLevel(logging.WARNING)
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("featstore")]:
        logging.getLogger(name).disabled = False


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
def features_of_the_digits(tmp_path_factory):
    """The store that `featstore demo` fills, computed once for all processes of the tests."""
    folder = tmp_path_factory.getbasetemp()
    shared = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "demo-of-all"
    with FileLock(f"{shared}.lock"):
        if not (shared / "done").exists():
            run_demo(shared)
            (shared / "done").touch()
    return shared / "digits.fstore"


@pytest.fixture(scope="module")
def demo(features_of_the_digits, tmp_path_factory):
    """The folder that `featstore demo` makes, for one file of tests, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    shutil.copytree(features_of_the_digits / "spaces", folder / "digits.fstore" / "spaces")
    shutil.copy(features_of_the_digits / "featstore.json", folder / "digits.fstore")
    return folder, run_demo(folder)


def run_demo(folder):
    from featstore_cli.main import main

    result = CliRunner().invoke(main, ["demo", str(folder)])
    assert result.exit_code == 0, result.output
    return result.stdout

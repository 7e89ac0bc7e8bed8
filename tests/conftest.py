"""What every test runs with."""

import logging
import signal
import threading

import pytest

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

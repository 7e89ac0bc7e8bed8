"""What the library changes in the process it changes for itself, and puts back however uses overlap."""

import contextlib
import gc
import logging
import os
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

from featstore.backbones.keras.quiet import quiet_import
from featstore.heads.solvers.parallel import WarningNotes
from featstore.process import Shared, logging_from, one_thread, root_logger_kept, warnings_to


def overlapping(make):
    """Enter one, enter another, leave the first, leave the second: each made and used in a thread of its own."""
    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()

    def outer():
        with make():
            first_in.set()
            second_in.wait(10)
        first_out.set()

    def inner():
        first_in.wait(10)
        with make():
            second_in.set()
            first_out.wait(10)

    threads = [threading.Thread(target=run) for run in (outer, inner)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def stream():
    found = os.fstat(2)
    return found.st_dev, found.st_ino


def test_overlapping_imports_leave_the_error_stream_as_it_was():
    before = stream()
    overlapping(quiet_import)
    assert stream() == before


def test_imports_search_for_garbage_less_often_and_leave_the_rest_as_it_was():
    before = gc.get_threshold()
    with quiet_import():
        assert gc.get_threshold() == (100_000, *before[1:])
    assert gc.get_threshold() == before


def test_overlapping_fits_leave_the_warnings_as_they_were():
    show, filters = warnings.showwarning, [*warnings.filters]
    overlapping(WarningNotes)
    assert warnings.showwarning is show
    assert warnings.filters == filters


def test_overlapping_changes_of_loggers_are_undone():
    logger = logging.getLogger("featstore.tests.process")
    logger.setLevel(logging.INFO)
    shared = Shared(lambda: logging_from(logging.CRITICAL, logger.name))
    overlapping(lambda: shared)
    assert logger.level == logging.INFO


def test_overlapping_changes_of_the_root_logger_are_undone():
    root = logging.getLogger()
    before = root.level, [*root.filters], [*root.handlers]

    @contextlib.contextmanager
    def converting():
        with root_logger_kept:
            root.setLevel(logging.ERROR)
            root.addFilter(lambda record: True)
            root.addHandler(logging.NullHandler())
            yield

    overlapping(converting)
    assert (root.level, root.filters, root.handlers) == before


def test_overlapping_limits_of_threads_are_undone():
    from threadpoolctl import threadpool_info

    def counts():
        return [pool["num_threads"] for pool in threadpool_info()]

    np.ones((4, 4)) @ np.ones((4, 4))
    before = counts()
    overlapping(lambda: one_thread)
    assert counts() == before
    with one_thread:
        assert set(counts()) <= {1}
    assert counts() == before


def test_libraries_with_threads_are_searched_for_once_for_all_that_is_imported(monkeypatch):
    import threadpoolctl

    found = []
    search = threadpoolctl.ThreadpoolController
    monkeypatch.setattr(threadpoolctl, "ThreadpoolController", lambda: found.append(search()) or found[-1])
    with one_thread:
        found.clear()
    for _ in range(3):
        with one_thread:
            pass
    assert not found
    monkeypatch.setitem(sys.modules, "brings_another_library", contextlib)
    with one_thread:
        pass
    assert len(found) == 1


def test_only_the_warnings_of_the_thread_are_held_back():
    noted = []

    def warn():
        warnings.warn("from elsewhere", UserWarning, stacklevel=1)

    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with warnings_to(noted.append):
            thread = threading.Thread(target=warn)
            thread.start()
            thread.join()
            warnings.warn("from here", UserWarning, stacklevel=1)
        warnings.warn("afterwards", UserWarning, stacklevel=1)
    assert noted == ["from here"]
    assert [str(entry.message) for entry in shown] == ["from elsewhere", "afterwards"]


def test_a_warning_that_was_shown_before_is_noted_again():
    noted = []

    def warn():
        warnings.warn("once only", UserWarning, stacklevel=1)

    with warnings.catch_warnings(record=True):
        warnings.simplefilter("default")
        warn()
        with warnings_to(noted.append):
            warn()
    assert noted == ["once only"]


def test_what_tasks_of_scikit_learn_warn_about_is_noted():
    from sklearn.utils.parallel import Parallel, delayed

    noted = []
    with warnings_to(noted.append):
        Parallel(n_jobs=1)(delayed(warnings.warn)(text, UserWarning) for text in ("one", "two"))
    assert noted == ["one", "two"]


def test_others_than_those_that_match_are_shown():
    noted = []
    with warnings_to(noted.append, matching="this"):
        warnings.warn("this one", UserWarning, stacklevel=1)
        with pytest.warns(UserWarning, match="other"):
            warnings.warn("other", UserWarning, stacklevel=1)
    assert noted == ["this one"]


def test_loading_the_library_and_building_a_network_change_no_setting_of_the_process():
    code = """
import locale, logging, os, signal, socket, sys, warnings
import numpy as np
def settings():
    mask = os.umask(0); os.umask(mask)
    return {
        "environment": dict(os.environ), "folder": os.getcwd(), "mask": mask, "path": [*sys.path],
        "timeout": socket.getdefaulttimeout(), "show": warnings.showwarning, "locale": locale.setlocale(locale.LC_ALL),
        "signals": [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)],
        "numpy": np.geterr(), "seed": np.random.get_state()[1].tolist(),
        "root": (logging.root.level, [*logging.root.handlers]), "stderr": os.fstat(2).st_ino,
    }
before = settings()
import featstore, featstore.backbones.keras.models as models
from featstore.backbones.request import request_network
built = models.build_network(request_network("scattering", size_px=(32, 32)))
models.forward_once(built, np.zeros((1, 32, 32, 3), np.uint8))
after = settings()
changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
changed.pop("environment", None) if set(after["environment"]) - set(before["environment"]) <= ALLOWED else None
assert not changed, changed
"""
    # What `import tensorflow` alone sets; where a test before this one has imported it, nothing is new.
    allowed = {"TF2_BEHAVIOR", "TPU_ML_PLATFORM", "TPU_ML_PLATFORM_VERSION", "KMP_INIT_AT_FORK"}
    allowed |= {"KMP_DUPLICATE_LIB_OK", "HDF5_PLUGIN_PATH", "ENABLE_RUNTIME_UPTIME_TELEMETRY"}
    code = code.replace("ALLOWED", repr(allowed))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

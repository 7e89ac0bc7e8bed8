"""Ctrl-C and SIGTERM to real processes."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from featstore.store import FeatureStore
from torture.harness import needs_proc, numbers_of, rows_of

pytestmark = needs_proc
TELLS_HOW_TO_GO_ON = "interrupted: the features computed so far are stored; run the same command to resume\n"


def leftovers(store):
    return [name for _, _, names in os.walk(store) for name in names if name.startswith(".tmp-")]


@pytest.mark.parametrize(
    ("how", "status", "where"),
    [("Ctrl-C", 130, "segment"), ("Ctrl-C twice", 130, "segment"), ("SIGTERM", 143, "catalog")],
)
def test_a_stopped_extraction_seals_what_it_computed_and_tells(shop, how, status, where):
    for number in numbers_of(shop.whole.steps, where=where, at_most=2):
        store = shop.place()
        run = shop.extract(store, at=number, how=how)
        assert (run.status, run.stderr) == (status, TELLS_HOW_TO_GO_ON)
        n_rows = shop.check_left(store, run)
        assert n_rows == run.report["extracted"]
        assert leftovers(store) == []
        shop.check_goes_on(store, n_rows=n_rows)


@pytest.mark.parametrize("command", ["fit", "compact", "merge"])
def test_a_command_stopped_as_it_writes_leaves_nothing_half_done(shop, command):
    def place():
        store = shop.place()
        shop.fold_apart(store)
        return store

    def run(store, **options):
        arguments = {
            "fit": ["fit", store, "--head", "centroid", "--quiet"],
            "compact": ["compact", store],
            "merge": ["merge", store + ".merged", store],
        }[command]
        return shop.run(arguments, **options)

    for number in numbers_of(run(place()).steps, where="before", at_most=2):
        store = place()
        stopped = run(store, at=number, how="Ctrl-C")
        assert (stopped.status, stopped.stderr) == (130, "interrupted\n"), (stopped.last_step, stopped)
        assert leftovers(store) == leftovers(store + ".merged") == []
        assert run(store).status == 0
        merged = store + ".merged" * (command == "merge")
        assert rows_of(FeatureStore(merged)) == shop.rows
        assert FeatureStore(merged).verify().ok


@pytest.mark.parametrize("command", ["verify", "fit", "extract"])
def test_a_command_stopped_before_it_writes_says_so_in_a_line(shop, tmp_path, command):
    store = str(tmp_path / "s.fstore")
    shutil.copytree(shop.undisturbed, store)
    arguments = {
        "verify": ["verify", store],
        "fit": ["fit", store, "--head", "centroid"],
        "extract": ["extract", shop.pictures, "--backbone", "mobilenet_v2", "--weights", "/dev/zero"],
    }[command]
    process = subprocess.Popen(
        [sys.executable, "-m", "featstore_cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    while not catches_sigterm(process.pid):
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    try:
        _, stderr = process.communicate(timeout=300)
    finally:
        process.kill()
    assert (process.returncode, stderr) == (130, "interrupted\n")
    assert leftovers(tmp_path) == []


def catches_sigterm(process_id):
    with open(f"/proc/{process_id}/status") as file:
        caught = next(line for line in file if line.startswith("SigCgt:"))
    return int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1


def test_ctrl_c_while_the_program_is_loaded_ends_it_without_a_word():
    code = (
        "import signal, sys, types\n"
        "loading = types.ModuleType('featstore_cli.main')\n"
        "loading.__getattr__ = lambda name: signal.raise_signal(signal.SIGINT)\n"
        "sys.modules['featstore_cli.main'] = loading\n"
        "from featstore_cli.entry import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_what_was_started_to_ignore_ctrl_c_goes_on_ignoring_it(shop, tmp_path):
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "import featstore\n"
        "verify = featstore.FeatureStore.verify\n"
        "def stopping(store, **options):\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    return verify(store, **options)\n"
        "featstore.FeatureStore.verify = stopping\n"
        "from featstore_cli.entry import main\n"
        "sys.argv = ['featstore', 'verify', sys.argv[1]]\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, shop.undisturbed], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")

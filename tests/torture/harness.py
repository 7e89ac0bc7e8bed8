"""Runs `featstore` in processes that are killed, and checks what they leave."""

import json
import os
import queue
import random
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

from featstore.heads import Head
from featstore.store import FeatureStore

LAUNCHER = os.path.join(os.path.dirname(__file__), "launcher.py")
needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="steps are told by /proc")

# A content hash and a view, as they stand in a segment.
_KEY = 32 + 2
# Those that are free, by what they are started with: workshops of one kind share them.
_LAUNCHERS = defaultdict(queue.SimpleQueue)
_STEP = re.compile(r"step (\d+) (.*)")


@dataclass(kw_only=True)
class Run:
    """One run of the command line, as it ended."""

    status: int
    stdout: str
    stderr: str
    steps: list[str]
    sealed: set[bytes] = field(repr=False)

    @property
    def report(self):
        return json.loads(self.stdout)

    @property
    def last_step(self):
        return self.steps[-1] if self.steps else "before the first step"


class Workshop:
    """A folder with pictures, and what an undisturbed run makes of them.

    Parameters
    ----------
    folder : path
    n_pictures : int
    tiny : bool
        A linear map in place of the scattering network: starts in a third of the time.
    n_views : int
        Of each picture.
    prefix : sequence of str
        A command that the processes are started by.
    preload : str, optional
        What :func:`failing_calls` has made: the processes are started with it.
    """

    def __init__(self, folder, *, n_pictures, tiny, n_views=1, prefix=(), preload=None):
        self.folder = str(folder)
        self.tiny = tiny
        self.n_views = n_views
        self.prefix = prefix
        self.preload = preload
        self.fitted = None
        self.fitting = threading.Lock()
        self._launchers = _LAUNCHERS[tuple(prefix), preload]
        self.pictures = os.path.join(self.folder, "pictures")
        for number in range(n_pictures):
            path = os.path.join(self.pictures, "ab"[number % 2], f"{number:04d}.png")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(path)
            os.utime(path, ns=(10**18 + number, 10**18 + number))
        self.undisturbed = os.path.join(self.folder, "undisturbed.fstore")
        for store in (os.path.join(self.folder, "warm.fstore"), self.undisturbed):
            started = time.monotonic()
            self.whole = self.extract(store)
            assert self.whole.status == 0, self.whole.stderr
            # How long a step takes, so that a moment after one is as often before the next as not.
            self.step_s = (time.monotonic() - started) / len(self.whole.steps)
        store = FeatureStore(self.undisturbed)
        self.rows = rows_of(store)
        self.catalog = store.catalog()
        assert len(self.rows) == n_pictures * n_views

    def place(self):
        """Name a store to be, in the folder whose steps count."""
        return os.path.join(self.folder, f"{secrets.token_hex(4)}.fstore")

    def copy(self):
        """Copy the undisturbed store; return where."""
        return shutil.copytree(self.undisturbed, self.place())

    def fold_apart(self, store):
        """Copy the undisturbed store with its rows in several segments, as before they were folded."""
        shutil.copytree(self.undisturbed, store)
        [folded] = FeatureStore(store).space().segments
        space = FeatureStore(store).space()
        for start in range(0, folded.n_rows, 8):
            numbers = np.arange(start, min(start + 8, folded.n_rows))
            space.append(space.rows(numbers), space.content_hash[numbers], space.view[numbers])
        os.unlink(folded.path)

    def extract(self, store, **options):
        """Run `featstore extract` on the pictures."""
        [run] = self.extract_at_once(1, store, **options)
        return run

    def extract_at_once(self, n_runs, store, **options):
        """Run `featstore extract` on the pictures several times, all at once."""
        told = ["--backbone", "scattering", "--image-size", "16", "--quiet", "--json"]
        if self.n_views > 1:
            told += ["--views", str(self.n_views), "--random-crop", "20"]
        return self._run(n_runs, ["extract", self.pictures, "--store", store, *told], store=store, **options)

    def run(self, arguments, **options):
        """Run a command line.

        ``how`` happens to it at its step ``at``, or what ``started`` does, given its process id and its log;
        ``failing`` is the environment of ``failing_calls.c``.
        """
        [run] = self._run(1, arguments, **options)
        return run

    def _run(self, n_runs, arguments, *, at=None, how="kill", store=None, started=None, failing=None):
        logs = [tempfile.mkdtemp(prefix="log-", dir=self.folder) for _ in range(n_runs)]
        plan = {"within": self.folder, "at": at, "how": how, "store": store}
        plan |= {"tiny": self.tiny, "arguments": arguments, "failing": failing or {}}
        try:
            launcher = self._launchers.get_nowait()
        except queue.Empty:
            launcher = self._start_launcher()
        launcher.stdin.write(json.dumps([plan | {"log": log} for log in logs]) + "\n")
        launcher.stdin.flush()
        for log in logs:
            process_id = _answer(launcher, "ready")
            if started is not None:
                started(process_id, os.path.join(log, "steps"))
        ended = [_answer(launcher, "ended") for _ in logs]
        self._launchers.put(launcher)
        return [_run_of(log, status) for log, status in zip(logs, ended, strict=True)]

    def _start_launcher(self):
        return subprocess.Popen(
            [*self.prefix, sys.executable, LAUNCHER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.path.dirname(os.path.dirname(LAUNCHER)),
                **({"LD_PRELOAD": self.preload} if self.preload else {}),
            },
        )

    def check_left(self, store, run):
        """Check a store that a run was cut short in; return how many rows it holds."""
        if not os.path.exists(os.path.join(store, "featstore.json")):
            assert not run.sealed, f"rows are lost: {run.last_step}"
            return 0
        opened = FeatureStore(store)
        report = opened.verify()
        assert report.ok, (run.last_step, report.damaged)
        assert all(os.path.basename(path).startswith(".tmp-") for path in report.leftovers), report.leftovers
        rows = rows_of(opened)
        assert run.sealed <= rows.keys(), f"{len(run.sealed - rows.keys())} rows are lost: {run.last_step}"
        assert all(self.rows[key] == row for key, row in rows.items()), f"rows are wrong: {run.last_step}"
        return len(rows)

    def check_goes_on(self, store, *, n_rows):
        """Check that one more run completes the store to what an undisturbed one makes, and that it can be cleaned."""
        again = self.extract(store)
        assert again.status == 0, again.stderr
        assert again.report["extracted_views"] == len(self.rows) - n_rows
        opened = FeatureStore(store)
        assert rows_of(opened) == self.rows
        assert opened.catalog().equals(self.catalog)
        two_days_ago = time.time() - 2 * 86400
        leftovers = opened.verify().leftovers
        for path in leftovers:
            os.utime(path, (two_days_ago, two_days_ago))
        assert opened.compact().leftovers_removed == len(leftovers)
        report = opened.verify()
        assert (report.ok, report.rows, report.leftovers) == (True, len(self.rows), ())

    def kill(self, store, *, at=None, how="kill", after=None):
        """Kill an extraction at a step, or some seconds after one; check what it leaves and that the next goes on."""

        def wait_and_kill(process_id, log):
            step, seconds = after
            with suppress(ProcessLookupError):
                while f"step {step} " not in _text(log):
                    os.kill(process_id, 0)
                    time.sleep(0.001)
                time.sleep(seconds)
                os.kill(process_id, signal.SIGKILL)

        run = self.extract(store, at=at, how=how, started=None if after is None else wait_and_kill)
        assert run.status == -9 or (run.status == 0 and at is None), (run.status, run.stderr)
        self.check_goes_on(store, n_rows=self.check_left(store, run))
        shutil.rmtree(store)
        return run

    def fill_disk(self, store, *, at):
        """Let an extraction's step fail for want of space; all the rest as for :meth:`kill`."""
        run = self.extract(store, at=at, how="full")
        [line] = run.stderr.splitlines()
        assert "no space left on device" in line
        assert run.status == (0 if line.startswith("WARNING: the features are stored") else 1), run
        n_rows = self.check_left(store, run)
        if os.path.exists(store):
            assert not [name for _, _, names in os.walk(store) for name in names if name.startswith(".tmp-")]
        self.check_goes_on(store, n_rows=n_rows)
        shutil.rmtree(store)
        return run

    def kill_merge(self, store, *, at, how):
        """Kill the merge of the undisturbed store into an empty one at a step."""
        arguments = ["merge", store, self.undisturbed]
        run = self.run(arguments, at=at, how=how)
        assert run.status == -9, (run.status, run.stderr)
        self.check_left(store, run)
        again = self.run(arguments)
        assert again.status == 0, again.stderr
        merged = FeatureStore(store)
        assert (rows_of(merged), merged.catalog().equals(self.catalog)) == (self.rows, True)
        shutil.rmtree(store)
        return run

    def kill_fit(self, store, *, at, how):
        """Kill a fit that replaces a head at a step; the head must be the old one or a whole new one."""
        fit = ["fit", store, "--head", "centroid", "--quiet"]
        with self.fitting:
            if not self.fitted:
                fitted = os.path.join(self.folder, "fitted.fstore")
                shutil.copytree(self.undisturbed, fitted)
                assert self.run(["fit", fitted, *fit[2:]]).status == 0
                self.fitted = fitted
        shutil.copytree(self.fitted, store)
        path = FeatureStore(store).head_path("centroid")
        with open(path, "rb") as file:
            old = file.read()
        run = self.run([*fit, "--seed", "1"], at=at, how=how)
        assert run.status == -9, (run.status, run.stderr)
        with open(path, "rb") as file:
            is_old = file.read() == old
        head = Head.load(path)
        # Its estimator is read when it is asked for.
        assert head.estimator is not None
        assert (head.seed == 0) == is_old, run.last_step
        must_be_new = {"kill": "after rename", "power cut": "after flush folder"}[how]
        passed = [step.split(",")[0] for step in run.steps]
        assert head.seed == 1 or must_be_new not in passed, run.last_step
        assert head.seed == 0 or "after rename" in passed, run.last_step
        assert FeatureStore(store).verify().ok
        shutil.rmtree(store)
        return run


def end_launchers():
    """End the processes that all workshops have started."""
    for launchers in _LAUNCHERS.values():
        while not launchers.empty():
            with launchers.get() as launcher:
                launcher.stdin.close()


def numbers_of(steps, *, where="", at_most=None):
    """Number each different step by where it comes first; of more than ``at_most`` a sample, always the same."""
    numbers = [steps.index(step) + 1 for step in dict.fromkeys(steps) if where in step]
    return sorted(random.Random(0).sample(numbers, min(len(numbers), at_most or len(numbers))))


def _run_of(log, status):
    steps, stdout, stderr = (_text(os.path.join(log, name)) for name in ("steps", "stdout", "stderr"))
    shutil.rmtree(log)
    lines = steps.splitlines()
    noted = [bytes.fromhex(line.split()[1]) for line in lines if line.startswith("sealed ")]
    return Run(
        status=status,
        stdout=stdout,
        stderr=stderr,
        steps=[found[2] for line in lines if (found := _STEP.fullmatch(line))],
        sealed={block[at : at + _KEY] for block in noted for at in range(0, len(block), _KEY)},
    )


def _answer(launcher, word):
    told, _, number = launcher.stdout.readline().partition(" ")
    assert told == word, (told, launcher.poll())
    return int(number)


def _text(path):
    with suppress(FileNotFoundError), open(path) as file:
        return file.read()
    return ""


def rows_of(store):
    """Return the bytes of each row of a store's only space by its key, read past every cache."""
    rows = {}
    for name in store.space_names:
        for segment in store.space(name).segments:
            for block in segment.blocks():
                keys = zip(block.content_hash, block.view, strict=True)
                for (content, view), features in zip(keys, block.features, strict=True):
                    key, row = content.tobytes() + view.tobytes(), features.tobytes()
                    assert rows.setdefault(key, row) == row, "two rows of one key differ"
    return rows

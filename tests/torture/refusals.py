"""One system call of a command fails, or does half; nothing that was there is lost, and the command says so."""

import errno
import os
import random
import shutil
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np

from featstore.heads import Head
from featstore.store import FeatureStore
from torture.harness import rows_of
from torture.removals import Removals

_SOURCE = os.path.join(os.path.dirname(__file__), "failing_calls.c")
WRITING = ("write", "fsync", "rename", "close", "ftruncate", "unlink")
# ENOSPC and EDQUOT pass: the call after it succeeds.
ERRORS = {name: str(getattr(errno, name)) for name in ("EIO", "EDQUOT", "ENOSPC", "ESTALE")}
HARMLESS = {"EINTR": str(errno.EINTR), "short": "short"}


def failing_calls(folder):
    """Compile the shim into a folder; return its path, or a reason why there is none."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if sys.platform != "linux":
        return None, "LD_PRELOAD as it is used here is Linux's"
    if compiler is None:
        return None, "there is no C compiler (cc, gcc or clang) to build the shim that lets system calls fail"
    made = os.path.join(folder, "failing_calls.so")
    built = subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", made, _SOURCE, "-ldl"], capture_output=True, text=True
    )
    if built.returncode:
        return None, f"{compiler} cannot build the shim: {built.stderr.strip()}"
    return made, ""


class Refusals:
    """Commands on stores of a workshop that was made with the shim."""

    def __init__(self, shop):
        self.shop = shop
        self.fragments = shop.place()
        shop.fold_apart(self.fragments)
        self.relabelled = shop.place()
        shutil.copytree(shop.undisturbed, self.relabelled)
        near_groups = ["near-a", "near-a", *[None] * (len(shop.catalog) - 2)]
        self.old = replace(shop.catalog, labels=["old"] * len(shop.catalog), near_groups=near_groups)
        FeatureStore(self.relabelled).write_catalog(self.old)
        self.new = replace(shop.catalog, near_groups=near_groups)
        self.fitted = shop.place()
        shutil.copytree(shop.undisturbed, self.fitted)
        assert shop.run(["fit", self.fitted, "--head", "centroid", "--quiet"]).status == 0
        self.removals = Removals(shop)
        # What is there before, and the command line.
        self.commands = {
            "extract": (None, None),
            "extract again": (self.relabelled, None),
            "compact": (self.fragments, ["compact", "STORE"]),
            "merge": (None, ["merge", "STORE", self.fragments]),
            "fit": (self.fitted, ["fit", "STORE", "--head", "centroid", "--quiet", "--seed", "1"]),
            "repair": (self.fitted, ["verify", "STORE", "--repair", "--quiet"]),
            "forget": (self.removals.before, None),
            "remove": (self.removals.before, None),
        }

    def count(self, name, calls):
        """Return how many such calls a command makes in its store."""
        store = self.place(name)
        log = store + ".calls"
        run = self.run(name, store, calls, at=0, how="short", log=log)
        assert run.status == 0, run.stderr
        n_calls = os.path.getsize(log) if os.path.exists(log) else 0
        shutil.rmtree(store)
        return n_calls

    def cases(self, name, calls, how, *, at_most=None):
        """Return the arguments of :meth:`refuse`: for each call, or a sample that is always the same."""
        numbers = range(1, self.count(name, calls) + 1)
        chosen = numbers if at_most is None else random.Random(0).sample(numbers, min(at_most, len(numbers)))
        return [{"name": name, "calls": calls, "how": how, "at": at} for at in sorted(chosen)]

    def place(self, name):
        store = self.shop.place()
        if (before := self.commands[name][0]) is not None:
            shutil.copytree(before, store)
        return store

    def run(self, name, store, calls, *, at, how, log=None):
        failing = {
            "FAIL_BELOW": store + os.sep,
            "FAIL_CALLS": calls,
            "FAIL_AT": str(at),
            "FAIL_HOW": (ERRORS | HARMLESS)[how],
            **({"FAIL_LOG": log} if log else {}),
        }
        return self.command(name, store, failing=failing)

    def command(self, name, store, **options):
        arguments = self.commands[name][1]
        if name in self.removals.expected:
            arguments = self.removals.arguments(name, store)
        if arguments is None:
            return self.shop.extract(store, **options)
        return self.shop.run([store if word == "STORE" else word for word in arguments], **options)

    def refuse(self, *, name, calls, how, at):
        """Let a call fail; check what is left, and that the command, run again, does all of its work."""
        store = self.place(name)
        before = _files(store)
        run = self.run(name, store, calls, at=at, how=how)
        told = (name, calls, how, at, run.status, run.stderr)
        assert run.status in (0, 1), told
        assert "Traceback" not in run.stderr, told
        if how in HARMLESS and calls in ("write", "read"):
            assert run.status == 0, told
        elif calls in ("write", "fsync", "rename"):
            # The features are all there where they could only not be folded.
            assert run.status == 1 or "the features are stored" in run.stderr, told
        if os.path.exists(os.path.join(store, "featstore.json")):
            self.check(name, store, run, before, told)
            if calls != "unlink":
                assert not [path for path in _files(store) if ".tmp-" in path], told
        else:
            assert run.status == 1, told
            assert name in ("extract", "merge"), told
        again = self.command(name, store)
        assert again.status == 0, (told, again.stderr)
        self.check(name, store, again, before, told)
        shutil.rmtree(store)
        return run

    def check(self, name, store, run, before, told):
        if name in self.removals.expected:
            self.removals.check(name, store, is_done=run.status == 0, told=told)
            return
        opened = FeatureStore(store)
        report = opened.verify()
        assert report.ok, (told, report.damaged)
        assert report.set_aside == (), told
        rows = rows_of(opened)
        assert all(self.shop.rows[key] == row for key, row in rows.items()), told
        if run.status == 0 or name not in ("extract", "merge"):
            assert rows == self.shop.rows, told
        if opened.catalog_names:
            found = opened.catalog()
            if name == "extract again":
                assert found.equals(self.new) or (run.status == 1 and found.equals(self.old)), told
            elif name == "extract" and run.status == 1:
                # A run that fails writes down what it has read, as one that is interrupted does.
                assert set(found.paths) <= set(self.shop.catalog.paths), told
                assert found.equals(_rows_of_catalog(self.shop.catalog, found.paths)), told
            else:
                assert found.equals(self.shop.catalog), told
        else:
            assert run.status == 1, told
        if name in ("fit", "repair"):
            seed = Head.load(opened.head_path("centroid")).seed
            assert seed == 1 or run.status == 1 or name == "repair", told
        if name == "repair":
            assert _files(store) == before, told


def _rows_of_catalog(catalog, paths):
    rows = [catalog.paths.index(path) for path in paths]
    columns = {field.name: getattr(catalog, field.name) for field in fields(catalog)}
    return replace(
        catalog,
        **{
            name: values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]
            for name, values in columns.items()
            if values is not None and not isinstance(values, str)
        },
    )


def _files(store):
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(store) for name in names)

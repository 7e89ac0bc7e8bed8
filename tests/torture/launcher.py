"""Runs the command line in processes whose writing can be stopped at its n-th step, or fail there.

Each line of the standard input is a list of plans that are run at once. A plan is a JSON object: ``arguments`` (of the command line), ``within`` (the
folder whose files count), ``log`` (a folder for a line for each step and what the command prints), ``at`` (the
step at which something happens, from 1), ``how`` (what it is, a name in ``HAPPENINGS``), ``store`` (where it
happens), ``tiny`` (a linear map instead of a network), and ``failing`` (the environment of ``failing_calls.c``). Each runs in a
process of its own, forked from this one, so that the libraries are loaded once. The answers are ``ready PID`` for
each as it starts, and ``ended STATUS`` for each.

A step is a point in time before or after one of the operations that make a file. The product knows nothing of
all this: its parts are replaced here, in this process alone.
"""

import errno
import functools
import gc
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import zipfile

import h5py
import numpy as np
import skops.io  # noqa: F401
import tqdm  # noqa: F401

import featstore.backbones.backbone
import featstore.backbones.engines.openvino
import featstore.flow.extraction
import featstore.flow.sealing
import featstore.heads
import featstore.io.atomic
import featstore.store.maintained
import featstore.store.maintenance.compact
import featstore.store.segments.segment
import featstore.store.space
import featstore_cli.entry
import featstore_cli.main
from fakes import CountingBackbone

BATCH = 8


class Disk:
    """What a power cut would leave: names as they were when their folder was last flushed."""

    def __init__(self, attic):
        self.attic = attic
        self.pending = []
        self.renamed = []
        self.flushed = set()

    def keep(self, path):
        """Return how to bring back what is at a path now."""
        spare = os.path.join(self.attic, str(len(os.listdir(self.attic))))
        try:
            os.link(path, spare)
        except FileNotFoundError:
            return functools.partial(os.remove, path)
        return functools.partial(os.rename, spare, path)

    def before(self, what, path):
        if what in ("rename", "removal"):
            self.pending.append((os.path.dirname(path), self.keep(path)))
            self.renamed.append(path)

    def after(self, what, path):
        if what == "flush folder":
            self.pending = [(folder, undo) for folder, undo in self.pending if folder != path]
        elif what == "folder":
            self.pending.append((os.path.dirname(path), functools.partial(shutil.rmtree, path)))
        elif what == "flush file":
            self.flushed.add(os.stat(path).st_ino)

    def cut(self):
        for path in filter(os.path.exists, self.renamed):
            if os.stat(path).st_ino not in self.flushed:
                os.truncate(path, 0)
        for _, undo in reversed(self.pending):
            undo()


class Steps:
    def __init__(self, plan):
        self.plan = plan
        self.number = 0
        self.phase = "seal"
        self.lock = threading.RLock()
        self.is_over = False
        self.log = os.open(os.path.join(plan["log"], "steps"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.disk = Disk(tempfile.mkdtemp(dir=plan["log"]))

    def note(self, line):
        os.write(self.log, (line + "\n").encode())

    def step(self, moment, what, path):
        self.number += 1
        self.note(f"step {self.number} {moment} {what}, {self.kind(path)}")
        if self.number == self.plan["at"]:
            self.is_over = True
            HAPPENINGS[self.plan["how"]](self)

    def kind(self, path):
        room = os.path.basename(os.path.dirname(path))
        if path.endswith(".h5") and room != "catalogs":
            return "folded segment" if self.phase == "fold" else "segment"
        if os.path.isdir(path):
            return "a folder"
        return {".h5": "catalog", ".head": "head", ".json": "description"}.get(
            os.path.splitext(path)[1], "other"
        )

    def around(self, owner, name, what, path_of):
        """Put a step before and after each call of a function."""
        real = getattr(owner, name)

        @functools.wraps(real)
        def stepping(*arguments, **options):
            if self.is_over:
                return real(*arguments, **options)
            path = path_of(*arguments)
            if path is None or not os.path.abspath(path := os.fspath(path)).startswith(self.plan["within"]):
                return real(*arguments, **options)
            told = what
            if what == "flush":
                told = "flush folder" if os.path.isdir(path) else "flush file"
            with self.lock:
                self.step("before", told, path)
                if self.plan["how"] == "power cut":
                    self.disk.before(told, path)
                result = real(*arguments, **options)
                self.disk.after(told, path)
                self.step("after", told, path)
            return result

        setattr(owner, name, stepping)

    def install(self):
        self.around(os, "replace", "rename", lambda source, target: target)
        self.around(os, "unlink", "removal", lambda path: path)
        self.around(os, "mkdir", "folder", lambda path, *mode: path)
        self.around(os, "fsync", "flush", lambda number: os.readlink(f"/proc/self/fd/{number}"))
        self.around(h5py.File, "close", "close of HDF5", lambda file: file.filename)
        self.around(
            zipfile.ZipFile,
            "close",
            "close of zip",
            lambda file: None if file.mode == "r" or file.fp is None else file.filename,
        )
        writer = featstore.store.segments.segment.SegmentWriter
        self.around(writer, "write", "write of rows", lambda made, rows: made._file.name)

        append, compact = featstore.store.space.Space.append, featstore.store.maintained.compact_space

        def noting(space, features, hashes, views, **options):
            append(space, features, hashes, views, **options)
            keys = np.hstack([hashes, views.astype("<u2")[:, None].view(np.uint8)])
            self.note(f"sealed {keys.tobytes().hex()}")

        def folding(*arguments, **options):
            self.phase = "fold"
            return compact(*arguments, **options)

        featstore.store.space.Space.append = noting
        featstore.store.maintained.compact_space = folding


def cut_power(steps):
    steps.disk.cut()
    send(signal.SIGKILL)


def fill_disk(_steps):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def lose_permission(steps):
    for folder, _, _ in os.walk(steps.plan["store"], topdown=False):
        os.chmod(folder, 0o500)


def send(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)


HAPPENINGS = {
    "kill": lambda _steps: send(signal.SIGKILL),
    "power cut": cut_power,
    "full": fill_disk,
    "permission": lose_permission,
    "removal": lambda steps: shutil.rmtree(steps.plan["store"]),
    "Ctrl-C": lambda _steps: send(signal.SIGINT),
    "Ctrl-C twice": lambda _steps: send(signal.SIGINT, signal.SIGINT),
    "SIGTERM": lambda _steps: send(signal.SIGTERM),
}


def launch(plan):
    """Become the command line, as if this process had been started for it."""
    for number, name in ((0, os.devnull), (1, "stdout"), (2, "stderr")):
        os.dup2(os.open(os.path.join(plan["log"], name), os.O_RDWR | os.O_CREAT), number)
    os.environ.update(plan["failing"])
    featstore.flow.sealing.SEAL_BYTES = 1
    featstore.backbones.backbone.preferred_batch_size = lambda: BATCH
    if plan["tiny"]:
        assert callable(featstore.flow.extraction.load_backbones)
        featstore.flow.extraction.load_backbones = lambda name, *, views, **options: [
            CountingBackbone(batch_size=BATCH, views=views)
        ]
    Steps(plan).install()
    sys.argv = ["featstore", *plan["arguments"]]
    featstore_cli.entry.main()


def serve():
    featstore.backbones.engines.openvino.import_openvino()
    # A child that ends does not look through all that was loaded before.
    gc.freeze()
    for line in sys.stdin:
        children = []
        for plan in json.loads(line):
            if (child := os.fork()) == 0:
                launch(plan)
            children.append(child)
            print(f"ready {child}", flush=True)
        for child in children:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            print(f"ended {status}", flush=True)


if __name__ == "__main__":
    serve()

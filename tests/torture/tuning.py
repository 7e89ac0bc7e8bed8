"""`featstore finetune`, killed at seeded random moments and run again until it ends: the same bits each time.

Prints how far each run was when it was killed. Ends with status 1 where weights, head or report are not those of
an undisturbed run.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(__file__), os.pardir))
import featstore
from featstore import FeatureStore, Head, SplitRule
from featstore.backbones.spec import digest_values
from tuning_material import draw, small_network

COMMAND = [
    *(sys.executable, "-m", "featstore", "finetune", "probe", "-o", "tuned", "--from-layer", "block", "-q"),
    *("--views", "3", "--flip", "--random-crop", "20", "--epochs", "12", "--batch-size", "8"),
    *("--learning-rate", "0.01", "--dropout", "0.4", "--ema", "0.9", "--engine", "keras"),
]
STRIPPED = ("seconds", "processor_seconds")


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--trials", type=int, default=20)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="featstore-torture-") as folder:
        prepare(folder)
        started = time.monotonic()
        subprocess.run(COMMAND, cwd=place(folder, "undisturbed"), check=True, stdout=subprocess.DEVNULL)
        taken = time.monotonic() - started
        expected = results(os.path.join(folder, "undisturbed"))
        assert expected["chosen"] > 0, "nothing would be compared but the head as it was"
        print(f"undisturbed: {taken:.1f} s, epoch {expected['chosen']} chosen", flush=True)
        chance = random.Random(given.seed)
        for trial in range(given.trials):
            where = place(folder, f"trial{trial}")
            # No run is given the time to end before the last.
            moments = [chance.uniform(0.1, 1) * taken for _ in range(chance.randint(1, 3))]
            stops = [killed(where, moment) for moment in moments]
            subprocess.run(COMMAND, cwd=where, check=True, stdout=subprocess.DEVNULL)
            if (found := results(where)) != expected:
                sys.exit(f"trial {trial}, killed {', '.join(stops)}: {found}\nexpected {expected}")
            print(f"trial {trial}, killed {', '.join(stops)}: the same", flush=True)
            shutil.rmtree(where)


def prepare(folder):
    from featstore.backbones.keras.models import keras

    keras.utils.set_random_seed(2)
    small_network(keras).save(os.path.join(folder, "small.keras"))
    draw(Path(folder) / "photos")
    store = os.path.join(folder, "photos.fstore")
    featstore.extract(
        os.path.join(folder, "photos"),
        store,
        backbone=os.path.join(folder, "small.keras"),
        preprocess="tf",
        engine="keras",
    )
    rule = SplitRule(validation=0.2, test=0.2)
    # A weak head, so that a later epoch is the best.
    head = featstore.fit(FeatureStore(store).table(), params={"C": 1e-4}, rule=rule, refit=False)
    head.save(FeatureStore(store).head_path("probe"))


def place(folder, name):
    """Return a folder of its own with a copy of the store."""
    where = os.path.join(folder, name)
    shutil.copytree(os.path.join(folder, "photos.fstore"), os.path.join(where, "photos.fstore"))
    return where


def killed(where, moment):
    """Run the command and kill it after so many seconds; return how far it was, in words."""
    running = subprocess.Popen(COMMAND, cwd=where, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        running.wait(moment)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()
    state = os.path.join(where, "tuned.tuning")
    if running.returncode == 0:
        # It ended after all: what it wrote is compared as it is, by a run that starts over.
        for name in os.listdir(where):
            if name.startswith("tuned"):
                os.unlink(os.path.join(where, name))
        return "too late"
    if not os.path.exists(state):
        return "before training"
    with np.load(state) as stored:
        return f"after epoch {json.loads(stored['facts'].tobytes())['epoch']}"


def results(where):
    """Return what came of a run, without times and paths."""
    store = FeatureStore(os.path.join(where, "photos.fstore"))
    head = Head.load(store.head_path("tuned"))
    with open(os.path.join(where, "tuned.report.json"), encoding="utf-8") as file:
        report = json.load(file)
    left = sorted(name for name in os.listdir(where) if name not in ("photos.fstore",))
    table = store.table(space=head.space)
    return {
        "files": left,
        "chosen": report["chosen"],
        "weights": head.spec.weights_digest,
        "head": digest_values([*head.linear.arrays().values()]),
        "features": digest_values([np.asarray(table.X)[np.argsort(table.content_hash)]]),
        "epochs": [{k: v for k, v in entry.items() if k not in STRIPPED} for entry in report["epochs"]],
    }


if __name__ == "__main__":
    main()

"""`make cluster`: a Ray cluster on the loopback, and seeded deaths of its processes, its nodes and the driver.

Each trial extracts the same pictures into a new store. It ends with status 1 at the first store that differs from
that of a run without a cluster: in a row, its bits, or the catalog.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "cluster")]
os.environ["PYTHONPATH"] = os.pathsep.join([str(TESTS), str(TESTS / "cluster")])
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import networks  # noqa: E402

import featstore  # noqa: E402
from pictures import write_picture  # noqa: E402

SMALL = {"object_store_memory": 10**8}
DRIVER = """
import sys, featstore, networks
from featstore.errors import FeatstoreError
photos, store, address = sys.argv[1:]
print("ready", flush=True)
featstore.extract(photos, store, backbone=networks.Sent(), ray=address,
                  progress=lambda done, total: print(done, flush=True))
"""


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--trials", type=int, default=100)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="featstore-cluster-") as folder:
        sys.exit(torture(folder, given))


def torture(folder, given):
    photos = os.path.join(folder, "photos")
    write_pictures(photos)
    undisturbed = os.path.join(folder, "undisturbed.fstore")
    featstore.extract(photos, undisturbed, backbone=networks.Sent())
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **SMALL}
    )
    cluster.add_node(num_cpus=1, **SMALL)
    ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
    started, counts = time.monotonic(), Counter()
    try:
        for seed in range(given.seed, given.seed + given.trials):
            chance = random.Random(seed)
            what = chance.choice(["computing", "sealed", "node", "driver"])
            store = os.path.join(folder, f"{seed}.fstore")
            deaths = os.path.join(folder, f"deaths{seed}")
            node = add_node(cluster)
            try:
                TRIALS[what](cluster, node, photos, store, deaths, chance)
            finally:
                if node in cluster.worker_nodes:
                    cluster.remove_node(node)
            counts[what] += 1
            print(f"seed {seed}, {what}: {time.monotonic() - started:.0f} s", file=sys.stderr)
            if wrong := difference(store, undisturbed):
                print(f"seed {seed}, {what}: {wrong}")
                return 1
    finally:
        ray.shutdown()
        cluster.shutdown()
    print(f"{given.trials} trials in {time.monotonic() - started:.0f} s, none lost or wrong: {dict(counts)}")
    return 0


def add_node(cluster, attempts=5):
    """Add a node; Ray waits for its start a while only, which a busy machine may exceed."""
    for _ in range(attempts - 1):
        try:
            return cluster.add_node(num_cpus=1, **SMALL)
        except Exception as error:  # noqa: BLE001 - Ray raises no kind of its own
            print(f"a node has not started: {error}", file=sys.stderr)
    return cluster.add_node(num_cpus=1, **SMALL)


def kill_processes(_cluster, _node, photos, store, deaths, chance, when):
    network = networks.Dying(deaths, when, deaths=chance.randint(1, 4))
    featstore.extract(photos, store, backbone=network, ray=True)


def kill_node(cluster, node, photos, store, _deaths, chance):
    moment = chance.randint(2, 100)

    def kill(done, _total):
        if done >= moment and node in cluster.worker_nodes:
            cluster.remove_node(node, allow_graceful=False)

    featstore.extract(photos, store, backbone=networks.Sent(), ray=True, progress=kill)


def kill_driver(cluster, _node, photos, store, _deaths, chance):
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, photos, store, cluster.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    moment = chance.randint(2, 100)
    for line in driver.stdout:
        if line.strip().isdecimal() and int(line) >= moment:
            break
    time.sleep(chance.uniform(0, 0.3))
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    featstore.extract(photos, store, backbone=networks.Sent(), ray=True)


TRIALS = {
    "computing": lambda *given: kill_processes(*given, "computing"),
    "sealed": lambda *given: kill_processes(*given, "sealed"),
    "node": kill_node,
    "driver": kill_driver,
}


def difference(store, undisturbed):
    """What is wrong with a store, if anything."""
    found, whole = featstore.FeatureStore(store), featstore.FeatureStore(undisturbed)
    if not found.verify().ok:
        return "damaged"
    if not found.catalog("photos").equals(whole.catalog("photos")):
        return "another catalog"
    ours, theirs = found.space(), whole.space()
    if ours.n_rows != theirs.n_rows:
        return f"{ours.n_rows} rows of {theirs.n_rows}"
    numbers = ours.lookup(theirs.content_hash)
    if (numbers < 0).any() or ours.rows(numbers).tobytes() != theirs.rows(range(theirs.n_rows)).tobytes():
        return "other rows"
    return None


def write_pictures(folder, n_images=120):
    for number in range(n_images):
        write_picture(os.path.join(folder, "ab"[number % 2], f"{number:03d}.png"), number)


if __name__ == "__main__":
    main()

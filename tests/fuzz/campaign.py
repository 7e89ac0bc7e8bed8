"""Fuzz every reader for long: `make fuzz`, or `python tests/fuzz/campaign.py --runs 2000 catalog head`.

Batches run in processes of their own, within bounded memory, so that a crash of a library in C, a hang or a
runaway allocation is seen for what it is; the input that caused it is kept in build/fuzz.
"""

import argparse
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time
import traceback

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
KEPT = HERE.parents[1] / "build" / "fuzz"

BATCH_RUNS = 500
MEMORY_BYTES = 4 * 2**30
# On a loaded machine; a run takes some milliseconds.
RUN_SECONDS = 60
BATCH_SECONDS = 900


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", help="Names of targets; all by default.")
    parser.add_argument("--runs", type=int, default=5000, help="Of each target.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.batch:
        run_batch(options.targets[0], options.runs, options.seed)
        return
    from fuzz.target import all_targets

    names = options.targets or list(all_targets())
    KEPT.mkdir(parents=True, exist_ok=True)
    found = sum(run_target(name, options.runs, options.seed) for name in names)
    sys.exit(found > 0)


def run_target(name: str, runs: int, first_seed: int) -> int:
    """Run a target in batches, print one line, and return the number of findings."""
    total = {"runs": 0, "refused": 0, "read": 0, "findings": 0, "MiB": 0}
    started = time.monotonic()
    for number in range(-(-runs // BATCH_RUNS)):
        batch = (str(min(BATCH_RUNS, runs)), "--seed", str(first_seed + number))
        command = [sys.executable, __file__, "--batch", name, "--runs", *batch]
        told, wrong = {}, ""
        try:
            ended = subprocess.run(
                command, capture_output=True, text=True, timeout=BATCH_SECONDS, check=False
            )
            if ended.returncode:
                wrong = f"exit {ended.returncode}\n{ended.stderr[-4000:]}"
            else:
                told = json.loads(ended.stdout.splitlines()[-1])
                wrong = told.pop("wrong")
        except subprocess.TimeoutExpired:
            wrong = f"over {BATCH_SECONDS} s"
        for key, value in told.items():
            total[key] = max(total[key], value) if key == "MiB" else total[key] + value
        if wrong:
            total["findings"] += 1
            _keep(name, first_seed + number, wrong)
    spent = time.monotonic() - started
    print(
        name, *(f"{key} {value:,}" for key, value in total.items()), f"{spent:,.0f} s", sep="  ", flush=True
    )
    return total["findings"]


def _keep(name: str, number: int, wrong: str) -> None:
    current = KEPT / f"{name}.current"
    kept = KEPT / f"{name}-{number}.bin"
    if current.exists():
        os.replace(current, kept)
    kept.with_suffix(".txt").write_text(wrong)
    print(f"{name}: {kept}\n{wrong}", file=sys.stderr, flush=True)


def run_batch(name: str, runs: int, number: int) -> None:
    """Run a target many times; the input at hand is always on the disk."""
    from fuzz.mutations import changed_files, seeds_of
    from fuzz.target import all_targets

    from featstore.errors import FeatstoreError

    target = all_targets()[name]
    seeds_of(target)
    target.run(seeds_of(target)[0])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGALRM, _too_long)
    current = KEPT / f"{name}.current"
    counts = {"runs": 0, "refused": 0, "read": 0}
    wrong = ""

    @seed(number)
    @settings(
        max_examples=runs,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def go(data: st.DataObject) -> None:
        changed = data.draw(changed_files(target))
        current.write_bytes(changed)
        counts["runs"] += 1
        signal.alarm(RUN_SECONDS)
        try:
            target.run(changed)
            counts["read"] += 1
        except FeatstoreError:
            counts["refused"] += 1
        finally:
            signal.alarm(0)

    try:
        go()
    except BaseException:  # noqa: BLE001 - everything that is not ours is what is looked for
        wrong = traceback.format_exc()
    mebibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({**counts, "MiB": mebibytes, "wrong": wrong}))


def _too_long(_number: int, _frame: object) -> None:
    raise TimeoutError(f"a run took over {RUN_SECONDS} s")


if __name__ == "__main__":
    main()

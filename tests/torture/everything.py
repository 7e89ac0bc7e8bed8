"""`make torture`: kills at seeded random moments and at every step, a full disk at every step, calls that fail.

Prints how many kills hit which step. Ends with status 1 at the first row that is lost or wrong.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.join(os.path.dirname(__file__), os.pardir))
from torture.harness import Workshop, end_launchers
from torture.refusals import ERRORS, HARMLESS, WRITING, Refusals, failing_calls
from torture.removals import Removals


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--moments", type=int, default=200, help="kills at random moments")
    options.add_argument("--pictures", type=int, default=24, help="in a store; each 8 become a segment")
    options.add_argument(
        "--calls", type=int, default=20, help="system calls of each kind and command that fail"
    )
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at once")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="featstore-torture-") as folder:
        torture(os.path.realpath(folder), given)


def _placed(function, number, case):
    if isinstance(function.__self__, Refusals):
        return case
    shop = getattr(function.__self__, "shop", function.__self__)
    return {"store": os.path.join(shop.folder, f"{number}.fstore"), **case}


def torture(folder, given):
    started = time.monotonic()
    shop = Workshop(os.path.join(folder, "scattering"), n_pictures=given.pictures, tiny=False)
    tiny = Workshop(os.path.join(folder, "tiny"), n_pictures=given.pictures, tiny=True)
    viewed = Workshop(os.path.join(folder, "viewed"), n_pictures=given.pictures // 4, tiny=True, n_views=4)
    numbers = range(1, len(shop.whole.steps) + 1)
    before = [number for number in numbers if tiny.whole.steps[number - 1].startswith("before")]
    n_merging = len(tiny.run(["merge", os.path.join(tiny.folder, "m.fstore"), tiny.undisturbed]).steps)
    n_fitting = len(tiny.run(["fit", tiny.copy(), "--head", "centroid", "--quiet"]).steps)
    chance = random.Random(given.seed)
    # What comes before is but the making of folders.
    sealing = numbers[next(at for at, step in enumerate(shop.whole.steps) if step.endswith(" segment")) - 1 :]
    moments = [(chance.choice(sealing), chance.uniform(0, 2 * shop.step_s)) for _ in range(given.moments)]
    parts = {
        "extract, killed at random moments": [(shop.kill, {"after": moment}) for moment in moments],
        "extract, killed at each step": [(shop.kill, {"at": at}) for at in numbers],
        "extract views, killed at each step": [
            (viewed.kill, {"at": at}) for at in range(1, len(viewed.whole.steps) + 1)
        ],
        "extract, power cut at each step": [(tiny.kill, {"at": at, "how": "power cut"}) for at in numbers],
        "extract, disk full at each step": [(tiny.fill_disk, {"at": at}) for at in before],
        "merge, power cut at each step": [
            (tiny.kill_merge, {"at": at, "how": "power cut"}) for at in range(1, n_merging + 1)
        ],
        "fit, killed at each step": [
            (tiny.kill_fit, {"at": at, "how": "kill"}) for at in range(1, n_fitting + 1)
        ],
        "fit, power cut at each step": [
            (tiny.kill_fit, {"at": at, "how": "power cut"}) for at in range(1, n_fitting + 1)
        ],
    }
    removals = Removals(tiny)
    for name in removals.expected:
        steps = removals.steps(name)
        for how in ("kill", "power cut", "full"):
            chosen = [at for at, step in enumerate(steps, 1) if how != "full" or step.startswith("before")]
            parts[f"{name}, {how} at each step"] = [
                (removals.cut, {"name": name, "at": at, "how": how}) for at in chosen
            ]
    preload, reason = failing_calls(folder)
    if preload is None:
        print(f"system calls that fail: skipped, {reason}", flush=True)
    else:
        failing = Workshop(os.path.join(folder, "failing"), n_pictures=24, tiny=True, preload=preload)
        refusals = Refusals(failing)
        for name in refusals.commands:
            for calls in ("read",) if name == "repair" else (*WRITING, "read"):
                hows = ["EIO"] if calls not in ("write", "read") else [*ERRORS, *HARMLESS]
                cases = [
                    case for how in hows for case in refusals.cases(name, calls, how, at_most=given.calls)
                ]
                if cases:
                    parts[f"{name}, a {calls} fails"] = [(refusals.refuse, case) for case in cases]
    n_runs = n_sealed = 0
    for name, cases in parts.items():
        began = time.monotonic()
        with ThreadPoolExecutor(given.jobs) as pool:
            doing = [
                pool.submit(function, **_placed(function, number, case))
                for number, (function, case) in enumerate(cases)
            ]
            try:
                runs = [future.result() for future in doing]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        n_runs += len(runs)
        n_sealed += sum(len(run.sealed) for run in runs)
        print(f"{name}: {len(runs):,} runs in {time.monotonic() - began:,.0f} s", flush=True)
        ended = Counter("not in time" if run.status == 0 else run.last_step for run in runs)
        for step, count in sorted(ended.items(), key=lambda entry: (-entry[1], entry[0])):
            print(f"  {count:4}  {step}")
    end_launchers()
    print(
        f"{n_runs:,} runs cut short; of {n_sealed:,} rows that they had sealed 0 are lost or wrong; each store "
        f"was sound, and one more run made it equal to an undisturbed one ({time.monotonic() - started:,.0f} s)"
    )


if __name__ == "__main__":
    main()

"""What shards and Ray cost beside one run on the same cores, and what a large extraction's driver holds.

Processor time is that of all processes, Ray's own included. What a way takes for each further image is the
slope between two numbers of images, so that starting up does not count; starting up is what remains.
"""

import ctypes
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import photos
import reporting

import featstore
from featstore.flow import extraction
from featstore.flow.shard import Shard, ShardResult
from featstore.images.sources.records import ImageRecord, Records, Source
from featstore.io.stamps import FileStamp

_DRIVER = "--driver"
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: processes whose parents end become ours
_EVERY_SECONDS = 0.05
_N_SHARDS = 4


def processor_seconds(commands: list[list[str]]) -> float:
    """Run commands at once, and return the processor time of all that they start."""
    # Ray's processes reap each other without keeping account, so they are looked at while they live.
    seen: dict[int, int] = {}
    running = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for command in commands
    ]
    while any(process.poll() is None for process in running) or descendants(seen):
        descendants(seen)
        time.sleep(_EVERY_SECONDS)
    assert all(process.returncode == 0 for process in running)
    return sum(seen.values()) / os.sysconf("SC_CLK_TCK")


def descendants(seen: dict[int, int]) -> bool:
    """Note the clock ticks of every process below this one; return whether there is any."""
    parents, ticks = {}, {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(name)], ticks[int(name)] = int(fields[1]), int(fields[11]) + int(fields[12])
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    seen |= {pid: ticks[pid] for pid in ours - {os.getpid()}}
    return len(ours) > 1


def ways(folder: str, store: str, options: list[str]) -> dict[str, list[list[list[str]]]]:
    """Return each way's commands: steps, of each of which all run at once."""
    featstore_ = [sys.executable, "-m", "featstore_cli"]
    extract = [*featstore_, "extract", folder, "--store", store, "--quiet", *options]
    shards = [[*extract, "--threads", "1", "--shard", f"{k + 1}/{_N_SHARDS}"] for k in range(_N_SHARDS)]
    return {
        "one run": [[extract]],
        "one run, --threads 1": [[[*extract, "--threads", "1"]]],
        f"{_N_SHARDS} shards at once, and collect": [shards, [[*featstore_, "collect", store, folder]]],
        "--ray, a worker for each core": [[[*extract, "--ray"]]],
    }


def measure_overhead(options, work: str) -> None:
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    given, weights = photos.find_trained(options)
    network = ["--backbone", options.backbone, *(["--weights", weights] if weights else [])]
    counts = (options.count // 10, options.count)
    folders = [photos.choose(given, os.path.join(work, f"photos{count}"), count) for count in counts]
    featstore.extract(
        folders[0], os.path.join(work, "warm.fstore"), backbone=options.backbone, weights=weights
    )
    taken: dict[str, list[tuple[float, float]]] = {}
    for number in range(options.rounds):
        reporting.note(f"round {number + 1}")
        for name in ways("", "", []):
            seconds, walls = [], []
            for count, folder in zip(counts, folders, strict=True):
                store = os.path.join(work, f"{number}-{len(taken)}-{name[:9]}-{count}.fstore")
                started = time.perf_counter()
                seconds.append(sum(map(processor_seconds, ways(folder, store, network)[name])))
                walls.append(time.perf_counter() - started)
            each = (seconds[1] - seconds[0]) / (counts[1] - counts[0])
            taken.setdefault(name, []).append((1000 * each, seconds[0] - each * counts[0]))
    rows = []
    for name, rounds in taken.items():
        each, start = (reporting.median(values) for values in zip(*rounds, strict=True))
        ratio = reporting.median([a[0] / b[0] for a, b in zip(rounds, taken["one run"], strict=True)])
        rows.append((name, each, ratio, start))
    reporting.report(
        "Shards and Ray against one run",
        ("way", "processor ms an image", "over one run", "processor s to start"),
        rows,
        path=options.json,
        images=f"{counts[0]} and {counts[1]}",
        rounds=options.rounds,
    )


class Instant:
    """An executor whose shards take no time: rows are random, and sealed."""

    def __init__(self, n_shards: int) -> None:
        self.n_shards = n_shards

    def size_of_shards(self, n_images: int, _row_bytes: int) -> int:
        return -(-n_images // self.n_shards)

    def run(self, job, shards):
        chance = np.random.default_rng(0)
        space = None
        for shard in shards:
            assert isinstance(shard, Shard)
            # The store is made for the first shard.
            if space is None:
                store = featstore.FeatureStore(job.store)
                space = store.create_space(job.network.spec, feature_dim=8, provenance={})
            n_images = len(shard.records)
            hashes = chance.integers(0, 256, (n_images, 32), np.uint8)
            space.append_once(chance.random((n_images, 8), np.float32), hashes, np.zeros(n_images, np.uint16))
            yield (
                shard,
                ShardResult(
                    content_hash=hashes,
                    is_computed=np.ones(n_images, np.bool_),
                    is_racy=np.zeros(n_images, np.bool_),
                    reasons={},
                    n_rows=n_images,
                ),
            )


def drive(count: int, folder: str) -> None:
    """Extract a source that lists images which are not there; print images extracted, memory and time."""
    stamp = FileStamp(size=100_000, mtime_ns=10**18, ctime_ns=10**18, inode=1)
    records = Records(
        ImageRecord(
            path=f"class{number % 1000:04}/{number:09}.jpg", label=f"class{number % 1000:04}", stamp=stamp
        )
        for number in range(count)
    )
    source = Source(name="many", root=folder, location=folder, records=records, failures=[], ignored=0)
    listed = memory_mib("self", "VmHWM")
    extraction.open_source = lambda *_given, **_options: source
    network = featstore.load_backbone("scattering")
    started, used = time.perf_counter(), time.process_time()
    report = extraction.run_extraction(
        folder, os.path.join(folder, "many.fstore"), backbone=network, executor=Instant(1000)
    )
    assert report.extracted + report.reused == count
    taken = time.perf_counter() - started, time.process_time() - used
    print(report.extracted, listed, memory_mib("self", "VmHWM"), *taken)


def memory_mib(process: int | str, field: str) -> float:
    """Return a figure of a process's memory: VmHWM is the most it held, RssAnon what is no page of a file."""
    with open(f"/proc/{process}/status", encoding="ascii", errors="replace") as file:
        return next((int(line.split()[1]) for line in file if line.startswith(f"{field}:")), 0) / 1024


def measure_driver(options) -> None:
    rows = []
    for count in options.images:
        with tempfile.TemporaryDirectory() as folder:
            for run in ("first", "second"):
                reporting.note(f"driving {count:,} images, {run} run")
                command = [sys.executable, __file__, _DRIVER, str(count), folder]
                driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
                own = 0.0
                while driver.poll() is None:
                    own = max(own, memory_mib(driver.pid, "RssAnon"))
                    time.sleep(_EVERY_SECONDS)
                printed = driver.communicate()[0]
                assert driver.returncode == 0
                extracted, listed, most, *taken = map(float, printed.split())
                rows.append((count, run, int(extracted), listed, most, own, *taken))
    reporting.report(
        "The driver of a large extraction",
        (
            "images",
            "run",
            "extracted",
            "MiB for the list",
            "MiB at most",
            "of these its own",
            "seconds",
            "processor s",
        ),
        rows,
        path=options.json and f"{options.json}.driver",
        shards=1000,
    )


def main() -> None:
    if sys.argv[1:2] == [_DRIVER]:
        drive(int(sys.argv[2]), sys.argv[3])
        return
    parser = reporting.arguments(__doc__)
    photos.add_options(parser)
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3, help="of shards and Ray; 0: the driver alone")
    parser.add_argument("--images", type=int, nargs="*", default=[1_000_000, 5_000_000], help="of the driver")
    options = parser.parse_args()
    measure_driver(options)
    if not options.rounds:
        return
    with tempfile.TemporaryDirectory() as work:
        os.environ["FEATSTORE_CACHE"] = os.path.join(work, "cache")
        measure_overhead(options, work)


if __name__ == "__main__":
    main()

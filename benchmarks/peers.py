"""Features of photos by featstore and by what one would use in its place, each in an environment of its own.

Every way is a whole command, on the same photos and MobileNetV2 at 224 px, with random weights, which take as
long as trained ones, on two threads and in turns. Environments are made by pip in build/peers, and stay.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass

import photos
import reporting

_PROGRAMS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peer_programs")
_ENVIRONMENTS = os.path.join(os.path.dirname(_PROGRAMS), "..", "build", "peers")
_EVERY_SECONDS = 0.25
_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), "2")


@dataclass(frozen=True)
class Peer:
    """A program of ``peer_programs``, and the packages that it needs."""

    name: str
    program: str
    packages: tuple[str, ...]


PEERS = (
    Peer("PyTorch, timm and DataLoader", "timm_loader.py", ("torch", "torchvision", "timm")),
    Peer("Hugging Face's pipeline", "transformers_pipeline.py", ("torch", "torchvision", "transformers")),
    Peer("thingsvision", "thingsvision_extractor.py", ("thingsvision",)),
    Peer("Keras' data set and predict", "keras_predict.py", ("tensorflow-cpu", "pillow")),
)


@dataclass(frozen=True)
class Run:
    """What a command took."""

    status: int
    seconds: float
    processor_s: float
    peak_mib: float
    output: str
    errors: str


def environment(peer: Peer) -> str:
    """Return the Python of a peer's environment, made if there is none."""
    folder = os.path.abspath(os.path.join(_ENVIRONMENTS, peer.program.split("_")[0]))
    python = os.path.join(folder, "bin", "python")
    if not os.path.exists(os.path.join(folder, "made")):
        reporting.note(f"making an environment with {' '.join(peer.packages)}")
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *peer.packages], check=True)
        open(os.path.join(folder, "made"), "w", encoding="ascii").close()
    return python


def run(command: list[str]) -> Run:
    """Run a command, and sum up its processes' time and own memory while they live."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        before = os.times()
        process = subprocess.Popen(command, stdout=output, stderr=errors, env={**os.environ, **_THREADS})
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, own_memory(process.pid))
            time.sleep(_EVERY_SECONDS)
        seconds, after = time.perf_counter() - started, os.times()
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read())
    children = (after.children_user + after.children_system) - (before.children_user + before.children_system)
    return Run(process.returncode, seconds, children, peak, *texts)


def own_memory(root: int) -> float:
    """Return the private memory of a process and those below it, MiB."""
    parents, own = {}, {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/status", encoding="utf-8", errors="replace") as file:
                fields = dict(line.split(":", 1) for line in file if ":" in line)
        except OSError:
            continue
        parents[int(name)] = int(fields["PPid"])
        own[int(name)] = int(fields.get("RssAnon", "0 kB").split()[0])
    ours = {root}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sum(own.get(pid, 0) for pid in ours) / 1024


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:100] if lines else ""


def main() -> None:
    parser = reporting.arguments(__doc__)
    parser.add_argument("--photos", metavar="FOLDER", help="class folders; default: beside the checkout")
    parser.add_argument("--count", type=int, default=300, help="number of photos")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--peers", nargs="+", choices=[peer.program for peer in PEERS], default=[p.program for p in PEERS]
    )
    options = parser.parse_args()
    chosen = [peer for peer in PEERS if peer.program in options.peers]
    with tempfile.TemporaryDirectory() as work:
        found, words = photos.find(options.photos, work, options.count)
        measure(
            options, chosen, photos.choose(found, os.path.join(work, "photos"), options.count), work, words
        )


def commands(chosen: list[Peer], work: str) -> dict[str, list[str]]:
    """Return each way's command, which the folder of photos and that of its result are added to."""
    weights = photos.seeded_weights("mobilenet_v2", work)
    extract = ["-m", "featstore_cli", "extract", "--quiet", "--threads", "2", "--weights", weights]
    ways = {"featstore": [sys.executable, *extract, "--backbone", "mobilenet_v2"]}
    for peer in chosen:
        try:
            ways[peer.name] = [environment(peer), os.path.join(_PROGRAMS, peer.program)]
        except subprocess.CalledProcessError as error:
            reporting.note(f"left out: {peer.name}: {error}")
    return ways


def complete(command: list[str], folder: str, result: str) -> list[str]:
    """Return a command with its photos and where its features go."""
    if "featstore_cli" in command:
        return [*command, folder, "--store", f"{result}.fstore"]
    return [*command, folder, f"{result}.npy"]


def measure(options, chosen: list[Peer], folder: str, work: str, words: str) -> None:
    ways = commands(chosen, work)
    none = os.path.join(work, "none")
    photos.choose(folder, none, 1)
    first: dict[str, list[Run]] = {name: [] for name in ways}
    second: dict[str, list[Run]] = {name: [] for name in ways}
    start: dict[str, list[Run]] = {name: [] for name in ways}
    broken = os.path.join(work, "broken")
    few = photos.choose(folder, broken, 20)
    victim = next(os.path.join(at, one) for at, _, names in os.walk(few) for one in sorted(names))
    shutil.copy(victim, victim.removesuffix(".jpg") + "-broken.jpg")
    with open(victim.removesuffix(".jpg") + "-broken.jpg", "r+b") as file:
        file.truncate(os.path.getsize(victim) // 2)
    ends: dict[str, Run] = {}
    # These run before the others: featstore converts its network once, and others fill the page cache.
    for name, command in list(ways.items()):
        ends[name] = run(complete(command, broken, os.path.join(work, f"broken-{list(ways).index(name)}")))
        reporting.note(f"{name}, a broken file: {ends[name].status} {last_line(ends[name].errors)}")
    for number in range(options.rounds):
        for name, command in ways.items():
            reporting.note(f"round {number + 1} of {options.rounds}: {name}")
            result = os.path.join(work, f"{len(first[name])}-{list(ways).index(name)}")
            start[name].append(run(complete(command, none, f"{result}-one")))
            for runs in (first[name], second[name]):
                runs.append(run(complete(command, folder, result)))
                reporting.note(f"{runs[-1].seconds:.1f} s, {runs[-1].processor_s:.1f} s of processor time")
                if runs[-1].status:
                    raise SystemExit(f"{name}: {last_line(runs[-1].errors)}")
    rows = []
    count = sum(len(names) for _, _, names in os.walk(folder))
    for name, end in ends.items():
        taken = [one.seconds for one in first[name]]
        base = [one.seconds for one in first["featstore"]]
        slope = [
            (one.processor_s - bare.processor_s) / (count - 1)
            for one, bare in zip(first[name], start[name], strict=True)
        ]
        rows.append(
            (
                name,
                reporting.median(taken),
                reporting.median([one / other for one, other in zip(taken, base, strict=True)]),
                1e3 * reporting.median(slope),
                reporting.median([one.processor_s for one in start[name]]),
                reporting.median([one.peak_mib for one in first[name]]),
                reporting.median([one.seconds for one in second[name]]),
                reporting.median([one.processor_s for one in second[name]]),
                f"exit status {end.status}: {last_line(end.errors if end.status else end.output)}",
            )
        )
    reporting.report(
        "Peers",
        (
            "way",
            "seconds, whole command",
            "over featstore",
            "processor ms an image",
            "processor s to start",
            "own memory, peak MiB",
            "second run, s",
            "second run, processor s",
            "one broken file of 21",
        ),
        rows,
        path=options.json,
        images=f"{count} {words}",
        rounds=f"{options.rounds}, interleaved; medians, ratios within a round",
    )


if __name__ == "__main__":
    main()

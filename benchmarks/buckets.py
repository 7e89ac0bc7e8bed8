"""What a store in a bucket costs beside the same store in a folder.

The bucket is on moto's S3 server on the loopback, a separate process, whose time does not count. Processor
time is that of whole commands; of an extraction, what each further image takes is the slope between two
numbers of images. Requests are counted by a server in between, in a run of their own.
"""

import os
import shutil
import sys
import tempfile
import urllib.request
from collections import Counter
from pathlib import Path

import numpy as np
import photos
import reporting
from objects import ROOT, processor_seconds

import featstore

sys.path.insert(0, str(ROOT / "tests"))

from fake_tables import spec_of
from object_server import Server, moto_python, moto_server, passed_on

_BUCKET = "s3://features"
_DIM, _CLASSES = 1280, 20


def use_server(url: str) -> None:
    os.environ |= {"AWS_ENDPOINT_URL": url, "AWS_ALLOW_HTTP": "true"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "benchmark", "AWS_SECRET_ACCESS_KEY": "benchmark"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "featstore_cli", *arguments, "--quiet"]


def fill(path: str, n_rows: int) -> None:
    """Make a store of rows around a centre for each class, in segments of 16 MB."""
    from featstore.store import Catalog

    store = featstore.FeatureStore(path, create=True)
    generator = np.random.default_rng(0)
    classes = generator.integers(_CLASSES, size=n_rows)
    centres = generator.normal(size=(_CLASSES, _DIM)).astype(np.float32)
    hashes = generator.integers(256, size=(n_rows, 32), dtype=np.uint8)
    space = store.create_space(spec_of("mobilenet_v2"), feature_dim=_DIM)
    for start in range(0, n_rows, 3000):
        part = slice(start, start + 3000)
        noise = generator.normal(size=(len(classes[part]), _DIM)).astype(np.float32)
        space.append(centres[classes[part]] + 3 * noise, hashes[part])
    store.write_catalog(
        Catalog(
            name="rows",
            root="/photos",
            location="/photos",
            paths=[f"{number:07}.jpg" for number in range(n_rows)],
            labels=[f"class {number:02}" for number in classes],
            groups=[None] * n_rows,
            splits=[None] * n_rows,
            content_hash=hashes,
            sizes=np.full(n_rows, -1),
            mtimes_ns=np.full(n_rows, -1),
            reasons=[None] * n_rows,
        )
    )


def requests_of(server, run) -> str:
    server.requests.clear()
    run()
    counts = Counter("LIST" if "list-type=2" in path else method for method, path in server.requests)
    return ", ".join(f"{number} {method}" for method, number in sorted(counts.items()))


def measure_extraction(options, work: str, server, port: int) -> None:
    given, weights = photos.find_trained(options)
    network = ["--backbone", options.backbone, *(["--weights", weights] if weights else [])]
    counts = (options.count // 10, options.count)
    folders = [photos.choose(given, os.path.join(work, f"photos{count}"), count) for count in counts]
    extract = command("extract", *network)
    processor_seconds([*extract, "--store", f"{work}/warm.fstore", folders[0]])
    taken: dict[str, list[tuple[float, float]]] = {"a folder": [], "a bucket": []}
    for number in range(options.rounds):
        reporting.note(f"round {number + 1}")
        for name in taken:
            use_server(f"http://127.0.0.1:{port}")
            place = work if name == "a folder" else _BUCKET
            seconds = [
                processor_seconds([*extract, "--store", f"{place}/photos-{number}-{at}.fstore", folder])
                for at, folder in enumerate(folders)
            ]
            taken[name].append((1000 * (seconds[1] - seconds[0]) / (counts[1] - counts[0]), seconds[1]))
    use_server(server.url)
    again = f"{_BUCKET}/counted.fstore"
    asked = requests_of(server, lambda: processor_seconds([*extract, "--store", again, folders[1]]))
    rows = []
    for name, rounds in taken.items():
        each, whole = (reporting.median(values) for values in zip(*rounds, strict=True))
        over = [
            reporting.median(
                [mine[at] / base[at] for mine, base in zip(rounds, taken["a folder"], strict=True)]
            )
            for at in (0, 1)
        ]
        rows.append((name, each, over[0], whole, over[1], asked if name == "a bucket" else ""))
    reporting.report(
        "Extraction into",
        (
            "into",
            "processor ms an image",
            "over a folder",
            "processor s, whole run",
            "over a folder",
            "requests",
        ),
        rows,
        path=options.json,
        images=f"{counts[0]} and {counts[1]}",
        rounds=options.rounds,
    )


def measure_fitting(options, work: str, server, port: int) -> None:
    local, there = f"{work}/rows.fstore", f"{_BUCKET}/rows.fstore"
    fill(local, options.rows)
    use_server(f"http://127.0.0.1:{port}")
    featstore.FeatureStore(there, create=True).merge(local)
    cache = os.environ["FEATSTORE_CACHE"]

    def fit(place: str) -> float:
        return processor_seconds(command("fit", place, "--head", "ridge", "-o", f"{work}/a.head", "--force"))

    ways = {"a folder": local, "a bucket, copied before": there, "a bucket, for the first time": there}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(options.rounds):
        reporting.note(f"round {number + 1}")
        for name, place in ways.items():
            if name.endswith("first time"):
                shutil.rmtree(Path(cache) / "objects", ignore_errors=True)
            taken[name].append(fit(place))
    use_server(server.url)
    asked = {"a bucket, copied before": requests_of(server, lambda: fit(there))}
    shutil.rmtree(Path(cache) / "objects")
    asked["a bucket, for the first time"] = requests_of(server, lambda: fit(there))
    rows = [
        (
            name,
            reporting.median(seconds),
            reporting.median([s / f for s, f in zip(seconds, taken["a folder"], strict=True)]),
            asked.get(name, ""),
        )
        for name, seconds in taken.items()
    ]
    reporting.report(
        "Fitting from",
        ("from", "processor s, whole run", "over a folder", "requests"),
        rows,
        path=options.json and options.json.replace(".json", "-fitting.json"),
        rows_of_store=f"{options.rows:,} x {_DIM}",
        rounds=options.rounds,
    )


def main() -> None:
    parser = reporting.arguments(__doc__)
    photos.add_options(parser)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=30_000, help="of the store that is fitted from")
    parser.add_argument("--only", choices=("extraction", "fitting"), help="a part")
    options = parser.parse_args()
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as work, moto_server(moto_python(ROOT / "build")) as port:
        os.environ["FEATSTORE_CACHE"] = f"{work}/cache"
        made = urllib.request.Request(f"http://127.0.0.1:{port}/features", method="PUT")
        urllib.request.urlopen(made).close()
        server = Server(passed_on(port)).start()
        for name, measure in {"extraction": measure_extraction, "fitting": measure_fitting}.items():
            if options.only in (None, name):
                measure(options, work, server, port)
        server.close()


if __name__ == "__main__":
    main()

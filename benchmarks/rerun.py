"""Doing nothing, fast: a second extraction over unchanged files, and one after the folder was moved.

The files are as small as images can be, so that only the walking, looking up and hashing are measured. The
machine's own limit is a bare walk that stats each file.
"""

import os
import tempfile
import time

import numpy as np
import reporting
from PIL import Image

import featstore
from featstore.backbones import BackboneSpec


class _Flat:
    """A backbone that costs nothing, so that what is left is the rest of the extraction."""

    def __init__(self) -> None:
        self.spec = BackboneSpec(
            architecture="flat", weights_digest="0" * 64, layer="input", size_px=(1, 1), preprocessing="none"
        )
        self.feature_dim, self.batch_size, self.weights = 3, 256, "closed-form"
        self.provenance, self.devices, self.threads = {"engine": "none"}, ("none",), None

    def run(self, batches):
        for batch in batches:
            yield batch.reshape(len(batch), 3).astype(np.float32)


def make(folder: str, count: int) -> None:
    past = 10**18
    for number in range(count):
        path = os.path.join(folder, f"class{number % 100:03d}", f"{number:07d}.ppm")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            pixel = number.to_bytes(3, "big")
            Image.frombytes("RGB", (1, 1), pixel).save(file, "PPM")
        os.utime(path, ns=(past, past))


def bare_walk(folder: str) -> int:
    count = 0
    for class_folder in os.scandir(folder):
        for entry in os.scandir(class_folder.path):
            entry.stat()
            count += 1
    return count


def seconds(way) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


def main() -> None:
    parser = reporting.arguments(__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="number of files")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder, store = os.path.join(work, "photos"), os.path.join(work, "bench.fstore")
        reporting.note(f"making {options.count:,} files")
        make(folder, options.count)
        backbone = _Flat()
        first = seconds(lambda: featstore.extract(folder, store, backbone=backbone))
        walks, again = [], []
        for _ in range(options.rounds):
            walks.append(seconds(lambda: bare_walk(folder)))
            again.append(seconds(lambda: featstore.extract(folder, store, backbone=backbone)))
        report = featstore.extract(folder, store, backbone=backbone)
        assert (report.read, report.extracted, report.reused) == (0, 0, options.count)
        moved = os.path.join(work, "moved")
        os.rename(folder, moved)
        after_move = seconds(lambda: featstore.extract(moved, store, backbone=backbone))
    walk = reporting.median(walks)
    ratio = reporting.median([b / a for a, b in zip(walks, again, strict=True)])
    reporting.report(
        "Doing nothing, fast",
        ("run", "seconds", "over a bare walk", "files opened"),
        [
            ("a bare walk with a stat of each file", walk, 1.0, 0),
            ("second run, nothing changed", reporting.median(again), ratio, 0),
            ("first run, all new (the backbone costs nothing)", first, first / walk, options.count),
            ("run after the folder was moved", after_move, after_move / walk, options.count),
        ],
        path=options.json,
        files=f"{options.count:,}",
        rounds=options.rounds,
    )


if __name__ == "__main__":
    main()

"""Large stores of synthetic rows: opening, looking up, gathering, appending, folding; and reading a space."""

import hashlib
import os
import shutil
import tempfile
import time

import h5py
import numpy as np
import reporting

from featstore import FeatureStore
from featstore.backbones import BackboneSpec


def spec(dim: int) -> BackboneSpec:
    return BackboneSpec(
        architecture=f"synthetic{dim}",
        weights_digest="0" * 64,
        layer="last",
        size_px=(224, 224),
        preprocessing="none",
    )


def hashes(start: int, count: int) -> np.ndarray:
    digests = b"".join(
        hashlib.sha256(number.to_bytes(8, "big")).digest() for number in range(start, start + count)
    )
    return np.frombuffer(digests, np.uint8).reshape(count, 32)


def timed(way):
    started = time.perf_counter()
    result = way()
    return time.perf_counter() - started, result


def grow(work: str, rows: int, segments: int, dim: int, lookups: int, picks: int) -> tuple:
    path = os.path.join(work, "large.fstore")
    shutil.rmtree(path, ignore_errors=True)
    generator = np.random.default_rng(0)
    each = rows // segments
    space = FeatureStore(path, create=True).create_space(spec(dim), feature_dim=dim)
    block = generator.normal(size=(each, dim)).astype(np.float32)
    all_hashes = hashes(0, rows)
    append, _ = timed(
        lambda: [space.append(block, all_hashes[start : start + each]) for start in range(0, rows, each)]
    )
    wanted = all_hashes[generator.permutation(rows)[:lookups]]
    open_and_look_up, numbers = timed(lambda: FeatureStore(path).space().lookup(wanted))
    assert (numbers >= 0).all()
    opened = FeatureStore(path).space()
    opened.lookup(wanted[:1])
    look_up, _ = timed(lambda: opened.lookup(wanted))
    picked = generator.permutation(rows)[:picks]
    gather, _ = timed(lambda: opened.rows(picked))
    compact, _ = timed(lambda: FeatureStore(path).compact(min_segments=2))
    size_mb = rows * dim * 4 / 1e6
    shutil.rmtree(path)
    return (
        f"{rows:,} rows of {dim} in {segments:,} segments",
        append,
        size_mb / append,
        open_and_look_up,
        1e6 * look_up / len(wanted),
        gather,
        compact,
        size_mb / compact,
    )


def reading(work: str, megabytes: int, dim: int, rounds: int) -> list[tuple]:
    """Read all rows, and a tenth of them at random, as a memory map and from plain HDF5 files."""
    rows = int(megabytes * 1e6 / dim / 4)
    generator = np.random.default_rng(0)
    features = generator.normal(size=(rows, dim)).astype(np.float32)
    path = os.path.join(work, "read.fstore")
    space = FeatureStore(path, create=True).create_space(spec(dim), feature_dim=dim)
    space.append(features, hashes(0, rows))
    for name, options in (("contiguous", {}), ("chunked", {"chunks": True})):
        with h5py.File(os.path.join(work, f"{name}.h5"), "w") as file:
            file.create_dataset("features", data=features, **options)
    del features
    picked = np.sort(generator.permutation(rows)[: rows // 10])

    def mapped(numbers: np.ndarray) -> float:
        return float(FeatureStore(path).space().rows(numbers).sum(dtype=np.float64))

    def plain(name: str, numbers) -> float:
        with h5py.File(os.path.join(work, f"{name}.h5")) as file:
            return float(file["features"][numbers].sum(dtype=np.float64))

    everything = np.arange(rows)
    ways = {
        "memory map": (lambda: mapped(everything), lambda: mapped(picked)),
        "h5py, contiguous": (lambda: plain("contiguous", slice(None)), lambda: plain("contiguous", picked)),
        "h5py, default chunks": (lambda: plain("chunked", slice(None)), lambda: plain("chunked", picked)),
    }
    taken = {name: ([], []) for name in ways}
    for _ in range(rounds):
        for name, (whole, tenth) in ways.items():
            taken[name][0].append(timed(whole)[0])
            taken[name][1].append(timed(tenth)[0])
    first = taken["memory map"]
    return [
        (
            name,
            reporting.median(whole),
            reporting.median([a / b for a, b in zip(whole, first[0], strict=True)]),
            reporting.median(tenth),
            reporting.median([a / b for a, b in zip(tenth, first[1], strict=True)]),
        )
        for name, (whole, tenth) in taken.items()
    ]


def main() -> None:
    parser = reporting.arguments(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--segments", type=int, default=1000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--megabytes", type=int, default=500, help="size of the space that is read")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        reporting.note("reading")
        read = reading(work, options.megabytes, 1280, options.rounds)
        grown = []
        for rows in options.rows:
            reporting.note(f"{rows:,} rows")
            grown.append(grow(work, rows, options.segments, options.dim, min(rows, 1_000_000), 100_000))
    reporting.report(
        "Reading a space, file in the page cache, summed",
        ("way", "all rows, s", "over the memory map", "a random tenth, s", "over the memory map "),
        read,
        path=options.json and options.json + ".reading.json",
        size=f"{options.megabytes} MB of 1,280 float32",
        rounds=options.rounds,
    )
    reporting.report(
        "Large stores",
        (
            "store",
            "append, s",
            "append, MB/s",
            "open + look up, s",
            "look up, µs a hash",
            "gather 100,000 random rows, s",
            "compact, s",
            "compact, MB/s",
        ),
        grown,
        path=options.json,
    )


if __name__ == "__main__":
    main()

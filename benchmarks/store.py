"""Large stores of synthetic rows: opening, looking up, gathering, appending, folding; and reading a space."""

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


def timed(way):
    started = time.perf_counter()
    result = way()
    return time.perf_counter() - started, result


def random_hashes(generator: np.random.Generator, count: int) -> np.ndarray:
    return np.frombuffer(generator.bytes(32 * count), np.uint8).reshape(count, 32)


def write_plainly(folder: str, block: np.ndarray, files: int) -> None:
    """Write as many plain files of the same size, each flushed to the disk: the disk's own speed."""
    os.mkdir(folder)
    for number in range(files):
        with open(os.path.join(folder, f"{number}.bin"), "wb") as file:
            file.write(block.data)
            file.flush()
            os.fsync(file.fileno())
    shutil.rmtree(folder)


def grow(work: str, rows: int, segments: int, dim: int, lookups: int, picks: int) -> tuple:
    path = os.path.join(work, "large.fstore")
    generator = np.random.default_rng(0)
    each = rows // segments
    space = FeatureStore(path, create=True).create_space(spec(dim), feature_dim=dim)
    block = generator.normal(size=(each, dim)).astype(np.float32)
    all_hashes = random_hashes(generator, rows)
    append, _ = timed(lambda: append_all(space, block, all_hashes))
    plain, _ = timed(lambda: write_plainly(os.path.join(work, "plain"), block, segments))
    wanted = all_hashes[generator.permutation(rows)[:lookups]]
    opened, (one, number) = timed(lambda: first_row(path, wanted[:1]))
    assert number >= 0
    look_up, numbers = timed(lambda: one.lookup(wanted))
    assert (numbers >= 0).all()
    picked = generator.permutation(rows)[:picks]
    gather, _ = timed(lambda: one.rows(picked))
    compact, _ = timed(lambda: FeatureStore(path).compact(min_segments=2))
    size_mb = rows * dim * 4 / 1e6
    shutil.rmtree(path)
    return (
        f"{rows:,}",
        size_mb / append,
        plain / append,
        opened,
        1e6 * opened / rows,
        look_up,
        1e6 * look_up / len(wanted),
        gather,
        size_mb / compact,
    )


def append_all(space, block: np.ndarray, all_hashes: np.ndarray) -> None:
    for start in range(0, len(all_hashes), len(block)):
        space.append(block, all_hashes[start : start + len(block)])


def first_row(path: str, one_hash: np.ndarray):
    space = FeatureStore(path).space()
    return space, int(space.lookup(one_hash)[0])


def reading(work: str, megabytes: int, dim: int, rounds: int) -> list[tuple]:
    """Read all rows, and a tenth of them at random, as a memory map and from plain HDF5 files.

    What is read is multiplied by a vector, as a linear head does, so that a map cannot win by not reading.
    """
    rows = int(megabytes * 1e6 / dim / 4)
    generator = np.random.default_rng(0)
    features = generator.normal(size=(rows, dim)).astype(np.float32)
    vector = generator.normal(size=dim).astype(np.float32)
    path = os.path.join(work, "read.fstore")
    space = FeatureStore(path, create=True).create_space(spec(dim), feature_dim=dim)
    space.append(features, random_hashes(generator, rows))
    for name, options in (("contiguous", {}), ("chunked", {"chunks": True})):
        with h5py.File(os.path.join(work, f"{name}.h5"), "w") as file:
            file.create_dataset("features", data=features, **options)
    picked = np.sort(generator.permutation(rows)[: rows // 10])
    expected = {rows: features @ vector, len(picked): features[picked] @ vector}
    del features

    def mapped(numbers: np.ndarray) -> np.ndarray:
        return FeatureStore(path).space().rows(numbers) @ vector

    def plain(name: str, numbers) -> np.ndarray:
        with h5py.File(os.path.join(work, f"{name}.h5")) as file:
            return file["features"][numbers] @ vector

    everything = np.arange(rows)
    ways = {
        "memory map": (lambda: mapped(everything), lambda: mapped(picked)),
        "h5py, contiguous": (lambda: plain("contiguous", slice(None)), lambda: plain("contiguous", picked)),
        "h5py, default chunks": (lambda: plain("chunked", slice(None)), lambda: plain("chunked", picked)),
    }
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in ways}
    for _ in range(rounds):
        for name, both in ways.items():
            for way, seconds in zip(both, taken[name], strict=True):
                second, product = timed(way)
                np.testing.assert_allclose(product, expected[len(product)], rtol=1e-3, atol=1e-3)
                seconds.append(second)
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
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
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
        "Reading a space, file in the page cache, and multiplying it by a vector",
        ("way", "all rows, s", "over the memory map", "a random tenth, s", "over the memory map "),
        read,
        path=options.json and options.json + ".reading.json",
        size=f"{options.megabytes} MB of 1,280 float32",
        rounds=options.rounds,
    )
    reporting.report(
        "Large stores",
        (
            "rows",
            "append, MB/s",
            "over plain files",
            "open, s",
            "open, µs a row",
            "look up, s",
            "look up, µs a hash",
            "gather 100,000 rows, s",
            "compact, MB/s",
        ),
        grown,
        path=options.json,
        segments=options.segments,
        features=f"{options.dim} float32",
        looked_up="hashes at random, as many as rows, at most 1,000,000",
    )


if __name__ == "__main__":
    main()

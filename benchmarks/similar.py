"""Exact search for the nearest images over the memory map: seconds, over one pass of reading the features.

The rows are made up and lie in a store, in the page cache. Reading copies every block into the same
buffer, by one thread; the search for the ten nearest of a query uses all cores. Both take turns.

    python benchmarks/similar.py --rows 1000000
"""

import os
import resource
import tempfile
import time

import numpy as np
from reporting import arguments, median, note, report

from featstore import BackboneSpec, FeatureStore, FeatureTable
from featstore.store import Catalog

DIM = 1280
BLOCK = 1024
APPENDED = 50_000


def make_store(path: str, n_rows: int) -> None:
    random = np.random.default_rng(0)
    store = FeatureStore(path, create=True)
    spec = BackboneSpec(
        architecture="made_up", weights_digest="0" * 64, layer="top", size_px=(224, 224), preprocessing="unit"
    )
    space = store.create_space(spec, feature_dim=DIM)
    hashes = random.integers(0, 256, (n_rows, 32), np.uint8)
    for start in range(0, n_rows, APPENDED):
        part = hashes[start : start + APPENDED]
        space.append(random.random((len(part), DIM), dtype=np.float32), part)
    nothing = [None] * n_rows
    store.write_catalog(
        Catalog(
            name="photos",
            root="/photos",
            location="/photos",
            paths=[f"{number:08}.jpg" for number in range(n_rows)],
            labels=nothing,
            groups=nothing,
            splits=nothing,
            reasons=nothing,
            content_hash=hashes,
            sizes=np.zeros(n_rows),
            mtimes_ns=np.zeros(n_rows),
        )
    )


def read(store: FeatureStore) -> float:
    """Return the seconds of one pass over the features."""
    buffer = np.empty((BLOCK, DIM), np.float32)
    started = time.perf_counter()
    for segment in store.space().segments:
        features = segment.features()
        for start in range(0, len(features), BLOCK):
            block = features[start : start + BLOCK]
            np.copyto(buffer[: len(block)], block)
    return time.perf_counter() - started


def search(store: FeatureStore, table: FeatureTable, n_queries: int) -> float:
    """Return the seconds of a search, which finds each query itself first."""
    rows = np.linspace(0, len(table) - 1, n_queries).astype(np.int64)
    queries = np.array(table.select(rows).X)
    started = time.perf_counter()
    found = table.neighbors(queries, k=10)
    seconds = time.perf_counter() - started
    assert found.rows[:, 0].tolist() == rows.tolist()
    return seconds


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="number of images")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--work", metavar="FOLDER", help="where to write the store; default: a new folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        note(f"writing {options.rows:,} rows")
        path = os.path.join(work, "large.fstore")
        make_store(path, options.rows)
        numbers = (1, 16, 256)
        taken: dict[int, list[float]] = {number: [] for number in (0, *numbers)}
        for number in range(options.rounds + 1):
            # A new map each time, as a command has it.
            for n_queries in taken:
                store = FeatureStore(path)
                table = store.table()
                seconds = search(store, table, n_queries) if n_queries else read(store)
                if number:
                    taken[n_queries].append(seconds)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows = []
    for n_queries in numbers:
        ratios = [one / whole for one, whole in zip(taken[n_queries], taken[0], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        rows.append((n_queries, median(taken[0]), median(taken[n_queries]), f"{median(ratios):.2f}", spread))
    report(
        "Similar images",
        ("queries", "reading, s", "search, s", "over reading", "range"),
        rows,
        path=options.json,
        images=f"{options.rows:,} x {DIM} float32",
        rounds=f"{options.rounds}, interleaved; medians, ratios within a round",
        peak=f"{peak:,.0f} MiB, the mapped files included",
    )


if __name__ == "__main__":
    main()

"""Comparing every image with every other: seconds and memory, over the bare matrix product.

The rows are made up (50 classes, features behind a ReLU, a hundredth of them nearly the same as another) and
lie in a memory map. Of n rows n^2 / 2 pairs are compared. The bare product is that of two tiles of 2,048
rows, which the search does over and over; it is the limit of the machine.

    python benchmarks/duplicates.py --rows 5000 20000 100000
"""

import os
import resource
import tempfile
import time

import numpy as np
from reporting import arguments, median, note, report

from featstore.duplicates.likeness import fit_likeness
from featstore.duplicates.search import close_pairs

DIM = 1280
TILE = 2048


def make_rows(path: str, n_rows: int) -> np.memmap:
    random = np.random.default_rng(0)
    X = np.memmap(path, np.float32, "w+", shape=(n_rows, DIM))
    centres = random.normal(size=(50, DIM)).astype(np.float32)
    for start in range(0, n_rows, TILE):
        size = min(TILE, n_rows - start)
        noise = 2 * random.standard_normal((size, DIM), dtype=np.float32)
        X[start : start + size] = np.maximum(centres[random.integers(0, 50, size)] + noise, 0)
    copies = n_rows // 100
    X[-copies:] = X[:copies] + 0.1 * random.standard_normal((copies, DIM), dtype=np.float32)
    X.flush()
    return np.memmap(path, np.float32, "r", shape=(n_rows, DIM))


def bare_product() -> float:
    """Return the multiplications and additions a second of the machine's matrix product."""
    random = np.random.default_rng(0)
    first, second = (random.standard_normal((TILE, DIM), dtype=np.float32) for _ in range(2))
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        first @ second.T
        seconds.append(time.perf_counter() - started)
    return 2 * TILE * TILE * DIM / median(seconds)


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[5000, 20000], help="numbers of images")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for n_rows in sorted(options.rows):
            note(f"{n_rows:,} rows")
            X = make_rows(os.path.join(work, f"{n_rows}"), n_rows)
            hashes = np.random.default_rng(1).integers(0, 256, (n_rows, 32), np.uint8)
            limit = n_rows * n_rows * DIM / bare_product()
            started = time.perf_counter()
            likeness = fit_likeness(X, hashes)
            fitted = time.perf_counter()
            found = close_pairs(X, np.arange(n_rows), likeness, threshold=0.75, max_pairs=10_000)
            seconds = time.perf_counter() - fitted
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            assert found.n_pairs >= n_rows // 100
            rows.append((f"{n_rows:,}", fitted - started, seconds, seconds / limit, peak))
    report(
        "Near-duplicates",
        (
            "images",
            "reference, s",
            "search, s",
            "over the bare product",
            "peak MiB, the mapped file included",
        ),
        rows,
        path=options.json,
        features=DIM,
    )


if __name__ == "__main__":
    main()

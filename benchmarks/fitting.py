"""Ridge regression on a Ray cluster of four workers on this machine, against reading the same rows there.

All make one pass over the same parts of a store's float16 rows, as tasks of one processor each. "processor s"
is that of the tasks and the driver without Ray's own, and hardly depends on who else uses the machine.
"multiplying" is the one product that the moments cannot do without, of a block in memory with itself.
"""

import os
import tempfile
import time

import numpy as np
import ray
import reporting

import featstore
from featstore.backbones.spec import BackboneSpec
from featstore.cluster.ray_parts import RayParts
from featstore.heads.data.blocks import Rows
from featstore.heads.data.parts import over_parts
from featstore.heads.solvers.moments import _part_sums
from featstore.process import one_thread
from featstore.store import Catalog

_CLASSES, _SEGMENT_ROWS = 100, 50_000


def make_store(path: str, n_rows: int, dim: int) -> featstore.FeatureTable:
    """Fill a store with noise around class means, in segments as an extraction seals them."""
    chance = np.random.default_rng(0)
    store = featstore.FeatureStore(path, create=True)
    spec = BackboneSpec(
        architecture="noise",
        weights_digest="0" * 64,
        layer="top",
        size_px=(8, 8),
        preprocessing="unit",
        dtype="float16",
    )
    space = store.create_space(spec, feature_dim=dim, provenance={})
    means = chance.normal(size=(_CLASSES, dim)).astype(np.float32)
    hashes = chance.integers(0, 256, (n_rows, 32), np.uint8)
    labels = np.arange(n_rows) % _CLASSES
    for start in range(0, n_rows, _SEGMENT_ROWS):
        at = slice(start, start + _SEGMENT_ROWS)
        own = labels[at]
        rows = means[own] + 2 * chance.standard_normal((len(own), dim), np.float32)
        space.append(rows.astype(np.float16), hashes[at])
    store.write_catalog(
        Catalog(
            name="noise",
            root="/noise",
            location="/noise",
            paths=[f"{number:09d}.jpg" for number in range(n_rows)],
            labels=[f"class {label:03d}" for label in labels.tolist()],
            groups=[None] * n_rows,
            splits=[None] * n_rows,
            content_hash=hashes,
            sizes=np.full(n_rows, 1),
            mtimes_ns=np.full(n_rows, 1),
            reasons=[None] * n_rows,
        )
    )
    return featstore.FeatureStore(path).table()


def read(rows: Rows, _codes) -> float:
    """Read all features, in single precision and checked to be finite; return the processor seconds."""
    started = time.process_time()
    for _, block in rows.blocks():
        assert block.dtype == np.float32
    return time.process_time() - started


def moments(rows: Rows, codes, weights, shift) -> float:
    started = time.process_time()
    _part_sums(rows, codes, weights[codes], weights, shift, True)
    return time.process_time() - started


def multiply(rows: Rows, _codes) -> float:
    from scipy.linalg.blas import dsyrk

    block = rows.take(slice(0, rows.block_rows)).astype(np.float64)
    squares = np.zeros((rows.feature_dim, rows.feature_dim), order="F")
    started = time.process_time()
    for _ in range(0, len(rows), rows.block_rows):
        squares = dsyrk(1.0, block.T, beta=1.0, c=squares, overwrite_c=True)
    return time.process_time() - started


def one_pass(table, runner, function, *shared) -> tuple[float, float]:
    """Return wall and processor seconds of a pass over all rows."""
    rows = Rows(table, np.arange(len(table)), name="rows", runner=runner)
    codes = np.arange(len(table)) % _CLASSES
    started, own = time.perf_counter(), time.process_time()
    in_tasks = sum(spent for _, spent in over_parts(rows, function, *shared, columns=[codes]))
    return time.perf_counter() - started, in_tasks + time.process_time() - own


def main() -> None:
    parser = reporting.arguments(__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    shared = np.ones(_CLASSES), np.zeros(options.dim)
    ways = {"reading": (read,), "multiplying": (multiply,), "moments of ridge and lda": (moments, *shared)}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    os.environ["PYTHONPATH"] = os.path.dirname(os.path.abspath(__file__))
    with tempfile.TemporaryDirectory() as work:
        reporting.note("filling the store")
        table = make_store(os.path.join(work, "noise.fstore"), options.rows, options.dim)
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
        with RayParts() as runner, one_thread:
            one_pass(table, runner, read)
            for number in range(options.rounds):
                reporting.note(f"round {number + 1}")
                for name, (function, *given) in ways.items():
                    taken[name].append(one_pass(table, runner, function, *given))
            started, own = time.perf_counter(), time.process_time()
            featstore.fit(table, head="ridge", ray=True)
            whole = time.perf_counter() - started, time.process_time() - own
        ray.shutdown()
    rows = []
    for name, rounds in taken.items():
        wall, spent = (reporting.median(values) for values in zip(*rounds, strict=True))
        ratios = [one[1] / base[1] for one, base in zip(rounds, taken["reading"], strict=True)]
        rows.append((name, wall, spent, reporting.median(ratios)))
    rows.append(("`fit --head ridge`, 9 settings; processor s of the driver", *whole, ""))
    reporting.report(
        "Ridge on a cluster against reading",
        ("pass over all rows", "seconds", "processor s", "over reading"),
        rows,
        path=options.json,
        features=f"{options.rows:,} x {options.dim}, {options.rows * options.dim * 2 / 1e9:.1f} GB",
        rounds=options.rounds,
    )


if __name__ == "__main__":
    main()

"""Heads: accuracy, fit time and size of each, and choosing against a plain loop over scikit-learn."""

import hashlib
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import reporting

import featstore
from featstore.backbones import BackboneSpec
from featstore.stats.intervals import wilson_interval
from featstore.store.catalogs.catalog import Catalog

_CHILD = "--child"
_WAYS = {
    "plain loop": "plain",
    "plain loop, 1 thread": "plain1",
    "featstore": "1",
    "featstore, 2 jobs": "2",
}
_C = np.logspace(-4, 0.5, 10)


def synthetic_store(path: str, *, rows: int, dim: int, classes: int) -> None:
    """Make a store of features that are skewed, correlated and not quite separable, as a network's are."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, classes, rows)
    centres = 0.12 * generator.normal(size=(classes, dim))
    mixing = generator.normal(size=(dim, dim)) / np.sqrt(dim) * np.exp(-3 * np.arange(dim) / dim)[:, None] * 2
    mixing = mixing.astype(np.float32)
    store = featstore.FeatureStore(path, create=True)
    spec = BackboneSpec(
        architecture=f"synthetic{dim}",
        weights_digest="0" * 64,
        layer="last",
        size_px=(224, 224),
        preprocessing="none",
    )
    space = store.create_space(spec, feature_dim=dim)
    digests = b"".join(hashlib.sha256(number.to_bytes(8, "big")).digest() for number in range(rows))
    hashes = np.frombuffer(digests, np.uint8).reshape(rows, 32)
    step = 10_000
    for start in range(0, rows, step):
        some = y[start : start + step]
        drawn = generator.normal(size=(len(some), dim)) + centres[some]
        space.append(np.maximum(drawn.astype(np.float32) @ mixing, 0), hashes[start : start + step])
    store.compact()
    nothing = [None] * rows
    store.write_catalog(
        Catalog(
            name="synthetic",
            root="/",
            location="/",
            paths=[f"{number:07d}.jpg" for number in range(rows)],
            labels=[f"class {label:03d}" for label in y],
            groups=nothing,
            splits=nothing,
            content_hash=hashes,
            sizes=np.full(rows, -1),
            mtimes_ns=np.full(rows, -1),
            reasons=nothing,
        )
    )


class Peak:
    """Peak private memory of this process, sampled; mapped files are not counted."""

    def __enter__(self) -> "Peak":
        self.own_mib = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            with open("/proc/self/status", encoding="ascii", errors="replace") as file:
                own = next(int(line.split()[1]) for line in file if line.startswith("RssAnon:"))
            self.own_mib = max(self.own_mib, own / 1024)


def info_of(name: str, n_values: int) -> featstore.HeadInfo:
    info = next(one for one in featstore.known_heads() if one.name == name)
    if "gamma" in info.grid:
        return replace(info, grid={**info.grid, "gamma": info.grid["gamma"][:n_values]})
    if "C" not in info.grid:
        return info
    # The first is the smallest and the last the largest, however many there are.
    return replace(info, grid={"C": tuple(_C[np.linspace(0, len(_C) - 1, n_values).round().astype(int)])})


def plain_loop(table: featstore.FeatureTable, info: featstore.HeadInfo) -> float:
    """Choose as one would with scikit-learn alone: fit the pipeline for each setting, keep the best."""
    from itertools import product

    splits = table.splits()
    X = {split: np.asarray(table.X[splits == split]) for split in ("train", "validation")}
    y = {split: table.y[splits == split] for split in X}
    best, chosen = -1.0, None
    for values in product(*info.grid.values()):
        pipeline = info.make()
        pipeline[-1].set_params(**dict(zip(info.grid, values, strict=True)))
        if info.solver == "descent":
            pipeline[-1].set_params(max_iter=20, random_state=0)
        right = pipeline.fit(X["train"], y["train"]).score(X["validation"], y["validation"])
        if right > best:
            best, chosen = right, pipeline
    assert chosen is not None
    return best


def child(path: str, name: str, n_values: str, way: str) -> None:
    """Choose and fit one head one way, and tell what it took; what has to be imported is imported before."""
    info = info_of(name, int(n_values))
    info.make()
    import joblib  # noqa: F401
    import scipy.optimize  # noqa: F401

    table = featstore.FeatureStore(path).table()
    with Peak() as peak:
        started, cpu = time.perf_counter(), time.process_time()
        if way.startswith("plain"):
            top1 = plain_loop(table, info)
        else:
            head = featstore.fit(table, head=info, jobs=int(way))
            top1 = max((step["top1"] for step in head.sweep), default=head.validation["top1"])
        taken, cpu = time.perf_counter() - started, time.process_time() - cpu
    whole_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {"seconds": taken, "cpu": cpu, "own_mib": peak.own_mib, "whole_mib": whole_mib, "top1": top1}
        )
    )


def in_a_process(*arguments: str) -> dict[str, float]:
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, __file__, _CHILD, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **(one_thread if arguments[-1] == "plain1" else {})},
    )
    return json.loads(done.stdout)


def choosing(path: str, names: list[str], ways: list[str], rounds: int, n_values: int) -> list[tuple]:
    rows = []
    for name in names:
        taken: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way in ways:
                reporting.note(f"{name}, {way}")
                taken[way].append(in_a_process(path, name, str(n_values), _WAYS[way]))
        middle = {
            way: {key: reporting.median([one[key] for one in runs]) for key in runs[0]}
            for way, runs in taken.items()
        }
        for way, one in middle.items():
            rows.append(
                (
                    f"{name}, {way}",
                    one["seconds"],
                    one["seconds"] / middle[ways[0]]["seconds"],
                    one["cpu"],
                    one["own_mib"],
                    one["whole_mib"],
                    one["top1"],
                )
            )
    return rows


def chosen_of(head: featstore.Head) -> str:
    return ", ".join(
        f"{name}={head.params[name]}" for name in (head.sweep[0]["params"] if head.sweep else ())
    )


def accuracies(table: featstore.FeatureTable, names: list[str], folds: int, work: str) -> list[tuple]:
    """Score each head on folds that neither its fit nor its choice has seen."""
    rows = []
    # A separate salt for the folds inside.
    rule = featstore.SplitRule(test=0, validation=0, salt="inside")
    for name in names:
        reporting.note(f"{name}, {folds} folds")
        n_right, taken, chosen = 0, [], Counter()
        for inside, outside in featstore.HashKFold(folds).split(table.y, groups=table.content_hash):
            started = time.perf_counter()
            head = featstore.fit(table.select(inside), head=name, rule=rule, folds=5)
            taken.append(time.perf_counter() - started)
            chosen[chosen_of(head)] += 1
            n_right += int((head.predict(table.select(outside).X) == table.y[outside]).sum())
        one = time.perf_counter()
        head = featstore.fit(table, head=name)
        one = time.perf_counter() - one
        file = os.path.join(work, f"{name}.head")
        head.save(file)
        low, high = wilson_interval(n_right, len(table))
        rows.append(
            (
                name,
                100 * n_right / len(table),
                f"{100 * low:.1f} to {100 * high:.1f}",
                one,
                reporting.median(taken),
                os.path.getsize(file) / 1e6,
                "; ".join(f"{setting} ({n})" for setting, n in chosen.most_common() if setting),
            )
        )
    return rows


def main() -> None:
    if sys.argv[1:2] == [_CHILD]:
        child(*sys.argv[2:])
        return
    parser = reporting.arguments(__doc__)
    names = [info.name for info in featstore.known_heads()]
    parser.add_argument(
        "--store", help="a store of features; by default synthetic ones, 1,250 x 1,280 of 5 classes"
    )
    parser.add_argument("--heads", nargs="+", choices=names, default=names)
    parser.add_argument(
        "--folds", type=int, default=10, help="of which accuracy is measured; 0 leaves it out"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of choosing; 0 leaves it out")
    parser.add_argument(
        "--values", type=int, default=len(_C), help="of C, of the same range, or of gamma, the first"
    )
    parser.add_argument("--ways", nargs="+", choices=list(_WAYS), default=list(_WAYS), help="of choosing")
    parser.add_argument(
        "--synthetic",
        type=int,
        nargs=3,
        metavar=("ROWS", "DIM", "CLASSES"),
        help="choose on synthetic features of this shape instead, for example 75750 2048 101",
    )
    options = parser.parse_args()
    # Inner fits have no validation or test split, and each warns of it.
    logging.getLogger("featstore").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as work:
        path = options.store
        if options.synthetic or not path:
            path = os.path.join(work, "synthetic.fstore")
            rows, dim, classes = options.synthetic or (1250, 1280, 5)
            synthetic_store(path, rows=rows, dim=dim, classes=classes)
        table = featstore.FeatureStore(path).table()
        shape = f"{len(table):,} x {table.feature_dim:,} of {len(table.classes)} classes"
        if options.folds:
            reporting.report(
                "Heads",
                (
                    "head",
                    f"accuracy in {options.folds} folds, %",
                    "95% interval",
                    "fit, s",
                    "fit by 5 folds, s",
                    "file, MB",
                    "chosen (in so many folds)",
                ),
                accuracies(table, options.heads, options.folds, work),
                path=options.json,
                features=shape,
            )
        if options.rounds:
            reporting.report(
                "Choosing",
                (
                    "way",
                    "seconds",
                    f"over the {options.ways[0]}",
                    "CPU, s",
                    "own memory, peak MiB",
                    "with mapped files, peak MiB",
                    "best accuracy",
                ),
                choosing(path, options.heads, options.ways, options.rounds, options.values),
                path=options.json and options.json + ".choosing.json",
                features=shape,
                rounds=options.rounds,
                values_of_C=options.values,
            )


if __name__ == "__main__":
    main()

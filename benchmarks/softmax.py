"""Minibatches: a pass of the heads softmax and mlp over many rows, against the bare matrix products of one.

The bare products are those that a pass cannot do without: of each batch with the weights, and of its
transpose with the errors, on rows that are in memory. Ways take turns within a round. On a machine with other
work processor time is what to look at, with OMP_NUM_THREADS=1, since threads that wait spin.
"""

import os
import resource
import tempfile
import time

import numpy as np
import reporting
from heads import synthetic_store
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

import featstore
from featstore.heads.data.blocks import Rows
from featstore.heads.solvers.minibatch import Minibatch, train
from featstore.heads.solvers.scaling import fit_scaler

_PRODUCTS, _HIDDEN_PRODUCTS = "matrix products alone", "matrix products alone, 256 hidden units"
_DESCENT = "SGDClassifier (the head sgd), of 4,096 rows"

WAYS = {
    _PRODUCTS: None,
    "softmax, Adam": _PRODUCTS,
    "softmax, sgd with momentum": _PRODUCTS,
    "MLPClassifier without a hidden layer": _PRODUCTS,
    _DESCENT: _PRODUCTS,
    _HIDDEN_PRODUCTS: None,
    "mlp, Adam": _HIDDEN_PRODUCTS,
}
"""What each is divided by."""


def clock() -> np.ndarray:
    """Return the time and this process' processor time, seconds."""
    return np.array([time.perf_counter(), time.process_time()])


class Material:
    """Rows of a store, and the same in memory as far as the bare products need them."""

    def __init__(self, path: str, batch: int) -> None:
        self.table = featstore.FeatureStore(path).table()
        self.classes, self.codes = np.unique(self.table.y, return_inverse=True)
        self.rows = Rows(self.table, np.arange(len(self.table)), name="rows")
        self.scaler = StandardScaler()
        fit_scaler(self.scaler, self.rows)
        self.batch = batch
        self.some = np.asarray(self.scaler.transform(self.rows.take(slice(0, 16 * batch))), np.float32)

    @property
    def n_batches(self) -> int:
        return len(self.rows) // self.batch

    def products(self, hidden: int | None = None) -> np.ndarray:
        """Return the seconds of the matrix products of a pass."""
        n_classes = len(self.classes)
        weights = np.ones((self.table.feature_dim, hidden or n_classes), np.float32)
        above = np.ones((hidden or 1, n_classes), np.float32)
        started = clock()
        for number in range(self.n_batches):
            start = number % 16 * self.batch
            rows = self.some[start : start + self.batch]
            outputs = rows @ weights
            rows.T @ outputs
            if hidden:
                scores = outputs @ above
                outputs.T @ scores
                scores @ above.T
        return clock() - started

    def a_pass(self, optimizer: str, hidden: int | None = None) -> np.ndarray:
        """Return the seconds of a pass as a head makes it: read, scaled, shuffled, learnt from."""
        options = Minibatch(
            optimizer=optimizer, batch_size=self.batch, steps=self.n_batches, hidden_units=hidden, alpha=1e-4
        )
        started = clock()
        train(
            self.rows,
            self.codes,
            len(self.classes),
            np.ones(len(self.rows)),
            options,
            prepare=self.scaler.transform,
            seed=0,
        )
        return clock() - started

    def network(self) -> np.ndarray:
        """Return the seconds of a pass of MLPClassifier over the same blocks."""
        model = MLPClassifier(hidden_layer_sizes=(), batch_size=self.batch, random_state=0)
        started = clock()
        step = 4 * self.batch
        for start in range(0, self.n_batches * self.batch, step):
            rows = self.scaler.transform(self.rows.take(slice(start, start + step)))
            model.partial_fit(rows, self.codes[start : start + step], classes=np.arange(len(self.classes)))
        return clock() - started

    def descent(self) -> np.ndarray:
        """Return the seconds of a pass of SGDClassifier, the head sgd, from those of 4,096 rows."""
        rows = self.scaler.transform(self.rows.take(slice(0, 4096)))
        model = SGDClassifier(average=True, n_jobs=-1, random_state=0)
        started = clock()
        model.partial_fit(rows, self.codes[: len(rows)], classes=np.arange(len(self.classes)))
        return (clock() - started) * self.n_batches * self.batch / len(rows)


def main() -> None:
    parser = reporting.arguments(__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=1000, help="rows of a batch: what fit takes for so many")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=[*WAYS])
    parser.add_argument("--work", metavar="FOLDER", help="where the store is made and kept; default: nowhere")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(options.work or scratch, f"softmax-{options.rows}-{options.classes}.fstore")
        if not os.path.exists(path):
            synthetic_store(path, rows=options.rows, dim=options.dim, classes=options.classes)
        measure(options, Material(path, options.batch))


def measure(options, material: Material) -> None:
    runs = {
        _PRODUCTS: material.products,
        "softmax, Adam": lambda: material.a_pass("adam"),
        "softmax, sgd with momentum": lambda: material.a_pass("sgd"),
        "MLPClassifier without a hidden layer": material.network,
        _DESCENT: material.descent,
        _HIDDEN_PRODUCTS: lambda: material.products(256),
        "mlp, Adam": lambda: material.a_pass("adam", 256),
    }
    ways = [name for name in WAYS if name in options.ways or name in map(WAYS.get, options.ways)]
    taken: dict[str, list[np.ndarray]] = {name: [] for name in ways}
    for number in range(options.rounds):
        for name in ways:
            if number and name == _DESCENT:
                continue  # takes minutes
            taken[name].append(runs[name]())
            seconds, processor_s = taken[name][-1]
            reporting.note(
                f"round {number + 1}, {name}: {seconds:.2f} s, {processor_s:.2f} s of processor time"
            )
    rows = []
    for name in ways:
        base = WAYS[name]
        ratios = ("", "")
        if base is not None:
            shares = [one / other for one, other in zip(taken[name], taken[base], strict=False)]
            ratios = tuple(f"{ratio:.2f}" for ratio in np.median(shares, axis=0))
        rows.append((name, *np.median(taken[name], axis=0), *ratios))
    reporting.report(
        "Minibatches, a pass",
        ("way", "seconds", "processor s", "seconds over the products", "processor s over the products"),
        rows,
        path=options.json,
        features=f"{options.rows:,} x {options.dim:,}, {options.classes:,} classes",
        batch=f"{options.batch:,} rows",
        rounds=f"{options.rounds}, interleaved; medians, ratios within a round",
        peak_mib=f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f}, mapped files included",
    )


if __name__ == "__main__":
    main()

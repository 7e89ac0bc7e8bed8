"""Minibatches: a pass of the heads softmax and mlp over many rows, against the bare matrix products of one.

The bare products are those that a pass cannot do without: of each batch with the weights, and of its
transpose with the errors, on rows that are in memory. Ways take turns within a round.
"""

import os
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

    def products(self, hidden: int | None = None) -> float:
        """Return the seconds of the matrix products of a pass."""
        n_classes = len(self.classes)
        weights = np.ones((self.table.feature_dim, hidden or n_classes), np.float32)
        above = np.ones((hidden or 1, n_classes), np.float32)
        started = time.perf_counter()
        for number in range(self.n_batches):
            start = number % 16 * self.batch
            rows = self.some[start : start + self.batch]
            outputs = rows @ weights
            rows.T @ outputs
            if hidden:
                scores = outputs @ above
                outputs.T @ scores
                scores @ above.T
        return time.perf_counter() - started

    def a_pass(self, optimizer: str, hidden: int | None = None) -> float:
        """Return the seconds of a pass as a head makes it: read, scaled, shuffled, learnt from."""
        options = Minibatch(
            optimizer=optimizer, batch_size=self.batch, steps=self.n_batches, hidden_units=hidden, alpha=1e-4
        )
        started = time.perf_counter()
        train(
            self.rows,
            self.codes,
            np.ones(len(self.classes)),
            options,
            prepare=self.scaler.transform,
            seed=0,
        )
        return time.perf_counter() - started

    def network(self) -> float:
        """Return the seconds of a pass of MLPClassifier over the same blocks."""
        model = MLPClassifier(hidden_layer_sizes=(), batch_size=self.batch, random_state=0)
        started = time.perf_counter()
        step = 4 * self.batch
        for start in range(0, self.n_batches * self.batch, step):
            rows = self.scaler.transform(self.rows.take(slice(start, start + step)))
            model.partial_fit(rows, self.codes[start : start + step], classes=np.arange(len(self.classes)))
        return time.perf_counter() - started

    def descent(self) -> float:
        """Return the seconds of a pass of SGDClassifier, the head sgd, from those of 4,096 rows."""
        rows = self.scaler.transform(self.rows.take(slice(0, 4096)))
        model = SGDClassifier(average=True, n_jobs=-1, random_state=0)
        started = time.perf_counter()
        model.partial_fit(rows, self.codes[: len(rows)], classes=np.arange(len(self.classes)))
        return (time.perf_counter() - started) * self.n_batches * self.batch / len(rows)


def main() -> None:
    parser = reporting.arguments(__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=1000, help="rows of a batch: what fit takes for so many")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", metavar="FOLDER", help="where the store is made and kept; default: nowhere")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(options.work or scratch, f"softmax-{options.rows}-{options.classes}.fstore")
        if not os.path.exists(path):
            synthetic_store(path, rows=options.rows, dim=options.dim, classes=options.classes)
        measure(options, Material(path, options.batch))


def measure(options, material: Material) -> None:
    ways = {
        "matrix products alone": (material.products, None),
        "softmax, Adam": (lambda: material.a_pass("adam"), "matrix products alone"),
        "softmax, sgd with momentum": (lambda: material.a_pass("sgd"), "matrix products alone"),
        "MLPClassifier without a hidden layer": (material.network, "matrix products alone"),
        "SGDClassifier (the head sgd), of 4,096 rows": (material.descent, "matrix products alone"),
        "matrix products alone, 256 hidden units": (lambda: material.products(256), None),
        "mlp, Adam": (lambda: material.a_pass("adam", 256), "matrix products alone, 256 hidden units"),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(options.rounds):
        for name, (run, _) in ways.items():
            if number and run == material.descent:
                continue  # takes minutes
            taken[name].append(run())
            reporting.note(f"round {number + 1}, {name}: {taken[name][-1]:.2f} s")
    rows = []
    for name, (_, base) in ways.items():
        ratio = ""
        if base is not None:
            shares = [one / other for one, other in zip(taken[name], taken[base], strict=False)]
            ratio = f"{reporting.median(shares):.2f}"
        rows.append((name, reporting.median(taken[name]), ratio))
    reporting.report(
        "Minibatches, a pass",
        ("way", "seconds", "over the products"),
        rows,
        path=options.json,
        features=f"{options.rows:,} x {options.dim:,}, {options.classes:,} classes",
        batch=f"{options.batch:,} rows",
        rounds=f"{options.rounds}, interleaved; medians, ratios within a round",
    )


if __name__ == "__main__":
    main()

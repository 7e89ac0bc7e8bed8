"""How often prediction sets hold the right label, and how large they are, over draws of the splits.

Each seed is another salt: 20% of the photos are validation, 30% test. `logistic` with C = 0.03 is fitted, its
sets are calibrated as `fit` does, and the test photos are scored. Intervals are over the seeds, whose tests
overlap: they are a little too narrow. Coverage needs photos and trained weights.
"""

import logging
import os
import tempfile

import numpy as np
import photos
import reporting
from scipy.stats import t

import featstore

_WAYS = {
    "refitted on validation": {},
    "--no-refit": {"refit": False},
    "--folds 5": {"folds": 5},
}


def interval(values: np.ndarray) -> str:
    """Return the mean and half the width of its 95% interval (Student's t)."""
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.2f} ± {half:.2f}"


def main() -> None:
    parser = reporting.arguments(__doc__)
    photos.add_options(parser)
    parser.add_argument("--seeds", type=int, default=12)
    options = parser.parse_args()
    logging.getLogger("featstore").setLevel(logging.ERROR)
    folder, weights = photos.find_trained(options)
    if folder is None:
        reporting.note("nothing is measured: photos need --photos and --weights")
        return
    asked = [(0.9, False), (0.95, False), (0.9, True)]
    found: dict[tuple[str, float, bool], list[list[float]]] = {}
    with tempfile.TemporaryDirectory() as work:
        path = os.path.join(work, "photos.fstore")
        featstore.extract(folder, path, backbone=options.backbone, weights=weights)
        table = featstore.FeatureStore(path).table()
        for seed in range(options.seeds):
            rule = featstore.SplitRule(salt=str(seed), test=0.3, validation=0.2)
            for way, given in _WAYS.items():
                head = featstore.fit(table, params={"C": 0.03}, rule=rule, **given)
                for coverage, by_class in asked:
                    sets = featstore.evaluate(head, table, coverage=coverage, by_class=by_class).sets
                    least = min(one["covered"] for one in sets["classes"])
                    values = [100 * sets["covered"], 100 * least, sets["mean_size"]]
                    found.setdefault((way, coverage, by_class), []).append(values)
            reporting.note(f"seed {seed}")
    rows = []
    for (way, coverage, by_class), values in found.items():
        columns = np.array(values).T
        kind = " by class" if by_class else ""
        rows.append([way, f"{100 * coverage:g}%{kind}", *map(interval, columns)])
    reporting.report(
        f"Prediction sets, {os.path.basename(options.backbone)}",
        ["fit", "coverage", "found, %", "of the worst class, %", "labels in a set"],
        rows,
        path=options.json,
        seeds=f"{options.seeds}; ± is the 95% interval over them",
    )


if __name__ == "__main__":
    main()

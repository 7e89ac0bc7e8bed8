"""How many labels a classifier needs when the images to label are chosen: accuracy by number of labels.

Of the photos, 250 drawn at random are the test, and the others have no labels at first. Each round labels 25
more, and the accuracy on the test is that of `logistic` with C = 0.03 fitted on all that are labelled. The
first 25 are drawn at random, and by the ways that are diverse chosen so. Each seed is another test and
another draw; intervals are over the seeds. Accuracy needs photos and trained weights.
"""

import logging
import os
import tempfile
from dataclasses import replace

import numpy as np
import photos
import reporting
from scipy.stats import t

import featstore

_BATCH, _TEST = 25, 250
_WAYS = {
    "random": None,
    "margin": "margin",
    "entropy": "entropy",
    "diverse": "diverse",
    "diverse, then margin": "margin",
}
_PARAMS = {"C": 0.03}
_ALL = featstore.SplitRule(test=0, validation=0)


def simulate(
    store: featstore.FeatureStore,
    truth: featstore.FeatureTable,
    distinct: np.ndarray,
    way: str,
    seed: int,
    n_most: int,
) -> list[float]:
    """Return the accuracy on the test after each round."""
    order = np.random.default_rng(seed).permutation(distinct)
    test, pool = order[:_TEST], order[_TEST:]
    known = [] if way.startswith("diverse") else pool[:_BATCH].tolist()
    scores = []
    while True:
        if not known:
            known = chosen(store, truth, pool, known, "diverse", seed)
        labelled = truth.select(known).with_splits(["train"] * len(known))
        head = featstore.fit(labelled, params=_PARAMS, rule=_ALL)
        right = head.predict(truth.select(test).X) == truth.y[test]
        scores.append(float(right.mean()))
        if len(known) >= n_most:
            return scores
        if way == "random":
            known += pool[len(known) : len(known) + _BATCH].tolist()
            continue
        known += chosen(store, truth, pool, known, _WAYS[way], seed)


def chosen(
    store: featstore.FeatureStore,
    truth: featstore.FeatureTable,
    pool: np.ndarray,
    known: list[int],
    by: str,
    seed: int,
) -> list[int]:
    """Return the rows to label next of a pool in which some are known."""
    labels = np.full(len(truth), None, object)
    labels[known] = truth.y[known]
    catalog = replace(store.catalog(truth.catalog_name), name="now", labels=labels.tolist())
    store.write_catalog(catalog)
    now = store.table(catalog="now").select(pool)
    found = featstore.next_to_label(now, _BATCH, by=by, params=_PARAMS, seed=seed + len(known))
    return [int(pool[image.row]) for image in found.images]


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return the mean of independent values and half the width of its 95% interval (Student's t)."""
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(half)


def main() -> None:
    parser = reporting.arguments(__doc__)
    photos.add_options(parser)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--labels", type=int, default=200, help="labels at the end")
    options = parser.parse_args()
    # A head of few images has no test split, and each warns of it.
    logging.getLogger("featstore").setLevel(logging.ERROR)
    folder, weights = photos.find_trained(options)
    if folder is None:
        reporting.note("nothing is measured: photos need --photos and --weights")
        return
    with tempfile.TemporaryDirectory() as work:
        path = os.path.join(work, "photos.fstore")
        report = featstore.extract(folder, path, backbone=options.backbone, weights=weights)
        store = featstore.FeatureStore(path)
        truth = store.table(catalog=report.catalog)
        # A copy of a test image would be known.
        _, first = np.unique(truth.content_hash, return_index=True)
        scores = {way: [] for way in _WAYS}
        for seed in range(options.seeds):
            for way in _WAYS:
                scores[way].append(simulate(store, truth, first, way, seed, options.labels))
            last = ", ".join(f"{way} {100 * scores[way][-1][-1]:.1f}" for way in _WAYS)
            reporting.note(f"seed {seed}: {last}")
    found = {way: 100 * np.array(runs) for way, runs in scores.items()}
    rows = []
    for number in range(found["random"].shape[1]):
        row = [(number + 1) * _BATCH]
        for way in _WAYS:
            mean, half = interval(found[way][:, number])
            row.append(f"{mean:.1f} ± {half:.1f}")
            if way != "random":
                gain, half = interval(found[way][:, number] - found["random"][:, number])
                row.append(f"{gain:+.1f} ± {half:.1f}")
        rows.append(row)
    header = ["labels", "random, %", *(text for way in [*_WAYS][1:] for text in (f"{way}, %", "over random"))]
    reporting.report(
        f"Choosing what to label, {os.path.basename(options.backbone)}",
        header,
        rows,
        path=options.json,
        images=f"{len(first):,}, of which {_TEST} are the test",
        seeds=f"{options.seeds}; ± is the 95% interval over them, of differences within a seed",
    )


if __name__ == "__main__":
    main()

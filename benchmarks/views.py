"""What views, a larger image size and joined spaces bring, of the same photos in the same folds.

Needs photos and trained weights: on random weights it would say nothing.
"""

import json
import logging
import os
import tempfile
import time

import numpy as np
import photos
import reporting

import featstore
from featstore.stats.intervals import bootstrap, percentile_interval, wilson_interval

_FOLDS = featstore.HashKFold(10)
# A separate salt for what is divided inside a fold, and no split: the folds are the test.
_RULE = featstore.SplitRule(test=0, validation=0, salt="inside")
_SETTINGS = {"logistic": {"C": 0.01}, "svm": {"C": 1.0}}
_RECIPES = {
    "plain": None,
    "flips": featstore.ViewRecipe(flip=True),
    "views": featstore.ViewRecipe(flip=True, random_crop=10, random_scale=10, random_brightness=10),
}
_N_VIEWS = {"plain": 1, "flips": 2, "views": 8}


def extract(options, folder: str, weights: str, work: str) -> dict[tuple[int, str], dict]:
    """Extract each size with each recipe into one store; what it took is kept beside it."""
    kept = os.path.join(work, "extractions.json")
    done = {}
    if os.path.exists(kept):
        with open(kept, encoding="utf-8") as file:
            done = {(size, recipe): found for size, recipe, found in json.load(file)}
    wanted = [(options.size, recipe) for recipe in _RECIPES] + [(options.larger, "plain")]
    wanted += [(options.larger, "views")]
    for size, recipe in wanted:
        if (size, recipe) in done:
            continue
        reporting.note(f"extracting {size} px, {recipe}")
        report = featstore.extract(
            folder,
            os.path.join(work, "photos.fstore"),
            backbone=options.backbone,
            weights=weights,
            image_size=size,
            views=_RECIPES[recipe],
            n_views=_N_VIEWS[recipe],
        )
        done[size, recipe] = {"space": report.space, "seconds": report.seconds}
        with open(kept, "w", encoding="utf-8") as file:
            json.dump([[*key, found] for key, found in done.items()], file)
    return done


def judged(table: featstore.FeatureTable, head: str, views: dict[str, int]) -> tuple[np.ndarray, float]:
    """Return which images are right in the fold without them, and the seconds of a fit."""
    is_right, taken = np.zeros(len(table), bool), []
    # A head without probabilities needs a temperature before views can be averaged.
    folds = 2 if head == "svm" and views["test"] > 1 else None
    for inside, outside in _FOLDS.split(table.y, groups=table.content_hash):
        started = time.perf_counter()
        fitted = featstore.fit(
            table.select(inside), head=head, params=_SETTINGS[head], rule=_RULE, views=views, folds=folds
        )
        taken.append(time.perf_counter() - started)
        rows = table.select(outside).with_views(views["test"])
        X = rows.X.reshape(len(outside), views["test"], -1)
        is_right[outside] = fitted.predict(X) == table.y[outside]
    return is_right, reporting.median(taken)


def paired(is_right: np.ndarray, plain: np.ndarray, content: np.ndarray) -> tuple[float, float, float]:
    """Return the difference in accuracy and its 95% interval, by paired resampling as ``compare`` does."""
    units = np.unique(content, return_inverse=True)[1]
    gains = is_right.astype(np.int64) - plain
    sums = np.stack([np.bincount(units, weights=gains), np.bincount(units)], axis=1).astype(np.int64)
    kinds, multiplicity = np.unique(sums, axis=0, return_counts=True)
    draws = bootstrap(kinds, multiplicity, lambda totals: totals[:, 0] / totals[:, 1], seed=0)
    return float(gains.mean()), *percentile_interval(draws)


def main() -> None:
    parser = reporting.arguments(__doc__)
    photos.add_options(parser)
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--larger", type=int, default=320, help="pixels of the larger image size")
    parser.add_argument("--heads", nargs="+", choices=list(_SETTINGS), default=list(_SETTINGS))
    parser.add_argument("--work", metavar="FOLDER", help="where to extract to and keep it; default: nowhere")
    parser.add_argument("--only-extract", action="store_true", help="into --work, and no more")
    options = parser.parse_args()
    folder, weights = photos.find_trained(options)
    if folder is None or weights is None:
        reporting.note("left out: needs --photos and --weights")
        return
    # Fits inside a fold have no validation or test split, and each warns of it.
    logging.getLogger("featstore").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or scratch
        done = extract(options, folder, weights, work)
        if not options.only_extract:
            measure(options, featstore.FeatureStore(os.path.join(work, "photos.fstore")), done)


def measure(options, store: featstore.FeatureStore, done: dict[tuple[int, str], dict]) -> None:
    size, larger = options.size, options.larger
    ways = [
        ("plain", [(size, "plain")], 1, 1),
        ("flips in training", [(size, "flips")], 2, 1),
        ("flips in test", [(size, "flips")], 1, 2),
        ("flips in both", [(size, "flips")], 2, 2),
        ("8 views in training", [(size, "views")], 8, 1),
        ("8 views in test", [(size, "views")], 1, 8),
        ("8 views in both", [(size, "views")], 8, 8),
        (f"{larger} px", [(larger, "plain")], 1, 1),
        (f"{larger} px, 8 views in test", [(larger, "views")], 1, 8),
        (f"{size} and {larger} px", [(size, "plain"), (larger, "plain")], 1, 1),
        (f"{size} and {larger} px, 8 views in test", [(size, "views"), (larger, "views")], 1, 8),
        (f"{size} and {larger} px, 8 views in both", [(size, "views"), (larger, "views")], 8, 8),
    ]
    bytes_of = {space["name"]: space["bytes"] for space in store.info()["spaces"]}
    for head in options.heads:
        rows, plain = [], None
        for name, keys, train, test in ways:
            reporting.note(f"{head}, {name}")
            spaces = [done[key]["space"] for key in keys]
            table = store.table(spaces)
            is_right, taken = judged(table, head, {"train": train, "test": test})
            plain = is_right if plain is None else plain
            reporting.note(f"  {100 * is_right.mean():.1f}% right, {taken:.1f} s a fit")
            gain, low, high = paired(is_right, plain, table.content_hash)
            least, most = wilson_interval(int(is_right.sum()), len(table))
            rows.append(
                (
                    name,
                    f"{100 * is_right.mean():.1f}",
                    f"{100 * least:.1f} to {100 * most:.1f}",
                    f"{100 * gain:+.1f}",
                    f"{100 * low:+.1f} to {100 * high:+.1f}",
                    sum(done[key]["seconds"] for key in keys),
                    taken,
                    sum(bytes_of[space] for space in spaces) / 1e6,
                )
            )
        reporting.report(
            f"Views, {options.backbone}, {head} with {_SETTINGS[head]}",
            (
                "features",
                "accuracy, %",
                "95% interval",
                "over plain, points",
                "95% paired interval",
                "extraction, s",
                "fit, s",
                "store, MB",
            ),
            rows,
            path=options.json and options.json + f".{head}.json",
            images=f"{len(plain):,}",
            accuracy="of 10 folds by hash",
        )


if __name__ == "__main__":
    main()

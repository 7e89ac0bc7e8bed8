"""Fine-tuning on stored activation maps against the linear head that it starts from, fold by fold.

Each fold is a test split; a tenth of the other images, by a separate hash, chooses the epoch. The whole
network is trained at three rates, of which validation chooses. All ways see the same images, so that
differences are paired.
"""

import logging
import os
import resource
import tempfile
import time
from dataclasses import replace

import numpy as np
import photos
import reporting
from views import paired

import featstore

_RECIPE = featstore.ViewRecipe(flip=True, random_crop=10)
_INSIDE = featstore.SplitRule(test=0, validation=0.1, salt="inside")
_FOUR = {"views": _RECIPE, "n_views": 4}

WAYS = {
    "1 view": {},
    "2 views": {"views": _RECIPE, "n_views": 2},
    "4 views": _FOUR,
    "4 views, 9 epochs": {**_FOUR, "epochs": 9},
    "8 views, 9 epochs": {"views": _RECIPE, "n_views": 8, "epochs": 9},
    "4 views, a later cut": {**_FOUR, "from_layer": "block_14_add"},
    "4 views, random head": _FOUR,
    "whole network": {**_FOUR, "from_layer": "all"},
}
_RATES = (1e-3, 3e-3, 1e-2)
_KERNEL = ", kernel ridge on its features"


def divided(table: featstore.FeatureTable, outside: np.ndarray) -> featstore.FeatureTable:
    """Return the table with a fold as its test split."""
    splits = np.asarray(table.splits(_INSIDE))
    splits[outside] = "test"
    return table.with_splits(splits)


def random_head(head: featstore.Head) -> featstore.Head:
    """Return the head with weights drawn as Keras draws those of a dense layer (Glorot)."""
    n_classes, dim = head.linear.coef.shape
    limit = (6 / (n_classes + dim)) ** 0.5
    coef = np.random.default_rng(0).uniform(-limit, limit, (n_classes, dim))
    form = replace(head.linear, coef=coef, intercept=np.zeros(n_classes))
    return replace(head, linear=form, temperature=None)


def tuned(head, table, way: str, options: dict, folder: str) -> featstore.Tuned:
    """Tune in one way; the whole network at several rates, of which validation chooses."""
    if way == "4 views, random head":
        head = random_head(head)
    found = []
    for rate in _RATES if way == "whole network" else (None,):
        found.append(
            featstore.finetune(
                head,
                table,
                output=os.path.join(folder, "tuned"),
                learning_rate=rate,
                overwrite=True,
                **options,
            )
        )
        chosen = found[-1].report["epochs"][found[-1].report["chosen"]]
        reporting.note(f"    {way}, rate {rate}: epoch {chosen['epoch']}, {chosen['cross_entropy']:.3f}")
    return min(found, key=lambda one: one.report["epochs"][one.report["chosen"]]["cross_entropy"])


def main() -> None:
    parser = reporting.arguments(__doc__)
    photos.add_options(parser)
    parser.add_argument("--C", type=float, default=0.003, help="of the logistic head")
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--only", type=int, metavar="N", help="the first N folds; default: all")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", metavar="FOLDER", help="where to extract to and keep it; default: nowhere")
    options = parser.parse_args()
    folder, weights = photos.find_trained(options)
    if folder is None or weights is None:
        reporting.note("left out: needs --photos and --weights")
        return
    logging.getLogger("featstore").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or scratch
        store = os.path.join(work, "photos.fstore")
        report = featstore.extract(folder, store, backbone=options.backbone, weights=weights)
        measure(options, featstore.FeatureStore(store), report.space, scratch)


def measure(options, store: featstore.FeatureStore, space: str, folder: str) -> None:
    table = store.table(space=space)
    folds = list(featstore.HashKFold(options.folds).split(table.y, groups=table.content_hash))[: options.only]
    names = ["probe", *(name for way in options.ways for name in (way, way + _KERNEL))]
    right = {name: [] for name in names}
    told = {name: [] for name in names}
    for number, (_, outside) in enumerate(folds, start=1):
        inside = divided(table, outside)
        # Of the same images as the tuned networks: train alone, and validation chooses nothing here.
        head = featstore.fit(inside, params={"C": options.C}, rule=_INSIDE, refit=False)
        both = featstore.fit(inside, params={"C": options.C}, rule=_INSIDE)
        right["probe"].append(both.predict(table.select(outside).X) == table.y[outside])
        for way in options.ways:
            started = time.process_time()
            result = tuned(head, inside, way, {**WAYS[way], "seed": options.seed}, folder)
            features = store.table(space=result.head.space)
            rows = features.select(outside)
            right[way].append(result.head.predict(rows.X) == rows.y)
            told[way].append({**result.report, "processor_s": time.process_time() - started})
            # The network saw the labels of train: validation alone chooses the kernel's parameters.
            kernel = featstore.fit(divided(features, outside), head="rbf", rule=_INSIDE)
            right[way + _KERNEL].append(kernel.predict(rows.X) == rows.y)
            scored = {
                name: f"{100 * np.mean(np.concatenate(right[name])):.2f}" for name in names if right[name]
            }
            reporting.note(f"fold {number}: {scored}")
    order = np.concatenate([outside for _, outside in folds])
    content = table.content_hash[order]
    plain = np.concatenate(right["probe"])
    rows = []
    for name in names:
        is_right = np.concatenate(right[name])
        gain, low, high = paired(is_right, plain, content)
        is_plain = name == "probe"
        epochs = [entry for one in told[name] for entry in one["epochs"][1:]]
        maps = [one["maps"]["bytes_a_view"] for one in told[name] if one["maps"]]
        rows.append(
            (
                name,
                f"{100 * is_right.mean():.2f}",
                "" if is_plain else f"{100 * gain:+.2f}",
                "" if is_plain else f"{100 * low:+.2f} to {100 * high:+.2f}",
                None if is_plain else int((plain & ~is_right).sum()),
                None if is_plain else int((~plain & is_right).sum()),
                float(np.mean([entry["processor_seconds"] for entry in epochs])) if epochs else None,
                maps[0] if maps else None,
            )
        )
    reporting.report(
        f"Fine-tuning, {options.backbone}, from logistic with C={options.C:g}",
        (
            "way",
            "accuracy, %",
            "over the probe, points",
            "95% paired interval",
            "lost",
            "gained",
            "processor s an epoch",
            "bytes a view",
        ),
        rows,
        path=options.json,
        images=f"{len(plain):,}",
        folds=f"{len(folds)} of {options.folds}",
        peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    )


if __name__ == "__main__":
    main()

"""Fine-tuning on stored activation maps against the linear head that it starts from, fold by fold.

Each fold is a test split; a tenth of the other images, by a separate hash, chooses the epoch. The whole
network is trained at three rates in the first fold; the one that validation chooses there is taken in all.
All ways see the same images, so that differences are paired. What a fold found is kept in --work: a run that
was cut short goes on, and ways that were run by several processes are joined in one table.
"""

import json
import logging
import os
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


def tuned(
    head: featstore.Head, table: featstore.FeatureTable, way: str, rates: tuple, seed: int, folder: str
) -> featstore.Tuned:
    """Tune in one way, at each of the rates, of which validation chooses."""
    if way == "4 views, random head":
        head = random_head(head)
    found = []
    for rate in rates:
        found.append(
            featstore.finetune(
                head,
                table,
                output=os.path.join(folder, "tuned"),
                learning_rate=rate,
                seed=seed,
                overwrite=True,
                **WAYS[way],
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
    parser.add_argument(
        "--against", choices=["probe", *WAYS], default="probe", help="way with which the others are compared"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--work", metavar="FOLDER", help="where features and results are kept; default: nowhere"
    )
    parser.add_argument("--kept", action="store_true", help="run nothing: the table of what --work has")
    options = parser.parse_args()
    folder, weights = photos.find_trained(options)
    if folder is None or weights is None:
        reporting.note("left out: needs --photos and --weights")
        return
    logging.getLogger("featstore").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or scratch
        path = os.path.join(work, "photos.fstore")
        report = featstore.extract(folder, path, backbone=options.backbone, weights=weights)
        store = featstore.FeatureStore(path)
        table = store.table(space=report.space)
        folds = [
            rows for _, rows in featstore.HashKFold(options.folds).split(table.y, groups=table.content_hash)
        ]
        found = {}
        for way in ("probe", *options.ways):
            found |= judged(options, store, table, folds[: options.only], way, work=work, scratch=scratch)
        if options.against not in found:
            parser.error(f"--against {options.against}: no fold of it is among the results")
        tell(options, table, found)


def judged(options, store, table, folds: list[np.ndarray], way: str, *, work: str, scratch: str) -> dict:
    """Return what the folds found of a way, and of a kernel head on its features."""
    path = os.path.join(work, f"{way}.json")
    settings = {
        "space": table.spec.name,
        "images": len(table),
        "C": options.C,
        "folds": options.folds,
        "seed": options.seed,
        "way": repr(WAYS.get(way)),
    }
    done = []
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            kept = json.load(file)
        if kept["settings"] != settings:
            raise SystemExit(f"{path} is of other settings: {kept['settings']}, not {settings}; remove it")
        done = kept["done"]
    for number in () if options.kept else range(len(done), len(folds)):
        inside = divided(table, folds[number])
        rates: tuple = (done[0]["rate"],) if number and way != "probe" else (None,)
        if way == "whole network" and not number:
            rates = _RATES
        done.append(in_fold(options, store, inside, folds[number], way, rates, scratch))
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump({"settings": settings, "done": done}, file)
        os.replace(path + ".new", path)
        scores = [
            f"{100 * np.mean([is_right for one in done for is_right in one[name].values()]):.2f}"
            for name in ("right", "kernel")
            if name in done[0]
        ]
        reporting.note(f"{way}, fold {number + 1} of {len(folds)}: {', '.join(scores)}% so far")
    done = done[: len(folds)]
    if way == "probe" or not done:
        return {way: done} if done else {}
    return {way: done, way + _KERNEL: [{"right": one["kernel"]} for one in done]}


def in_fold(options, store, inside, outside: np.ndarray, way: str, rates: tuple, scratch: str) -> dict:
    """Return which images of a fold are right, by path, and what the tuning took."""
    if way == "probe":
        both = featstore.fit(inside, params={"C": options.C}, rule=_INSIDE)
        return {"right": right(both, inside.select(outside))}
    # Of the same images as the tuned networks: train alone, and validation chooses nothing here.
    head = featstore.fit(inside, params={"C": options.C}, rule=_INSIDE, refit=False)
    started = time.process_time()
    result = tuned(head, inside, way, rates, options.seed, scratch)
    taken = time.process_time() - started
    features = store.table(space=result.head.space)
    # The network saw the labels of train: validation alone chooses the kernel's parameters.
    kernel = featstore.fit(divided(features, outside), head="rbf", rule=_INSIDE)
    report = result.report
    return {
        "right": right(result.head, features.select(outside)),
        "kernel": right(kernel, features.select(outside)),
        "rate": report["options"]["learning_rate"],
        "chosen": report["chosen"],
        "epochs": report["epochs"],
        "bytes_a_view": report["maps"] and report["maps"]["bytes_a_view"],
        "processor_s": taken,
    }


def right(head: featstore.Head, table: featstore.FeatureTable) -> dict[str, bool]:
    """Return by path whether an image's label is right."""
    return dict(zip(table.paths.tolist(), (head.predict(table.X) == table.y).tolist(), strict=True))


def tell(options, table: featstore.FeatureTable, found: dict[str, list[dict]]) -> None:
    contents = dict(zip(table.paths.tolist(), table.content_hash.tolist(), strict=True))
    by_path = {name: {k: v for one in done for k, v in one["right"].items()} for name, done in found.items()}
    rows = []
    for name, is_right_of in by_path.items():
        # In the same folds: of a way that was run in fewer, on the images of these.
        shared = [path for path in is_right_of if path in by_path[options.against]]
        is_right = np.array([is_right_of[path] for path in shared])
        plain = np.array([by_path[options.against][path] for path in shared])
        gain, low, high = paired(is_right, plain, np.array([contents[path] for path in shared]))
        epochs = [entry for one in found[name] for entry in one.get("epochs", [])[1:]]
        is_plain = name == options.against
        rows.append(
            (
                name,
                f"{len(found[name])} of {options.folds}",
                len(shared),
                f"{100 * is_right.mean():.2f}",
                "" if is_plain else f"{100 * gain:+.2f}",
                "" if is_plain else f"{100 * low:+.2f} to {100 * high:+.2f}",
                None if is_plain else int((plain & ~is_right).sum()),
                None if is_plain else int((~plain & is_right).sum()),
                float(np.median([entry["processor_seconds"] for entry in epochs])) if epochs else None,
                found[name][0].get("bytes_a_view"),
            )
        )
    reporting.report(
        f"Fine-tuning, {options.backbone}, from logistic with C={options.C:g}",
        (
            "way",
            "folds",
            "photos",
            "accuracy, %",
            f"over {options.against}, points",
            "95% paired interval",
            "lost",
            "gained",
            "processor s an epoch",
            "bytes a view",
        ),
        rows,
        path=options.json,
    )


if __name__ == "__main__":
    main()

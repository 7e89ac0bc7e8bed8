"""What choosing parameters by cross entropy brings, and fitting on validation too: of the same folds.

Each fold is the test of heads that are chosen and fitted on the others, one tenth of which is for choosing.
Needs a store of real features: on random ones it would say nothing.
"""

import logging
from dataclasses import replace

import numpy as np
import reporting

import featstore
from featstore.stats.metrics import log_loss

_WAYS = ("by accuracy", "by cross entropy", "and refitted", "refitted, no temperature")


def fitted(table: featstore.FeatureTable, name: str, rule: featstore.SplitRule) -> dict[str, featstore.Head]:
    """Fit a head in each of the ways, from one sweep."""
    chosen = featstore.fit(table, head=name, rule=rule, refit=False)
    heads = {"by accuracy": chosen, "by cross entropy": chosen}
    setting = {}
    if chosen.sweep:
        setting = {key: chosen.params[key] for key in chosen.sweep[0]["params"]}
        most = max(chosen.sweep, key=lambda step: step["top1"])["params"]
        heads["by accuracy"] = featstore.fit(table, head=name, params=most, rule=rule, refit=False)
    heads["and refitted"] = featstore.fit(table, head=name, params=setting, rule=rule)
    if name == "logistic":
        heads["by accuracy"] = replace(heads["by accuracy"], temperature=None)
        heads["refitted, no temperature"] = replace(heads["and refitted"], temperature=None)
    return heads


def compared(table: featstore.FeatureTable, name: str, n_folds: int) -> list[tuple]:
    """Score each way on all folds; each is compared with the one before it."""
    accuracy: dict[str, list[float]] = {}
    loss: dict[str, list[float]] = {}
    n_images = []
    rule = featstore.SplitRule(test=0, validation=1 / (n_folds - 1), salt="inside")
    for inside, outside in featstore.HashKFold(n_folds).split(table.y, groups=table.content_hash):
        X, y = table.select(outside).X, table.y[outside]
        n_images.append(len(y))
        for way, head in fitted(table.select(inside), name, rule).items():
            probabilities = head.predict_proba(X)
            accuracy.setdefault(way, []).append(float((head.predict(X) == y).mean()))
            loss.setdefault(way, []).append(log_loss(probabilities, np.searchsorted(head.classes, y)))
    rows = []
    for at, way in enumerate(accuracy):
        against = _WAYS[max(0, at - 1)]
        won = [
            sum(a < b for a, b in zip(mine, theirs, strict=True))
            for mine, theirs in (
                (accuracy[against], accuracy[way]),
                (accuracy[way], accuracy[against]),
                (loss[way], loss[against]),
                (loss[against], loss[way]),
            )
        ]
        rows.append(
            (
                name,
                way,
                100 * float(np.average(accuracy[way], weights=n_images)),
                f"{won[0]} : {won[1]}" if at else "",
                f"{np.average(loss[way], weights=n_images):.3f}",
                f"{won[2]} : {won[3]}" if at else "",
            )
        )
    return rows


def main() -> None:
    parser = reporting.arguments(__doc__)
    names = [info.name for info in featstore.known_heads()]
    parser.add_argument("store", help="a store of features of labelled photos")
    parser.add_argument("--heads", nargs="+", choices=names, default=names)
    parser.add_argument("--folds", type=int, default=10)
    options = parser.parse_args()
    # Inner fits have no test split, and each warns of it.
    logging.getLogger("featstore").setLevel(logging.ERROR)
    table = featstore.FeatureStore(options.store).table()
    rows = []
    for name in options.heads:
        reporting.note(name)
        rows += compared(table, name, options.folds)
    reporting.report(
        "Choosing by cross entropy",
        ("head", "way", "accuracy, %", "folds won : lost", "log loss", "folds won : lost"),
        rows,
        path=options.json,
        features=f"{len(table):,} x {table.feature_dim:,} of {len(table.classes)} classes",
        folds=options.folds,
    )


if __name__ == "__main__":
    main()

"""Heads on bfloat16 features against heads on float32 features, of the same photos in the same folds.

Needs photos and trained weights: on random weights it would say nothing.
"""

import os
import tempfile

import numpy as np
import photos
import reporting
from sklearn.base import clone
from sklearn.model_selection import cross_val_predict

import featstore
from featstore.heads.registry import find_head

_FOLDS = featstore.HashKFold(10)
_SETTINGS = {"logistic": {"C": 0.01}, "svm": {"C": 1.0}}


def main() -> None:
    parser = reporting.arguments(__doc__)
    photos.add_options(parser)
    options = parser.parse_args()
    folder, weights = photos.find_trained(options)
    if folder is None or weights is None:
        reporting.note("left out: needs --photos and --weights")
        return
    with tempfile.TemporaryDirectory() as work:
        tables = {}
        for precision in ("float32", "bfloat16"):
            reporting.note(f"extracting in {precision}")
            store = os.path.join(work, f"{precision}.fstore")
            try:
                featstore.extract(
                    folder, store, backbone=options.backbone, weights=weights, precision=precision
                )
            except featstore.FeatstoreError as error:
                reporting.note(f"left out: {error}")
                return
            tables[precision] = featstore.FeatureStore(store).table()
        rows = [compare(head, tables) for head in _SETTINGS]
        wide, narrow = (np.asarray(table.X, np.float64) for table in tables.values())
    cosines = (wide * narrow).sum(1) / np.linalg.norm(wide, axis=1) / np.linalg.norm(narrow, axis=1)
    reporting.report(
        f"Precision, {options.backbone}",
        ("head", "float32", "bfloat16", "difference, points", "only float32 right", "only bfloat16 right"),
        rows,
        path=options.json,
        images=f"{len(wide):,}",
        accuracy="of 10 folds by hash",
        cosine=f"median {np.median(cosines):.4f}, least {cosines.min():.4f}",
    )


def compare(head: str, tables: dict) -> tuple:
    pipeline = (
        find_head(head)
        .make()
        .set_params(**{f"classifier__{name}": value for name, value in _SETTINGS[head].items()})
    )
    right = []
    for table in tables.values():
        predicted = cross_val_predict(
            clone(pipeline), np.asarray(table.X), table.y, groups=table.content_hash, cv=_FOLDS
        )
        right.append(predicted == table.y)
    wide, narrow = right
    return (
        f"{head}, " + ", ".join(f"{name}={value:g}" for name, value in _SETTINGS[head].items()),
        f"{wide.mean():.1%}",
        f"{narrow.mean():.1%}",
        f"{100 * (narrow.mean() - wide.mean()):+.1f}",
        int((wide & ~narrow).sum()),
        int((narrow & ~wide).sum()),
    )


if __name__ == "__main__":
    main()

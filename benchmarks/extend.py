"""Old classes plus new ones: flowers beside ImageNet's 1,000 classes, by each method.

Needs photos of new classes, samples of ImageNet's, and MobileNetV2's weights with their classifier. The new
photos are dealt again and again into those fitted on and a tenth to test; old ones are held out by folds, so
that the loss is of photos by which nothing was chosen. Without old
photos the loss is measured on all samples.
"""

import logging
import os
import tempfile
import time

import numpy as np
import photos
import reporting

import featstore
from featstore.extending import METHODS, imagenet_classes
from featstore.stats.intervals import wilson_interval

_PROTOTYPE = {
    ("gate", True): "new 0.86, old 0.84 to 0.82 (logistic gate)",
    ("columns", True): "new 0.88, old 0.84 to 0.76 (replay)",
    ("columns", False): "new 0.89, old 0.84 to 0.02 (no replay)",
    ("imprinting", False): "new 0.76, old 0.84 to 0.83",
}


def listed(samples: str, work: str) -> str:
    """Write the list of samples, which are named NNN_wnid_name after their class's number."""
    names = imagenet_classes()
    path = os.path.join(work, "samples.csv")
    with open(path, "w", encoding="utf-8") as file:
        file.write("path,label\n")
        for name in sorted(os.listdir(samples)):
            file.write(f"{os.path.join(samples, name)},{names[int(name[:3])]}\n")
    return path


def measure(
    old: featstore.Head,
    new: featstore.FeatureTable,
    samples: featstore.FeatureTable,
    *,
    method: str,
    limit: float | None,
    same: dict[str, str],
    repeats: int,
    head: str = "logistic",
) -> tuple:
    """Extend on several splits of the new photos; without a limit, no old photo is used."""
    right, alone, n, lost, n_old, losses, errors, taken = 0.0, 0.0, 0, 0, 0, [], [], []
    # The old head's own space comes first.
    before = old.predict(samples.X[:, : old.feature_dim]) == samples.y
    for repeat in range(repeats):
        started = time.perf_counter()
        extended = featstore.extend(
            old,
            new,
            method=method,
            head=head,
            old_table=None if limit is None else samples,
            max_loss=0.02 if limit is None else limit,
            same=same,
            rule=featstore.SplitRule(salt=str(repeat)),
        )
        taken.append(time.perf_counter() - started)
        scores = extended.extension["scores"]
        n += scores["new"]["n"]
        right += scores["new"]["n"] * scores["new"]["top1"]
        alone += scores["new"]["n"] * scores["alone"]["top1"]
        if limit is None:
            lost += int((before & (extended.predict(samples.X) != samples.y)).sum())
            n_old += len(samples)
        else:
            lost, n_old = lost + scores["old"]["n_lost"], n_old + scores["old"]["n"]
        losses.append(scores["calibration"]["log_loss"])
        errors.append(scores["calibration"]["calibration_error"])
    is_first = limit in (None, 0.02) and not same and head == "logistic"
    low, high = wilson_interval(round(right / repeats), round(n / repeats))
    return (
        method + (f", {head}" if head != "logistic" else "") + (", joined" if same else ""),
        new.feature_dim,
        "none" if limit is None else f"at most {limit:g}",
        right / n,
        f"{low:.3f} to {high:.3f}",
        n,
        alone / n,
        lost / n_old,
        n_old,
        float(np.mean(losses)),
        float(np.mean(errors)),
        reporting.median(taken),
        _PROTOTYPE.get((method, limit is not None)) if is_first else None,
    )


def main() -> None:
    parser = reporting.arguments(__doc__)
    parser.add_argument("--photos", metavar="FOLDER", help="class folders; default: beside the checkout")
    parser.add_argument("--samples", metavar="FOLDER", help="default: beside the checkout")
    parser.add_argument("--weights", metavar="FILE", help="with the classifier; default: beside the checkout")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--limits", nargs="*", type=float, default=[0.01, 0.02, 0.03])
    parser.add_argument("--head", default="logistic", help="of the new classes behind a gate")
    parser.add_argument("--features", choices=["rich"], help="that the new classes see beside the old head's")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[224], help="pixels; the old head has the first"
    )
    parser.add_argument("--work", metavar="FOLDER", help="where to extract to and keep it; default: nowhere")
    parser.add_argument("--repeats", type=int, default=10, help="splits of the new photos")
    options = parser.parse_args()
    folder = options.photos or photos.beside_checkout("flowers")
    samples = options.samples or photos.beside_checkout("imagenet_samples")
    weights = options.weights or photos.beside_checkout("weights", "mobilenet_v2_1.0_224.h5")
    if folder is None or samples is None or weights is None:
        reporting.note("left out: needs --photos, --samples and --weights")
        return
    logging.getLogger("featstore").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or scratch
        os.makedirs(work, exist_ok=True)
        path = os.path.join(work, "features.fstore")
        for source, catalog in ((folder, "new"), (listed(samples, work), "samples")):
            report = featstore.extract(
                source,
                path,
                backbone="mobilenet_v2",
                weights=weights,
                catalog=catalog,
                features=options.features,
                image_size=options.sizes,
            )
        spaces = report.space.split("+")
        store = featstore.FeatureStore(path)
        old = featstore.import_head("mobilenet_v2", weights=weights)
        new, known = (store.table(space=spaces, catalog=name) for name in ("new", "samples"))
        joined = {label: label for label in new.classes.tolist() if label in old.classes}
        ways = [(method, limit, {}) for method in options.methods for limit in (*options.limits, None)]
        if joined and "gate" in options.methods:
            ways.append(("gate", 0.02, joined))
        before = old.predict(known.X[:, : old.feature_dim]) == known.y
        rows = []
        for method, limit, same in ways:
            reporting.note(f"{method}, {'no old photo' if limit is None else limit} {same or ''}")
            rows.append(
                measure(
                    old,
                    new,
                    known,
                    method=method,
                    limit=limit,
                    same=same,
                    repeats=options.repeats,
                    head=options.head if method == "gate" else "logistic",
                )
            )
        reporting.report(
            "Old classes plus new ones",
            (
                "method",
                "columns",
                "allowed loss",
                "new accuracy",
                "95% interval of one split",
                "n",
                "new classes alone",
                "old accuracy lost",
                "n",
                "log loss",
                "calibration error",
                "seconds",
                "prototype",
            ),
            rows,
            path=options.json,
            new=f"{len(new):,} photos of {len(new.classes)} classes",
            old=f"{len(known):,} photos, accuracy {before.mean():.3f} before",
            splits=options.repeats,
        )


if __name__ == "__main__":
    main()

"""What further layers, sizes and the head rbf bring on photos, in the same folds, and what layers cost.

Every choice is made inside a fold. Accuracy needs photos and trained weights: on random weights it would say
nothing.
"""

import json
import logging
import os
import tempfile
import time
from collections import Counter
from dataclasses import dataclass

import numpy as np
import photos
import reporting
from views import paired

import featstore
from featstore.backbones.several import load_backbones
from featstore.images import write_digits
from featstore.stats.intervals import wilson_interval

_FOLDS = featstore.HashKFold(10)
# A separate salt for what is divided inside a fold, and no split: the folds are the test.
_RULE = featstore.SplitRule(test=0, validation=0, salt="inside")


@dataclass(frozen=True, kw_only=True)
class Way:
    """Features and a head on them."""

    name: str
    spaces: list[str]
    head: str


def judged(table: featstore.FeatureTable, head: str, folds: int) -> tuple[np.ndarray, float, float]:
    """Return which images are right in the fold without them, the log loss, and the seconds of a fit."""
    is_right, losses, taken = np.zeros(len(table), bool), np.zeros(len(table)), []
    for inside, outside in _FOLDS.split(table.y, groups=table.content_hash):
        started = time.perf_counter()
        fitted = featstore.fit(table.select(inside), head=head, rule=_RULE, folds=folds)
        taken.append(time.perf_counter() - started)
        labels, probabilities = fitted.predict_with_proba(table.X[outside])
        is_right[outside] = labels == table.y[outside]
        own = np.searchsorted(fitted.classes, table.y[outside])
        losses[outside] = -np.log(np.maximum(probabilities[np.arange(len(own)), own], 1e-15))
    return is_right, float(losses.mean()), reporting.median(taken)


def measure(options, store: featstore.FeatureStore, ways: list[Way], what: str) -> None:
    """Print the table of ways, each compared with the first."""
    rows, plain = [], None
    for way in ways:
        table = store.table(space=way.spaces)
        is_right, loss, taken = judged(table, way.head, options.folds)
        plain = is_right if plain is None else plain
        reporting.note(f"{way.name}, {way.head}: {100 * is_right.mean():.1f}% right, {taken:.1f} s a fit")
        gain, low, high = paired(is_right, plain, table.content_hash)
        least, most = wilson_interval(int(is_right.sum()), len(table))
        rows.append(
            (
                way.name,
                table.feature_dim,
                way.head,
                f"{100 * is_right.mean():.1f}",
                f"{100 * least:.1f} to {100 * most:.1f}",
                f"{100 * gain:+.1f}",
                f"{100 * low:+.1f} to {100 * high:+.1f}",
                f"{loss:.3f}",
                taken,
            )
        )
    header = ("features", "columns", "head", "accuracy, %", "95% interval", "over plain, points")
    reporting.report(
        f"Features, {what}",
        (*header, "95% paired interval", "log loss", "fit with choosing, s"),
        rows,
        path=options.json and options.json + f".{what.replace(', ', '-')}.json",
        images=f"{len(plain):,}",
        accuracy=f"of 10 folds by hash; parameters by {options.folds} folds inside each",
    )


def list_kinds(hierarchy: str, samples: str, work: str, least: int = 5) -> str:
    """List the samples, named NNN_wnid_name, of superclasses that have enough of them."""
    with open(hierarchy, encoding="utf-8") as file:
        kinds = json.load(file)["super_classes"]
    kind_of = {wnid: kind for kind, members in kinds.items() for wnid in members}
    found = [(name, kind_of.get(name.split("_")[1])) for name in sorted(os.listdir(samples))]
    counts = Counter(kind for _, kind in found if kind is not None)
    path = os.path.join(work, "kinds.csv")
    with open(path, "w", encoding="utf-8") as file:
        file.write("path,label\n")
        for name, kind in found:
            if counts[kind] >= least:
                file.write(f"{os.path.join(samples, name)},{kind}\n")
    return path


def measure_photos(options, folder: str, weights: str | None, work: str, what: str) -> None:
    path = os.path.join(work, f"{what}.fstore")
    report = featstore.extract(
        folder,
        path,
        backbone=options.backbone,
        weights=weights,
        preprocess=options.preprocess,
        features="rich",
        image_size=options.sizes,
    )
    spaces = report.space.split("+")
    last, both = spaces[:1], spaces[:2]
    sizes = [f"{size} px" for size in options.sizes]
    ways = [
        Way(name=f"{sizes[0]}, last layer", spaces=last, head="logistic"),
        Way(name=f"{sizes[0]}, last layer", spaces=last, head="rbf"),
        Way(name=f"{sizes[0]}, two layers", spaces=both, head="ridge"),
        Way(name=f"{sizes[0]}, two layers", spaces=both, head="logistic"),
        Way(name=f"{sizes[0]}, two layers", spaces=both, head="rbf"),
    ]
    for number, size in enumerate(sizes[1:], 1):
        ways.append(Way(name=f"{size}, two layers", spaces=spaces[2 * number : 2 * number + 2], head="rbf"))
    if len(sizes) > 1:
        ways.append(Way(name=f"{' + '.join(sizes)}, two layers each", spaces=spaces, head="rbf"))
    measure(options, featstore.FeatureStore(path), ways, f"{os.path.basename(options.backbone)}, {what}")


def measure_digits(options, work: str) -> None:
    write_digits(os.path.join(work, "digits"))
    report = featstore.extract(
        os.path.join(work, "digits"), os.path.join(work, "digits.fstore"), backbone="scattering"
    )
    ways = [Way(name="scattering", spaces=[report.space], head=head) for head in ("logistic", "ridge", "rbf")]
    measure(options, featstore.FeatureStore(report.store), ways, "digits")


def measure_cost(options, folder: str, weights: str | None, work: str) -> None:
    """Print the processor time of extractions, one after another in each round."""
    paths = [record.path for record in featstore.images.open_source(folder).records][: options.images]
    paths = [os.path.join(folder, path) for path in paths]
    known = {"weights": weights, "preprocess": options.preprocess}
    layers = [one.spec.layer for one in load_backbones(options.backbone, features="rich", **known)]
    sizes = options.sizes
    ways = {"one layer": (layers[:1], sizes[:1]), "two layers": (layers, sizes[:1])}
    if len(sizes) > 1:
        ways |= {f"{size} px alone, two layers": (layers, [size]) for size in sizes}
        ways["all sizes in one run, two layers"] = (layers, sizes)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(options.rounds + 1):
        for name, (some, at) in ways.items():
            with tempfile.TemporaryDirectory(dir=work) as scratch:
                loaded = load_backbones(options.backbone, layer=some, image_size=[*at], **known)
                before = time.process_time()
                featstore.extract(paths, os.path.join(scratch, "photos.fstore"), backbone=loaded)
                # The first round converts networks.
                if number:
                    taken[name].append(time.process_time() - before)
    base = taken["one layer"]
    alone = np.sum([taken[f"{size} px alone, two layers"] for size in sizes], axis=0) if sizes[1:] else None
    rows = []
    for name, seconds in taken.items():
        ratio = reporting.median([one / other for one, other in zip(seconds, base, strict=True)])
        of_sum = ""
        if name.startswith("all sizes"):
            shares = [one / other for one, other in zip(seconds, alone, strict=True)]
            of_sum = f"{reporting.median(shares):.3f}"
        rows.append((name, f"{1000 * reporting.median(seconds) / len(paths):.1f}", f"{ratio:.3f}", of_sum))
    reporting.report(
        f"Cost of layers and sizes, {os.path.basename(options.backbone)}",
        ("extraction", "processor ms an image", "over one layer", "over the sum of sizes alone"),
        rows,
        path=options.json and options.json + ".cost.json",
        images=f"{len(paths):,}",
        rounds=f"{options.rounds}, interleaved; medians, ratios within a round",
    )


def main() -> None:
    parser = reporting.arguments(__doc__)
    photos.add_options(parser)
    parser.add_argument("--preprocess", help="of a model of your own")
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 320, 448], help="pixels")
    parser.add_argument("--folds", type=int, default=5, help="inside each fold, to choose parameters by")
    parser.add_argument(
        "--kinds",
        metavar="FILE",
        help="iirc_imagenet_hierarchy_wnids.json of the PyPI package iirc: kinds of ImageNet's samples",
    )
    parser.add_argument("--samples", metavar="FOLDER", help="of ImageNet; default: beside the checkout")
    known = ("photos", "kinds", "digits", "cost")
    parser.add_argument("--only", nargs="+", choices=known, default=known)
    parser.add_argument("--images", type=int, default=200, help="of which the cost is measured")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--work", metavar="FOLDER", help="where to extract to and keep it; default: nowhere")
    options = parser.parse_args()
    # Fits inside a fold have no validation or test split, and each warns of it.
    logging.getLogger("featstore").setLevel(logging.ERROR)
    folder, weights = photos.find_trained(options)
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or scratch
        os.makedirs(work, exist_ok=True)
        if folder is None:
            reporting.note("only the digits: photos need --photos and --weights")
        if "photos" in options.only and folder is not None:
            measure_photos(options, folder, weights, work, "photos")
        samples = options.samples or photos.beside_checkout("imagenet_samples")
        if "kinds" in options.only and options.kinds and samples:
            measure_photos(options, list_kinds(options.kinds, samples, work), weights, work, "kinds")
        if "digits" in options.only:
            measure_digits(options, work)
        if "cost" in options.only and folder is not None:
            measure_cost(options, folder, weights, work)


if __name__ == "__main__":
    main()

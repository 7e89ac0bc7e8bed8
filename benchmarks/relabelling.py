"""What reviewing suspects brings back of the accuracy that wrong labels cost.

Of the photos, 250 drawn at random are the test, whose labels stay right. Of the others a share gets another
label, drawn at random. Heads are `logistic` with C = 0.03: fitted on the right labels, on the wrong ones, and
after a review of the first suspects, in which each gets its right label, as `featstore review` would write
it. Beside it the same number of images drawn at random is reviewed. Each seed is another test and other
errors; intervals are over the seeds, of the share by bootstrap. Accuracy needs photos and trained weights.
"""

import logging
import os
import tempfile
from dataclasses import replace

import numpy as np
import photos
import reporting
from labelling import interval

import featstore

_TEST, _PARAMS = 250, {"C": 0.03}
_ALL = featstore.SplitRule(test=0, validation=0)
_REVIEWED = (0.01, 0.025, 0.05, 0.1)


def simulate(
    store: featstore.FeatureStore,
    truth: featstore.FeatureTable,
    distinct: np.ndarray,
    seed: int,
    share: float,
) -> dict[str, tuple[float, float, int]]:
    """Return accuracy, cross entropy and the number of errors mended, by what was reviewed."""
    random = np.random.default_rng(seed)
    order = random.permutation(distinct)
    test, pool = truth.select(order[:_TEST]), np.sort(order[_TEST:])
    wrong = random.choice(pool, round(share * len(pool)), replace=False)
    labels = truth.y.tolist()
    for row in wrong:
        labels[row] = random.choice([label for label in truth.classes.tolist() if label != labels[row]])
    store.write_catalog(replace(store.catalog(truth.catalog_name), name="wrong", labels=labels))
    noisy = store.table(catalog="wrong").select(pool)
    right_label = dict(zip(truth.content_hash.tolist(), truth.y.tolist(), strict=True))
    suspects = featstore.find_suspects(noisy, params=_PARAMS).suspects
    found = {
        "right labels": scores(truth.select(pool), test),
        "wrong labels": scores(noisy, test),
    }
    of = dict(zip(noisy.content_hash.tolist(), noisy.y.tolist(), strict=True))
    ranked = [one.content_hash for one in suspects]
    drawn = random.permutation(noisy.content_hash).tolist()
    for reviewed in _REVIEWED:
        for name, hashes in (("suspects", ranked), ("at random", drawn)):
            if name == "at random" and reviewed != 0.05:
                continue
            chosen = hashes[: round(reviewed * len(pool))]
            corrections = featstore.Corrections(
                tuple(
                    featstore.Correction(
                        content_hash=content, decision="relabel", old=of[content], new=right_label[content]
                    )
                    for content in chosen
                )
            )
            mended = featstore.correct_labels(noisy, corrections)
            n_mended = sum(of[content] != right_label[content] for content in chosen)
            found[f"{reviewed:.1%} reviewed, {name}"] = (*scores(mended, test)[:2], n_mended)
    return found


def scores(train: featstore.FeatureTable, test: featstore.FeatureTable) -> tuple[float, float, int]:
    """Return accuracy and cross entropy on the test of a head fitted on all of a table."""
    head = featstore.fit(train.with_splits(["train"] * len(train)), params=_PARAMS, rule=_ALL)
    likely = head.predict_proba(test.X)
    at = np.searchsorted(head.classes, test.y)
    own = likely[np.arange(len(test)), at]
    return float((likely.argmax(axis=1) == at).mean()), float(-np.log(own).mean()), 0


def recovered(after: np.ndarray, noisy: np.ndarray, clean: np.ndarray) -> tuple[float, float, float]:
    """Return the share of the mean loss that is gone, and its 95% interval by bootstrap over seeds."""
    random = np.random.default_rng(0)
    draws = random.integers(0, len(after), (10_000, len(after)))
    gained, lost = (after - noisy)[draws].mean(axis=1), (clean - noisy)[draws].mean(axis=1)
    low, high = np.quantile(gained / lost, [0.025, 0.975])
    return float((after - noisy).mean() / (clean - noisy).mean()), float(low), float(high)


def draw(path: str, found: dict[str, np.ndarray], n_pool: int) -> None:
    """Draw accuracy by the share that was reviewed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.add_subplot()
    for name, colour in (("right labels", "#009e73"), ("wrong labels", "#d55e00")):
        mean, half = interval(found[name][:, 0])
        axes.axhline(mean, color=colour, linewidth=1.5, label=name)
        axes.axhspan(mean - half, mean + half, color=colour, alpha=0.12, linewidth=0)
    names = [f"{reviewed:.1%} reviewed, suspects" for reviewed in _REVIEWED]
    points = [interval(found[name][:, 0]) for name in ["wrong labels", *names]]
    means, halves = zip(*points, strict=True)
    at = [0, *(100 * reviewed for reviewed in _REVIEWED)]
    axes.errorbar(at, means, halves, color="#0072b2", marker="o", capsize=3, label="suspects reviewed")
    mean, half = interval(found["5.0% reviewed, at random"][:, 0])
    axes.errorbar([5.15], [mean], [half], color="#6b7480", marker="s", capsize=3, label="drawn at random")
    axes.set_xlabel(f"reviewed, % of {n_pool:,} training images")
    axes.set_ylabel("accuracy on right labels, %")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None, dpi=130)


def main() -> None:
    parser = reporting.arguments(__doc__)
    photos.add_options(parser)
    parser.add_argument("--seeds", type=int, default=25)
    parser.add_argument("--share", type=float, default=0.05, help="share of labels that are wrong")
    parser.add_argument("--plot", metavar="FILE", help="also draw the accuracy")
    options = parser.parse_args()
    # A head of all images has no test split, and each warns of it.
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
        _, distinct = np.unique(truth.content_hash, return_index=True)
        runs = []
        for seed in range(options.seeds):
            runs.append(simulate(store, truth, distinct, seed, options.share))
            told = ", ".join(f"{name} {100 * one[0]:.1f}" for name, one in runs[-1].items())
            reporting.note(f"seed {seed}: {told}")
    found = {name: np.array([run[name] for run in runs], float) * (100, 1, 1) for name in runs[0]}
    n_pool = len(distinct) - _TEST
    clean, noisy = found["right labels"], found["wrong labels"]
    rows = []
    for name, values in found.items():
        mean, half = interval(values[:, 0])
        row = [name, f"{mean:.2f} ± {half:.2f}"]
        if name.endswith("labels"):
            row += ["", ""]
        else:
            share, low, high = recovered(values[:, 0], noisy[:, 0], clean[:, 0])
            row += [f"{values[:, 2].mean():.1f}", f"{share:.0%} ({low:.0%} to {high:.0%})"]
        entropy, half = interval(values[:, 1])
        row.append(f"{entropy:.3f} ± {half:.3f}")
        if name.endswith("labels"):
            row.append("")
        else:
            share, low, high = recovered(values[:, 1], noisy[:, 1], clean[:, 1])
            row.append(f"{share:.0%} ({low:.0%} to {high:.0%})")
        rows.append(row)
    n_wrong = round(options.share * n_pool)
    reporting.report(
        f"Reviewing suspects, {os.path.basename(options.backbone)}",
        [
            "fitted on",
            "accuracy, %",
            f"of {n_wrong} errors mended",
            "of the lost accuracy",
            "cross entropy",
            "of the gained entropy",
        ],
        rows,
        path=options.json,
        images=f"{n_pool:,} to fit on, {_TEST} the test",
        seeds=f"{options.seeds}; ± is the 95% interval over them, in brackets it is by bootstrap",
    )
    if options.plot:
        draw(options.plot, found, n_pool)


if __name__ == "__main__":
    main()

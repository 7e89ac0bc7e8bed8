"""`featstore compare`."""

from typing import TYPE_CHECKING, Any

import click

from featstore.messages import count

from ..finding import find_head, find_table, is_file, load_any_head
from ..options.shared import corrections_option, json_option, trust_option, verify_reads_option
from ..printing import echo, example, interval_text, note, print_json, print_more, print_table, share

if TYPE_CHECKING:
    from featstore import Comparison, LabelComparison, RegressionComparison

__all__ = ["compare"]

_LISTED_LABELS = 30


@click.command(
    epilog=example(
        "featstore fit digits.fstore --head svm", "featstore compare logistic svm --store digits.fstore"
    ),
    short_help="Compare heads with significance tests.",
)
@click.argument("heads", metavar="HEAD HEAD...", nargs=-1, required=True)
@click.option(
    "--store",
    type=click.Path(),
    help="Store of heads given by name, and of the features for .head files outside a store.  "
    "[default: the only store here]",
)
@click.option(
    "--split",
    type=click.Choice(["validation", "test"]),
    default="test",
    help="Split to compare on.",
)
@corrections_option
@trust_option
@verify_reads_option
@json_option
def compare(heads: tuple[str, ...], store: str | None, split: str, as_json: bool) -> None:
    """Compare the accuracy of HEADs on the same images, which none of them was trained on.

    A HEAD is the name of a head in the store, or a .head file; they may use different backbones and, as files
    within a store, different stores. Each difference is reported with its 95% interval (paired bootstrap) and
    McNemar's exact test, with Holm's correction for more than two heads.

    Heads that give several labels are compared by mean average precision, micro and macro F1 and the share of
    images whose labels are all right; each label is reported with the images on which only one is right.
    Heads that predict a number are compared by mean absolute error.
    """
    import featstore

    if len(heads) < 2:
        raise click.UsageError(f"a comparison needs at least two heads; found {len(heads)}")
    fitted, tables, paths = [], [], []
    for head in heads:
        # The features of a head file within a store are in that store.
        path, home = find_head(head, None if is_file(head) else store)
        if path in paths:
            raise click.UsageError(f"{head} is given twice; a comparison needs different heads")
        paths.append(path)
        fitted.append(load_any_head(path))
        tables.append(find_table(fitted[-1], home or store))
    several = [one for one in fitted if isinstance(one, featstore.MultiLabelHead)]
    numbers = [one for one in fitted if isinstance(one, featstore.RegressionHead)]
    given: dict[str, Any] = {"tables": tables, "split": split, "names": list(heads)}
    if numbers and len(numbers) < len(fitted):
        raise click.UsageError(
            f"{numbers[0].name} predicts a number, and others of {', '.join(heads)} give labels: "
            "compare heads of one kind"
        )
    if numbers:
        of_numbers = featstore.compare_regression(numbers, **given)
        print_json(of_numbers.to_dict()) if as_json else _print_numbers(of_numbers)
        return
    if not several:
        comparison = featstore.compare([one for one in fitted if isinstance(one, featstore.Head)], **given)
        print_json(comparison.to_dict()) if as_json else _print_comparison(comparison)
        return
    if len(several) < len(fitted):
        raise click.UsageError(
            f"{several[0].name} gives several labels an image, and others of {', '.join(heads)} give one: "
            "compare heads of one kind"
        )
    of_labels = featstore.compare_labels(several, **given)
    print_json(of_labels.to_dict()) if as_json else _print_labels(of_labels)


def _print_comparison(comparison: "Comparison") -> None:
    values = comparison.to_dict()
    click.echo(f"on {count(values['n'], 'image')} in {values['split']} for every head")
    _note_left_out(comparison)
    click.echo()
    print_table(
        ("head", "space", "views", "accuracy", "95% interval"),
        [
            (one["name"], one["space"], one["test_views"], share(one["top1"]), interval_text(one["top1_ci"]))
            for one in values["heads"]
        ],
        left=2,
    )
    click.echo()
    rows = []
    for pair in values["pairs"]:
        low, high = pair["difference_ci"]
        rows.append(
            (
                pair["a"],
                pair["b"],
                *(pair[name] for name in ("both_right", "only_a", "only_b", "both_wrong")),
                f"{100 * pair['difference']:+.1f}",
                f"{100 * low:+.1f} to {100 * high:+.1f}",
                f"{pair['p']:.3f}",
            )
        )
    header = ("A", "B", "both right", "only A", "only B", "both wrong", "B - A, points", "95% interval", "p")
    print_table(header, rows, left=2)
    click.echo()
    for pair in values["pairs"]:
        echo(pair["verdict"])


def _print_labels(comparison: "LabelComparison") -> None:
    click.echo(f"on {count(comparison.n, 'image')} in {comparison.split} for every head")
    _note_left_out(comparison)
    click.echo()
    scores = {"map": "mAP", "micro_f1": "micro F1", "macro_f1": "macro F1", "subset_accuracy": "all right"}
    print_table(
        ("head", "space", "views", *scores.values()),
        [
            (one["name"], one["space"], one["test_views"], *(_share(one[score]) for score in scores))
            for one in comparison.heads
        ],
        left=2,
    )
    for pair in comparison.pairs:
        click.echo()
        rows = [
            (name, _points(pair[score]), _points_interval(pair[f"{score}_ci"]))
            for score, name in scores.items()
        ]
        print_table((f"{pair['b']} - {pair['a']}", "points", "95% interval"), rows)
        click.echo(
            f"images all right: both {pair['both_right']:,}, only {pair['a']} {pair['only_a']:,}, only "
            f"{pair['b']} {pair['only_b']:,}, neither {pair['both_wrong']:,} (p = {pair['p']:.3f})"
        )
        changed = sorted(pair["labels"], key=lambda one: -one["gained"] - one["lost"])[:_LISTED_LABELS]
        labels = [
            (
                one["label"],
                one["n"],
                one["gained"],
                one["lost"],
                _points(one["average_precision"]),
                _points_interval(one["average_precision_ci"]),
            )
            for one in changed
        ]
        click.echo()
        print_table(("label", "n", "gained", "lost", "AP, points", "95% interval"), labels)
        print_more(len(pair["labels"]) - len(changed), "--json lists them")
    click.echo()
    for pair in comparison.pairs:
        echo(pair["verdict"])


def _print_numbers(comparison: "RegressionComparison") -> None:
    click.echo(f"on {count(comparison.n, 'image')} in {comparison.split} for every head")
    _note_left_out(comparison)
    click.echo()
    rows = [
        (
            one["name"],
            one["space"],
            f"{one['mae']:.4g}",
            _number_interval(one["mae_ci"]),
            f"{one['rmse']:.4g}",
        )
        for one in comparison.heads
    ]
    print_table(("head", "space", "mean absolute error", "95% interval", "RMSE"), rows, left=2)
    click.echo()
    differences = [
        (
            *(pair[name] for name in ("a", "b", "n_closer_a", "n_closer_b")),
            f"{pair['difference']:+.4g}",
            _number_interval(pair["difference_ci"]),
        )
        for pair in comparison.pairs
    ]
    print_table(("A", "B", "A closer", "B closer", "B - A", "95% interval"), differences, left=2)
    click.echo()
    for pair in comparison.pairs:
        echo(pair["verdict"])


def _number_interval(ends: list[float]) -> str:
    return f"{ends[0]:.4g} to {ends[1]:.4g}"


def _share(value: float | None) -> str:
    return "" if value is None else share(value)


def _points(difference: float | None) -> str:
    return "" if difference is None else f"{100 * difference:+.1f}"


def _points_interval(ends: list[float] | None) -> str:
    return "" if ends is None else f"{100 * ends[0]:+.1f} to {100 * ends[1]:+.1f}"


def _note_left_out(comparison: "Comparison | LabelComparison | RegressionComparison") -> None:
    if comparison.rules_differ:
        note("the heads use different split rules")
    if comparison.split == "validation":
        note("the heads were tuned on these images: their accuracies are optimistic")
    if comparison.resampling["unit"] != "image":
        note(
            f"intervals and p are by {comparison.resampling['unit']} (n = {comparison.resampling['n']:,}), "
            "p by a sign-flip permutation test"
        )
    reasons = {
        "removed": "their class was removed from a head",
        "seen": "another head was trained or tuned on them, or on others of their group",
        "absent": "another head has no features or no label for them",
        "conflicting": "they have conflicting labels",
    }
    for name, reason in reasons.items():
        if n_images := comparison.left_out[name]:
            note(f"{count(n_images, 'image')} left out: {reason}")

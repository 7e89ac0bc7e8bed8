"""`featstore compare`."""

from typing import TYPE_CHECKING

import click

from featstore.messages import count

from .finding import find_head, find_table, is_file, load_head
from .options import corrections_option, json_option, trust_option, verify_reads_option
from .printing import echo, example, interval_text, note, print_json, print_table, share

if TYPE_CHECKING:
    from featstore import Comparison

__all__ = ["compare"]


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
    """
    import featstore

    if len(heads) < 2:
        raise click.UsageError(f"a comparison needs at least two heads; found {len(heads)}")
    fitted, tables = [], []
    for head in heads:
        # The features of a head file within a store are in that store.
        path, home = find_head(head, None if is_file(head) else store)
        fitted.append(load_head(path))
        tables.append(find_table(fitted[-1], home or store))
    names = list(heads) if len(set(heads)) == len(heads) else None
    comparison = featstore.compare(fitted, tables, split=split, names=names)
    if as_json:
        print_json(comparison.to_dict())
        return
    _print_comparison(comparison)


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


def _note_left_out(comparison: "Comparison") -> None:
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

"""`featstore compare`."""

from typing import TYPE_CHECKING

import click

from .console import (
    count,
    example,
    json_option,
    note,
    print_json,
    print_table,
    say,
    share,
    verify_reads_option,
)
from .finding import find_head, find_table, is_file

if TYPE_CHECKING:
    from featstore import Comparison

__all__ = ["compare"]


@click.command(
    epilog=example(
        "featstore fit digits.fstore --head svm", "featstore compare logistic svm --store digits.fstore"
    ),
    short_help="Say which of several heads is better.",
)
@click.argument("heads", metavar="HEAD HEAD...", nargs=-1, required=True)
@click.option(
    "--store",
    type=click.Path(),
    help="Where heads given by name are, and the features of .head files outside of a store.  "
    "[default: the only one here]",
)
@click.option(
    "--split",
    type=click.Choice(["validation", "test"]),
    default="test",
    show_default=True,
    help="Which images to compare on.",
)
@verify_reads_option
@json_option
def compare(heads: tuple[str, ...], store: str | None, split: str, as_json: bool) -> None:
    """Compare HEADs on the same images, of which none was trained on.

    A HEAD is the name of a head in the store, or a .head file; they may be of different backbones and, as
    files in their stores, of different stores. Differences come with their 95% interval by the paired
    bootstrap and with McNemar's exact test, for more than two heads with Holm's correction.
    """
    import featstore

    if len(heads) < 2:
        raise click.UsageError(f"a comparison needs at least two heads; found {len(heads)}")
    fitted, tables = [], []
    for head in heads:
        # A file in a store has its features there, wherever the others are.
        path, home = find_head(head, None if is_file(head) else store)
        fitted.append(featstore.Head.load(path))
        tables.append(find_table(fitted[-1], home or store))
    names = list(heads) if len(set(heads)) == len(heads) else None
    comparison = featstore.compare(fitted, tables, split=split, names=names)
    if as_json:
        print_json(comparison.to_dict())
        return
    _print_comparison(comparison)


def _print_comparison(comparison: "Comparison") -> None:
    told = comparison.to_dict()
    click.echo(f"on {count(told['n'], 'image')} that are in {told['split']} for every head")
    _note_left_out(comparison)
    click.echo()
    print_table(
        ("head", "space", "accuracy", "95% interval"),
        [
            (one["name"], one["space"], share(one["top1"]), " to ".join(map(share, one["top1_ci"])))
            for one in told["heads"]
        ],
        left=2,
    )
    click.echo()
    rows = []
    for pair in told["pairs"]:
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
    for pair in told["pairs"]:
        say(pair["verdict"])


def _note_left_out(comparison: "Comparison") -> None:
    if comparison.rules_differ:
        note("the heads divide the images by different rules")
    if comparison.split == "validation":
        note("the heads were chosen on these images: their accuracies are too good")
    if comparison.resampling["unit"] != "image":
        note(
            f"interval and p are by {comparison.resampling['unit']} (n = {comparison.resampling['n']:,}), "
            "p from random flips of sign"
        )
    reasons = {
        "seen": "another head was trained or chosen on them, or on others of their group",
        "absent": "another head has no features or no label for them",
        "conflicting": "they have several labels",
    }
    for name, reason in reasons.items():
        if n_images := comparison.left_out[name]:
            note(f"{count(n_images, 'image')} left out: {reason}")

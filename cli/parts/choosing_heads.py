"""`featstore fit --head auto`."""

from typing import TYPE_CHECKING, Any

import click

from ..options.shared import Duration
from ..printing import accuracy_text, bar, echo, interval_text, note, print_table, share

if TYPE_CHECKING:
    from featstore import FeatureTable, HeadChoice

__all__ = ["AUTO", "budget_option", "choose_head", "print_choice"]

AUTO = "auto"

_DEFAULT_S = 60.0

budget_option = click.option(
    "--budget",
    "budget_s",
    type=Duration(),
    help="Time in which --head auto compares heads, such as 60s, 5m or 1h.  [default: 60s]",
)


def choose_head(
    table: "FeatureTable", *, params: object, budget_s: float | None, quiet: bool, **options: Any
) -> "HeadChoice":
    """Choose a kind of head, with a progress bar."""
    import featstore

    if params:
        raise click.UsageError("--param fixes a parameter of one head; name it with --head instead of auto")
    kept = ("rule", "views", "class_weight", "min_images", "seed", "jobs")
    with bar(None, quiet=quiet, unit="fold") as progress:
        return featstore.choose_head(
            table,
            budget_s=_DEFAULT_S if budget_s is None else budget_s,
            progress=progress,
            **{name: value for name, value in options.items() if name in kept},
        )


def print_choice(choice: "HeadChoice") -> None:
    """Print what was tried, and the verdict."""
    rows = []
    for one in choice.tried:
        against = ("", "", "")
        if one["difference"] is not None:
            low, high = one["difference_ci"]
            interval = f"{100 * low:+.1f} to {100 * high:+.1f}"
            against = (f"{100 * one['difference']:+.1f}", interval, f"{one['p_adjusted']:.3f}")
        rows.append(
            (
                one["head"],
                share(one["top1"]),
                interval_text(one["top1_ci"]),
                f"{one['log_loss']:.3f}",
                *against,
                f"{one['seconds']:.2g}",
            )
        )
    header = ("95% interval", "log loss", f"minus {choice.best}, points", "95% interval", "p", "s a fit")
    print_table(("tried", f"accuracy in {choice.folds} folds", *header), rows)
    for one in choice.skipped:
        note(f"{one['head']} was left out: {one['reason']}")
    if choice.unit != "image":
        note(f"intervals of differences and p are by {choice.unit}")
    click.echo()
    echo(choice.verdict)
    nested = choice.nested
    click.echo(f"nested accuracy, of the choice made without each fold: {accuracy_text(nested, nested['n'])}")
    click.echo()

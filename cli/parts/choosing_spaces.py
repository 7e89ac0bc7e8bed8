"""`featstore fit --spaces`."""

from typing import TYPE_CHECKING, Any

import click

from ..printing import accuracy_text, bar, echo, interval_text, note, print_table, share

if TYPE_CHECKING:
    from featstore import FeatureTable, SpaceChoice

__all__ = ["choose_spaces", "print_spaces"]


def choose_spaces(
    table: "FeatureTable", *, head: Any, params: dict[str, Any] | None, quiet: bool, **options: Any
) -> "SpaceChoice":
    """Measure what each space brings, with a progress bar."""
    import featstore

    kept = ("rule", "views", "class_weight", "min_images", "seed", "jobs")
    with bar(None, quiet=quiet, unit="fit") as progress:
        return featstore.choose_spaces(
            table,
            head=head,
            params=params,
            progress=progress,
            **{name: value for name, value in options.items() if name in kept},
        )


def print_spaces(choice: "SpaceChoice", *, joins_all: bool) -> None:
    """Print what each space brings."""
    rows = []
    for step in choice.steps:
        gain = ("", "", "")
        if step["gain"] is not None:
            low, high = step["gain_ci"]
            interval = f"{100 * low:+.1f} to {100 * high:+.1f}"
            gain = (f"{100 * step['gain']:+.1f}", interval, f"{step['p']:.3f}")
        rows.append(
            (
                step["space"],
                share(step["alone"]),
                share(step["top1"]),
                interval_text(step["top1_ci"]),
                f"{step['log_loss']:.3f}",
                *gain,
            )
        )
    header = ("alone", "with those above", "95% interval", "log loss", "gain, points", "95% interval", "p")
    print_table(("space", *header), rows)
    if choice.unit != "image":
        note(f"intervals of gains and p are by {choice.unit}")
    click.echo()
    echo(_verdict(choice, joins_all=joins_all))
    nested = choice.nested
    click.echo(f"nested accuracy, of the choice made without each fold: {accuracy_text(nested, nested['n'])}")
    click.echo()


def _verdict(choice: "SpaceChoice", *, joins_all: bool) -> str:
    chosen = " and ".join(filter(None, [", ".join(choice.spaces[:-1]), choice.spaces[-1]]))
    if len(choice.spaces) == len(choice.steps):
        return f"all {len(choice.steps)} spaces are joined: each lowers the cross entropy, by 1% or more"
    if joins_all:
        return f"all {len(choice.steps)} spaces are joined; --spaces auto would take {chosen} alone"
    verb = "is" if len(choice.spaces) == 1 else "are"
    return f"{chosen} {verb} taken: no other lowers the cross entropy by 1% and beyond its error"

"""How folds of a cross-validation were made."""

from collections import Counter
from typing import TYPE_CHECKING

import click

from featstore.messages import count

from .printing import echo, setting_text, share

if TYPE_CHECKING:
    from featstore import Evaluation, LabelEvaluation, RegressionEvaluation

__all__ = ["print_folds", "print_how_folded"]


def print_folds(evaluation: "Evaluation | LabelEvaluation", score: str) -> None:
    """Print how the folds were made, how far their scores differ, and which parameters they chose."""
    least, most = (share(of(fold[score] for fold in evaluation.folds)) for of in (min, max))
    print_how_folded(evaluation, f"{'mAP ' if score == 'map' else ''}{least} to {most}")
    for label, n_images in evaluation.unjudged.items():
        echo(
            f"  {label} is not scored: its {count(n_images, 'image')} cannot be both held out and trained on"
        )


def print_how_folded(evaluation: "Evaluation | LabelEvaluation | RegressionEvaluation", scores: str) -> None:
    """Print how the folds were made, and which parameters they chose."""
    folds, together = evaluation.folds, evaluation.together
    click.echo(f"  {len(folds)} folds, each predicted by a head fitted on the others: {scores}")
    kept = []
    if together["by"] != "image":
        kept.append(f"one {together['by']} ({evaluation.resampling['n']:,} in all)")
    if together["n_near"]:
        kept.append(f"one near-duplicate group ({together['n_near']:,} have near-duplicates)")
    if kept:
        click.echo(f"  images of {' or '.join(kept)} are in one fold")
    if together["skipped"]:
        click.echo(f"  near-duplicates may be in different folds: {together['skipped']}")
    settings = Counter(setting_text(fold["params"]) for fold in folds)
    if chosen := ", ".join(f"{setting} ({times}x)" for setting, times in settings.most_common() if setting):
        click.echo(f"  parameters: {chosen}")

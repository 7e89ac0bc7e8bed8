"""Heads that predict a number, in `featstore fit` and `evaluate`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from featstore.messages import count

from ..folds import print_how_folded
from ..options.shared import refuse_given
from ..plotting import save_plot
from ..printing import (
    bar,
    echo,
    interval_text,
    marked_path,
    note,
    print_json,
    print_more,
    print_table,
    setting_text,
    share,
    with_existing,
)

if TYPE_CHECKING:
    from featstore import FeatureTable, RegressionEvaluation, RegressionHead

__all__ = ["error_text", "fit_number", "print_number_fit", "refuse_of_labels", "score_numbers"]

_LISTED_ERRORS = 20
_NAMES = {"mae": "mean absolute error", "rmse": "root mean squared error", "r2": "R²"}


def fit_number(
    table: "FeatureTable", *, head: str, params: Mapping[str, Any] | None, quiet: bool, **options: Any
) -> "RegressionHead":
    """Fit a head that predicts a number; refuse options that are for labels."""
    import featstore

    taken = {name: options.pop(name) for name in ("rule", "seed", "refit")}
    views = options.pop("views") or {}
    jobs = options.pop("jobs")
    refuse_of_labels(table, views=max(views.values(), default=1) > 1, jobs=jobs > 1, **options)
    with bar(None, quiet=quiet, unit="fit") as progress:
        return featstore.fit_regression(table, head=head, params=params, progress=progress, **taken)


def refuse_of_labels(table: "FeatureTable", **options: Any) -> None:
    """Refuse options that are for heads with labels."""
    refuse_given(
        options, f"images of the catalog {table.catalog_name} have a number, {table.target_name}", "labels"
    )


def print_number_fit(head: "RegressionHead") -> None:
    """Print what the fit of a number chose, and how good it is."""
    numbers = [f"{head.train_numbers[name]:.4g}" for name in ("smallest", "mean", "largest")]
    print_table(
        ("number", *head.n_images, "smallest", "mean", "largest"),
        [(head.target, *(f"{n:,}" for n in head.n_images.values()), *numbers)],
    )
    if head.unlabelled:
        click.echo(f"{count(head.unlabelled, 'image')} left out: their {head.target} is not known")
    if head.sweep:
        click.echo()
        steps = [
            (setting_text(step["params"]), f"{step['mae']:.4g}", f"{step['rmse']:.4g}") for step in head.sweep
        ]
        print_table(("tried", "validation MAE", "RMSE"), steps)
    click.echo()
    chosen = setting_text(head.params)
    echo(f"{head.name} for {head.target} on {head.spec.name}" + (f", {chosen}" if chosen else ""))
    if head.weighted:
        click.echo("images weighted as the catalog says; scores count all alike")
    if "validation" in head.fitted_on:
        click.echo("fitted on train and validation; validation scores are those of the fit on train alone")
    for split, scores in (("validation", head.validation), ("test", head.test)):
        if scores["n"]:
            echo(f"{split}: {error_text(scores)}")


def error_text(scores: Mapping[str, Any]) -> str:
    """Return the scores of predicted numbers."""
    values = ", ".join(f"{name} {_number(key, scores[key])}" for key, name in _NAMES.items())
    return f"{values} (n = {scores['n']:,})"


def score_numbers(
    head: "RegressionHead",
    table: "FeatureTable",
    *,
    split: str | None,
    folds: int | None,
    coverage: float | None,
    plot: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Score a head that predicts a number, and print it."""
    import featstore

    if folds is None:
        evaluation = featstore.evaluate_regression(head, table, split=split or "test", coverage=coverage)
    else:
        with bar(None, quiet=quiet, unit="fold") as progress:
            evaluation = featstore.cross_evaluate_regression(
                table, head=head, folds=folds, seed=head.seed, progress=progress
            )
    if plot is not None:
        save_plot(evaluation, plot, force=force)
    if as_json:
        print_json(with_existing(evaluation.to_dict(), "predictions"))
        return
    _print_scores(evaluation)
    click.echo()
    rows = [
        (f"{one['true']:.6g}", f"{one['predicted']:.6g}", marked_path(one["path"]))
        for one in evaluation.predictions[:_LISTED_ERRORS]
    ]
    print_table((f"true {evaluation.target}", "predicted", "image"), rows, left=3)
    print_more(len(evaluation.predictions) - _LISTED_ERRORS, "--json lists them")


def _print_scores(evaluation: "RegressionEvaluation") -> None:
    if evaluation.n_fitted:
        note(f"{count(evaluation.n_fitted, 'image')} that the head was fitted on are left out")
    if evaluation.folds:
        least, most = (of(fold["mae"] for fold in evaluation.folds) for of in (min, max))
        print_how_folded(evaluation, f"mean absolute error {least:.4g} to {most:.4g}")
        click.echo()
    rows = []
    for key, name in _NAMES.items():
        ends = getattr(evaluation, f"{key}_ci")
        interval = "" if ends is None else f"{_number(key, ends[0])} to {_number(key, ends[1])}"
        rows.append((name, _number(key, getattr(evaluation, key)), interval))
    baseline = evaluation.baseline
    rows += [
        ("mean of predicted - true", f"{evaluation.bias:.3g}", ""),
        (f"always {baseline['value']:.4g}: absolute error", f"{baseline['mae']:.4g}", ""),
    ]
    where = "by cross-validation" if evaluation.folds else f"of {evaluation.split}"
    header = f"{evaluation.target} of {count(evaluation.n, 'image')} {where}"
    print_table((header, "score", "95% interval"), rows)
    if evaluation.resampling["unit"] != "image":
        unit = evaluation.resampling["unit"]
        click.echo(f"intervals are by {unit} (n = {evaluation.resampling['n']:,})")
    if sets := evaluation.intervals:
        echo(
            f"within {sets['half_width']:.4g} of the true number: {share(sets['covered'])} of the images "
            f"(95% interval {interval_text(sets['covered_ci'])})"
        )
        calibrated = f"calibrated on {count(sets['n_calibrating'], 'held-out image')}"
        echo(f"  for a coverage of {share(sets['coverage'])}, {calibrated}")


def _number(key: str, value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:.3f}" if key == "r2" else f"{value:.4g}"

"""What the model card of a model that predicts a number says of it."""

from featstore.export.description import ModelDescription
from featstore.heads import interval_half_width, least_calibrating

__all__ = ["OPEN_NUMBER", "number_scores", "training_numbers"]

OPEN_NUMBER = """\
{imports}
from photo import read_photo

pixels = read_photo("photo.jpg", {seen})[None]
{run}
print(values[0])
"""

_COVERAGES = (0.8, 0.9, 0.95, 0.99)


def training_numbers(described: ModelDescription) -> str:
    """Return the section on the numbers that the head was fitted on."""
    numbers, images = described.head["train_numbers"], described.head["n_images"]
    rule = ", ".join(f"{name} {value}" for name, value in described.head["split_rule"].items() if value)
    return "\n".join(
        [
            "## Number",
            "",
            f"In train from {numbers['smallest']:.6g} to {numbers['largest']:.6g}, on average "
            f"{numbers['mean']:.6g}, with a standard deviation of {numbers['std']:.4g}. "
            "Images of numbers far from these were never seen.",
            "",
            "| " + " | ".join(images) + " |",
            "|" + " ---: |" * len(images),
            "| " + " | ".join(f"{n:,}" for n in images.values()) + " |",
            "",
            f"Images were split {rule}; splits given by the source take precedence.",
            "",
        ]
    )


def number_scores(described: ModelDescription) -> str:
    """Return the section on errors and prediction intervals."""
    lines = ["## Scores", ""]
    for split in ("validation", "test"):
        scores = described.head[split]
        if not scores["n"]:
            lines.append(f"- {split}: no images")
            continue
        share = "" if scores["r2"] is None else f", R² {scores['r2']:.3f}"
        lines.append(
            f"- {split}: mean absolute error {scores['mae']:.4g}, root mean squared error "
            f"{scores['rmse']:.4g}{share} (n = {scores['n']:,})"
        )
    errors = described.head["held_out_errors"]
    able = [coverage for coverage in _COVERAGES if len(errors) >= least_calibrating(coverage)]
    if able:
        lines += [
            "",
            "The true number is within this of the predicted one so often (conformal prediction, calibrated "
            f"on {len(errors):,} held-out images):",
            "",
            "| coverage | within |",
            "| ---: | ---: |",
        ]
        lines += [
            f"| {coverage:.0%} | {interval_half_width(errors, coverage=coverage, name='the model'):.4g} |"
            for coverage in able
        ]
    return "\n".join([*lines, ""])

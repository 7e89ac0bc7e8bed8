"""Heads that can be fitted in parts on several machines, and how."""

from dataclasses import replace

from featstore.errors import HeadError
from featstore.heads.recipe import Recipe

__all__ = ["spread_recipe"]

_NAMES = ("ridge", "lda", "logistic", "softmax")
# What softmax takes where it is fitted to the optimum, not by minibatches.
_OF_SOFTMAX = ("alpha", "class_weight")


def spread_recipe(recipe: Recipe) -> Recipe:
    """Return what fits the same head from sums over parts of the rows; raise HeadError if nothing does."""
    if recipe.solver == "moments":
        return recipe
    kind = type(recipe.classifier).__name__ if recipe.solver in {"warm", "minibatch"} else ""
    if kind == "LogisticRegression":
        return replace(recipe, solver="lbfgs")
    if kind != "MinibatchClassifier" or recipe.classifier.hidden_units is not None:
        raise HeadError(
            f"{recipe.name} needs all rows on one machine; heads that are fitted on a cluster are "
            f"{', '.join(_NAMES)}"
        )
    if others := sorted({*recipe.fixed} - {*_OF_SOFTMAX}):
        raise HeadError(
            f"on a cluster softmax is fitted to its optimum by L-BFGS, without minibatches: leave out "
            f"{', '.join(others)}"
        )
    if recipe.fixed.get("alpha", 1) <= 0:
        raise HeadError("on a cluster softmax needs an alpha above 0: without, it has no optimum to come to")
    grid = {name: tuple(value for value in values if value > 0) for name, values in recipe.grid.items()}
    return replace(recipe, solver="lbfgs", grid=grid)

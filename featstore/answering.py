"""From what a model computes for an image to its prediction."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.export import ExportedModel
from featstore.heads import Head, Hierarchy, in_sets
from featstore.predicted import Prediction

__all__ = ["Answering", "back_off_hierarchy"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Answering:
    """How rows of probabilities, or of a number, become predictions."""

    classes: NDArray[np.str_]
    predicts_number: bool = False
    top: int = 1
    below: float = 0.0  # the probability below which there is no label
    thresholds: NDArray[np.float64] | None = None  # of a model that gives several labels
    set_thresholds: NDArray[np.float64] | None = None
    half_width: float | None = None  # of the interval around a number
    hierarchy: Hierarchy | None = None
    back_off: float | None = None  # the probability that an answer is to reach, as a class or an ancestor

    def prediction(self, row: NDArray[Any], path: str | None, *, is_reused: bool) -> Prediction:
        """Return the prediction for an image that could be decoded."""
        if self.predicts_number:
            value, half = float(row[0]), self.half_width
            interval = None if half is None else (value - half, value + half)
            return Prediction(path=path, value=value, interval=interval, is_reused=is_reused)
        best = np.argsort(-row, kind="stable")
        ranked = self._ranked(row, best[: self.top])
        if self.thresholds is not None:
            given = best[row[best] >= self.thresholds[best]]
            return Prediction(path=path, top=ranked, labels=self._ranked(row, given), is_reused=is_reused)
        label, probability = ranked[0]
        if self.hierarchy is not None and self.back_off is not None:
            found = self.hierarchy.deepest(row, self.back_off)
            named, together = (None, probability) if found is None else found
            return Prediction(path=path, label=named, probability=together, top=ranked, is_reused=is_reused)
        chosen = None
        if self.set_thresholds is not None:
            chosen = best[in_sets(row[None], self.set_thresholds)[0, best]]
        return Prediction(
            path=path,
            label=None if probability < self.below else label,
            probability=probability,
            top=ranked,
            set=None if chosen is None else self._ranked(row, chosen),
            is_reused=is_reused,
        )

    def _ranked(self, row: NDArray[Any], numbers: NDArray[np.intp]) -> tuple[tuple[str, float], ...]:
        return tuple((str(self.classes[number]), float(row[number])) for number in numbers)


def back_off_hierarchy(model: Any, back_off: float, **others: Any) -> Hierarchy:
    """Return the hierarchy of a model; raise HeadError if it cannot back off."""
    if isinstance(back_off, bool) or not isinstance(back_off, int | float) or not 0 < back_off < 1:
        raise HeadError(f"back_off must be above 0 and below 1, such as 0.9; found {back_off!r}")
    if given := [name for name, value in others.items() if value is not None]:
        raise HeadError(f"back_off and {given[0]} are two ways to answer where a model is unsure: give one")
    parents: dict[str, str] = {}
    if isinstance(model, ExportedModel):
        parents = model.description.head.get("parents", {})
    elif isinstance(model, Head):
        parents = model.parents
    if not parents:
        raise HeadError(
            "the model has no hierarchy of its classes to back off in: fit it with --hierarchy, or replace "
            "the parents of the head by those of featstore.class_parents"
        )
    return Hierarchy.of(model.classes.tolist(), parents)

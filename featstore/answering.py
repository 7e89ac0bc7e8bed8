"""From what a model computes for an image to its prediction."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.heads import in_sets
from featstore.predicted import Prediction

__all__ = ["Answering"]


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

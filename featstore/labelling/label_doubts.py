"""How unsure a head that gives several labels is of images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import SearchError, SplitError
from featstore.heads.data.view_counts import Views
from featstore.heads.multilabel.choosing import fit_chosen
from featstore.heads.multilabel.folds import label_divisions
from featstore.heads.multilabel.images import LabelImages
from featstore.heads.multilabel.solving import label_recipe
from featstore.label_sets import joined_labels
from featstore.labelling.directions import rows_at_once

if TYPE_CHECKING:
    from featstore.store import FeatureTable

__all__ = ["LabelDoubts", "label_doubts", "n_learnable"]

_FOLDS = 5
_LEAST = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelDoubts:
    """What a head says of images: which labels, and which of these is doubtful."""

    head: str
    scores: NDArray[np.float64]  # (n,): margins in log odds, or entropies in nats
    suggested: list[str]  # (n,)
    doubtful: list[str]  # (n,)
    probabilities: NDArray[np.float64]  # (n,): of the doubtful label

    def values(self, at: int) -> dict[str, Any]:
        """Return what is said of an image."""
        return {
            "score": float(self.scores[at]),
            "suggested": self.suggested[at],
            "doubtful": self.doubtful[at],
            "probability": float(self.probabilities[at]),
        }


def n_learnable(table: "FeatureTable") -> int:
    """Return 2, classes to tell apart, where some labelled images have a label that others lack; else 0."""
    return 2 * int(_are_learnable(table).any())


def _are_learnable(table: "FeatureTable") -> NDArray[np.bool_]:
    has = np.asarray(table.label_sets)[table.is_labelled]
    return np.asarray(has.any(axis=0) & ~has.all(axis=0), np.bool_)


def label_doubts(
    table: "FeatureTable",
    rows: NDArray[np.intp],
    by: str,
    *,
    head: Any,
    params: Mapping[str, Any] | None,
    seed: int,
) -> LabelDoubts:
    """Fit a head on all labelled images, its thresholds chosen out of fold, and look at others."""
    recipe = label_recipe(head, None if params is None else dict(params), None, seed).middle()
    learnable = _are_learnable(table)
    classes = np.asarray(table.classes)[learnable]
    images = LabelImages.of(table, np.asarray(table.label_sets)[:, learnable], Views())
    keys = np.asarray(table.content_hash)[images.at].tolist()
    try:
        folds = label_divisions(keys, images.has, folds=min(_FOLDS, len({*keys})), salt="")
    except SplitError as error:
        raise SearchError(
            f"{len(images)} labelled images are too few to choose others by {by}; begin with --by diverse "
            "(by='diverse')"
        ) from error
    choice, form = fit_chosen(recipe, images, folds.divisions, images)
    thresholds = choice.thresholds
    scores, best = np.empty(len(rows)), np.empty(len(rows))
    suggested: list[str] = []
    doubtful: list[str] = []
    step = rows_at_once(table.feature_dim)
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        there = LabelImages(
            table=table,
            at=rows[part],
            has=np.zeros((len(rows[part]), len(classes)), np.bool_),
            name="the table",
        )
        p = there.probabilities(form)
        margins = np.abs(_log_odds(p) - _log_odds(thresholds))
        nearest = margins.argmin(axis=1)
        best[part] = np.take_along_axis(p, nearest[:, np.newaxis], axis=1)[:, 0]
        scores[part] = margins.min(axis=1) if by == "margin" else _entropies(p)
        suggested += [joined_labels(classes[one].tolist(), table.label_separator) for one in p >= thresholds]
        doubtful += classes[nearest].tolist()
    return LabelDoubts(
        head=recipe.name, scores=scores, suggested=suggested, doubtful=doubtful, probabilities=best
    )


def _log_odds(p: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.log(np.maximum(p, _LEAST)) - np.log(np.maximum(1 - p, _LEAST)), np.float64)


def _entropies(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the entropy of all labels of each image, which are taken as independent, in nats."""
    parts = (one * np.log(np.maximum(one, _LEAST)) for one in (p, 1 - p))
    return np.asarray(-sum(parts).sum(axis=1), np.float64)  # type: ignore[union-attr]

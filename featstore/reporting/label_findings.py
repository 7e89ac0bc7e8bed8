"""What a report shows of a head that gives several labels, as rows of the table."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.duplicates.finding import Duplicates
from featstore.duplicates.likeness import fit_likeness
from featstore.errors import HeadError, SplitError
from featstore.heads.multilabel.head import MultiLabelHead
from featstore.reporting.findings import alike
from featstore.reporting.projection import Projection, project
from featstore.scoring.multilabel.evaluation import LabelEvaluation, evaluate_label_rows, label_rows_of_split
from featstore.scoring.multilabel.suspects import LabelSuspects, find_label_suspects
from featstore.scoring.predictions import label_probabilities

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["LabelExamples", "LabelFindings", "find_labels"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelExamples:
    """Rows of a label's photos: the surest that have it, the least sure, and the surest that lack it."""

    best: list[int]
    missed: list[int]
    extra: list[int]


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelFindings:
    """What was found; ``left_out`` has the reason of each part that is None."""

    evaluation: LabelEvaluation
    scored: NDArray[np.intp]  # rows that the scores are of
    is_labelled: NDArray[np.bool_]  # (n,)
    has: NDArray[np.bool_]  # (n, n_classes)
    given: NDArray[np.bool_]  # (n, n_classes)
    probabilities: NDArray[np.float64]  # (n, n_classes)
    splits: NDArray[np.str_]  # (n,)
    is_fitted: NDArray[np.bool_]  # (n,)
    examples: dict[str, LabelExamples]
    suspects: LabelSuspects | None
    duplicates: Duplicates | None
    similarity: NDArray[np.float32] | None  # (n,): to the most similar training image
    nearest: NDArray[np.int64] | None  # (n,): its row
    projection: Projection
    left_out: dict[str, str]


def find_labels(
    head: MultiLabelHead,
    table: "FeatureTable",
    *,
    split: str,
    n_examples: int,
    with_suspects: bool,
    map_by: str = "pca",
) -> LabelFindings:
    """Gather what a report shows."""
    scored, n_fitted = label_rows_of_split(head, table, split)
    probabilities = label_probabilities(head, table, np.arange(len(table)))
    left_out: dict[str, str] = {}
    suspects = None
    if with_suspects:
        views = {"train": head.train_views, "test": head.test_views}
        try:
            suspects = find_label_suspects(table, head=head.name, params=head.params, views=views)
        except (HeadError, SplitError) as error:
            left_out["suspects"] = str(error)
    else:
        left_out["suspects"] = "not asked for"
    is_fitted, has = head.was_fitted_on(table), head.label_sets_of(table)
    given = probabilities >= head.thresholds
    likeness = fit_likeness(table.X, np.asarray(table.content_hash_bytes))
    return LabelFindings(
        evaluation=evaluate_label_rows(
            head, table, scored, probabilities[scored], split=split, n_fitted=n_fitted
        ),
        scored=scored,
        is_labelled=np.asarray(table.is_labelled),
        has=has,
        given=given,
        probabilities=probabilities,
        splits=np.asarray(table.splits(head.split_rule)),
        is_fitted=is_fitted,
        examples={
            label: _examples(scored, has[:, at], given[:, at], probabilities[:, at], n_examples)
            for at, label in enumerate(head.classes.tolist())
        },
        suspects=suspects,
        **alike(table, head.split_rule, is_fitted, likeness, left_out),
        projection=project(table.X, map_by),
        left_out=left_out,
    )


def _examples(
    scored: NDArray[np.intp],
    has: NDArray[np.bool_],
    given: NDArray[np.bool_],
    probabilities: NDArray[np.float64],
    n_examples: int,
) -> LabelExamples:
    ranked = scored[np.argsort(-probabilities[scored], kind="stable")]
    with_it, without = ranked[has[ranked]], ranked[~has[ranked]]
    return LabelExamples(
        best=with_it[given[with_it]][:n_examples].tolist(),
        missed=with_it[~given[with_it]][::-1][:n_examples].tolist(),
        extra=without[given[without]][:n_examples].tolist(),
    )

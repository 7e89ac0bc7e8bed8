"""Comparison of heads that give several labels on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.heads.multilabel.head import MultiLabelHead
from featstore.heads.multilabel.scores import SCORES, average_precisions, score_values
from featstore.io.json_values import json_values
from featstore.messages import listed
from featstore.scoring.compared_images import CommonImages, find_common_images
from featstore.scoring.comparison import compared_pair, holm_adjusted
from featstore.scoring.multilabel.evaluation import REPLICATES, SEED, label_draws
from featstore.scoring.predictions import label_probabilities
from featstore.stats.intervals import percentile_interval

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["LabelComparison", "compare_labels"]

_CHANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class LabelComparison:
    """Scores of several heads that give several labels on the same images, and their differences.

    Parameters
    ----------
    split : {"test", "validation"}
    n : int
        Number of images, copies counting once, that are in the split for every head.
    heads : list of dict
        ``{"name", "head", "space", "catalog", "test_views", "n", "map", "micro_f1", "macro_f1",
        "subset_accuracy"}`` for each head, and each score's 95% interval as ``"map_ci"`` …, as for
        :class:`featstore.LabelEvaluation`.
    pairs : list of dict
        For each pair of heads ``a`` and ``b``, by name: ``map``, ``micro_f1``, ``macro_f1`` and
        ``subset_accuracy``, each the score of b minus that of a, and ``map_ci`` …, its 95% interval by paired
        resampling; ``both_right``, ``only_a``, ``only_b`` and ``both_wrong``, numbers of images whose labels
        are all right; ``p``, the p-value of no difference in these by McNemar's exact test (for images in
        groups a sign-flip test), and ``p_adjusted``, by Holm's method over all pairs; ``labels``,
        ``{"label", "n", "gained", "lost", "average_precision", "average_precision_ci"}`` for each label:
        images on which only b decides rightly, and only a, and the difference in average precision; and
        ``verdict``, the result in words, by the interval of the mean average precision at a level of 95% for
        all pairs together (Bonferroni).
    rules_differ : bool
        Whether the heads have different split rules.
    left_out : dict
        As for :class:`featstore.Comparison`.
    resampling : dict
        ``{"unit", "n", "replicates", "seed"}``, as for :class:`featstore.Evaluation`.

    Examples
    --------
    >>> import featstore
    >>> heads = [featstore.fit_labels(several, head=name) for name in ("ridge", "logistic")]
    >>> [pair] = featstore.compare_labels(heads, several).pairs
    >>> pair["a"], pair["b"], len(pair["labels"])
    ('ridge', 'logistic', 4)
    """

    split: str
    n: int
    heads: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    rules_differ: bool
    left_out: dict[str, int]
    resampling: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; the keys are stable."""
        return json_values(self)


def compare_labels(
    heads: Sequence[MultiLabelHead],
    tables: "FeatureTable | Sequence[FeatureTable]",
    *,
    split: str = "test",
    names: Sequence[str] | None = None,
) -> LabelComparison:
    """Score heads that give several labels on images that none of them was trained on.

    Images are chosen as for :func:`featstore.compare`. All heads must know the same labels.

    Parameters
    ----------
    heads : sequence of MultiLabelHead
        At least two.
    tables, split, names
        As for :func:`featstore.compare`.

    Returns
    -------
    LabelComparison

    Raises
    ------
    FingerprintMismatchError, NotInStoreError, SplitError
        As for :func:`featstore.compare`.
    HeadError
        The heads know different labels; or as for :func:`featstore.compare`.

    Examples
    --------
    >>> import featstore
    >>> heads = [featstore.fit_labels(several, head=name) for name in ("ridge", "logistic")]
    >>> result = featstore.compare_labels(heads, several)
    >>> result.n, [one["name"] for one in result.heads]
    (25, ['ridge', 'logistic'])
    """
    for head in heads:
        if differing := sorted({*head.classes.tolist()} ^ {*heads[0].classes.tolist()}):
            raise HeadError(
                f"{heads[0].name} and {head.name} know different labels: only one of them has "
                f"{listed(differing)}; fit both on one catalog"
            )
    common = find_common_images(heads, tables, split, names)
    judged = [
        _judged(head, table, rows, common)
        for head, table, rows in zip(heads, common.tables, common.rows, strict=True)
    ]
    pairs = [
        _pair(common, heads[0].classes, a, b, judged[a], judged[b])
        for a, b in combinations(range(len(heads)), 2)
    ]
    for pair, p in zip(pairs, holm_adjusted([pair["p"] for pair in pairs]), strict=True):
        pair["p_adjusted"] = p
        pair["verdict"] = _verdict(pair, pair.pop("map_draws"), len(pairs), len(common))
    return LabelComparison(
        split=split,
        n=len(common),
        heads=[
            {
                "name": name,
                "head": head.name,
                "space": table.space_name,
                "catalog": table.catalog_name,
                "test_views": head.test_views,
                **one.scores,
                **{f"{score}_ci": _interval(one.draws[:, at]) for at, score in enumerate(SCORES)},
            }
            for name, head, table, one in zip(common.names, heads, common.tables, judged, strict=True)
        ],
        pairs=pairs,
        rules_differ=any(head.split_rule != heads[0].split_rule for head in heads),
        left_out=common.left_out,
        resampling={
            "unit": common.unit,
            "n": len(np.unique(common.units)),
            "replicates": REPLICATES,
            "seed": SEED,
        },
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Judged:
    """What a head decides on the common images."""

    has: NDArray[np.bool_]  # (n, n_classes)
    is_right: NDArray[np.bool_]  # (n, n_classes)
    scores: dict[str, Any]
    precisions: NDArray[np.float64]  # (n_classes,)
    draws: NDArray[np.float64]  # (n_draws, 4)
    of_labels: NDArray[np.float64]  # (n_draws, n_classes)


def _judged(
    head: MultiLabelHead, table: "FeatureTable", rows: NDArray[np.intp], common: CommonImages
) -> _Judged:
    has, probabilities = head.label_sets_of(table)[rows], label_probabilities(head, table, rows)
    given = probabilities >= head.thresholds
    # The seed is fixed: all heads are scored on the same draws.
    draws, of_labels = label_draws(has, given, probabilities, common.units)
    return _Judged(
        has=has,
        is_right=given == has,
        scores=score_values(has, given, probabilities),
        precisions=average_precisions(has, probabilities)[0],
        draws=draws,
        of_labels=of_labels,
    )


def _pair(
    common: CommonImages, classes: NDArray[np.str_], a: int, b: int, first: _Judged, second: _Judged
) -> dict[str, Any]:
    of_images = {
        "right_a": np.asarray(first.is_right.all(axis=1)),
        "right_b": np.asarray(second.is_right.all(axis=1)),
    }
    pair = compared_pair(common.names[a], common.names[b], **of_images, units=common.units, unit=common.unit)
    draws, of_labels = second.draws - first.draws, second.of_labels - first.of_labels
    kept = {name: pair[name] for name in ("a", "b", "both_right", "only_a", "only_b", "both_wrong", "p")}
    for at, score in enumerate(SCORES):
        scores = second.scores[score], first.scores[score]
        kept[score] = None if None in scores else scores[0] - scores[1]
        kept[f"{score}_ci"] = _interval(draws[:, at])
    gained, lost = (
        (second.is_right & ~first.is_right).sum(axis=0),
        (first.is_right & ~second.is_right).sum(axis=0),
    )
    differences = second.precisions - first.precisions
    labels = [
        {
            "label": label,
            "n": int(first.has[:, at].sum()),
            "gained": int(gained[at]),
            "lost": int(lost[at]),
            "average_precision": None if np.isnan(differences[at]) else float(differences[at]),
            "average_precision_ci": _interval(of_labels[:, at]),
        }
        for at, label in enumerate(classes.tolist())
    ]
    return {**kept, "labels": labels, "map_draws": draws[:, 0]}


def _interval(draws: NDArray[np.float64], confidence: float = 1 - _CHANCE) -> list[float] | None:
    there = draws[~np.isnan(draws)]
    return list(percentile_interval(there, confidence)) if len(there) else None


def _verdict(pair: dict[str, Any], draws: NDArray[np.float64], n_pairs: int, n_images: int) -> str:
    ends, difference = _interval(draws, 1 - _CHANCE / n_pairs), pair["map"]
    known = f"(n = {n_images:,}{f', for all {n_pairs} pairs' if n_pairs > 1 else ''})"
    if ends is None or difference is None or ends[0] <= 0 <= ends[1]:
        return f"the difference in mAP between {pair['a']} and {pair['b']} is within chance {known}"
    better, worse = (pair["b"], pair["a"]) if difference > 0 else (pair["a"], pair["b"])
    return f"{better} is better than {worse} by {100 * abs(difference):.1f} points of mAP {known}"

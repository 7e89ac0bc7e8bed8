"""Comparison of heads on the same images, with significance tests."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.heads.head import Head
from featstore.notebook_table import html_table, percent
from featstore.scoring.compared_images import find_common_images
from featstore.scoring.predictions import check_labels_known, predict_images
from featstore.stats.intervals import REPLICATES, bootstrap, percentile_interval, scored

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["Comparison", "compare", "compared_pair", "holm_adjusted", "mcnemar_exact", "sign_flip_test"]

_CHANCE = 0.05
_FLIPS = 9_999
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Scores of several heads on the same images, and tests of their differences.

    Parameters
    ----------
    split : {"test", "validation"}
    n : int
        Number of images, copies counting once, that are in the split for every head.
    heads : list of dict
        ``{"name", "head", "space", "catalog", "test_views", "n", "top1", "top1_ci"}`` for each head: number
        of views averaged over, accuracy on the common images and its 95% Wilson interval.
    pairs : list of dict
        For each pair of heads ``a`` and ``b``, by name: ``both_right``, ``only_a``, ``only_b`` and
        ``both_wrong``, numbers of images; ``difference``, the accuracy of b minus that of a, and
        ``difference_ci``, its 95% interval by paired resampling; ``p``, the p-value of no difference, and
        ``p_adjusted``, by Holm's method over all pairs; ``verdict``, the result in words.
    test : {"mcnemar", "sign flips"}
        The test behind p: McNemar's exact test, or a sign-flip test for images in groups.
    rules_differ : bool
        Whether the heads have different split rules.
    left_out : dict
        ``{"removed", "seen", "absent", "conflicting"}``: images in the split for one head that are not
        compared, because their class was removed from a head, another head was trained or chosen on them (or
        on images of their group, if a rule uses groups), has no features or label for them, or they have
        several labels.
    resampling : dict
        ``{"unit", "n", "replicates", "seed"}``, as for :class:`featstore.Evaluation`.

    Examples
    --------
    >>> import featstore
    >>> heads = [featstore.fit(table, head=name) for name in ("ridge", "centroid")]
    >>> [pair] = featstore.compare(heads, table).pairs
    >>> pair["a"], pair["b"], pair["both_right"] + pair["only_a"] + pair["only_b"] + pair["both_wrong"]
    ('ridge', 'centroid', 10)
    """

    split: str
    n: int
    heads: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    test: str
    rules_differ: bool
    left_out: dict[str, int]
    resampling: dict[str, Any]

    def _repr_html_(self) -> str:
        heads = html_table(
            f"on {self.n:,} images that are in {self.split} for every head",
            ("head", "space", "accuracy"),
            [(one["name"], one["space"], percent(one["top1"], one["top1_ci"])) for one in self.heads],
        )
        pairs = html_table(
            "pairs",
            ("A", "B", "only A", "only B", "p", "verdict"),
            [
                (pair["a"], pair["b"], pair["only_a"], pair["only_b"], pair["p_adjusted"], pair["verdict"])
                for pair in self.pairs
            ],
        )
        return heads + pairs

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; the keys are stable."""
        return asdict(self)


def compare(
    heads: Sequence[Head],
    tables: "FeatureTable | Sequence[FeatureTable]",
    *,
    split: str = "test",
    names: Sequence[str] | None = None,
) -> Comparison:
    """Score heads on images that none of them was trained on, and test their differences.

    The heads may have different backbones, stores and split rules. An image, identified by its content hash,
    is compared on if it is in the split for every head, by the rule and in the table of each; if it has
    several paths, under all of them. Images that a head was fitted on are left out, in any catalog. If a rule
    splits by group or file name, the same holds for all images of a group. Images of a class that was removed
    from a head (:func:`featstore.edit_classes`) are left out for all heads.

    Parameters
    ----------
    heads : sequence of Head
        At least two.
    tables : FeatureTable or sequence of FeatureTable
        For each head a table of its space, and of the catalog that it was fitted on. A single table is used
        for all heads of one space.
    split : {"test", "validation"}
        Accuracy on validation images is optimistic for heads that were chosen on them.
    names : sequence of str, optional
        Names of the heads. Default: their own, with their spaces if these are equal.

    Returns
    -------
    Comparison

    Raises
    ------
    FingerprintMismatchError
        A table is not of its head's space.
    NotInStoreError
        Images lack some of the views that a head averages over.
    SplitError
        The split is unknown, or contains no image for every head.
    HeadError
        There are fewer than two heads, their number differs from that of tables or names, or images have
        labels that a head does not know.

    Examples
    --------
    >>> import featstore
    >>> heads = [featstore.fit(table, head=name) for name in ("ridge", "centroid")]
    >>> result = featstore.compare(heads, table)
    >>> result.n, result.test, [one["name"] for one in result.heads]
    (10, 'mcnemar', ['ridge', 'centroid'])
    """
    common = find_common_images(heads, tables, split, names)
    called, of_each, unit, units = common.names, common.tables, common.unit, common.units
    is_right = np.empty((len(common), len(heads)), np.bool_)
    for column, (name, head, table, rows) in enumerate(zip(called, heads, of_each, common.rows, strict=True)):
        labels = head.labels_of(table)[rows]
        check_labels_known(head, labels, name=name)
        is_right[:, column] = predict_images(head, table, rows)[0] == labels
    summaries = [
        {
            "name": name,
            "head": head.name,
            "space": table.space_name,
            "catalog": table.catalog_name,
            "test_views": head.test_views,
            **scored(int(is_right[:, column].sum()), len(common)),
        }
        for column, (name, head, table) in enumerate(zip(called, heads, of_each, strict=True))
    ]
    pairs = [
        compared_pair(called[a], called[b], is_right[:, a], is_right[:, b], units, unit)
        for a, b in combinations(range(len(heads)), 2)
    ]
    adjusted = holm_adjusted([pair["p"] for pair in pairs])
    for pair, p in zip(pairs, adjusted, strict=True):
        pair["p_adjusted"] = p
        pair["verdict"] = _verdict(pair, len(common), n_pairs=len(pairs))
    return Comparison(
        split=split,
        n=len(common),
        heads=summaries,
        pairs=pairs,
        test="mcnemar" if unit == "image" else "sign flips",
        rules_differ=any(head.split_rule != heads[0].split_rule for head in heads),
        left_out=common.left_out,
        resampling={"unit": unit, "n": len(np.unique(units)), "replicates": REPLICATES, "seed": _SEED},
    )


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Return the two-sided p-value of McNemar's exact test."""
    # McNemar (Psychometrika 12, 1947, p. 153); exact form as in Fagerlund, Lydersen & Laake (BMC Medical
    # Research Methodology 13:91, 2013). Conservative.
    from scipy.stats import binomtest

    n = only_a + only_b
    return float(binomtest(only_a, n).pvalue) if n else 1.0


def sign_flip_test(differences: NDArray[np.int64], *, flips: int = _FLIPS, seed: int = _SEED) -> float:
    """Return the p-value of the sum of differences under random signs, in (0, 1]."""
    # For images in groups: the differences are those of whole groups, which are independent where images are
    # not. With groups of one image it equals McNemar's test. The observed signs count among the random ones,
    # so that p is never 0 (Phipson & Smyth, Stat. Appl. Genet. Mol. Biol. 9:39, 2010). Not
    # scipy.stats.permutation_test, whose other random numbers would change published p-values.
    differences = differences[differences != 0]
    if not len(differences):
        return 1.0
    random = np.random.default_rng(seed)
    observed, n_as_large = abs(int(differences.sum())), 0
    step = max(1, 4_000_000 // len(differences))
    for start in range(0, flips, step):
        signs = random.integers(0, 2, size=(min(step, flips - start), len(differences)), dtype=np.int8)
        n_as_large += int((abs((2 * signs - 1) @ differences) >= observed).sum())
    return (1 + n_as_large) / (1 + flips)


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple tests (Holm, Scandinavian Journal of Statistics 6, 1979, p. 65)."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = largest
    return adjusted


def compared_pair(
    a: str,
    b: str,
    right_a: NDArray[np.bool_],
    right_b: NDArray[np.bool_],
    units: NDArray[np.intp],
    unit: str,
) -> dict[str, Any]:
    """Compare two heads by which images each gets right: counts, difference, its interval and p."""
    gains = right_b.astype(np.int64) - right_a
    sums = np.stack([np.bincount(units, weights=gains), np.bincount(units)], axis=1).astype(np.int64)
    kinds, multiplicity = np.unique(sums, axis=0, return_counts=True)
    draws = bootstrap(kinds, multiplicity, lambda totals: totals[:, 0] / totals[:, 1], seed=_SEED)
    only_a, only_b = int((gains < 0).sum()), int((gains > 0).sum())
    both_right = int((right_a & right_b).sum())
    return {
        "a": a,
        "b": b,
        "both_right": both_right,
        "only_a": only_a,
        "only_b": only_b,
        "both_wrong": len(gains) - both_right - only_a - only_b,
        "difference": float(gains.mean()),
        "difference_ci": list(percentile_interval(draws)),
        "p": mcnemar_exact(only_a, only_b) if unit == "image" else sign_flip_test(sums[:, 0]),
    }


def _verdict(pair: dict[str, Any], n_images: int, *, n_pairs: int) -> str:
    p = pair["p_adjusted"]
    shown = "p < 0.001" if p < 0.001 else f"p = {math.floor(p * 1000) / 1000:.2g}"
    known = f"({shown}{' by Holm' if n_pairs > 1 else ''}, n = {n_images:,})"
    if p >= _CHANCE:
        return f"the difference between {pair['a']} and {pair['b']} is within chance {known}"
    better, worse = (pair["b"], pair["a"]) if pair["difference"] > 0 else (pair["a"], pair["b"])
    return f"{better} is better than {worse} by {100 * abs(pair['difference']):.1f} points {known}"

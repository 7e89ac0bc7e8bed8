"""Comparison of heads that predict one number, on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.heads.data.blocks import Rows
from featstore.heads.regression.head import RegressionHead
from featstore.heads.regression.scores import drawn_scores, score_values, unit_sums
from featstore.heads.regression.solving import form_values
from featstore.io.json_values import json_values
from featstore.scoring.compared_images import find_common_images
from featstore.stats.intervals import REPLICATES, bootstrap, percentile_interval

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["RegressionComparison", "compare_regression"]

_SEED = 0
_CHANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class RegressionComparison:
    """Errors of several heads on the same images, and their differences.

    Parameters
    ----------
    target : str
        Name of the number.
    split : str
        ``"validation"`` or ``"test"``.
    n : int
        Number of images that the heads are compared on: contents, copies counted once.
    heads : list of dict
        ``{"name", "head", "space", "catalog", "n", "mae", "mae_ci", "rmse", "r2"}`` of each.
    pairs : list of dict
        ``{"a", "b", "difference", "difference_ci", "n_closer_a", "n_closer_b", "verdict"}``: mean absolute
        error of b minus that of a with its 95% interval by paired resampling, and the number of images that
        either is closer on.
    rules_differ, left_out, resampling
        As for :class:`featstore.Comparison`.

    Examples
    --------
    >>> import featstore
    >>> heads = [featstore.fit_regression(numbers, head=name) for name in ("ridge", "knn")]
    >>> featstore.compare_regression(heads, numbers).pairs[0]["difference"] > 0
    True
    """

    target: str
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


def compare_regression(
    heads: Sequence[RegressionHead],
    tables: "FeatureTable | Sequence[FeatureTable]",
    *,
    split: str = "test",
    names: Sequence[str] | None = None,
) -> RegressionComparison:
    """Compare heads that predict one number by their mean absolute errors on images that none has seen.

    Parameters
    ----------
    heads : sequence of RegressionHead
        At least two, of one number.
    tables, split, names
        As for :func:`featstore.compare`.

    Returns
    -------
    RegressionComparison

    Raises
    ------
    HeadError
        The heads predict different numbers; or as for :func:`featstore.compare`.
    FingerprintMismatchError, NotInStoreError, SplitError, TargetError
        As for :func:`featstore.compare`, and where a catalog has labels or another number.

    Examples
    --------
    >>> import featstore
    >>> heads = [featstore.fit_regression(numbers, head=name) for name in ("ridge", "rbf")]
    >>> [one["name"] for one in featstore.compare_regression(heads, numbers).heads]
    ['ridge', 'rbf']
    """
    if len(targets := sorted({head.target for head in heads})) > 1:
        raise HeadError(f"the heads predict different numbers, {' and '.join(targets)}: compare those of one")
    common = find_common_images(heads, tables, split, names)
    found = zip(heads, common.tables, common.rows, strict=True)
    pairs_of = [(head.target_of(table)[rows], _predicted(head, table, rows)) for head, table, rows in found]
    errors = [np.abs(predicted - true) for true, predicted in pairs_of]
    pairs = [
        _pair(common.names[a], common.names[b], errors[a], errors[b], common.units)
        for a, b in combinations(range(len(heads)), 2)
    ]
    for pair in pairs:
        pair["verdict"] = _verdict(pair, pair.pop("draws"), n_pairs=len(pairs), n_images=len(common))
    described = zip(common.names, heads, common.tables, pairs_of, strict=True)
    return RegressionComparison(
        target=heads[0].target,
        split=split,
        n=len(common),
        heads=[
            {
                "name": name,
                "head": head.name,
                "space": table.space_name,
                "catalog": table.catalog_name,
                **score_values(true, predicted),
                "mae_ci": list(percentile_interval(_draws(unit_sums(true, predicted, common.units))[:, 0])),
            }
            for name, head, table, (true, predicted) in described
        ],
        pairs=pairs,
        rules_differ=any(head.split_rule != heads[0].split_rule for head in heads),
        left_out=common.left_out,
        resampling={
            "unit": common.unit,
            "n": len(np.unique(common.units)),
            "replicates": REPLICATES,
            "seed": _SEED,
        },
    )


def _predicted(head: RegressionHead, table: "FeatureTable", rows: NDArray[np.intp]) -> NDArray[np.float64]:
    [values] = form_values([head.form], Rows(table, rows, name="the table"))
    return values


def _draws(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return bootstrap(sums, np.ones(len(sums), np.int64), drawn_scores, seed=_SEED)


def _pair(
    a: str, b: str, first: NDArray[np.float64], second: NDArray[np.float64], units: NDArray[np.intp]
) -> dict[str, Any]:
    gains = second - first
    sums = np.stack([np.bincount(units, gains), np.bincount(units)], axis=1)
    draws = bootstrap(sums, np.ones(len(sums), np.int64), lambda drawn: drawn[:, 0] / drawn[:, 1], seed=_SEED)
    return {
        "a": a,
        "b": b,
        "difference": float(gains.mean()),
        "difference_ci": list(percentile_interval(draws)),
        "n_closer_a": int((gains > 0).sum()),
        "n_closer_b": int((gains < 0).sum()),
        "draws": draws,
    }


def _verdict(pair: dict[str, Any], draws: NDArray[np.float64], *, n_pairs: int, n_images: int) -> str:
    # Of several pairs each interval is wider, by Bonferroni.
    low, high = percentile_interval(draws, 1 - _CHANCE / n_pairs)
    known = f"(n = {n_images:,}{f', for all {n_pairs} pairs' if n_pairs > 1 else ''})"
    if low <= 0 <= high:
        return f"the difference between {pair['a']} and {pair['b']} is within chance {known}"
    better, worse = (pair["b"], pair["a"]) if pair["difference"] < 0 else (pair["a"], pair["b"])
    return f"{better} is closer than {worse} by {abs(pair['difference']):.4g} on average {known}"

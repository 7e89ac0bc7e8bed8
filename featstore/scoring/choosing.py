"""Choosing among kinds of heads by nested cross-validation within a time budget."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError
from featstore.heads.data.partition import without_small_classes
from featstore.heads.fit_warnings import each_warning_once
from featstore.heads.recipe import build_recipe
from featstore.heads.registry import find_head, known_heads
from featstore.notebook_table import html_table, percent
from featstore.scoring.comparison import compared_pair, holm_adjusted
from featstore.scoring.cross_folds import CrossFolds, FoldResults
from featstore.splits import SplitRule
from featstore.stats.intervals import scored

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["HeadChoice", "choose_head"]

_CHANCE = 0.05
# A head that is a cheaper equal may be less accurate by this much at most.
_LEAST_DIFFERENCE = 0.01

# What takes seconds on large stores comes first, so that a budget is spent on many heads rather than one.
_ORDER = ("ridge", "lda", "centroid", "knn", "logistic", "svm", "softmax", "rbf", "mlp", "sgd")


@dataclass(frozen=True, kw_only=True)
class HeadChoice:
    """Kinds of heads compared in the same folds, and the one to fit.

    Parameters
    ----------
    head : str
        The cheapest of those that equal the most accurate: not significantly worse, and by a point at most.
    best : str
        The most accurate.
    n : int
        Number of images: all labelled ones that are not in test.
    folds : int
        Number of folds, each predicted by heads fitted on the others, their parameters chosen inside.
    tried : list of dict
        The most accurate first: ``{"head", "n", "top1", "top1_ci", "log_loss", "seconds", "difference",
        "difference_ci", "p", "p_adjusted", "is_equal"}``: accuracy and 95% interval, seconds of a fit with
        choosing, and the paired difference to the best with its interval, its p-value and that adjusted by
        Holm for all heads; the last five are None for the best itself, except ``is_equal``.
    skipped : list of dict
        ``{"head", "reason"}`` of heads that were not tried, or not in all folds.
    nested : dict
        ``{"n", "top1", "top1_ci", "heads"}``: accuracy of the choice itself, made for each fold by the
        results in the others (whose fits had that fold among their images), and how often each head was
        chosen so.
    unit : str
        What intervals and p-values take as independent: ``"image"``, or what images are grouped by.
    budget_s : float
    seconds : float
        Time that the comparison took.

    Examples
    --------
    >>> import featstore
    >>> choice = featstore.choose_head(table, heads=["ridge", "centroid"], folds=3)
    >>> choice.head in ("ridge", "centroid"), len(choice.tried)
    (True, 2)
    """

    head: str
    best: str
    n: int
    folds: int
    tried: list[dict[str, Any]]
    skipped: list[dict[str, str]]
    nested: dict[str, Any]
    unit: str
    budget_s: float
    seconds: float

    @property
    def verdict(self) -> str:
        """The result of the comparison, in a sentence or two."""
        worse = [one["head"] for one in self.tried if one["p_adjusted"] is not None and _is_worse(one)]
        equal = [one["head"] for one in self.tried if one["is_equal"] and one["head"] != self.best]
        said = f"{self.best} is the most accurate"
        if worse:
            said += f", significantly better than {_listed(worse)}"
        if equal:
            verb = "is" if len(equal) == 1 else "are"
            said += f"; {_listed(equal)} {verb} as good within chance and a point"
        if self.head == self.best:
            return said + f"; {self.best} is chosen" + (", the cheapest of these" if equal else "")
        return said + f"; {self.head}, the cheapest of these, is chosen"

    def _repr_html_(self) -> str:
        header = ("head", "accuracy", "log loss", "seconds a fit")
        rows = [
            (one["head"], percent(one["top1"]), f"{one['log_loss']:.3f}", f"{one['seconds']:.2g}")
            for one in self.tried
        ]
        return html_table(self.verdict, header, rows)

    def to_dict(self) -> dict[str, Any]:
        """Return all values, with the verdict, as JSON values."""
        return {**asdict(self), "verdict": self.verdict}


def choose_head(
    table: "FeatureTable",
    *,
    heads: Sequence[str] | None = None,
    budget_s: float = 60.0,
    folds: int = 5,
    rule: SplitRule | None = None,
    views: Mapping[str, int] | None = None,
    class_weight: str | Mapping[str, float] | None = None,
    min_images: int | None = None,
    seed: int = 0,
    jobs: int | None = None,
    progress: Callable[[int, int, Mapping[str, Any]], None] | None = None,
) -> HeadChoice:
    """Choose a kind of head by cross-validation within a time budget.

    All labelled images that are not in test are divided into folds, as by :func:`featstore.cross_evaluate`,
    and each head predicts every fold by a fit on the others, its parameters chosen inside of them. Heads are
    compared on the same images. Which are tried depends on the time they take; apart from that, the same
    table, rule and seed give the same choice.

    Parameters
    ----------
    table : FeatureTable
        Images without a label, and those in test, are left out.
    heads : sequence of str, optional
        Names from :func:`featstore.known_heads`. Default: all of them, quick ones first.
    budget_s : float
        Seconds. A head is given up if it would exceed them, going by its folds so far; the first is tried
        in any case, and a fit that is under way is finished.
    folds : int
        Number of folds, at least 2.
    rule, views, class_weight, min_images, seed, jobs
        As for :func:`featstore.fit`. Heads without class weights are skipped if there are any.
    progress : callable, optional
        Called as ``progress(done, total, {"params": {"head": name}, "top1": accuracy})`` after each fold.

    Returns
    -------
    HeadChoice

    Raises
    ------
    UnknownHeadError
        There is no head of such a name.
    HeadError
        No head can be tried; the budget is no number above 0; or as for :func:`featstore.cross_evaluate`.
    SplitError
        As for :func:`featstore.cross_evaluate`.

    Examples
    --------
    >>> import featstore
    >>> choice = featstore.choose_head(table, heads=["ridge", "lda"], folds=3, budget_s=20)
    >>> head = featstore.fit(table, head=choice.head)
    >>> head.name == choice.head, choice.n < len(table)
    (True, True)
    """
    if isinstance(budget_s, bool) or not isinstance(budget_s, int | float) or not 0 < budget_s < math.inf:
        raise HeadError(f"budget_s must be a number of seconds above 0; found {budget_s!r}")
    rule = SplitRule() if rule is None else rule
    names = _names(heads)
    skipped = []
    if class_weight is not None:
        able = [name for name in names if "class_weight" in find_head(name).settings]
        skipped = [{"head": name, "reason": "it has no class weights"} for name in names if name not in able]
        names = able
    if table.sample_weight is not None:
        able = [name for name in names if build_recipe(name).takes_weights]
        skipped += [{"head": name, "reason": "it takes no weights"} for name in names if name not in able]
        names = able
    if not names:
        raise HeadError("no head is left to try; name some that support weights")
    labels = without_small_classes(np.asarray(table.y), min_images)
    is_outside = (labels != "") & (np.asarray(table.splits(rule)) != "test")
    divided = CrossFolds.of(table.select(np.flatnonzero(is_outside)), rule, folds=folds)
    options = {"views": views, "class_weight": class_weight}
    started = time.monotonic()
    results: dict[str, FoldResults] = {}
    with each_warning_once():
        for number, name in enumerate(names):
            result = FoldResults(divided)
            for fold in range(folds):
                left = budget_s - (time.monotonic() - started)
                a_fold = float(np.mean(result.seconds)) if fold else 0.0
                if results and a_fold * (folds - fold) >= left:
                    reason = f"{folds} folds would take about {a_fold * folds:,.0f} s"
                    skipped.append({"head": name, "reason": reason if fold else "the budget was spent"})
                    break
                before = time.monotonic()
                result.add(divided.predict(fold, head=name, seed=seed, jobs=jobs, options=options))
                result.seconds.append(time.monotonic() - before)
                if progress is not None:
                    so_far = {"params": {"head": name}, "top1": result.top1}
                    progress(number * folds + fold + 1, len(names) * folds, so_far)
            else:
                results[name] = result
    return _chosen(divided, results, skipped, budget_s=float(budget_s), seconds=time.monotonic() - started)


def _names(heads: Sequence[str] | None) -> list[str]:
    if heads is not None:
        for name in heads:
            find_head(name)
        return [*dict.fromkeys(heads)]
    known = [info.name for info in known_heads()]
    return sorted(known, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))


def _chosen(
    divided: CrossFolds,
    results: Mapping[str, FoldResults],
    skipped: list[dict[str, str]],
    *,
    budget_s: float,
    seconds: float,
) -> HeadChoice:
    at = np.flatnonzero(next(iter(results.values())).is_predicted)
    unit, units = divided.unit(at), divided.units(at)
    right = {name: result.is_right[at] for name, result in results.items()}
    taken = {name: float(np.mean(result.seconds)) for name, result in results.items()}
    best, pairs, equal = _equals(right, taken, units, unit)
    order = sorted(results, key=lambda name: (-int(right[name].sum()), taken[name]))
    tried = []
    for name in order:
        pair = pairs.get(name, {})
        tried.append(
            {
                "head": name,
                **scored(int(right[name].sum()), len(at)),
                "log_loss": results[name].log_loss(at),
                "seconds": taken[name],
                **{key: pair.get(key) for key in ("difference", "difference_ci", "p", "p_adjusted")},
                "is_equal": name in equal,
            }
        )
    nested, counts = np.zeros(len(at), np.bool_), dict.fromkeys(order, 0)
    for fold in range(divided.folds):
        inside = divided.fold_of[at] != fold
        others = {name: is_right[inside] for name, is_right in right.items()}
        own = min(_equals(others, taken, units[inside], unit)[2], key=taken.__getitem__)
        counts[own] += 1
        nested[~inside] = right[own][~inside]
    return HeadChoice(
        head=min(equal, key=taken.__getitem__),
        best=best,
        n=len(at),
        folds=divided.folds,
        tried=tried,
        skipped=skipped,
        nested={
            **scored(int(nested.sum()), len(at)),
            "heads": {name: number for name, number in counts.items() if number},
        },
        unit=unit,
        budget_s=budget_s,
        seconds=seconds,
    )


def _equals(
    right: Mapping[str, NDArray[np.bool_]],
    taken: Mapping[str, float],
    units: NDArray[np.intp],
    unit: str,
) -> tuple[str, dict[str, dict[str, Any]], list[str]]:
    """Return the most accurate head, each other one against it, and those that equal it, itself included."""
    best = max(right, key=lambda name: (int(right[name].sum()), -taken[name]))
    others = [name for name in right if name != best]
    pairs = {name: compared_pair(best, name, right[best], right[name], units, unit) for name in others}
    adjusted = holm_adjusted([pairs[name]["p"] for name in others])
    for name, p in zip(others, adjusted, strict=True):
        pairs[name]["p_adjusted"] = p
    equal = [
        name
        for name in others
        if not _is_worse(pairs[name]) and pairs[name]["difference"] >= -_LEAST_DIFFERENCE
    ]
    return best, pairs, [best, *equal]


def _is_worse(pair: Mapping[str, Any]) -> bool:
    return bool(pair["p_adjusted"] < _CHANCE)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))

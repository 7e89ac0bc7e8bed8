"""Learning curves of heads that give several labels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HeadError, SplitError
from featstore.heads.data.view_counts import check_images, checked_views
from featstore.heads.fit_warnings import each_warning_once
from featstore.heads.multilabel.choosing import fit_chosen
from featstore.heads.multilabel.images import LabelImages, learnable_labels
from featstore.heads.multilabel.scores import score_values
from featstore.heads.multilabel.solving import label_recipe
from featstore.heads.seen import SeenImages
from featstore.io.json_values import json_values
from featstore.notebook_table import html_table, percent
from featstore.scoring.curve_points import checked_fractions, forecast_of, training_sets, verdict_on
from featstore.scoring.curves import DEFAULT_FRACTIONS
from featstore.scoring.multilabel.evaluation import REPLICATES, SEED, label_draws
from featstore.scoring.predictions import resampling_units
from featstore.splits import SplitRule
from featstore.stats.intervals import percentile_interval

if TYPE_CHECKING:
    from featstore.store.tables.table import FeatureTable

__all__ = ["LabelCurve", "learning_curve_of_labels"]

_SPLITS = ("validation", "test")


@dataclass(frozen=True, kw_only=True)
class LabelCurve:
    """Mean average precision (mAP) of a head that gives several labels by the number of training images.

    Parameters
    ----------
    head, space, catalog : str
        Names of the head, the space and the catalog.
    split : {"test", "validation"}
        Split that it was measured on.
    n : int
        Number of images in it.
    points : list of dict
        For each size, in increasing order, ``{"fraction", "n_train", "map", "map_ci", "micro_f1",
        "macro_f1", "fits"}``: the share of the training split; the mean number of images and the mean scores
        over repeats, in [0, 1]; the 95% interval by resampling images and repeats; and ``{"n_train", "map",
        "micro_f1", "macro_f1", "params"}`` for each repeat. All images are a single fit.
    left_out : list of dict
        ``{"fraction", "classes"}`` for each size that is too small: the labels that all its images have, or
        none.
    law, forecast, helps, verdict
        As for :class:`featstore.LearningCurve`, of 1 - mAP; the forecast has ``map`` and ``map_ci``.
    resampling : dict
        ``{"unit", "n", "replicates", "seed"}``, as for :class:`featstore.Evaluation`.

    Examples
    --------
    >>> import featstore
    >>> curve = featstore.learning_curve_of_labels(several, head="ridge", fractions=[0.5], repeats=2)
    >>> [len(point["fits"]) for point in curve.points]
    [2, 1]
    """

    head: str
    space: str
    catalog: str
    split: str
    n: int
    points: list[dict[str, Any]]
    left_out: list[dict[str, Any]]
    law: dict[str, float] | None
    forecast: dict[str, Any] | None
    helps: bool | None
    verdict: str
    resampling: dict[str, Any]

    def _repr_html_(self) -> str:
        points = [
            (percent(one["fraction"]), round(one["n_train"]), percent(one["map"], one["map_ci"]))
            for one in self.points
        ]
        return html_table(
            f"{self.head} on {self.space}, {self.split} mAP (n = {self.n:,}): {self.verdict}",
            ("of train", "images", "mAP"),
            points,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; the keys are stable."""
        return json_values(self)


def learning_curve_of_labels(
    table: "FeatureTable",
    *,
    head: str = "logistic",
    params: Mapping[str, Any] | None = None,
    rule: SplitRule | None = None,
    views: Mapping[str, int] | None = None,
    fractions: Sequence[float] = DEFAULT_FRACTIONS,
    repeats: int = 5,
    split: str = "test",
    progress: Callable[[int, int], None] | None = None,
) -> LabelCurve:
    """Fit a head that gives several labels on increasing parts of the training images, with a forecast.

    As :func:`featstore.learning_curve`, by mean average precision. Parameters, sigmoids and thresholds are
    chosen for each set, on all validation images.

    Parameters
    ----------
    table : FeatureTable
    head, params, rule, views
        As for :func:`featstore.fit_labels`.
    fractions, repeats, split, progress
        As for :func:`featstore.learning_curve`.

    Returns
    -------
    LabelCurve

    Raises
    ------
    HeadError
        ``fractions`` or ``repeats`` are out of range; or as for :func:`featstore.fit_labels`.
    SplitError
        The split is unknown, or it or validation contains no labelled image; or a label is missing from
        train.

    Examples
    --------
    >>> import featstore
    >>> curve = featstore.learning_curve_of_labels(several, head="ridge", fractions=[0.5], repeats=2)
    >>> [point["fraction"] for point in curve.points], curve.forecast
    ([0.5, 1.0], None)
    """
    sizes = checked_fractions(fractions)
    if repeats < 1:
        raise HeadError(f"repeats must be at least 1; found {repeats}")
    if split not in _SPLITS:
        raise SplitError(f"split must be {' or '.join(_SPLITS)}; found {split!r}")
    rule = SplitRule() if rule is None else rule
    recipe = label_recipe(head, None if params is None else dict(params), None, 0)
    check_images(table)
    splits, is_labelled = np.asarray(table.splits(rule)), np.asarray(table.is_labelled)
    train = np.flatnonzero(is_labelled & (splits == "train"))
    classes, has = learnable_labels(table, train)
    hashes = np.asarray(table.content_hash_bytes)
    # Copies of an image may be in several splits, by their groups or by given splits.
    is_new = is_labelled & ~SeenImages.of(hashes[train]).have_fitted(hashes)
    rows = {name: np.flatnonzero(is_new & (splits == name)) for name in _SPLITS}
    for name in ("validation", split):
        if not len(rows[name]):
            raise SplitError(
                f"the catalog {table.catalog_name} has no labelled image in {name}; make --{name} larger "
                f"than {getattr(rule, name):g}"
            )

    def missing(some: NDArray[np.intp]) -> set[str]:
        n_with = has[some].sum(axis=0)
        return {*classes[(n_with == 0) | (n_with == len(some))].tolist()}

    sets, left_out = training_sets(table, train, missing, rule, sizes, repeats)
    known = LabelImages.of(table, has, checked_views(views))
    held, scored = (np.searchsorted(known.at, rows[name]) for name in ("validation", split))
    tested = known.some(scored, split)
    unit, units = resampling_units(table, rows[split], rule)
    n_fits, n_wrong = sum(map(len, sets.values())), 0
    fits: list[list[dict[str, Any]]] = []
    draws: list[list[NDArray[np.float64]]] = []
    with each_warning_once():
        for drawn in sets.values():
            fits.append([])
            draws.append([])
            for some in drawn:
                at = np.searchsorted(known.at, some)
                choice, form = fit_chosen(recipe, known, [(at, held)], known.some(at, "train"))
                probabilities = tested.probabilities(form)
                given = probabilities >= choice.thresholds
                scores = score_values(tested.has, given, probabilities)
                kept = {name: scores[name] for name in ("map", "micro_f1", "macro_f1")}
                fits[-1].append({"n_train": len(some), **kept, "params": recipe.fixed | choice.setting})
                draws[-1].append(label_draws(tested.has, given, probabilities, units)[0][:, 0])
                n_wrong = int((given != tested.has).any(axis=1).sum())
                if progress is not None:
                    progress(sum(map(len, fits)), n_fits)
    of_sizes = _mean_draws(draws)
    points = [
        {
            "fraction": size,
            **{name: float(np.mean([run[name] for run in runs])) for name in ("n_train", "map")},
            "map_ci": list(percentile_interval(of_sizes[:, at])),
            **{name: float(np.mean([run[name] for run in runs])) for name in ("micro_f1", "macro_f1")},
            "fits": runs,
        }
        for at, (size, runs) in enumerate(zip(sets, fits, strict=True))
    ]
    law, forecast = forecast_of(points, of_sizes, "map")
    helps, verdict = verdict_on(forecast, n_wrong, len(rows[split]), split)
    return LabelCurve(
        head=recipe.name,
        space=table.space_name,
        catalog=table.catalog_name,
        split=split,
        n=len(rows[split]),
        points=points,
        left_out=left_out,
        law=law,
        forecast=forecast,
        helps=helps,
        verdict=verdict,
        resampling={"unit": unit, "n": len(np.unique(units)), "replicates": REPLICATES, "seed": SEED},
    )


def _mean_draws(draws: list[list[NDArray[np.float64]]]) -> NDArray[np.float64]:
    """Resample repeats; return the mean over them of each draw of images, (n_draws, n_sizes)."""
    # A draw has the same images and repeats at all sizes.
    repeats = max(map(len, draws))
    n_draws = len(draws[0][0])
    chosen = np.random.default_rng(SEED + 1).integers(0, repeats, size=(n_draws, repeats))
    means = [
        np.take_along_axis(np.stack(runs, axis=1), chosen % len(runs), axis=1).mean(axis=1) for runs in draws
    ]
    found = np.stack(means, axis=1)
    # Draws without an image of any label.
    return np.asarray(found[~np.isnan(found).any(axis=1)], np.float64)

"""From a table of features to a fitted head."""

import itertools
import json
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import FeatstoreError, HeadError, SplitError
from featstore.heads.calibration import fit_temperature
from featstore.heads.dealing import checked_classes, deal, report_leaks
from featstore.heads.evaluation import score
from featstore.heads.head import Head, usable_features
from featstore.heads.linear import linear_form
from featstore.heads.near_duplicates import score_without_duplicates
from featstore.heads.registry import HeadInfo, find_head, known_heads
from featstore.heads.sweep_scores import sweep_scores
from featstore.splits import SPLITS, HashHoldout, HashKFold, SplitRule

if TYPE_CHECKING:
    from featstore.store.table import FeatureTable

__all__ = ["Progress", "fit"]

Progress = Callable[[int, int, Mapping[str, Any]], None]

_logger = logging.getLogger(__name__)

# Multiplications in one pass over the features, below which the threads of the linear algebra wait for each
# other longer than they work: 1,000 x 1,280 features of 5 classes are fitted five times as fast by one.
_ONE_THREAD_BELOW = 2 * 10**8


def fit(
    table: "FeatureTable",
    *,
    head: Any = "logistic",
    params: Mapping[str, Any] | None = None,
    rule: SplitRule | None = None,
    progress: Progress | None = None,
) -> Head:
    """Fit a classifier on the training split of a table of features.

    A head known by its name is fitted once for each setting of its grid; the one with the best accuracy on
    the validation split is kept, and of equal ones the most regularised. The test split is looked at once,
    at the end. The same table, rule and parameters give the same head, bit for bit, on one machine.

    Parameters
    ----------
    table : FeatureTable
        Images without a label are left out.
    head : str or scikit-learn classifier
        A name that :func:`featstore.known_heads` lists, or a classifier of your own, of which a copy is
        fitted as it is. A search such as ``GridSearchCV`` gets what the rule keeps together as its groups
        where its ``cv`` is a :class:`featstore.HashKFold`, and its best estimator becomes the head's.
    params : mapping, optional
        Parameters to fix, such as ``{"C": 0.3}``; what stays open in the grid is still chosen.
    rule : SplitRule, optional
        Default: ``SplitRule()``. A split that the catalog gives wins over it. Where the catalog gives none to
        validation and there is something to choose, the rule's share of the images given to train is taken;
        the head's own rule then says ``validation_from_train``.
    progress : callable, optional
        Called as ``progress(done, total, {"params": {…}, "top1": accuracy})`` after each setting.

    Returns
    -------
    Head

    Raises
    ------
    UnknownHeadError
        No head has this name.
    HeadError
        There are no labels, or one class only; parameters or features are unfit; ``head`` is no classifier.
    SplitError
        A class is missing from train, the validation split is empty while there is something to choose, or
        given splits tear apart what the rule keeps together.
    """
    recipe = _recipe(head, params)
    rule = SplitRule() if rule is None else rule
    labels = np.asarray(table.y)
    rule, rows = deal(table, labels, rule, chooses=recipe.n_settings > 1)
    classes = checked_classes(table, labels, rows, rule)
    if recipe.n_settings > 1 and not len(rows["validation"]):
        fixed = " ".join(f"--param {name}=…" for name in recipe.grid)
        raise SplitError(
            f"no labelled image is in validation, and {recipe.name} chooses its parameters there; make "
            f"--validation larger than {rule.validation:g}, or fix them with {fixed}"
        )
    leaks, label_conflicts = report_leaks(table, labels, rows)

    y = {split: labels[rows[split]] for split in SPLITS}
    X = {split: _gather(table.X, rows[split], split=split) for split in ("train", "validation")}
    groups = np.asarray(table.group_keys(rule))[rows["train"]]
    fitted = _fit_recipe(recipe, X, y, groups=groups, progress=progress)
    temperature = None
    if not hasattr(fitted.estimator, "predict_proba"):
        temperature = fit_temperature(fitted.estimator, X["validation"], y["validation"], classes)

    values: dict[str, Any] = {
        "name": recipe.name,
        "classes": classes,
        "spec": table.spec,
        "fingerprint": table.fingerprint,
        "feature_dim": int(table.X.shape[1]),
        "split_rule": rule,
        "params": fitted.params,
        "counts": {split: {str(c): int((y[split] == c).sum()) for c in classes} for split in SPLITS},
        "unlabelled": int((labels == "").sum()),
        "sweep": fitted.sweep,
        "leaks": leaks,
        "label_conflicts": label_conflicts,
        "temperature": temperature,
        "weights": str(getattr(table, "weights", "")),
        "catalog": str(table.catalog_name),
        "space": str(table.space_name),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        "linear": linear_form(fitted.estimator, feature_dim=int(table.X.shape[1])),
        "load_estimator": partial(_itself, fitted.estimator),
    }
    unscored = Head(**values, validation=score(labels[:0], labels[:0]), test=score(labels[:0], labels[:0]))
    validation = score(y["validation"], unscored.predict(X["validation"]))
    del X
    predicted = unscored.predict(_gather(table.X, rows["test"], split="test"))
    near_duplicates = score_without_duplicates(
        table, train=rows["train"], test=rows["test"], labels=y["test"], predicted=predicted
    )
    test = score(y["test"], predicted)
    return Head(**values, validation=validation, test=test, near_duplicates=near_duplicates)


def _itself(estimator: Any) -> Any:
    return estimator


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    """What to fit: an unfitted estimator, and what is to be chosen."""

    name: str
    estimator: Any
    fixed: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    is_ours: bool = True

    @property
    def n_settings(self) -> int:
        return int(np.prod([len(values) for values in self.grid.values()]))


@dataclass(frozen=True, kw_only=True)
class _Fitted:
    estimator: Any
    params: dict[str, Any]
    sweep: list[dict[str, Any]]


def _recipe(head: Any, params: Mapping[str, Any] | None) -> _Recipe:
    if isinstance(head, str):
        info = find_head(head)
        fixed = _checked_params(info, params or {})
        grid = {name: values for name, values in info.grid.items() if name not in fixed}
        return _Recipe(name=info.name, estimator=info.make(), fixed=fixed, grid=grid)
    if not _is_classifier(head):
        names = ", ".join(info.name for info in known_heads())
        found = f"the class {head.__name__}" if isinstance(head, type) else type(head).__name__
        raise HeadError(
            f"a head is one of {names}, or an instance of a scikit-learn classifier; found {found}"
        )
    if params:
        raise HeadError(
            f"set {', '.join(params)} on the {type(head).__name__} itself; params are for named heads"
        )
    return _Recipe(name=type(head).__name__.lower(), estimator=head, is_ours=False)


def _is_classifier(head: Any) -> bool:
    from sklearn.base import BaseEstimator, is_classifier

    return isinstance(head, BaseEstimator) and is_classifier(head)


def _checked_params(info: HeadInfo, params: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := sorted(set(params) - set(info.settings)):
        raise HeadError(
            f"{info.name} has no parameter {', '.join(unknown)}; it has {', '.join(sorted(info.settings))}"
        )
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in params.items()}
    try:
        json.dumps(plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise HeadError(f"parameters are numbers, texts and dicts of them; found {plain}") from error
    return plain


def _gather(X: Any, rows: NDArray[np.intp], *, split: str) -> NDArray[Any]:
    """Return the rows in at least single precision; one run of rows stays a view."""
    is_run = len(rows) > 0 and rows[-1] - rows[0] == len(rows) - 1
    picked = X[rows[0] : rows[-1] + 1] if is_run else X[rows]
    try:
        return usable_features(picked)
    except HeadError as error:
        raise HeadError(f"in {split}, {error}") from error


def _fit_recipe(
    recipe: _Recipe,
    X: Mapping[str, NDArray[Any]],
    y: Mapping[str, NDArray[np.str_]],
    *,
    groups: NDArray[np.str_],
    progress: Progress | None,
) -> _Fitted:
    from threadpoolctl import threadpool_limits

    work = X["train"].size * len(np.unique(y["train"]))
    try:
        with threadpool_limits(1 if work < _ONE_THREAD_BELOW else None):
            if recipe.is_ours:
                return _sweep(recipe, X, y, progress)
            return _fit_as_is(recipe, X["train"], y["train"], groups)
    except FeatstoreError:
        raise
    except (TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise HeadError(f"{recipe.name} cannot be fitted: {reason}") from error


def _sweep(
    recipe: _Recipe,
    X: Mapping[str, NDArray[Any]],
    y: Mapping[str, NDArray[np.str_]],
    progress: Progress | None,
) -> _Fitted:
    """Fit the classifier for each setting; the scaling, which does not depend on it, is fitted once."""
    from sklearn.base import clone
    from sklearn.pipeline import Pipeline

    preparation, (step, classifier) = recipe.estimator[:-1], recipe.estimator.steps[-1]
    prepared = preparation.fit_transform(X["train"], y["train"])
    checked = preparation.transform(X["validation"]) if len(X["validation"]) else None
    best: tuple[float, Any, dict[str, Any], list[str]] | None = None
    sweep = []
    for values in itertools.product(*recipe.grid.values()):
        chosen = dict(zip(recipe.grid, values, strict=True))
        params = recipe.fixed | chosen
        candidate = clone(classifier).set_params(**params)
        notes = _fit_quietly(candidate, prepared, y["train"])
        top1 = float((candidate.predict(checked) == y["validation"]).mean()) if checked is not None else 0.0
        if best is None or top1 > best[0]:
            best = (top1, candidate, params, notes)
        if recipe.n_settings > 1 and checked is not None:
            more = sweep_scores(candidate, prepared, y["train"], checked, y["validation"])
            sweep.append({"params": chosen, "top1": top1, **more})
            if progress is not None:
                progress(len(sweep), recipe.n_settings, sweep[-1])
    assert best is not None
    _, candidate, params, notes = best
    for note in notes:
        _logger.warning("%s with %s: %s", recipe.name, params, note)
    return _Fitted(estimator=Pipeline([*preparation.steps, (step, candidate)]), params=params, sweep=sweep)


def _fit_as_is(recipe: _Recipe, X: NDArray[Any], y: NDArray[np.str_], groups: NDArray[np.str_]) -> _Fitted:
    from sklearn.base import clone

    estimator = clone(recipe.estimator)
    is_grouped = isinstance(getattr(estimator, "cv", None), HashKFold | HashHoldout)
    for note in _fit_quietly(estimator, X, y, **({"groups": groups} if is_grouped else {})):
        _logger.warning("%s: %s", recipe.name, note)
    params = getattr(estimator, "best_params_", None) or estimator.get_params(deep=False)
    estimator = getattr(estimator, "best_estimator_", estimator)
    if not hasattr(estimator, "predict_proba") and not hasattr(estimator, "decision_function"):
        raise HeadError(
            f"{type(estimator).__name__} gives neither probabilities nor decisions; "
            "use a classifier that has predict_proba or decision_function"
        )
    plain = {name: value for name, value in params.items() if _is_plain(value)}
    return _Fitted(estimator=estimator, params=plain, sweep=[])


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str) or (isinstance(value, int | float) and np.isfinite(value))


def _fit_quietly(estimator: Any, X: NDArray[Any], y: NDArray[np.str_], **extra: Any) -> list[str]:
    """Fit, and return the first lines of what was warned about, such as that it did not converge."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator.fit(X, y, **extra)
    return sorted({str(entry.message).strip().splitlines()[0] for entry in caught})


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    from featstore.version import __version__

    return {
        "featstore": __version__,
        **{name: version(name) for name in ("numpy", "scikit-learn", "skops")},
    }

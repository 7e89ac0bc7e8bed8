"""Recipe of a fit: an unfitted estimator with its fixed parameters, and the grid to choose from."""

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.class_names import normalised_name
from featstore.errors import HeadError, first_line
from featstore.heads.info import HeadInfo
from featstore.heads.registry import find_head, known_heads
from featstore.heads.solvers.margins import can_solve
from featstore.messages import listed

__all__ = ["Recipe", "build_recipe", "weight_argument"]

_LARGEST_SEED = 2**32 - 1

Params = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to fit."""

    name: str
    estimator: Any  # unfitted, with all fixed parameters set
    fixed: Params = field(default_factory=dict)  # parameters set by the user
    grid: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    class_weight: Any = None
    solver: str = "own"  # as in HeadInfo; "own" for a user's own instance
    dtype: str = "float32"
    is_calibrated: bool = False

    @property
    def classifier(self) -> Any:
        """The unfitted last step of the pipeline."""
        return self.estimator.steps[-1][1]

    @property
    def backend(self) -> str:
        """Preference for joblib: threads only for solvers that are thread-safe."""
        return "processes" if self.solver in {"plain", "own"} else "threads"

    @property
    def settings(self) -> list[Params]:
        """All settings of the grid, in order; a single empty one without a grid."""
        return [
            dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())
        ]

    @property
    def n_settings(self) -> int:
        """Number of settings to choose from."""
        return math.prod(len(values) for values in self.grid.values())

    def middle(self) -> "Recipe":
        """Return the recipe with only the middle value of each grid."""
        return replace(self, grid={name: (values[len(values) // 2],) for name, values in self.grid.items()})

    def for_n_rows(self, n_rows: int) -> "Recipe":
        """Return the recipe without numbers of neighbours above the number of rows."""
        if self.solver != "neighbors":
            return self
        if "n_neighbors" in self.grid:
            most = self.grid["n_neighbors"]
            few = tuple(number for number in most if number <= n_rows) or (n_rows,)
            return replace(self, grid={**self.grid, "n_neighbors": few})
        given = self.fixed["n_neighbors"]
        if isinstance(given, int) and given > n_rows:
            raise HeadError(
                f"{self.name} has n_neighbors={given}, but is fitted on {n_rows} rows; reduce n_neighbors"
            )
        return self

    def check_classes(self, classes: NDArray[np.str_]) -> None:
        """Raise HeadError if there are weights for unknown classes."""
        if isinstance(self.class_weight, Mapping):
            unknown = sorted({*self.class_weight} - {*classes.tolist()})
            if unknown:
                raise HeadError(
                    f"class weights are given for {listed(unknown)}, but no image has such a label"
                )

    @property
    def takes_weights(self) -> bool:
        """Whether the classifier can be fitted with weights of images."""
        return self.solver in {"minibatch", "kernel"} or weight_argument(self.estimator) is not None

    def check_weights(self) -> None:
        """Raise HeadError unless the classifier takes weights of images."""
        if not self.takes_weights:
            raise HeadError(
                f"{self.name} does not take the weights of images that the catalog has: choose logistic, "
                "svm, ridge, rbf, sgd, softmax or mlp, or fit without them (--ignore-weights, or "
                "table.without_weights())"
            )

    def weights(self, classes: NDArray[np.str_], codes: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the weight of an image of each class, float64 of shape (n_classes,)."""
        # "balanced" is n / (n_classes * n_of_the_class), as in scikit-learn (after King & Zeng, Political
        # Analysis 9, 2001). Labels without a weight count 1.
        if self.class_weight is None:
            return np.ones(len(classes))
        if self.class_weight == "balanced":
            counts = np.bincount(codes, minlength=len(classes))
            return np.asarray(len(codes) / (len(classes) * counts), np.float64)
        return np.array([float(self.class_weight.get(str(label), 1.0)) for label in classes])

    def row_weights(
        self, classes: NDArray[np.str_], codes: NDArray[np.intp], weights: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        """Return the weight of each row: its class's, times its own."""
        of_classes = self.weights(classes, codes)[codes]
        return of_classes if weights is None else of_classes * weights


def weight_argument(estimator: Any) -> str | None:
    """Return the name under which a classifier's ``fit`` takes weights of rows; None if it takes none."""
    from sklearn.utils.validation import has_fit_parameter

    name, classifier = getattr(estimator, "steps", [("", estimator)])[-1]
    if not has_fit_parameter(classifier, "sample_weight"):
        return None
    return f"{name}__sample_weight" if classifier is not estimator else "sample_weight"


def build_recipe(
    head: Any, *, params: Mapping[str, Any] | None = None, class_weight: Any = None, seed: int = 0
) -> Recipe:
    """Validate the user's arguments and return a recipe."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed <= _LARGEST_SEED:
        raise HeadError(f"seed must be an integer from 0 to {_LARGEST_SEED}; found {seed!r}")
    if isinstance(class_weight, Mapping):
        class_weight = {
            normalised_name(label) if isinstance(label, str) else label: weight
            for label, weight in class_weight.items()
        }
    if isinstance(head, str | HeadInfo):
        return _of_info(find_head(head) if isinstance(head, str) else head, params, class_weight, int(seed))
    return _of_instance(head, params, class_weight, int(seed))


def _of_info(info: HeadInfo, params: Mapping[str, Any] | None, class_weight: Any, seed: int) -> Recipe:
    fixed = _checked_params(info, params or {})
    if class_weight is not None:
        if "class_weight" in fixed:
            raise HeadError("class weights are given twice; pass either class_weight or the parameter")
        if "class_weight" not in info.settings:
            able = [one.name for one in known_heads() if "class_weight" in one.settings]
            raise HeadError(
                f"{info.name} does not support class weights; heads that do are {', '.join(able)}"
            )
        fixed |= {"class_weight": _checked_class_weight(class_weight)}
    if info.solver == "kernel":
        _check_landmarks(fixed.get("landmarks"))
    if info.solver in {"moments", "margins", "descent", "minibatch", "kernel"}:
        _checked_class_weight(fixed.get("class_weight"))
    estimator = info.make()
    classifier = estimator.steps[-1][1]
    own = classifier.get_params(deep=False)
    try:
        classifier.set_params(**{name: value for name, value in fixed.items() if name in own})
    except (TypeError, ValueError) as error:
        raise HeadError(f"{info.name} cannot be fitted: {first_line(error)}") from error
    if info.solver == "minibatch":
        # Checks every parameter now, not once features are scaled.
        _ = classifier.options
    return Recipe(
        name=info.name,
        estimator=_seeded(estimator, seed),
        fixed=fixed,
        grid={name: tuple(values) for name, values in info.grid.items() if name not in fixed},
        class_weight=fixed.get("class_weight"),
        solver="plain" if info.solver == "margins" and not can_solve(classifier) else info.solver,
        dtype=info.dtype,
        is_calibrated=info.is_calibrated,
    )


def _of_instance(head: Any, params: Mapping[str, Any] | None, class_weight: Any, seed: int) -> Recipe:
    from sklearn.base import BaseEstimator, clone, is_classifier

    if isinstance(head, type) or not isinstance(head, BaseEstimator) or not is_classifier(head):
        names = ", ".join(info.name for info in known_heads())
        found = f"the class {head.__name__}" if isinstance(head, type) else type(head).__name__
        raise HeadError(
            f"head must be one of {names}, or an instance of a scikit-learn classifier; found {found}"
        )
    if named := [*(params or {}), *(["class_weight"] if class_weight is not None else [])]:
        raise HeadError(
            f"set {', '.join(named)} on the {type(head).__name__} itself; params are for named heads"
        )
    return Recipe(name=type(head).__name__.lower(), estimator=_seeded(clone(head), seed))


def _seeded(estimator: Any, seed: int) -> Any:
    unset = {
        name: seed
        for name, value in estimator.get_params(deep=True).items()
        if value is None and (name == "random_state" or name.endswith("__random_state"))
    }
    return estimator.set_params(**unset)


def _checked_params(info: HeadInfo, params: Mapping[str, Any]) -> Params:
    if unknown := sorted(set(params) - set(info.settings)):
        raise HeadError(
            f"{info.name} has no parameter {', '.join(unknown)}; it has {', '.join(sorted(info.settings))}"
        )
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in params.items()}
    try:
        json.dumps(plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise HeadError(f"parameters must be numbers, strings or dicts of them; found {plain}") from error
    return plain


def _check_landmarks(given: Any) -> None:
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
        raise HeadError(f"landmarks is a number of rows, at least 1; found {given!r}")


def _checked_class_weight(class_weight: Any) -> Any:
    if class_weight is None or class_weight == "balanced":
        return class_weight
    if isinstance(class_weight, Mapping):
        plain = {str(label): weight for label, weight in class_weight.items()}
        if all(isinstance(w, int | float | np.number) and 0 < w < math.inf for w in plain.values()):
            return {label: float(weight) for label, weight in plain.items()}
    raise HeadError(
        f'class weights must be "balanced", or a number above 0 for each label; found {class_weight!r}'
    )

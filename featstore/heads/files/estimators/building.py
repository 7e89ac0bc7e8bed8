"""Construction of scikit-learn estimators from validated parts."""

import importlib
import inspect
from typing import Any

from numpy.typing import NDArray

from featstore.heads.files.estimators.kinds import KINDS
from featstore.heads.files.estimators.parts import Parts, Stored, is_plain

__all__ = ["build"]

# More nested estimators than this would take minutes for each image.
_MOST_ESTIMATORS = 2**14
# Wider, the features of some thousand images would not be in memory at once.
_WIDEST = 2**16
_TIMES_WIDER = 8


def build(stored: Any, *, feature_dim: int, classes: NDArray[Any]) -> Any:
    """Rebuild a classifier with the attributes it predicts with; raise if inconsistent."""
    if not isinstance(stored, Stored):
        raise TypeError("it contains no estimator: it does not match its manifest")
    classifier, n_columns = _Builder(feature_dim).build(stored, feature_dim, classes)
    if n_columns != len(classes) or not hasattr(classifier, "predict"):
        raise ValueError(f"{type(classifier).__name__} is not a classifier of {len(classes)} classes")
    return classifier


class _Builder:
    def __init__(self, feature_dim: int) -> None:
        self._n_built = 0
        # Of the whole: unions that follow each other would else be as wide as they like.
        self._widest = max(_WIDEST, _TIMES_WIDER * feature_dim)

    def build(self, stored: Stored, width: int, classes: NDArray[Any]) -> tuple[Any, int]:
        self._n_built += 1
        if self._n_built > _MOST_ESTIMATORS:
            raise ValueError(f"it consists of more than {_MOST_ESTIMATORS:,} estimators")
        kind = KINDS[stored.kind]
        module, _, name = stored.kind.rpartition(".")
        made = getattr(importlib.import_module(module), name)
        known = inspect.signature(made).parameters
        parts = Parts(stored=stored, width=width, widest=self._widest, classes=classes, build=self.build)
        for param, value in stored.values.items():
            if param in known and is_plain(value):
                parts.params[param] = value
        if stored.values.get("n_features_in_", width) != width:
            found = str(stored.values["n_features_in_"])[:80]
            raise parts.wrong(f"{found} features, not {width}: its parts do not match its manifest")
        n_columns = kind.check(parts)
        estimator = made(**parts.params)
        if hasattr(made, "_parameter_constraints"):
            estimator._validate_params()
        for attribute, value in parts.fitted.items():
            setattr(estimator, attribute, value)
        if kind.has_width:
            estimator.n_features_in_ = width
        return estimator, n_columns

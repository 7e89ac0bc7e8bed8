"""Checks of stored estimators that contain others."""

from typing import Any

import numpy as np

from featstore.heads.files.estimators.parts import Parts, Stored, is_number

__all__ = ["check_one_vs_rest", "check_pipeline", "check_power", "check_union"]


def check_pipeline(parts: Parts) -> int:
    """Check a ``Pipeline``, whose steps must fit each other."""
    width, steps = parts.width, []
    for name, step in _named(parts, "steps"):
        if isinstance(step, Stored):
            step, width = parts.build(step, width, parts.classes)
        elif step not in (None, "passthrough"):
            raise parts.wrong(f"the step {str(step)[:80]!r}")
        steps.append((name, step))
    parts.params["steps"] = steps
    return width


def check_union(parts: Parts) -> int:
    """Check a ``FeatureUnion``, whose width is bounded before anything is computed."""
    width, built = 0, []
    for name, transformer in _named(parts, "transformer_list"):
        columns = parts.width if transformer == "passthrough" else 0
        if isinstance(transformer, Stored):
            transformer, columns = parts.build(transformer, parts.width, parts.classes)
        elif transformer not in ("drop", "passthrough"):
            raise parts.wrong(f"the transformer {str(transformer)[:80]!r}")
        width += columns
        built.append((name, transformer))
    if not 0 < width <= parts.widest:
        raise parts.wrong(f"{width:,} columns of {parts.width:,} features, which is not read")
    weights = parts.params.get("transformer_weights")
    if weights is not None and not (isinstance(weights, dict) and all(map(is_number, weights.values()))):
        raise parts.wrong("transformer_weights that are no numbers")
    parts.params["transformer_list"] = built
    return width


def _named(parts: Parts, param: str) -> list[tuple[str, Any]]:
    pairs = parts.stored.values.get(param)
    if not isinstance(pairs, list) or not pairs:
        raise parts.wrong(f"no {param}")
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise parts.wrong(f"{param} that are no pairs of a name and an estimator")
    if len({name for name, _ in pairs}) != len(pairs):
        raise parts.wrong(f"two {param} of one name")
    return pairs


def check_power(parts: Parts) -> int:
    """Check a ``PowerTransformer``, which contains a scaler."""
    parts.one_of("method", ("yeo-johnson", "box-cox"))
    parts.array("lambdas_", parts.width)
    if parts.one_of("standardize", (True, False)):
        scaler = parts.stored.values.get("_scaler")
        if not isinstance(scaler, Stored):
            raise parts.wrong("no scaler")
        parts.fitted["_scaler"], _ = parts.build(scaler, parts.width, parts.classes)
    return parts.width


def check_one_vs_rest(parts: Parts) -> int:
    """Check a ``OneVsRestClassifier``: one binary classifier for each row of coefficients."""
    from sklearn.preprocessing import LabelBinarizer

    parts.labels()
    found = parts.stored.values.get("estimators_")
    if not isinstance(found, list) or len(found) != parts.n_rows:
        raise parts.wrong(f"not {parts.n_rows} classifiers")
    own_or_other = np.array([0, 1])
    built = []
    for one in found:
        if not isinstance(one, Stored):
            raise parts.wrong("a classifier that is none")
        built.append(parts.build(one, parts.width, own_or_other)[0])
    parts.params["estimator"] = built[0]
    parts.fitted["estimators_"] = built
    parts.fitted["label_binarizer_"] = LabelBinarizer(sparse_output=True).fit(parts.classes)
    return len(parts.classes)

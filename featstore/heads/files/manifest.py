"""The manifest of a head file: its fields, and their validation."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from featstore.backbones.spec import spec_from_dict
from featstore.errors import HeadError
from featstore.heads.hierarchy import are_parents
from featstore.heads.prediction_sets import are_held_out
from featstore.images.views import MAX_VIEWS
from featstore.splits import SPLITS, SplitRule

__all__ = ["FIELDS", "MANIFEST", "checked_values"]

MANIFEST = "manifest.json"

FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "name": str,
    "classes": list,
    "spec": dict,
    "fingerprint": str,
    "feature_dim": int,
    "split_rule": dict,
    "params": dict,
    "counts": dict,
    "unlabelled": int,
    "weighted": bool,
    "sweep": list,
    "steps": list,
    "choice": dict,
    "seed": int,
    "validation": dict,
    "test": dict,
    "near_duplicates": dict,
    "reject": (dict, type(None)),
    "held_out": dict,
    "leaks": int,
    "label_conflicts": int,
    "extension": dict,
    "renamed": dict,
    "parents": dict,
    "temperature": (float, int, type(None)),
    "train_views": int,
    "test_views": int,
    "weights": (str, list),
    "catalog": str,
    "space": str,
    "catalog_digests": dict,
    "created": str,
    "versions": dict,
}

# NumPy pads all labels to the longest.
_MOST_LETTERS = 2**26
# A hundred times Inception's largest feature map; memory for a row is allocated before it is validated.
_MOST_FEATURES = 2**24


def _with_defaults(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Add the fields that earlier versions did not have: the first chose on validation, with seed 0."""
    # Written from 0.6 on, and ignored by earlier readers.
    manifest = {"held_out": {}, "weighted": False, "catalog_digests": {}, "parents": {}, **manifest}
    if manifest["format_version"] < 4:
        manifest = {"renamed": {}, **manifest}
    if manifest["format_version"] < 3:
        manifest = {"extension": {}, "train_views": 1, "test_views": 1, **manifest}
    if manifest["format_version"] > 1:
        return dict(manifest)
    scores = manifest.get("validation")
    chosen = scores if manifest.get("sweep") and isinstance(scores, dict) else {}
    choice = {
        "by": "validation" if chosen else None,
        "folds": None,
        "n": chosen.get("n", 0),
        "top1": chosen.get("top1"),
        "fitted_on": ["train"],
    }
    return {"choice": choice, "seed": 0, "reject": None, "near_duplicates": {}, "steps": [], **manifest}


def checked_values(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a manifest of any version, validated, with spec, rule and classes as objects."""
    manifest = _with_defaults(manifest)
    for name, kind in FIELDS.items():
        if name not in manifest:
            raise HeadError(f"its {MANIFEST} lacks {name}")
        if not isinstance(manifest[name], kind) or isinstance(manifest[name], bool) != (kind is bool):
            raise HeadError(f"its {MANIFEST} has an invalid {name}: {str(manifest[name])[:80]}")
    values = {name: manifest[name] for name in FIELDS}
    checks = {
        "classes": _are_labels(values["classes"]),
        "feature_dim": 1 <= values["feature_dim"] <= _MOST_FEATURES,
        "counts": sorted(values["counts"]) == sorted(SPLITS)
        and all(map(_are_counts, values["counts"].values())),
        "validation": set(values["validation"]) == {"n", "top1", "top1_ci"},
        "test": set(values["test"]) == {"n", "top1", "top1_ci"},
        "choice": set(values["choice"]) == {"by", "folds", "n", "top1", "fitted_on"},
        "catalog_digests": all(isinstance(one, str) for one in values["catalog_digests"].values()),
        "renamed": all(isinstance(name, str) for name in values["renamed"].values()),
        "parents": are_parents(values["parents"], values["classes"]),
        "reject": values["reject"] is None or _is_rejection(values["reject"]),
        "held_out": are_held_out(values["held_out"], values["classes"]),
        "temperature": values["temperature"] is None or 0 < values["temperature"] < np.inf,
        "train_views": 1 <= values["train_views"] <= MAX_VIEWS,
        "test_views": 1 <= values["test_views"] <= MAX_VIEWS,
        "weights": isinstance(values["weights"], str) or all(isinstance(w, str) for w in values["weights"]),
    }
    if invalid := [name for name, is_valid in checks.items() if not is_valid]:
        raise HeadError(f"its {MANIFEST} has an invalid {invalid[0]}: {str(values[invalid[0]])[:80]}")
    values["classes"] = np.array(values["classes"], dtype=np.str_)
    values["spec"] = spec_from_dict(values["spec"])
    if isinstance(values["weights"], list):
        values["weights"] = tuple(values["weights"])
    values["split_rule"] = SplitRule.from_dict(values["split_rule"])
    if values["spec"].fingerprint != values["fingerprint"]:
        raise HeadError("its fingerprint is not that of its backbone's specification")
    return values


def _are_labels(classes: Sequence[Any]) -> bool:
    if len(classes) < 2 or not all(isinstance(label, str) for label in classes):
        return False
    # "" stands for an image that is not answered; NumPy drops what is zero at a label's end.
    if any(not label or label.endswith("\0") for label in classes):
        return False
    if any(one >= other for one, other in pairwise(classes)):
        return False
    return len(classes) * max(map(len, classes)) <= _MOST_LETTERS


def _are_counts(counts: Any) -> bool:
    return isinstance(counts, dict) and all(isinstance(n_images, int) for n_images in counts.values())


def _is_rejection(reject: Mapping[str, Any]) -> bool:
    below = reject.get("below")
    return (
        set(reject) == {"below", "validation", "test"}
        and isinstance(below, int | float)
        and 0 <= below < 1
        and isinstance(reject["validation"], dict)
        and isinstance(reject["test"], dict)
    )

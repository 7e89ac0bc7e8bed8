"""Verification of an exported model against its head, on held-out photos."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.engines.devices import gpu_in_sight
from featstore.errors import VerificationError
from featstore.export.photos import choose, read_photos
from featstore.export.runtimes import open_encoded
from featstore.heads import MultiLabelHead, RegressionHead
from featstore.heads.multilabel.scores import score_values

if TYPE_CHECKING:
    from featstore.export.exported import ExportedModel
    from featstore.heads import AnyHead
    from featstore.store.tables.table import FeatureTable

__all__ = ["check_tolerance", "compare", "verify"]

Progress = Callable[[int, int], Any]

_LIMIT = 1000

# Of the largest difference in any probability of any photo. On processors, features of one network from two
# libraries differ by 1e-5 of their length, which comes to 1e-6 to 1e-4 in probabilities: more than ten times
# that is another network, or other pixels. Not so where features were rounded before the head saw them: by
# the store to half precision (1e-4 on flowers), by GPUs (TensorFlow's TF32) or in bfloat16 (0.1 on flowers).
_EXACT, _STORED_HALF, _GPU, _BFLOAT16 = 1e-3, 1e-2, 0.05, 0.25

# Of numbers, over that of probabilities: another network gives numbers that are wrong by all of their spread.
_OF_NUMBERS = 10

# Of models with rounded weights: the mean over the photos of the largest difference, and the share of photos
# with the same most probable class. One photo near a boundary may well change sides; many may not.
_ROUNDED = {"float16": (0.01, 0.98), "int8": (0.1, 0.9)}


def verify(
    model: "ExportedModel",
    head: "AnyHead",
    table: "FeatureTable",
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run an exported model on held-out photos and compare its probabilities with the head's."""
    # Up to 1,000 photos of the test split whose files still have the catalog's content, against
    # Head.predict_proba of the stored features of all views that the head uses. Of a head fitted on no
    # images, a network's own classifier, any photos do.
    has_images = isinstance(head, RegressionHead) or any(head.counts.get("train", {}).values())
    split = "test" if has_images else "all"
    photos = choose(table, split, head.split_rule, limit=_LIMIT)
    encoded = open_encoded(model.path) if model.runtime == "saved_model" else None
    rows: list[int] = []
    of_files: list[NDArray[np.float32] | None] = []

    def batches() -> Iterator[NDArray[np.uint8]]:
        batch: list[NDArray[np.uint8]] = []
        for photo in read_photos(photos):
            rows.append(photo.row)
            batch.append(photo.pixels)
            if encoded is not None:
                of_files.append(encoded(photo.data))
            if len(batch) == model.batch_size:
                yield np.stack(batch)
                batch = []
            if progress is not None:
                progress(len(rows), len(photos))
        if batch:
            yield np.stack(batch)

    parts = list(model.run(batches()))
    if not rows:
        return {"skipped": _why_none(len(photos))}
    seen = photos.select(rows)
    wanted = _probabilities(head, seen)
    compared = _comparison(head, seen)
    result: dict[str, Any] = {
        "split": split,
        "n": len(rows),
        "n_lost": len(photos) - len(rows),
        **compared(wanted, np.concatenate(parts), np.arange(len(rows))),
        "tolerance": _tolerance(model, table, head),
    }
    if encoded is not None:
        there = [number for number, row in enumerate(of_files) if row is not None]
        result["encoded"] = {"n": len(there), "n_undecoded": len(rows) - len(there)}
        if there:
            found = np.stack([row for row in of_files if row is not None])
            result["encoded"] |= compared(wanted[there], found, np.array(there))
    return result


def _comparison(
    head: "AnyHead", table: "FeatureTable"
) -> Callable[[NDArray[Any], NDArray[Any], NDArray[np.intp]], dict[str, float]]:
    """Return what compares the probabilities of some of a table's photos."""
    if isinstance(head, MultiLabelHead):
        has, thresholds = head.label_sets_of(table), head.thresholds
        return lambda wanted, found, at: compare_several(wanted, found, has[at], thresholds)
    if isinstance(head, RegressionHead):
        true = head.target_of(table)
        return lambda wanted, found, at: compare_numbers(wanted, found, true[at])
    labels, classes = head.labels_of(table), head.classes
    return lambda wanted, found, at: compare(wanted, found, labels[at], classes)


def compare_several(
    wanted: NDArray[Any],
    found: NDArray[Any],
    has: NDArray[np.bool_],
    thresholds: NDArray[np.float64],
) -> dict[str, float]:
    """Compare two arrays of probabilities of several labels, both of shape (n, n_classes)."""
    probabilities = np.asarray(found, np.float64)
    difference = np.abs(probabilities - wanted).max(axis=1)
    maps = [score_values(has, one >= thresholds, one)["map"] for one in (wanted, probabilities)]
    return {
        "largest_difference": float(difference.max()),
        "mean_difference": float(difference.mean()),
        "label_agreement": float(((wanted >= thresholds) == (probabilities >= thresholds)).mean()),
        "map_head": maps[0],
        "map_model": maps[1],
    }


def compare_numbers(wanted: NDArray[Any], found: NDArray[Any], true: NDArray[np.float64]) -> dict[str, float]:
    """Compare two arrays of numbers, both of shape (n, 1)."""
    values = np.asarray(found, np.float64)
    difference = np.abs(values - wanted)[:, 0]
    errors = [float(np.abs(one[:, 0] - true).mean()) for one in (wanted, values)]
    return {
        "largest_difference": float(difference.max()),
        "mean_difference": float(difference.mean()),
        "mae_head": errors[0],
        "mae_model": errors[1],
    }


def compare(
    wanted: NDArray[Any], found: NDArray[Any], labels: NDArray[np.str_], classes: NDArray[np.str_]
) -> dict[str, float]:
    """Compare two arrays of probabilities, both of shape (n, n_classes)."""
    difference = np.abs(np.asarray(found, np.float64) - wanted).max(axis=1)
    of_head, of_model = wanted.argmax(axis=1), found.argmax(axis=1)
    return {
        "largest_difference": float(difference.max()),
        "mean_difference": float(difference.mean()),
        "top1_agreement": float((of_head == of_model).mean()),
        "top1_head": float((classes[of_head] == labels).mean()),
        "top1_model": float((classes[of_model] == labels).mean()),
    }


def check_tolerance(result: dict[str, Any]) -> None:
    """Raise VerificationError if a model differs by more than the tolerance."""
    for name, allowed in result.get("tolerance", {}).items():
        found, is_share = result[name], name.endswith("agreement")
        if found >= allowed if is_share else found <= allowed:
            continue
        words = name.replace("_", " ").replace("top1", "top-1")
        bound = "at least" if is_share else "at most"
        advice = "Choose another format, or skip the check with --no-verify"
        if "mean_difference" in result["tolerance"]:
            advice = "Some networks do not tolerate quantization: use float16 instead of int8, or none"
        raise VerificationError(
            f"the exported model differs from the head: on {result['n']:,} test photos the {words} is "
            f"{found:.3g}, expected {bound} {allowed:g}; nothing was written. {advice}"
        )


def _probabilities(head: "AnyHead", table: "FeatureTable") -> NDArray[np.float64]:
    if isinstance(head, RegressionHead):
        return head.predict(table.X)[:, np.newaxis]
    if head.test_views == 1:
        return head.predict_proba(table.X)
    views = table.with_views(head.test_views).X
    return head.predict_proba(views.reshape(len(table), head.test_views, -1))


def _tolerance(model: "ExportedModel", table: "FeatureTable", head: "AnyHead") -> dict[str, float]:
    """Return the tolerances, by the keys of :func:`compare`; of numbers in their own unit."""
    if not isinstance(head, RegressionHead):
        return _tolerated(model, table)
    # In standard deviations, and a multiple: no softmax flattens the differences of scores.
    unit, allowed = head.train_numbers["std"], _tolerated(model, table)
    shares = {name: min(_OF_NUMBERS * allowed[name], _BFLOAT16) for name in allowed if "difference" in name}
    return {name: unit * share for name, share in shares.items()}


def _tolerated(model: "ExportedModel", table: "FeatureTable") -> dict[str, float]:
    described = model.description
    if described.quantization is not None:
        mean, agreement = _ROUNDED[described.quantization]
        of_labels = "top1_agreement" if described.thresholds is None else "label_agreement"
        return {"mean_difference": mean, of_labels: agreement}
    parts = described.spec.parts
    if any(part.precision == "bfloat16" for part in parts):
        return {"largest_difference": _BFLOAT16}
    # A table of several spaces has the provenance of each.
    made_by = [table.provenance] if len(parts) == 1 else [*table.provenance.values()]
    on_gpu = any("gpu" in str(result.get("device", "")) for result in made_by)
    if on_gpu or (model.runtime in {"keras", "saved_model"} and gpu_in_sight()):
        return {"largest_difference": _GPU}
    is_half = any(part.dtype == "float16" for part in parts)
    return {"largest_difference": _STORED_HALF if is_half else _EXACT}


def _why_none(n_photos: int) -> str:
    if not n_photos:
        return "the head's test split has no images"
    return f"none of the {n_photos:,} test photos is unchanged at its path in the catalog"

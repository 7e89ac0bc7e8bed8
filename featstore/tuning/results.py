"""The results of a fine-tuning: weights, features, head and report."""

import json
import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.backbones import Backbone
from featstore.errors import SplitError, TuningError
from featstore.flow.filling import fill_known
from featstore.heads.files.head_file import current_versions
from featstore.heads.forms.estimator import form_estimator
from featstore.heads.head import Head
from featstore.heads.seen import SeenImages
from featstore.io.atomic import write_text
from featstore.scoring.comparison import Comparison, compare
from featstore.stats.intervals import scored
from featstore.store.tables.joining import in_other_space
from featstore.tuning.inputs import StoredMaps
from featstore.tuning.report import report_text

if TYPE_CHECKING:
    from featstore.store import FeatureTable, Space
    from featstore.tuning.inputs import Inputs
    from featstore.tuning.job import Job
    from featstore.tuning.progress_file import Progress
    from featstore.tuning.trainer import Trainer
    from featstore.tuning.training import StepProgress

__all__ = ["NAME", "finish"]

NAME = "tuned"
"""Name of tuned heads."""

_APPENDED_BYTES = 16 * 2**20


def finish(
    job: "Job",
    state: "Progress",
    trainer: "Trainer",
    inputs: "Inputs",
    maps: dict[str, Any],
    progress: "StepProgress",
) -> tuple[Head, dict[str, Any]]:
    """Write weights, features, head and report, by the weights as they are now."""
    # Each step can be repeated: killed in between, the next run writes the same again.
    job.network.save(job.weights_path)
    backbone = job.load(weights=job.weights_path)
    if backbone.spec.weights_digest != job.network.digest():
        raise TuningError(f"{job.weights_path}, read again, does not hold the weights that were trained")
    started = time.monotonic()
    head, comparison, computed = job.head, None, 0
    if state.best_epoch:
        space, computed = _fill(job, backbone, trainer, inputs, progress)
        table = in_other_space(job.table, space)
        head = _head(job, state, trainer, backbone, table, test=scored(0, 0))
        comparison = _compared(job, head, table)
        if comparison is not None:
            test = {name: comparison.heads[1][name] for name in ("n", "top1", "top1_ci")}
            head = _head(job, state, trainer, backbone, table, test=test)
    seconds = time.monotonic() - started
    told = _report(job, state, backbone, maps, comparison)
    told["features"] = {"computed": computed, "seconds": round(seconds, 3)}
    told["seconds"] = round(time.monotonic() - job.started, 3)
    head.save(job.store.head_path(job.name))
    as_json, as_text = job.report_paths
    write_text(as_json, json.dumps(told, indent=2, allow_nan=False) + "\n")
    write_text(as_text, report_text(told) + "\n")
    return head, told


def _fill(
    job: "Job", backbone: Backbone, trainer: "Trainer", inputs: "Inputs", progress: "StepProgress"
) -> tuple["Space", int]:
    """Compute the tuned network's features of the table's images that its space lacks."""
    hashes = np.asarray(job.table.content_hash_bytes)
    space = job.store.create_space(
        backbone.spec,
        feature_dim=backbone.feature_dim,
        provenance={"weights": job.weights_path, "fine_tuned": True},
    )
    if not isinstance(inputs, StoredMaps):
        return fill_known(
            job.store,
            backbone,
            job.table.paths.tolist(),
            hashes,
            n_views=job.head.test_views,
            workers=job.workers,
            progress=lambda done, total: progress("features", done, total),
        )
    provenance = {**backbone.provenance, "maps": inputs.space.name}
    _, first = np.unique(hashes, axis=0, return_index=True)
    n_views = 1 if job.spec.views is None else inputs.rows.shape[1]
    wanted = [
        (image, view)
        for view in range(n_views)
        for image in np.sort(first)[space.lookup(hashes[np.sort(first)], view) < 0].tolist()
        if inputs.rows[image, view] >= 0
    ]
    from featstore.tuning.trainer import EVALUATION_BATCH

    step = max(EVALUATION_BATCH, _APPENDED_BYTES // (4 * backbone.feature_dim))
    for start in range(0, len(wanted), step):
        images, views = np.array(wanted[start : start + step], np.intp).T
        rows = trainer.features(inputs.batches(images, views, EVALUATION_BATCH), backbone.feature_dim)
        space.append(rows, hashes[images], views.astype(np.uint16), provenance=provenance)
        progress("features", start + len(rows), len(wanted))
    return space, len(wanted)


def _head(
    job: "Job",
    state: "Progress",
    trainer: "Trainer",
    backbone: Backbone,
    table: "FeatureTable",
    *,
    test: dict[str, Any],
) -> Head:
    division, chosen = job.division, state.history[state.best_epoch]
    hashes = np.asarray(job.table.content_hash_bytes)
    seen = SeenImages.of(hashes[division.train], hashes[division.validation])
    # The probe may have seen other images; of an imported one it is not known.
    seen = seen.joined(division.probe.seen)
    form = trainer.form()
    return Head(
        name=NAME,
        classes=job.head.classes,
        parents=job.head.parents,
        spec=backbone.spec,
        fingerprint=backbone.spec.fingerprint,
        feature_dim=backbone.feature_dim,
        split_rule=division.rule,
        params=_params(job),
        counts=division.counts,
        weighted=table.sample_weight is not None,
        unlabelled=int((division.y < 0).sum()),
        steps=[
            {"step": entry["epoch"], "top1": entry["top1"], "cross_entropy": entry["cross_entropy"]}
            for entry in state.history
        ],
        choice={
            "by": "cross_entropy",
            "folds": None,
            "n": chosen["n"],
            "top1": chosen["top1"],
            "fitted_on": ["train"],
        },
        seed=job.options.seed,
        validation=scored(round(chosen["top1"] * chosen["n"]), chosen["n"]),
        test=test,
        leaks=job.head.leaks,
        label_conflicts=job.head.label_conflicts,
        temperature=chosen["temperature"],
        train_views=job.n_views,
        test_views=job.head.test_views,
        weights=job.weights_path,
        catalog=str(table.catalog_name),
        space=str(table.space_name),
        catalog_digests=dict(table.catalog_digests),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=current_versions(),
        renamed=job.head.renamed,
        seen=seen,
        linear=form,
        load_estimator=partial(form_estimator, form, job.head.classes, chosen["temperature"]),
    )


def _compared(job: "Job", head: Head, table: "FeatureTable") -> Comparison | None:
    """Score both heads on the test images, once."""
    try:
        return compare([job.head, head], [job.table, table], names=["probe", "tuned"])
    except SplitError:
        return None


def _params(job: "Job") -> dict[str, Any]:
    return {
        "from": job.head.name,
        "layer": "all" if job.cut is None else job.cut.layer,
        "views": job.n_views,
        **{name: value for name, value in job.options.to_dict().items() if value is not None},
    }


def _report(
    job: "Job", state: "Progress", backbone: Backbone, maps: dict[str, Any], comparison: Comparison | None
) -> dict[str, Any]:
    cut = job.cut
    n_train, n_validation = len(job.division.train), len(job.division.validation)
    return {
        "head": job.head.name,
        "backbone": job.spec.name,
        "catalog": str(job.table.catalog_name),
        "tuned": bool(state.best_epoch),
        "weights": job.weights_path,
        "space": backbone.spec.name if state.best_epoch else job.spec.name,
        "saved_head": job.name,
        "cut": {"layer": "all", "share": 1.0}
        if cut is None
        else {"layer": cut.layer, "shape": list(cut.shape), "share": cut.share, "parameters": cut.parameters},
        "options": {
            **job.options.to_dict(),
            "views": job.n_views,
            "devices": job.devices,
            "recipe": None if job.recipe is None else job.recipe.to_dict(),
            "class_weights": dict(zip(job.head.classes.tolist(), map(float, job.class_weights), strict=True)),
        },
        "images": {"train": n_train, "validation": n_validation},
        "weighted": job.table.sample_weight is not None,
        "fitted_again": job.division.probe is not job.head,
        "epochs": state.history,
        "chosen": state.best_epoch,
        "stopped": state.stopped,
        "comparison": None if comparison is None else comparison.to_dict(),
        "maps": maps or None,
    }

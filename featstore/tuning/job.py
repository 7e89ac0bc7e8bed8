"""One fine-tuning: what it is made of, its files, and the maps that it trains on."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones import Backbone, load_backbone
from featstore.backbones.spec import digest_values
from featstore.flow.filling import check_photos, fill_known
from featstore.hashing import fingerprint
from featstore.io.outputs import check_head_output, check_output
from featstore.tuning.inputs import Inputs, PhotoInputs, StoredMaps
from featstore.tuning.progress_file import Progress, read_progress

if TYPE_CHECKING:
    from featstore.backbones import BackboneSpec
    from featstore.backbones.keras.cuts import NetworkCut
    from featstore.backbones.keras.tunable import TunableNetwork
    from featstore.heads.head import Head
    from featstore.images.views import ViewRecipe
    from featstore.store import FeatureStore, FeatureTable
    from featstore.tuning.division import Division
    from featstore.tuning.options import TuningOptions
    from featstore.tuning.training import StepProgress

__all__ = ["Job", "open_inputs"]

_COPIED_BYTES = 64 * 2**20


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """All that decides a fine-tuning, and where its results go."""

    head: "Head"
    table: "FeatureTable"
    store: "FeatureStore"
    network: "TunableNetwork"
    division: "Division"
    options: "TuningOptions"
    cut: "NetworkCut | None"  # None to train the whole network from pixels
    maps_dtype: str
    recipe: "ViewRecipe | None"
    n_views: int
    devices: int
    class_weights: NDArray[np.float32]  # (n_classes,)
    image_weights: NDArray[np.float32]  # (n,): of the table's rows, their classes' included
    output: str  # absolute path of the results, without their endings
    load_options: Mapping[str, Any]
    workers: int | None
    started: float  # by the monotonic clock, in seconds

    @property
    def name(self) -> str:
        """Name of the results, and of the head in the store."""
        return os.path.basename(self.output)

    @property
    def spec(self) -> "BackboneSpec":
        """Specification of the network that is tuned."""
        return self.head.spec.parts[0]

    @property
    def weights_path(self) -> str:
        """File of the tuned network."""
        return f"{self.output}{self.network.ending}"

    @property
    def state_path(self) -> str:
        """File of what training goes on from."""
        return f"{self.output}.tuning"

    @property
    def report_paths(self) -> tuple[str, str]:
        """Files of the report, as JSON and as text."""
        return f"{self.output}.report.json", f"{self.output}.report.txt"

    def plan(self) -> str:
        """Return the fingerprint of all that decides the trained weights."""
        division, form = self.division, self.division.form
        hashes = np.asarray(self.table.content_hash_bytes)
        images: list[NDArray[Any]] = [hashes[division.train], division.y[division.train]]
        images += [hashes[division.validation], division.y[division.validation], self.class_weights]
        if self.table.sample_weight is not None:
            images.append(self.image_weights[division.train])
        return fingerprint(
            {
                "spec": self.spec.to_dict(),
                "layer": "all" if self.cut is None else self.cut.layer,
                "maps": None if self.cut is None else self.maps_dtype,
                "recipe": None if self.recipe is None else self.recipe.to_dict(),
                "views": self.n_views,
                "options": self.options.to_dict(),
                # Sums are rounded in another order.
                **({"devices": self.devices} if self.devices > 1 else {}),
                "images": digest_values(images),
                "head": digest_values([*form.arrays().values()]),
                "temperature": self.division.probe.temperature,
            }
        )

    def open_state(self, *, overwrite: bool) -> Progress:
        """Return what an interrupted run of the same plan left, or a new state; check the outputs."""
        check_head_output(self.store.head_path(self.name))
        plan = self.plan()
        if overwrite:
            check_output(self.state_path, overwrite=True)
            if os.path.exists(self.state_path):
                os.unlink(self.state_path)
        elif (progress := read_progress(self.state_path, plan)) is not None:
            return progress
        for path in (self.state_path, self.weights_path, *self.report_paths):
            check_output(path, overwrite=overwrite, inputs=[self.network.request.weights])
        return Progress(plan=plan)

    def load(self, *, weights: str | None = None, **changes: Any) -> Backbone:
        """Load the network with other weights, or cut at another layer."""
        request, spec = self.network.request, self.spec
        options: dict[str, Any] = {
            "layer": spec.layer,
            "pooling": spec.pooling,
            "image_size": spec.size_px,
            "resize": spec.resize,
            "interpolation": spec.interpolation,
            "crop_fraction": spec.crop_fraction,
            "dtype": spec.dtype,
            **self._scaling(),
            "alpha": spec.alpha,
            "views": spec.views,
            "engine": self.load_options["engine"],
        }
        options |= changes
        if request.is_own:
            own = {name: self.load_options[name] for name in ("imports", "trust_model")}
            return load_backbone(weights or request.name, **options, **own)
        return load_backbone(request.name, weights=weights or request.file, **options)

    def _scaling(self) -> dict[str, Any]:
        spec = self.spec
        if spec.preprocessing != "custom":
            return {"preprocessing": spec.preprocessing}
        return {"mean": spec.mean, "std": spec.std, "scale": 1.0}


def open_inputs(job: Job, progress: "StepProgress") -> tuple[Inputs, dict[str, Any]]:
    """Return what the network is trained on, and facts about the stored maps; compute what is missing."""
    hashes, paths = np.asarray(job.table.content_hash_bytes), job.table.paths.tolist()
    if job.cut is None:
        check_photos(paths)
        spec = replace(job.spec, views=job.recipe)
        return PhotoInputs(spec=spec, paths=paths, hashes=hashes, workers=job.workers), {}
    started = time.monotonic()
    backbone = job.load(layer=job.cut.layer, pooling="none", dtype=job.maps_dtype, views=job.recipe)
    n_test = job.head.test_views
    n_train = max(job.n_views, n_test)
    # Marked, so that nobody is asked whether a head is to be fitted on it.
    job.store.create_space(
        backbone.spec,
        feature_dim=job.cut.size,
        provenance={"weights": backbone.weights, "activation_maps": True},
    )
    copied = _copy_images_themselves(job, backbone, hashes)
    computed = 0
    is_train = np.zeros(len(paths), np.bool_)
    is_train[job.division.train] = True
    for rows, n_views in ((np.flatnonzero(is_train), n_train), (np.flatnonzero(~is_train), n_test)):
        space, n_computed = fill_known(
            job.store,
            backbone,
            [paths[row] for row in rows.tolist()],
            hashes[rows],
            n_views=n_views,
            workers=job.workers,
            progress=lambda done, total: progress("activation maps", done, total),
        )
        computed += n_computed
    maps = StoredMaps.of(space, job.cut.shape, hashes, n_train)
    return maps, {
        "space": space.name,
        "bytes_a_view": job.cut.size * space.dtype.itemsize,
        "computed": computed,
        "copied": copied,
        "seconds": round(time.monotonic() - started, 3),
    }


def _copy_images_themselves(job: Job, backbone: Backbone, hashes: NDArray[np.uint8]) -> int:
    """Copy the maps of view 0, which is the same whatever the recipe, from spaces with another one."""
    store, spec = job.store, backbone.spec
    n_copied = 0
    for name in store.space_names:
        other = store.space(name)
        if name == spec.name or replace(other.spec, views=spec.views) != spec:
            continue
        target = store.space(spec.name)
        lacking = np.flatnonzero((target.lookup(hashes) < 0) & (other.lookup(hashes) >= 0))
        _, first = np.unique(hashes[lacking], axis=0, return_index=True)
        lacking = lacking[np.sort(first)]
        step = max(1, _COPIED_BYTES // (other.feature_dim * other.dtype.itemsize))
        for start in range(0, len(lacking), step):
            some = hashes[lacking[start : start + step]]
            target.append(other.rows(other.lookup(some)), some, provenance=dict(other.provenance))
            n_copied += len(some)
    return n_copied

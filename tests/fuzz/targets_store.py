"""The readers of a store's files: segments, catalogs, JSON descriptions, and files of weights."""

import functools
import io
import os
import pathlib
import tempfile
import zipfile

import h5py
import numpy as np
from fuzz.hdf5_checksums import mend_headers
from fuzz.target import Target

from featstore.backbones.files.weights import check_keras_archive, read_layers, read_variables, weights_kind
from featstore.backbones.spec import BackboneSpec
from featstore.store import Catalog, FeatureStore

_N_ROWS, _DIM = 12, 5
_HASHES = np.random.default_rng(0).integers(1, 256, (_N_ROWS, 32)).astype(np.uint8)
_FEATURES = np.random.default_rng(1).normal(size=(_N_ROWS, _DIM)).astype(np.float32)
_LABELS = ["rose", "tulip", None] * 4


_SPEC = BackboneSpec(
    architecture="tiny", weights_digest="0" * 64, layer="top", size_px=(8, 8), preprocessing="unit"
)
_KEPT: list[object] = []


@functools.cache
def _store(of: str) -> FeatureStore:
    """A store of one space and one catalog for each target, which replaces files of it, and one for seeds."""
    folder = tempfile.TemporaryDirectory(prefix="featstore-fuzz-")
    _KEPT.append(folder)
    store = FeatureStore(os.path.join(folder.name, "a.fstore"), create=True)
    space = store.create_space(_SPEC, feature_dim=_DIM, provenance={"weights": "imagenet"})
    space.append(_FEATURES, _HASHES)
    store.write_catalog(
        Catalog(
            name="photos",
            root="/data/photos",
            location="/data/photos",
            paths=[f"{label}/{number}.jpg" for number, label in enumerate(_LABELS)],
            labels=_LABELS,
            groups=[None, "one"] * 6,
            splits=["train", "test", None] * 4,
            content_hash=_HASHES,
            sizes=np.arange(_N_ROWS),
            mtimes_ns=np.arange(_N_ROWS),
            reasons=[None] * _N_ROWS,
            near_groups=["near", None] * 6,
        )
    )
    return store


def _old(data: bytes) -> bytes:
    """Return an HDF5 file of ours as versions up to 0.2 wrote it: without the checksum of its frame."""
    file = io.BytesIO(data)
    with h5py.File(file, "r+") as opened:
        del opened["frame_checksum"]
    return file.getvalue()


def _run_segment(data: bytes) -> None:
    [segment] = _store("segment").space().segments
    pathlib.Path(segment.path).write_bytes(data)
    store = FeatureStore(_store("segment").path, verify_reads=True)
    store.verify()
    space = store.space()
    found = space.lookup(_HASHES)
    rows = space.rows(found[found >= 0])
    assert rows.tobytes() == _FEATURES[found >= 0].tobytes(), "a wrong row was read"
    store.table().splits()


def _run_catalog(data: bytes) -> None:
    path = _store("catalog").catalog_path("photos")
    pathlib.Path(path).write_bytes(data)
    store = FeatureStore(_store("catalog").path)
    store.verify()
    catalog = store.catalog("photos")
    catalog.absolute_paths()
    store.table().splits()
    store.info()


def _run_space_json(data: bytes) -> None:
    path = os.path.join(_store("space_json").path, "spaces", _SPEC.name, "space.json")
    pathlib.Path(path).write_bytes(data)
    store = FeatureStore(_store("space_json").path)
    store.verify()
    space = store.space(_SPEC.name)
    assert space.fingerprint == _SPEC.fingerprint, "another space was read"


def _run_store_json(data: bytes) -> None:
    folder = os.path.join(_store("store_json").path, "..", "described.fstore")
    os.makedirs(folder, exist_ok=True)
    pathlib.Path(folder, "featstore.json").write_bytes(data)
    assert FeatureStore(folder).format_version == 1


def _run_weights(data: bytes) -> None:
    path = os.path.join(_store("weights").path, "..", "fuzzed.weights.h5")
    pathlib.Path(path).write_bytes(data)
    kind = weights_kind(path)
    if kind == "layers":
        read_layers(path)
    elif kind == "variables":
        read_variables(path)
    else:
        check_keras_archive(path)


def _run_keras_config(data: bytes) -> None:
    path = os.path.join(_store("keras_config").path, "..", "fuzzed.keras")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", data)
    check_keras_archive(path)


def _segments() -> list[bytes]:
    [segment] = _store("seeds").space().segments
    data = pathlib.Path(segment.path).read_bytes()
    return [data, _old(data)]


def _catalogs() -> list[bytes]:
    data = pathlib.Path(_store("seeds").catalog_path("photos")).read_bytes()
    return [data, _old(data)]


def _descriptions() -> list[bytes]:
    return [pathlib.Path(_store("seeds").path, "spaces", _SPEC.name, "space.json").read_bytes()]


def _weights() -> list[bytes]:
    legacy, variables = io.BytesIO(), io.BytesIO()
    with h5py.File(legacy, "w", libver=("v108", "v108")) as file:
        file.attrs["layer_names"] = [b"conv", b"relu", b"dense"]
        for name, shapes in {"conv": [(3, 3, 3, 4), (4,)], "relu": [], "dense": [(4, 2), (2,)]}.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = np.array([f"{name}/{k}:0" for k in range(len(shapes))], "S16")
            for number, shape in enumerate(shapes):
                group[f"{name}/{number}:0"] = np.ones(shape, np.float32)
    with h5py.File(variables, "w") as file:
        for name in ("conv", "dense"):
            file[f"layers/{name}/vars/0"] = np.ones((3, 4), np.float32)
            file.create_dataset(f"layers/{name}/vars/1", data=np.ones(400, np.float32), compression="gzip")
    return [legacy.getvalue(), variables.getvalue()]


def _keras_configs() -> list[bytes]:
    layer = (
        '{"module": "keras.layers", "class_name": "Dense", "config": {"units": 3}, "registered_name": null}'
    )
    return [f'{{"module": "keras", "class_name": "Sequential", "config": {{"layers": [{layer}]}}}}'.encode()]


TARGETS = (
    Target(name="segment", run=_run_segment, seeds=_segments, mend=mend_headers),
    Target(name="catalog", run=_run_catalog, seeds=_catalogs, mend=mend_headers),
    Target(name="space-json", run=_run_space_json, seeds=_descriptions, is_json=True),
    Target(
        name="store-json",
        run=_run_store_json,
        seeds=lambda: [pathlib.Path(_store("seeds").path, "featstore.json").read_bytes()],
        is_json=True,
    ),
    Target(name="weights-h5", run=_run_weights, seeds=_weights, mend=mend_headers),
    Target(name="keras-config", run=_run_keras_config, seeds=_keras_configs, is_json=True),
)

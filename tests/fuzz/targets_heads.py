"""The reader of head files: the whole file, and each part of it in a file that is otherwise right."""

import functools
import io
import os
import pathlib
import tempfile
import zipfile

import numpy as np
from fuzz.target import Target
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from featstore.backbones.spec import BackboneSpec
from featstore.heads import Head
from featstore.heads.forms.fitted import fitted_form
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm
from featstore.heads.forms.network import NetworkForm
from featstore.heads.minibatch import MinibatchClassifier
from featstore.heads.rbf import RBFClassifier
from featstore.splits import SplitRule

_DIM = 4
_X = np.random.default_rng(0).normal(size=(30, _DIM))
_Y = np.repeat(["daisy", "rose", "tulip"], 10)
_KEPT: list[object] = []


@functools.cache
def _folder() -> str:
    """A folder that is gone with the process."""
    folder = tempfile.TemporaryDirectory(prefix="featstore-fuzz-")
    _KEPT.append(folder)
    return folder.name


@functools.cache
def _head_file(kind: str) -> bytes:
    spec = BackboneSpec(
        architecture="tiny", weights_digest="0" * 64, layer="top", size_px=(8, 8), preprocessing="unit"
    )
    steps = {
        "kernel": (RBFClassifier(),),
        "network": (MinibatchClassifier(hidden_units=3, steps=5),),
    }.get(kind, (StandardScaler(), LogisticRegression(max_iter=20)))
    estimator = make_pipeline(*steps).fit(_X, _Y)
    form = fitted_form(estimator, feature_dim=_DIM)
    scores = {"n": 10, "top1": 0.5, "top1_ci": [0.2, 0.8]}
    head = Head(
        name="logistic",
        classes=np.unique(_Y),
        spec=spec,
        fingerprint=spec.fingerprint,
        feature_dim=_DIM,
        split_rule=SplitRule(),
        params={"C": 1.0},
        counts={split: {"daisy": 3, "rose": 3} for split in ("train", "validation", "test")},
        validation=scores,
        test=scores,
        choice={"by": None, "folds": None, "n": 0, "top1": None, "fitted_on": ["train"]},
        versions={"scikit-learn": "1.8"},
        linear=form if isinstance(form, LinearForm) and kind == "linear" else None,
        kernel=form if isinstance(form, KernelForm) else None,
        network=form if isinstance(form, NetworkForm) else None,
        load_estimator=lambda: estimator,
    )
    path = os.path.join(_folder(), "whole.head")
    head.save(path, overwrite=True)
    return pathlib.Path(path).read_bytes()


def _run(data: bytes) -> None:
    path = os.path.join(_folder(), "fuzzed.head")
    pathlib.Path(path).write_bytes(data)
    head = Head.load(path)
    probabilities = head.predict_proba(_X)
    assert probabilities.shape == (len(_X), len(head.classes)), "probabilities of another shape"
    assert hasattr(head.estimator, "predict"), "an estimator that is none"
    head.to_dict()


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def _run_manifest(data: bytes) -> None:
    _run(_zipped({**_members(_head_file("linear")), "manifest.json": data}))


def _run_schema(data: bytes) -> None:
    members = _members(_head_file("estimator"))
    members["estimator.skops"] = _zipped({**_members(members["estimator.skops"]), "schema.json": data})
    _run(_zipped(members))


def _run_estimator_array(data: bytes) -> None:
    members = _members(_head_file("estimator"))
    estimator = _members(members["estimator.skops"])
    members["estimator.skops"] = _zipped({**estimator, _largest(estimator): data})
    _run(_zipped(members))


def _largest(members: dict[str, bytes]) -> str:
    return max(members, key=lambda name: len(members[name]) if name.endswith(".npy") else 0)


def _run_linear_array(data: bytes) -> None:
    members = _members(_head_file("linear"))
    members["linear.npz"] = _zipped({**_members(members["linear.npz"]), "coef.npy": data})
    _run(_zipped(members))


def _run_kernel_array(data: bytes) -> None:
    members = _members(_head_file("kernel"))
    members["kernel.npz"] = _zipped({**_members(members["kernel.npz"]), "rows.npy": data})
    _run(_zipped(members))


def _run_network_array(data: bytes) -> None:
    members = _members(_head_file("network"))
    members["network.npz"] = _zipped({**_members(members["network.npz"]), "hidden_coef.npy": data})
    _run(_zipped(members))


def _manifests() -> list[bytes]:
    return [_members(_head_file("linear"))["manifest.json"]]


def _schemas() -> list[bytes]:
    return [_members(_members(_head_file("estimator"))["estimator.skops"])["schema.json"]]


def _estimator_arrays() -> list[bytes]:
    estimator = _members(_members(_head_file("estimator"))["estimator.skops"])
    return [estimator[_largest(estimator)]]


def _arrays() -> list[bytes]:
    arrays = _members(_members(_head_file("linear"))["linear.npz"])
    return [arrays["coef.npy"]]


def _kernel_arrays() -> list[bytes]:
    return [_members(_members(_head_file("kernel"))["kernel.npz"])["rows.npy"]]


def _network_arrays() -> list[bytes]:
    return [_members(_members(_head_file("network"))["network.npz"])["hidden_coef.npy"]]


TARGETS = (
    Target(
        name="head",
        run=_run,
        seeds=lambda: [_head_file(kind) for kind in ("linear", "estimator", "kernel", "network")],
    ),
    Target(name="head-manifest", run=_run_manifest, seeds=_manifests, is_json=True),
    Target(name="head-schema", run=_run_schema, seeds=_schemas, is_json=True),
    Target(name="head-estimator-array", run=_run_estimator_array, seeds=_estimator_arrays),
    Target(name="head-linear-array", run=_run_linear_array, seeds=_arrays),
    Target(name="head-kernel-array", run=_run_kernel_array, seeds=_kernel_arrays),
    Target(name="head-network-array", run=_run_network_array, seeds=_network_arrays),
)

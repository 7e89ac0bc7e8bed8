"""The reader of estimators: of every type that is read, parts that do not fit each other.

A crash in C code ends the process: `make fuzz` runs this in processes of its own, and keeps the file that did it.
"""

import functools
import glob
import io
import json
import pathlib
import warnings

import numpy as np
from fuzz.target import Target
from fuzz.targets_heads import _X, _Y, _head_file, _members, _run, _zipped
from hypothesis import strategies as st
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.feature_selection import VarianceThreshold
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import (
    LogisticRegression,
    LogisticRegressionCV,
    Perceptron,
    RidgeClassifier,
    RidgeClassifierCV,
    SGDClassifier,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline, make_union
from sklearn.preprocessing import (
    Binarizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.random_projection import GaussianRandomProjection
from sklearn.svm import LinearSVC

from featstore.heads.files.estimator_file import dump_estimator
from featstore.heads.files.estimators.kinds import KINDS

_TRANSFORMERS = (
    StandardScaler(),
    MinMaxScaler(clip=True),
    MaxAbsScaler(),
    RobustScaler(),
    Normalizer(),
    Binarizer(),
    PCA(2, whiten=True),
    TruncatedSVD(2),
    VarianceThreshold(0.01),
    RBFSampler(n_components=6, random_state=0),
    GaussianRandomProjection(3, random_state=0),
    QuantileTransformer(n_quantiles=10, output_distribution="normal"),
    PowerTransformer(),
    make_union(StandardScaler(), PCA(2)),
    FeatureUnion([("own", "passthrough"), ("scaled", MinMaxScaler())], transformer_weights={"own": 2.0}),
)
_CLASSIFIERS = (
    LogisticRegression(),
    LogisticRegressionCV(cv=2),
    RidgeClassifier(),
    RidgeClassifierCV(),
    SGDClassifier(),
    Perceptron(),
    LinearSVC(),
    LinearDiscriminantAnalysis(),
    QuadraticDiscriminantAnalysis(reg_param=0.1),
    KNeighborsClassifier(3, algorithm="brute"),
    KNeighborsClassifier(3, algorithm="brute", weights="distance", p=3),
    KNeighborsClassifier(3, metric="cosine"),
    NearestCentroid(),
    NearestCentroid(priors="empirical"),
    GaussianNB(),
    BernoulliNB(),
    make_pipeline(MinMaxScaler(clip=True), MultinomialNB()),
    make_pipeline(MinMaxScaler(clip=True), ComplementNB()),
    MLPClassifier((5, 3), max_iter=2, random_state=0),
    OneVsRestClassifier(LogisticRegression()),
    DummyClassifier(),
)
_ODD_NUMBERS = (0, 1, -1, 5, 2**31, 2**62, -(2**40), 1e-300, 1e149, 1e308, float("nan"), float("inf"))
_ODD_VALUES = (
    *(
        None,
        True,
        "",
        "brute",
        "kd_tree",
        "precomputed",
        "euclidean",
        "cosine",
        "minkowski",
        "threading",
        10**30,
    ),
    *([], {}, [1, 2], {"p": -1}, *_ODD_NUMBERS),
)
# Those that are changed, and what they hold; arrays of objects are not in a member of their own.
_KINDS_OF_NODES = {"JsonNode": "content", "NdArrayNode": "file", "ObjectNode": "content"}
_ARRAY_CHANGES = ("cut", "longer", "empty", "turn", "flat", "type", "number", "all", "number", "shuffle")


@functools.cache
def _estimators() -> tuple[bytes, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipelines = (make_pipeline(one, LogisticRegression()) for one in _TRANSFORMERS)
        return tuple(dump_estimator(one.fit(_X, _Y)) for one in (*pipelines, *_CLASSIFIERS))


def _children() -> set[str]:
    return {
        child
        for path in glob.glob("/proc/self/task/*/children")
        for child in pathlib.Path(path).read_text().split()
    }


def _run_estimator(data: bytes) -> None:
    before = _children()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _run(_zipped({**_members(_head_file(False)), "estimator.skops": data}))
    started = _children() - before
    assert not started, f"it started the processes {sorted(started)}"


def _change(draw: st.DrawFn, seed: bytes) -> bytes:
    members = _members(seed)
    schema = json.loads(members["schema.json"])
    for _ in range(draw(st.integers(1, 3))):
        nodes = [node for node in _nodes(schema) if _KINDS_OF_NODES.get(node["__loader__"], "?") in node]
        node = nodes[draw(st.integers(0, len(nodes) - 1))]
        if node["__loader__"] == "JsonNode":
            node["content"] = json.dumps(draw(st.sampled_from(_ODD_VALUES)))
        elif node["__loader__"] == "NdArrayNode":
            name = node["file"]
            if draw(st.booleans()):
                others = [other["file"] for other in nodes if other["__loader__"] == "NdArrayNode"]
                node["file"] = draw(st.sampled_from(others))
            members[name] = _changed_array(draw, members[name])
        else:
            _change_object(draw, node)
    return _zipped({**members, "schema.json": json.dumps(schema).encode()})


def _changed_array(draw: st.DrawFn, data: bytes) -> bytes:
    array = np.load(io.BytesIO(data))
    how = draw(st.sampled_from(_ARRAY_CHANGES))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        match how:
            case "cut":
                array = array[: len(array) // 2] if array.ndim else array
            case "longer":
                array = np.concatenate([array, array]) if array.ndim else array
            case "empty":
                array = np.empty(draw(st.sampled_from([(0,), (0, 4), (3, 0), (4, 0)])), array.dtype)
            case "turn":
                array = np.asfortranarray(array.T)
            case "flat":
                array = array.ravel()
            case "type":
                kinds = ("f2", "f4", ">f8", "f16", "i8", "u1", "c16", "?", "U3", "S2")
                array = array.astype(draw(st.sampled_from(kinds))) if array.dtype.kind in "fi" else array
            case "number" | "all" if array.dtype.kind in "fi" and array.size:
                array = np.array(array)
                number = np.asarray(draw(st.sampled_from(_ODD_NUMBERS))).astype(array.dtype)
                array.flat[slice(None) if how == "all" else draw(st.integers(0, array.size - 1))] = number
            case "shuffle" if array.ndim:
                array = array[::-1]
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _change_object(draw: st.DrawFn, node: dict) -> None:
    attributes = node["content"]["content"]
    name = draw(st.sampled_from(sorted(attributes)))
    match draw(st.sampled_from(("type", "jobs", "remove", "move"))):
        case "type":
            node["__module__"], _, node["__class__"] = draw(st.sampled_from(sorted(KINDS))).rpartition(".")
        case "jobs":
            for asked in ("n_jobs", "verbose"):
                number = {
                    "__class__": "str",
                    "__module__": "builtins",
                    "__loader__": "JsonNode",
                    "content": "4",
                }
                attributes[asked] = number
        case "remove":
            del attributes[name]
        case "move":
            attributes[draw(st.sampled_from(sorted(attributes)))] = attributes[name]


def _nodes(value: object):
    if isinstance(value, dict):
        if "__loader__" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for entry in value:
            yield from _nodes(entry)


TARGETS = (
    Target(name="head-estimators", run=_run_estimator, seeds=lambda: list(_estimators()), change=_change),
)

"""Head files of strangers."""

import copy
import io
import json
import struct
import zipfile

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline, make_union
from sklearn.preprocessing import (
    MinMaxScaler,
    Normalizer,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC

from featstore.errors import HeadError, UntrustedTypeError
from featstore.heads import Head, fit


@pytest.fixture
def members(table, tmp_path_factory):
    """The parts of a linear head."""
    path = tmp_path_factory.mktemp("heads") / "logistic.head"
    fit(table, params={"C": 0.1}).save(path)
    return parts(path.read_bytes())


@pytest.fixture
def load(tmp_path, members):
    """Load a head of these parts, some of them changed."""

    def load(**changes):
        path = tmp_path / "changed.head"
        path.write_bytes(
            zipped({**members, **{name.replace("_", "."): data for name, data in changes.items()}})
        )
        head = Head.load(path)
        return head, head.estimator

    return load


def parts(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def array(shape, descr="<f8", data=b""):
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def test_the_parts_as_they_are_are_read(load):
    head, estimator = load()
    assert head.classes.tolist() == estimator.classes_.tolist()


@pytest.mark.parametrize(
    ("coef", "message"),
    [
        (array((2**40, 2**20)), "another size than its header states"),
        (array((-1, 4)), "has the shape"),
        (array((3, 4), "|O", b"\x80\x04."), "type object"),
        (array((2**60,), "|V0"), "which is not read"),
        (array("no tuple"), "has the shape"),
        (b"\x80\x04N.", "cannot be read"),
    ],
    ids=["huge", "negative", "objects", "nothing", "no shape", "pickle"],
)
def test_absurd_arrays_are_refused(coef, message, load, members):
    with pytest.raises(HeadError, match=message):
        load(linear_npz=zipped({**parts(members["linear.npz"]), "coef.npy": coef}))
    estimator = parts(members["estimator.skops"])
    name = next(name for name in estimator if name.endswith(".npy"))
    with pytest.raises(HeadError, match=message):
        load(estimator_skops=zipped({**estimator, name: coef}))


def test_members_that_overlap_are_refused(tmp_path, members):
    data = bytearray(zipped(members))
    last = data.rindex(b"PK\x01\x02")
    # The last member's local header is said to be where the first one's is.
    data[last + 42 : last + 46] = bytes(4)
    (tmp_path / "overlapping.head").write_bytes(data)
    with pytest.raises(HeadError, match="its members overlap"):
        Head.load(tmp_path / "overlapping.head")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path, members):
    with zipfile.ZipFile(tmp_path / "twice.head", "w") as archive:
        for name in [*members, "manifest.json"]:
            archive.writestr(name, members[name])
    with pytest.raises(HeadError, match="two members of one name"):
        Head.load(tmp_path / "twice.head")


def test_a_member_that_leads_elsewhere_is_refused(tmp_path, members):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "slip.head").write_bytes(zipped({**members, "../canary": b"x"}))
    with pytest.raises(HeadError, match="and nothing else"):
        Head.load(tmp_path / "inner" / "slip.head")
    assert not (tmp_path / "canary").exists()


def test_a_schema_whose_lists_double_forty_times_is_refused_at_once(load, members):
    estimator = parts(members["estimator.skops"])
    node = {
        "__class__": "str",
        "__module__": "builtins",
        "__loader__": "JsonNode",
        "content": "1",
        "__id__": 1,
    }
    for number in range(2, 42):
        content = [node, {"__id__": number - 1}]
        node = {
            "__class__": "list",
            "__module__": "builtins",
            "__loader__": "ListNode",
            "content": content,
            "__id__": number,
        }
    schema = {**json.loads(estimator["schema.json"]), **node}
    with pytest.raises(HeadError, match="nested within each other too often"):
        load(estimator_skops=zipped({**estimator, "schema.json": json.dumps(schema).encode()}))


def test_a_deep_schema_and_a_deep_manifest_are_refused(load, members):
    deep = b"[" * 100_000 + b"]" * 100_000
    with pytest.raises(HeadError):
        load(estimator_skops=zipped({**parts(members["estimator.skops"]), "schema.json": deep}))
    with pytest.raises(HeadError):
        load(manifest_json=deep)


def test_labels_that_would_take_gigabytes_are_refused(load, members):
    manifest = json.loads(members["manifest.json"])
    manifest["classes"] = ["x" * 100_000, *map(str, range(1000))]
    with pytest.raises(HeadError, match="invalid classes"):
        load(manifest_json=json.dumps(manifest).encode())


def test_an_estimator_whose_parts_do_not_fit_is_refused_when_it_is_loaded(load, members):
    estimator = parts(members["estimator.skops"])
    name = max(estimator, key=lambda name: len(estimator[name]) if name.endswith(".npy") else 0)
    file = io.BytesIO()
    np.save(file, np.ones((3, 2)))
    with pytest.raises(HeadError, match="its estimator cannot be read"):
        load(estimator_skops=zipped({**estimator, name: file.getvalue()}))


@pytest.mark.parametrize("name", ["a.pkl", "a.joblib", "a.pickle"])
def test_a_pickle_is_refused_by_its_name_too(name, tmp_path):
    (tmp_path / name).write_bytes(b"BZh9 compressed by joblib")
    with pytest.raises(HeadError, match="is a pickle: loading one runs any code in it"):
        Head.load(tmp_path / name)


def test_every_flipped_byte_of_a_head_is_found(table, tmp_path):
    path = tmp_path / "logistic.head"
    fit(table, params={"C": 0.1}).save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for at, mask in zip(rng.integers(0, len(whole), 150), rng.integers(1, 256, 150), strict=True):
        changed = bytearray(whole)
        changed[at] ^= int(mask)
        path.write_bytes(changed)
        with pytest.raises(HeadError):
            Head.load(path)


def estimator_file(estimator, **changes):
    """A fitted estimator as skops writes it, with some of its attributes set to other arrays."""
    import skops.io

    changed = copy.deepcopy(estimator)
    for name, value in changes.items():
        setattr(changed, name, value)
    return skops.io.dumps(changed)


@pytest.fixture
def load_only(tmp_path, members, table):
    """Load a head that consists of an estimator, with no form beside it."""

    def load_only(estimator, *, fitted=True, **changes):
        if fitted:
            estimator = estimator.fit(table.X, table.y)
        path = tmp_path / "only.head"
        manifest = {**json.loads(members["manifest.json"]), "temperature": None}
        path.write_bytes(
            zipped(
                {
                    "manifest.json": json.dumps(manifest).encode(),
                    "estimator.skops": estimator_file(estimator, **changes),
                }
            )
        )
        return Head.load(path)

    return load_only


def no_process(*_, **__):
    raise AssertionError("a process was started")


def test_jobs_that_a_head_asks_for_are_not_started(load_only, table, monkeypatch):
    union = FeatureUnion([("a", StandardScaler()), ("b", StandardScaler())])
    pipeline = Pipeline([("union", union), ("classifier", LogisticRegression())]).fit(table.X, table.y)
    wanted = pipeline.predict_proba(table.X)
    union.n_jobs, pipeline.steps[-1][1].n_jobs, pipeline.memory, pipeline.verbose = 7, 40, "elsewhere", True

    monkeypatch.setattr("subprocess.Popen", no_process)
    monkeypatch.setattr("joblib.externals.loky.backend.popen_loky_posix.Popen", no_process)
    head = load_only(pipeline, fitted=False)

    np.testing.assert_array_equal(head.predict_proba(table.X), wanted)
    loaded = head.estimator
    assert (loaded[0].n_jobs, loaded[1].n_jobs, loaded.memory, loaded.verbose) == (None, None, None, False)


def test_nor_are_they_in_a_head_whose_types_the_caller_trusts(table, tmp_path):
    forest = RandomForestClassifier(3, n_jobs=30, verbose=1, random_state=0)
    fit(table, head=forest).save(tmp_path / "forest.head")
    loaded = Head.load(tmp_path / "forest.head", trusted=["sklearn.tree._tree.Tree"])
    assert loaded.estimator.n_jobs is None
    assert not loaded.estimator.verbose


@pytest.mark.parametrize(
    ("estimator", "changes", "message"),
    [
        (KNeighborsClassifier(3, algorithm="brute"), {"_y": np.full(240, 2**40)}, "rows of classes"),
        (KNeighborsClassifier(3, algorithm="brute"), {"_y": np.full(240, -1)}, "rows of classes"),
        (KNeighborsClassifier(3, algorithm="brute"), {"_y": np.zeros(3, int)}, "not one class for each"),
        (KNeighborsClassifier(3, algorithm="brute"), {"n_neighbors": 10**9}, "n_neighbors"),
        (KNeighborsClassifier(3, algorithm="brute"), {"effective_metric_": "precomputed"}, "metric"),
        (LogisticRegression(), {"coef_": np.full((3, 12), np.nan)}, "NaN"),
        (LogisticRegression(), {"coef_": np.zeros((3, 13))}, "expected"),
        (LogisticRegression(), {"intercept_": np.zeros(2)}, "expected"),
        (LogisticRegression(), {"coef_": np.zeros((3, 12), int)}, "no array of floats"),
        (GaussianNB(), {"var_": np.zeros((3, 12))}, "not above 0"),
        (GaussianNB(), {"class_prior_": np.ones(4)}, "expected"),
        (MLPClassifier((4,), max_iter=5), {"coefs_": [np.zeros((12, 4)), np.zeros((5, 3))]}, "expected"),
        (
            LogisticRegression(),
            {"classes_": np.array(["a", "b", "c"])},
            "not match",
        ),
        (LogisticRegression(), {"n_features_in_": 10**12}, "not match"),
    ],
)
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_arrays_that_do_not_fit_each_other_are_refused(estimator, changes, message, load_only):
    with pytest.raises(HeadError, match=message):
        load_only(estimator, **changes)


@pytest.mark.parametrize("name", ["_n_support", "support_", "_dual_coef_", "_intercept_"])
def test_types_whose_arrays_cannot_be_checked_are_refused_unread(name, load_only):
    with pytest.raises(UntrustedTypeError, match=r"sklearn\.svm\._classes\.SVC.*trusted=\["):
        load_only(SVC(), **{name: np.zeros(0, np.int32)})


def test_columns_that_are_only_claimed_take_no_memory(load_only, table):
    pipeline = make_pipeline(PolynomialFeatures(1), LogisticRegression()).fit(table.X, table.y)
    polynomial = pipeline[0]
    polynomial.degree = polynomial._max_degree = 4
    polynomial.n_output_features_ = polynomial._n_out_full = 190_000_000
    with pytest.raises(UntrustedTypeError, match="PolynomialFeatures"):
        load_only(pipeline, fitted=False)

    union = FeatureUnion([("a", StandardScaler())])
    pipeline = make_pipeline(union, LogisticRegression()).fit(table.X, table.y)
    union.transformer_list = [(f"{number}", "passthrough") for number in range(6000)]
    with pytest.raises(HeadError, match="72,000 columns of 12"):
        load_only(pipeline, fitted=False)


def test_a_width_that_is_only_claimed_takes_no_memory(load, members):
    manifest = {**json.loads(members["manifest.json"]), "feature_dim": 2**40}
    with pytest.raises(HeadError, match="invalid feature_dim"):
        load(manifest_json=json.dumps(manifest).encode())


def test_attributes_that_nothing_is_predicted_with_stay_in_the_file(load_only):
    head = load_only(LogisticRegression(), predict=1, decision_function="x", _sklearn_output_config={})
    assert not {"predict", "decision_function", "_sklearn_output_config"} & vars(head.estimator).keys()


def huge(table):
    """A classifier whose numbers are finite, and whose probabilities are not."""
    classifier = LogisticRegression().fit(table.X, table.y)
    classifier.coef_ = np.full((3, 12), 1e149)
    classifier.intercept_ = np.zeros(3)
    return make_pipeline(MinMaxScaler().fit(table.X), classifier)


@pytest.mark.parametrize("ask", ["predict", "predict_proba", "scores", "answer", "top"])
def test_what_is_no_probability_is_refused(ask, load_only, table):
    pipeline = huge(table)
    pipeline[0].scale_ = np.full(12, 1e149)
    pipeline[0].min_ = np.zeros(12)
    head = load_only(pipeline, fitted=False)
    with pytest.raises(HeadError, match=r"logistic .*(NaN or infinity|cannot predict)"):
        getattr(head, ask)(np.full((4, 12), 1e30, np.float32))


def test_a_linear_form_that_overflows_is_refused(load, members, table):
    linear = parts(members["linear.npz"])
    file = io.BytesIO()
    np.save(file, np.full((3, 12), 1e308))
    head, _ = load(linear_npz=zipped({**linear, "coef.npy": file.getvalue()}))
    with pytest.raises(HeadError, match="NaN or infinity for 240 of 240"):
        head.answer(np.full_like(table.X, 100.0), reject=0.9)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(RobustScaler(), LinearDiscriminantAnalysis()),
        make_pipeline(PCA(4, whiten=True), QuadraticDiscriminantAnalysis()),
        make_pipeline(QuantileTransformer(n_quantiles=20), RidgeClassifier()),
        make_pipeline(PowerTransformer(), MLPClassifier((4,), max_iter=5)),
        make_pipeline(make_union(StandardScaler(), PCA(2)), GaussianNB()),
        OneVsRestClassifier(SGDClassifier()),
        KNeighborsClassifier(algorithm="brute", p=3),
    ],
    ids=lambda estimator: " ".join(str(estimator).split()),
)
def test_types_that_are_checked_are_read_without_trust(estimator, table, tmp_path, caplog):
    head = fit(table, head=estimator)
    head.save(tmp_path / "own.head")
    assert not [record for record in caplog.records if "trusted" in record.message]
    loaded = Head.load(tmp_path / "own.head")
    np.testing.assert_array_equal(loaded.estimator.predict(table.X), head.estimator.predict(table.X))
    np.testing.assert_array_equal(loaded.scores(table.X), head.scores(table.X))


class Mine(LogisticRegression):
    """A linear classifier of a type that no file is trusted with."""


def test_a_custom_linear_head_is_saved_again_as_it_was(table, tmp_path):
    fit(table, head=Mine()).save(tmp_path / "mine.head")
    loaded = Head.load(tmp_path / "mine.head")
    assert loaded.linear is not None
    loaded.save(tmp_path / "again.head")

    again = Head.load(tmp_path / "again.head")
    np.testing.assert_array_equal(again.predict_proba(table.X), loaded.predict_proba(table.X))
    with pytest.raises(UntrustedTypeError, match="Mine"):
        again.estimator  # noqa: B018
    np.testing.assert_allclose(
        again.plain_estimator.decision_function(table.X), loaded.scores(table.X), atol=1e-6
    )


def test_unions_that_follow_each_other_are_bounded_together(load_only, table):
    classifier = DummyClassifier().fit(table.X, table.y)
    classifier.n_features_in_ = 12 * 8**5
    passed = [(f"{number}", "passthrough") for number in range(8)]
    unions = [(f"union {number}", FeatureUnion(list(passed))) for number in range(5)]
    with pytest.raises(HeadError, match="393,216 columns of 49,152"):
        load_only(Pipeline([*unions, ("classifier", classifier)]), fitted=False)


@pytest.mark.parametrize(
    "classes",
    [
        ["class 0", "class 0", "class 2"],
        ["class 2", "class 1", "class 0"],
        ["", "class 1", "class 2"],
        ["class 0", "class 0\0", "class 2"],
    ],
    ids=["twice", "unsorted", "empty", "zero"],
)
def test_classes_that_cannot_be_distinguished_are_refused(classes, load, members):
    manifest = {**json.loads(members["manifest.json"]), "classes": classes}
    with pytest.raises(HeadError, match="invalid classes"):
        load(manifest_json=json.dumps(manifest).encode())


def test_a_temperature_under_which_probabilities_overflow_is_refused(load, members, table):
    manifest = {**json.loads(members["manifest.json"]), "temperature": 1e-310}
    head, _ = load(manifest_json=json.dumps(manifest).encode())
    for ask in (head.predict_proba, head.predict_with_proba, head.answer):
        with pytest.raises(HeadError, match="NaN or infinity"):
            ask(table.X)


@pytest.mark.parametrize("is_loaded", [True, False])
def test_steps_that_work_in_place_leave_the_features_as_they_are(is_loaded, load_only, table):
    pipeline = make_pipeline(Normalizer(copy=False), GaussianNB())
    wanted = pipeline.fit(table.X.copy(), table.y).predict(table.X.copy())
    head = load_only(pipeline, fitted=False) if is_loaded else fit(table, head=pipeline)
    before = table.X.copy()
    labels, probabilities = head.predict_with_proba(table.X)
    np.testing.assert_array_equal(table.X, before)
    np.testing.assert_array_equal(probabilities, head.predict_proba(table.X))
    if is_loaded:
        np.testing.assert_array_equal(labels, wanted)

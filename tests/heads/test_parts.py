"""Fitting by sums over parts of the rows, each of which passes through pickle, as to another machine."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from featstore.errors import HeadError
from featstore.heads.calibration import softmax
from featstore.heads.fitting.training import fit
from featstore.heads.registry import find_head
from stored_tables import stored_table

DIM, BLOCK_ROWS = 12, 37


class PartsElsewhere:
    """Runs each part on what a task would get: files and places in them."""

    def __init__(self):
        self.sizes = []

    def run(self, function, parts, shared):
        for rows, own in parts:
            self.sizes.append(len(rows))
            name, there, its_own, all_have = sent((function, rows.sealed(), own, shared))
            yield sent(name(there, *its_own, *all_have))


def sent(value):
    """Return what arrives elsewhere: as in Ray's object store, arrays are read-only."""
    buffers = []
    pickled = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(pickled, buffers=[buffer.raw().tobytes() for buffer in buffers])


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr("featstore.heads.data.blocks._BLOCK_BYTES", BLOCK_ROWS * 4 * DIM)
    monkeypatch.setattr("featstore.heads.data.parts._PART_BYTES", 2 * BLOCK_ROWS * 4 * DIM)


@pytest.fixture(params=[3, 2], ids="{} classes".format)
def table(request, tmp_path):
    return stored_table(tmp_path / "photos.fstore", feature_dim=DIM, n_classes=request.param)[1]


def form_of(head):
    return np.column_stack([head.linear.coef, head.linear.intercept])


def assert_same_head(head, other):
    assert head.sweep == other.sweep
    assert (head.test, head.validation, head.params) == (other.test, other.validation, other.params)
    assert form_of(head).tobytes() == form_of(other).tobytes()


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("name", ["ridge", "lda"])
def test_heads_of_moments_have_the_bits_of_one_machine(table, name, class_weight):
    runner = PartsElsewhere()
    head = fit(table, head=name, class_weight=class_weight, runner=runner)

    assert_same_head(head, fit(table, head=name, class_weight=class_weight))
    assert max(runner.sizes) == 2 * BLOCK_ROWS
    assert len(runner.sizes) > 20


@pytest.mark.parametrize("name", ["ridge", "lda"])
def test_merged_moments_are_those_of_one_pass(table, name, monkeypatch):
    params = {"alpha": 30.0} if name == "ridge" else {"shrinkage": 0.5}
    head = fit(table, head=name, params=params, runner=PartsElsewhere())
    monkeypatch.setattr("featstore.heads.data.parts._PART_BYTES", 2**30)
    whole = fit(table, head=name, params=params)

    scale = np.abs(form_of(whole)).max()
    np.testing.assert_allclose(form_of(head), form_of(whole), rtol=0, atol=1e-14 * scale)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("class_weight", [None, {"class 0": 3.0}])
def test_logistic_is_what_scikit_learn_computes_in_double_precision(table, class_weight, fit_intercept):
    # One machine, which holds scaled features in single precision, comes within 1e-4.
    params = {"C": 0.3, "tol": 1e-9, "fit_intercept": fit_intercept}
    options = {"params": params, "class_weight": class_weight, "refit": False}
    head, whole = (fit(table, **options, runner=runner) for runner in (PartsElsewhere(), None))
    train = table.splits(head.split_rule) == "train"
    exact = LogisticRegression(**params | {"tol": 1e-10}, class_weight=class_weight, max_iter=10_000)
    exact.fit(head.estimator[0].transform(table.X[train]).astype(np.float64), table.y[train])

    for name in ("coef_", "intercept_"):
        found, wanted = getattr(head.estimator[-1], name), getattr(exact, name)
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-7)
        np.testing.assert_allclose(getattr(whole.estimator[-1], name), wanted, rtol=0, atol=2e-3)
    assert head.test == whole.test


def test_logistic_chooses_what_one_machine_chooses(tmp_path, monkeypatch):
    table = stored_table(tmp_path / "photos.fstore", n=300, feature_dim=DIM)[1]
    logistic = replace(find_head("logistic"), grid={"C": (0.001, 0.03, 1.0)})
    monkeypatch.setattr("featstore.heads.data.parts._PART_BYTES", 2**30)
    monkeypatch.setattr("featstore.heads.data.blocks._BLOCK_BYTES", 2**30)
    head, whole = (fit(table, head=logistic, runner=runner) for runner in (PartsElsewhere(), None))

    assert head.params == whole.params
    assert [step["top1"] for step in head.sweep] == [step["top1"] for step in whole.sweep]
    head.save(tmp_path / "logistic.head")
    assert type(head).load(tmp_path / "logistic.head").predict(table.X[:9]).tolist() == (
        head.predict(table.X[:9]).tolist()
    )


def test_softmax_comes_to_the_optimum(table):
    alpha = 0.01
    head = fit(table, head="softmax", params={"alpha": alpha}, refit=False, runner=PartsElsewhere())

    train = table.splits(head.split_rule) == "train"
    scaler = head.estimator[0]
    Z = (table.X[train].astype(np.float64) - scaler.mean_) / scaler.scale_
    # Two classes are kept as their difference.
    coef = (head.linear.coef - head.linear.coef.mean(axis=0)) * scaler.scale_
    intercept = head.linear.intercept + head.linear.coef @ scaler.mean_
    errors = softmax(Z @ coef.T + intercept) - (table.y[train][:, None] == head.classes)
    slope = errors.T @ Z / len(Z) + alpha * coef
    assert np.abs(slope).max() < 4e-6
    assert np.abs(errors.mean(axis=0)).max() < 4e-6


def test_folds_and_rejection_are_those_of_one_machine(table):
    options = {"head": "ridge", "folds": 3, "reject": 0.6}

    head, whole = (fit(table, **options, runner=runner) for runner in (PartsElsewhere(), None))
    assert_same_head(head, whole)
    assert head.reject == whole.reject


def test_half_precision_is_read_as_on_one_machine(tmp_path):
    table = stored_table(tmp_path / "photos.fstore", feature_dim=DIM, dtype="float16")[1]
    assert_same_head(*(fit(table, head="ridge", runner=runner) for runner in (PartsElsewhere(), None)))


@pytest.mark.parametrize("head", ["svm", "knn", "mlp", "rbf", "sgd", "centroid"])
def test_heads_that_need_all_rows_are_refused_with_those_that_do_not(table, head):
    with pytest.raises(HeadError, match="fitted on a cluster are ridge, lda, logistic, softmax"):
        fit(table, head=head, runner=PartsElsewhere())


@pytest.mark.parametrize(
    ("params", "reason"),
    [({"optimizer": "sgd"}, "leave out optimizer"), ({"alpha": 0.0}, "alpha above 0")],
)
def test_softmax_takes_no_options_of_minibatches(table, params, reason):
    with pytest.raises(HeadError, match=reason):
        fit(table, head="softmax", params=params, runner=PartsElsewhere())


def test_features_that_are_not_finite_are_refused(tmp_path):
    table = stored_table(tmp_path / "photos.fstore", feature_dim=DIM)[1]
    [segment, *_] = table.sealed_rows(slice(None)).files
    with open(segment, "r+b") as file:
        file.seek(table.sealed_rows(slice(None)).segments[0][0].offsets[0])
        file.write(np.full(DIM, np.nan, "<f4").tobytes())
    with pytest.raises(HeadError, match="NaN or infinity"):
        fit(table, head="ridge", runner=PartsElsewhere())

"""Heads that predict a number."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_tables import label_arrays, label_table
from number_tables import number_arrays, number_table
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from featstore.errors import FormatVersionError, HeadError, SplitError, TargetError
from featstore.heads import Head, RegressionHead, fit, fit_labels, fit_regression, load_head
from featstore.heads.files import head_file
from featstore.heads.forms.neighbors import NeighborForm
from featstore.heads.regression.intervals import held_out_errors, interval_half_width
from featstore.heads.regression.scores import drawn_scores, score_values, unit_sums
from featstore.splits import SplitRule

RULE = SplitRule(validation=0.25, test=0.25)
PARAMS = {
    "knn": {"n_neighbors": 5, "weights": "distance"},
    "rbf": {"gamma": 1.0, "alpha": 1e-3},
    "ridge": {"alpha": 10.0},
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return number_table(tmp_path_factory.mktemp("numbers") / "a.fstore", *number_arrays())


@pytest.fixture(scope="module")
def head(table):
    return fit_regression(table, head="ridge", rule=RULE)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_scores_are_those_of_scikit_learn(seed):
    random = np.random.default_rng(seed)
    true, predicted = 1e6 + random.normal(size=(2, 30))
    scores = score_values(true, predicted)

    assert scores["mae"] == pytest.approx(mean_absolute_error(true, predicted))
    assert scores["rmse"] == pytest.approx(root_mean_squared_error(true, predicted))
    assert scores["r2"] == pytest.approx(r2_score(true, predicted), abs=1e-9)
    counts = random.integers(0, 3, 30)
    rows = np.repeat(np.arange(30), counts)
    [drawn] = drawn_scores(counts[np.newaxis] @ unit_sums(true, predicted, np.arange(30)))
    assert drawn == pytest.approx([*score_values(true[rows], predicted[rows]).values()][1:], abs=1e-9)


def test_equal_numbers_have_no_r2_and_no_images_no_scores():
    assert score_values(np.ones(3), np.array([1.0, 2.0, 3.0]))["r2"] is None
    assert score_values(np.empty(0), np.empty(0)) == {"n": 0, "mae": None, "rmse": None, "r2": None}


def test_ridge_and_knn_are_those_of_scikit_learn(table):
    train = table.splits(RULE) == "train"
    X, y = np.asarray(table.X), table.target
    spread = y[train].std()
    for name, model in (
        # A standardised target is the same but for the penalty's share of the squared error.
        ("ridge", make_pipeline(StandardScaler(), Ridge(alpha=10.0))),
        ("knn", make_pipeline(Normalizer(), KNeighborsRegressor(5, weights="distance", algorithm="brute"))),
    ):
        head = fit_regression(table, head=name, params=PARAMS[name], rule=RULE, refit=False)
        wanted = model.fit(X[train], y[train]).predict(X)
        np.testing.assert_allclose(head.predict(X), wanted, atol=1e-5 * spread)


def test_rbf_is_kernel_ridge_regression_on_the_scaled_features(table):
    head = fit_regression(table, head="rbf", params=PARAMS["rbf"], rule=RULE, refit=False)
    train = table.splits(RULE) == "train"
    rows = head.form.scaling(table.X[train])
    kernel = rbf_kernel(rows, gamma=float(head.form.gamma)) + 1
    y = table.target[train]
    standard = (y - y.mean()) / y.std()
    dual = np.linalg.solve(kernel + 1e-3 * len(y) * np.eye(len(y)), standard)
    wanted = (rbf_kernel(head.form.scaling(table.X), rows, gamma=float(head.form.gamma)) + 1) @ dual
    np.testing.assert_allclose(head.predict(table.X), wanted * y.std() + y.mean(), atol=0.02 * y.std())


@pytest.mark.parametrize("name", PARAMS)
def test_a_head_is_chosen_by_squared_error_and_scored_on_images_that_it_has_not_seen(name, table):
    head = fit_regression(table, head=name, rule=RULE)
    is_test = table.splits(RULE) == "test"

    assert head.test == score_values(table.target[is_test], head.predict(table.X[is_test]))
    assert head.test["r2"] > (0.3 if name == "knn" else 0.7)
    best = min(step["rmse"] for step in head.sweep)
    [kept] = [step for step in head.sweep if step["params"] == head.params]
    assert kept["rmse"] < 1.01 * best
    assert head.validation["rmse"] == kept["rmse"]
    assert not head.seen.have_fitted(table.content_hash_bytes[is_test]).any()
    assert len(head.held_out_errors) == head.validation["n"] == head.n_images["validation"]
    assert np.mean(head.held_out_errors) == pytest.approx(head.validation["mae"])


def test_a_target_of_any_unit_gives_the_same_head(tmp_path, table, head):
    X, y = number_arrays()
    other = fit_regression(number_table(tmp_path / "a.fstore", X, 1e6 * y - 3e8), rule=RULE)
    np.testing.assert_allclose(other.predict(X), 1e6 * head.predict(X) - 3e8, rtol=1e-6)
    assert other.params == head.params


def test_weights_count(tmp_path):
    X, y = number_arrays()
    weights = np.where(np.arange(len(X)) % 3 == 0, 1e-4, 1.0)
    wrong = np.where(weights < 1, -y, y)
    for name in ("ridge", "rbf"):
        options = {"head": name, "params": PARAMS[name], "rule": RULE}
        weighted, plain = (
            fit_regression(
                number_table(tmp_path / f"{name}{number}.fstore", X, wrong, weights=own), **options
            )
            for number, own in enumerate((weights, None))
        )
        assert (weighted.weighted, plain.weighted) == (True, False)
        errors = [np.abs(one.predict(X) - y).mean() for one in (weighted, plain)]
        assert errors[0] < 0.4 * errors[1]
    with pytest.raises(HeadError, match="knn does not take the weights"):
        fit_regression(number_table(tmp_path / "a.fstore", X, y, weights=weights), head="knn", rule=RULE)


def test_unknown_numbers_are_left_out_and_copies_with_others_are_named(tmp_path, caplog):
    X, y = number_arrays()
    y[:20] = np.nan
    y[31] = y[30]
    table = number_table(tmp_path / "a.fstore", X, y, copies=[(25, 26), (31, 30)])
    head = fit_regression(table, rule=RULE)
    assert head.unlabelled == 20
    assert sum(head.n_images.values()) == len(X) - 20
    [message] = [record.getMessage() for record in caplog.records if "another age" in record.getMessage()]
    assert (
        message
        == f"1 image has the content of another and another age: 25.jpg ({y[25]:g}) and 26.jpg "
        + (f"({y[26]:g})")
    )


@pytest.mark.parametrize("name", PARAMS)
def test_a_file_is_read_back_and_refused_by_what_reads_labels(name, table, tmp_path, monkeypatch):
    head = fit_regression(table, head=name, params=PARAMS[name], rule=RULE)
    path = tmp_path / "a.head"
    head.save(path)
    loaded = load_head(path)

    assert isinstance(loaded, RegressionHead)
    assert loaded.to_dict() == head.to_dict()
    assert (loaded.predict(table.X) == head.predict(table.X)).all()
    with pytest.raises(TargetError, match="a head that predicts a number, and this takes heads with one"):
        Head.load(path)
    with zipfile.ZipFile(path) as archive:
        assert json.loads(archive.read("manifest.json"))["format_version"] == 9
        assert not any("skops" in entry or "pickle" in entry for entry in archive.namelist())
    monkeypatch.setitem(head_file.QUESTIONS, "number", replace(head_file.QUESTIONS["number"], version=8))
    with pytest.raises(FormatVersionError, match="upgrade featstore"):
        load_head(path)


def test_a_file_that_was_tampered_with_is_refused(head, tmp_path):
    form = NeighborForm(
        rows=np.ones((3, head.feature_dim), np.float32),
        values=np.arange(3.0),
        n_neighbors=np.array(2),
        by_distance=np.array(False),
    )
    for name, value in (
        ("values", np.arange(2.0)),
        ("values", np.array([1.0, np.nan, 2.0])),
        ("rows", form.rows.astype(np.float64)),
        ("n_neighbors", np.array(4)),
        ("n_neighbors", np.array([2])),
        ("by_distance", np.array(1)),
    ):
        with pytest.raises(HeadError, match=r"neighbour head|n_neighbors must be"):
            replace(form, **{name: value})
    for field, value in (("held_out_errors", [2.0, 1.0]), ("target", 3), ("test", {"n": 1})):
        path = tmp_path / f"{field}.head"
        with pytest.raises(HeadError, match=f"its {field} is invalid"):
            replace(head, **{field: value}).save(path) or load_head(path)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"head": "svm"}, HeadError, "svm does not predict numbers; heads that do are knn, rbf, ridge"),
        ({"params": {"class_weight": "balanced"}}, HeadError, "class weights are for heads with labels"),
        ({"params": {"gamma": 1}}, HeadError, "ridge has no parameter gamma"),
        ({"params": {"alpha": "x"}}, HeadError, "ridge cannot be fitted"),
        ({"head": "knn", "params": {"weights": "x"}}, HeadError, "uniform or distance; found 'x'"),
        ({"head": "knn", "params": {"n_neighbors": 2.5}}, HeadError, "n_neighbors is a number of images"),
        ({"head": "knn", "params": {"n_neighbors": 9999}}, HeadError, "is fitted on"),
        ({"rule": SplitRule(validation=0)}, SplitError, "no image with a number is in validation"),
    ],
)
def test_what_cannot_be_fitted_is_refused(table, options, error, words):
    with pytest.raises(error, match=words):
        fit_regression(table, **options)


def test_tables_without_different_numbers_are_refused(tmp_path, table):
    X, y = number_arrays(60)
    with pytest.raises(HeadError, match="a head needs images with different numbers; all"):
        fit_regression(number_table(tmp_path / "a.fstore", X, np.full(60, 3.0)))
    with pytest.raises(HeadError, match="no image of the catalog photos has a number in age"):
        fit_regression(number_table(tmp_path / "b.fstore", X, y * np.nan))
    several = label_table(tmp_path / "c.fstore", *label_arrays(40))
    with pytest.raises(TargetError, match="have labels and no number to predict"):
        fit_regression(several)
    for other in (fit, fit_labels):
        with pytest.raises((TargetError, HeadError), match=r"have a number, age|have one label each"):
            other(table)


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_intervals_hold_the_number_as_often_as_asked_for(coverage):
    # On average over data sets: at least the coverage, and less than 1 / (n + 1) above it.
    n, n_new, shares = 60, 400, []
    for seed in range(150):
        random = np.random.default_rng(seed)
        true = random.standard_t(3, n + n_new)
        predicted = 0.3 * true + 0.1
        errors = held_out_errors(true[:n], predicted[:n])
        half = interval_half_width(errors, coverage=coverage, name="the head")
        shares.append(float((np.abs(true[n:] - predicted[n:]) <= half).mean()))
    error = np.std(shares) / np.sqrt(len(shares))
    assert coverage - 3 * error < np.mean(shares) < coverage + 1 / (n + 1) + 3 * error


def test_intervals_of_a_head_hold_on_test_over_seeds(tmp_path):
    shares = []
    for seed in range(12):
        table = number_table(tmp_path / f"{seed}.fstore", *number_arrays(400, seed=seed))
        head = fit_regression(table, params={"alpha": 10.0}, rule=RULE)
        is_test = table.splits(RULE) == "test"
        half = head.interval_half_width(0.9)
        shares.append(float((np.abs(head.predict(table.X[is_test]) - table.target[is_test]) <= half).mean()))
    assert 0.87 < np.mean(shares) < 0.94


def test_too_few_held_out_images_for_a_coverage_are_said(head):
    assert interval_half_width([1.0, 2.0, 3.0], coverage=0.75, name="it") == 3.0
    assert interval_half_width([1.0, 2.0, 3.0], coverage=0.5, name="it") == 2.0
    with pytest.raises(HeadError, match=r"a coverage of 0.9 takes at least 9 held-out images; it was fitted"):
        interval_half_width([1.0] * 8, coverage=0.9, name="it")
    with pytest.raises(HeadError, match="coverage must be above 0 and below 1"):
        head.interval_half_width(90)
